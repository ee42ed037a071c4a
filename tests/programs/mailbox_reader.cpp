// mailbox_reader.cpp: what a worker asks its mailbox, and what a sender does with it, each as a
// function of its own, so that its instructions can be found by its name.
//
// Comes from: mailbox_reader.sh, which compiles and reads it.   Goes to: runtime/mailbox.hpp.
#include "runtime/mailbox.hpp"

using namespace coir::detail;

extern "C" {
record* reader_takes(mailbox& m) { return m.take(); }
bool reader_looks(const mailbox& m) { return m.waits(); }
void reader_unpacks(mailbox& m, std::uint32_t fibers) { m.unpacked(fibers); }

// These must be seen.
bool sender_sends(mailbox& m, record& fiber) { return m.send(fiber); }
void other_stores(atomic<std::uint64_t>& word) { word.store(1, std::memory_order_seq_cst); }
}
