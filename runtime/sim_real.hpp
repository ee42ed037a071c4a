// sim_real.hpp: what a simulated world does not hold itself: descriptors of the real one, those who
// wait for them, and the sleep of a world in which nothing else is left to happen.
//
// Always true:
//   - The kernel is asked only while somebody waits, and one poll(2) asks for all of them.
//   - Who is told may try again, in the order in which they came. It is a hint: who has tried in
//     vain waits anew.
//   - ring() ends a sleep, the one that goes on or the next one. Any thread may ring; everything
//     else belongs to the thread on which the world runs.
//   - There is no descriptor of ours before the first sleep.
//
// Comes from: sim, driving.   Goes to: poll(2), eventfd(2).
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "coir/detail/atomic.hpp"

namespace coir::detail {

/// What a plain thread takes for now: the real time, and as much more as simulated worlds were
/// ahead of it when they told. Never goes back.
std::int64_t thread_now_ns() noexcept;
void tell_thread_now(std::int64_t simulated_ns) noexcept;
/// The time of CLOCK_MONOTONIC at which it is so late.
std::int64_t real_ns_of(std::int64_t thread_ns) noexcept;

class sim_real {
 public:
  sim_real() = default;
  sim_real(const sim_real&) = delete;
  sim_real& operator=(const sim_real&) = delete;
  ~sim_real();

  /// Number `number` of `whose` cannot go on before `fd` has one of these events of poll(2).
  void wait_for(const void* whose, std::uint64_t number, int fd, std::uint32_t events);
  void forget(const void* whose, std::uint64_t number) noexcept { waiting_.erase({whose, number}); }
  void forget_all(const void* whose) noexcept;
  bool any() const noexcept { return !waiting_.empty(); }
  /// Who waits and was told of nothing yet.
  bool anybody_told() const noexcept;

  /// Looks at all, without waiting. True when somebody was told now.
  bool look() { return look_at_all(0); }
  /// Waits until somebody is told or somebody rings, but no longer than so many milliseconds; -1:
  /// for as long as it takes. True when somebody was told.
  bool sleep(int most_ms = -1);
  void ring() noexcept;
  /// Whether the next sleep has been ended already. What was done before that ring is seen.
  bool rung() const noexcept { return rung_.load(std::memory_order_seq_cst); }

  /// Those of `whose` that were told; they wait no more.
  std::vector<std::uint64_t> take_told(const void* whose);

 private:
  struct waited {
    int fd;
    std::uint32_t events;
    bool told = false;
  };
  bool look_at_all(int most_ms);

  std::map<std::pair<const void*, std::uint64_t>, waited> waiting_;
  atomic<bool> rung_{false};
  atomic<int> bell_fd_{-1};
};

}  // namespace coir::detail
