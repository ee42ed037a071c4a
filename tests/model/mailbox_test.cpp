// mailbox_test.cpp: the mailbox under the checker: senders that overtake each other, a reader that
// comes in between, one, two and three slots.
//
// Comes from: runtime/mailbox.hpp.   Goes to: ctest.
#include "runtime/mailbox.hpp"

#include <array>

#include "runtime/fiber.hpp"
#include "tests/model/protocol.hpp"

using namespace coir::check;
using coir::detail::mailbox;
using coir::detail::plain;
using coir::detail::record;

namespace {

/// Thread 0 reads, each of the others sends a few records of its own.
struct post : world {
  post(std::uint32_t slots, unsigned senders, unsigned each, unsigned looks)
      : box(slots), limit(slots), per_sender(each), reads(looks), last_of(senders + 1, 0) {}

  void run(unsigned thread) override {
    if (thread == 0) {
      for (unsigned i = 0; i < reads; ++i) {
        ++takes_begun;
        if (record* const got = box.take()) {
          accept(*got);
        } else {
          --takes_begun;
        }
      }
      return;
    }
    for (unsigned i = 0; i < per_sender; ++i) {
      const unsigned number = (thread - 1) * per_sender + i;
      content[number] = number;
      if (!box.send(records[number])) {
        content[number] = number;  // still the sender's own
        continue;
      }
      ++sent;
      require(sent - takes_begun <= static_cast<int>(limit), "a full mailbox refuses");
    }
  }

  void accept(record& r) {
    const auto number = static_cast<unsigned>(&r - records.data());
    require(number < records.size(), "what is taken was sent");
    require(content[number] == number, "its content came with it");
    content[number] = 100 + number;  // the reader's own now
    const unsigned sender = number / per_sender + 1;
    require(last_of[sender] <= number + 1, "one sender's records come in their order");
    last_of[sender] = number + 2;
    ++taken;
  }

  void judge() override {
    while (record* const left = box.take()) {
      ++takes_begun;
      accept(*left);
    }
    require(taken == sent, "what was sent is taken once");
    require(box.empty(), "nothing is left");
  }

  mailbox box;
  std::uint32_t limit;
  unsigned per_sender;
  unsigned reads;
  std::array<record, 6> records;
  std::array<plain<unsigned>, 6> content;
  std::vector<unsigned> last_of;
  int sent = 0, taken = 0, takes_begun = 0;
};

maker of(std::uint32_t slots, unsigned senders, unsigned each, unsigned looks) {
  return make_of<post>(slots, senders, each, looks);
}

}  // namespace

TEST_CASE("mailbox: nothing is lost, doubled or torn, and a full one refuses") {
  must_hold("one slot, two senders", 3, of(1, 2, 1, 2));
  must_hold("one slot, one sender of two", 2, of(1, 1, 2, 2));
  must_hold("two slots, two senders", 3, of(2, 2, 1, 2));
  must_hold("two slots, one sender of three", 2, of(2, 1, 3, 3));
  must_hold("three slots, one sender of four", 2, of(3, 1, 4, 2));
}

TEST_CASE("mailbox: its broken twins are noticed") {
  {
    const mutant broken("mailbox_overruns");
    must_fail("one that overruns", 2, of(3, 1, 4, 2), "a full mailbox refuses");
  }
  // Those of head_ keep a sender that saw the reader move on from meeting a slot that still looks
  // full: it would be refused without need, which loses nothing. Those of `turn` are all needed.
  needs_every_order(
      2, of(1, 1, 2, 2),
      {"mailbox.hpp send: load acquire -> relaxed", "mailbox.hpp take: store release -> relaxed"});
}
