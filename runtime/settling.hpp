// settling.hpp: how one thread knows that every fiber has ended while others may still spawn.
//
//   waits:   wait_for_idle(): settling, ring everybody; look at the counts, sleep on the idle word
//   worker:  announces its sleep, looks again; settling and nobody awake: tell_idle()
//   outside: counted_in() before it mails; refused: counted_out()
//
// Always true:
//   - Who launches from outside counts first and asks afterwards; who stops says so first and
//     counts afterwards. One of the two sees the other.
//   - Finished is summed before spawned, so equal sums mean that nobody was alive in between.
//   - Whatever may make the sums equal is followed by tell_idle(), or by a worker that goes to
//     sleep after it saw `settling`.
//
// Comes from: runtime.cpp, spawn.cpp.   Goes to: futex.
#pragma once

#include <climits>
#include <cstdint>

#include "coir/detail/atomic.hpp"
#include "runtime/futex.hpp"

namespace coir::detail {

/// A thread that is no worker wants to launch something. False: it is refused, and counted_out()
/// follows.
inline bool counted_in(atomic<std::uint64_t>& from_outside, const atomic<bool>& stopping) noexcept {
  // seq_cst both: a shutdown that does not see the count is seen here.
  from_outside.fetch_add(1, std::memory_order_seq_cst);
  return !stopping.load(std::memory_order_seq_cst);
}

/// Those who wait look again.
inline void tell_idle(atomic<std::uint32_t>& idle_word) noexcept {
  // release: pairs with the acquire in wait_for_idle(): what was counted before is seen. Enough:
  // who tells reads nothing, and a change hands on what earlier ones released.
  idle_word.fetch_add(1, std::memory_order_release);
  futex_wake(idle_word, INT32_MAX);
}

inline void counted_out(atomic<std::uint64_t>& from_outside, const atomic<bool>& settling,
                        atomic<std::uint32_t>& idle_word) noexcept {
  from_outside.fetch_sub(1, std::memory_order_seq_cst);
  // Whoever waits for the end may have counted this one, and no worker will go idle for it.
  if (settling.load(std::memory_order_seq_cst)) tell_idle(idle_word);
}

/// Nobody was alive at some moment of this call. `workers` point to what has `spawned` and
/// `finished`.
template <class Workers>
bool nobody_lives(const Workers& workers, const atomic<std::uint64_t>& from_outside) noexcept {
  // Finished before spawned: see above. acquire: pairs with the release of each count; without it a
  // fiber could be seen as finished whose spawner's count is still missing.
  std::uint64_t finished = 0;
  for (const auto& w : workers) finished += w->finished.load(std::memory_order_acquire);
  std::uint64_t spawned = from_outside.load(std::memory_order_seq_cst);
  // relaxed: who was counted as finished was counted as spawned before, and the acquire above
  // brought that; what a count says of others nobody relies on.
  for (const auto& w : workers) spawned += w->spawned.load(std::memory_order_relaxed);
  return finished == spawned;
}

/// Sleeps until over(). False: `until_ns` came first.
template <class RingEverybody, class Over>
bool wait_for_idle(atomic<bool>& settling, atomic<std::uint32_t>& idle_word, std::int64_t until_ns,
                   RingEverybody ring_everybody, Over over) noexcept {
  // seq_cst: before the look; partner: counted_out(). A worker that goes to sleep is met by the
  // fence of its ring, which stands between this and the look as well.
  settling.store(true, std::memory_order_seq_cst);
  ring_everybody();
  for (;;) {
    const std::uint32_t seen = idle_word.load(std::memory_order_acquire);
    if (over()) return true;
    if (!futex_wait(idle_word, seen, until_ns)) return false;
  }
}

}  // namespace coir::detail
