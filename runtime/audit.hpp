// audit.hpp: whether what must always be true of a runtime is true just now, seen from outside.
//
// Always true:
//   - It changes nothing, and looks while nobody else does anything: every worker is in
//     backend::wait() (all lanes of a simulated run are), or none runs.
//   - It says only what the rooms can tell for certain; what a park waits for in somebody's queue
//     they do not know, so a wake-up that was lost is found as a deadlock, not here.
//
// Comes from: coir::sim, debug tests.   Goes to: worker, flight.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/runtime.hpp"

namespace coir::detail {

class audit {
 public:
  explicit audit(runtime_core& core) noexcept : core_(core) {}

  /// The first sentence that does not hold, with its numbers; empty: all hold.
  std::string look();
  /// The same, when every fiber has ended and no loop runs any more.
  std::string look_at_the_end();

 private:
  struct tally {
    std::uint64_t queued = 0, mailed = 0, runnable = 0, parked = 0, passing = 0;
  };
  bool says(bool holds, const char* sentence, std::uint64_t is, std::uint64_t must) {
    if (!holds) [[unlikely]]
      note(sentence, is, must);
    return holds;
  }
  void note(const char* sentence, std::uint64_t is, std::uint64_t must);
  void count_records();
  void check_record(const record& r);
  void check_worker(worker& w);
  void check_buffers(worker& w);
  void check_operations(worker& w);
  void check_sums();

  runtime_core& core_;
  std::vector<std::uint64_t> generations_;  // the last that was seen, by slot
  std::vector<tally> tallies_;              // by home
  std::vector<const pending*> named_;       // of one worker: who has a token
  std::vector<int> busy_;                   // and the descriptors of these, once for each
  std::string found_;
};

}  // namespace coir::detail
