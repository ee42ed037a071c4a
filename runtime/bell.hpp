// bell.hpp: the sleep handshake: how a worker goes to sleep without missing what comes in
// meanwhile.
//
//   worker: announce(); look into every inbox again; sleep in the backend; withdraw()
//   sender: publish; must_ring() -> ring (the backend's wake)
//
// Always true:
//   - Between the store of each side and its load stands a sequentially consistent fence, so at
//     least one of them sees the other: no message is left behind in front of a worker that sleeps.
//   - Published is what the worker's last look asks for: of mail the store that makes it complete,
//     not the one that takes its place. So who rings between the two has not rung.
//   - Of all senders that meet one announcement exactly one rings.
//
// Comes from: whoever published work for a worker.   Goes to: backend::wake.
#pragma once

#include <cstdint>

#include "coir/detail/atomic.hpp"
#include "runtime/base.hpp"

namespace coir::detail {

class bell {
 public:
  /// The worker is about to look into its inboxes for the last time before it sleeps.
  void announce() noexcept {
    asleep_.store(1, std::memory_order_relaxed);
    // seq_cst: orders the announcement before the re-check; partner: must_ring().
    if (!COIR_MUTANT(drop_fence)) fence(std::memory_order_seq_cst);
  }
  void withdraw() noexcept { asleep_.store(0, std::memory_order_relaxed); }

  /// After publishing: true when the caller has to wake the worker.
  bool must_ring() noexcept {
    // seq_cst: orders the publication before the look; partner: announce().
    if (!COIR_MUTANT(drop_sender_fence)) fence(std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_relaxed) == 0 || COIR_MUTANT(sleeper_unrung)) return false;
    return COIR_MUTANT(everybody_rings) || asleep_.exchange(0, std::memory_order_relaxed) != 0;
  }

 private:
  alignas(cache_line_bytes) atomic<std::uint32_t> asleep_{0};
};

}  // namespace coir::detail
