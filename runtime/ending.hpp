// ending.hpp: what is said between the end of a fiber and those who wait for it from afar.
//
//   joiner: stand in the stripe; stands() tells the owner; look again; sleep
//   owner:  publish_end(), and if somebody may stand there, wake_joiners()
//           the errand: joiner_news::look(), and meet_joiners() in each stripe that was named
//
// Always true:
//   - A joiner stands in its stripe before it tells the owner, who either has not ended the fiber
//     yet and will look into the stripe then, or looks at once.
//   - Everything that touches a stripe does so under its lock.
//   - Each function is one step of the protocol, so what the library does is what
//     tests/model/join_test.cpp checks.
//
// Comes from: ending.cpp, join.cpp.   Goes to: waits.hpp.
#pragma once

#include <array>
#include <bit>

#include "coir/detail/atomic.hpp"
#include "runtime/commons.hpp"

namespace coir::detail {

inline bool is_done(const record& r) noexcept {
  // acquire: pairs with publish_end(); the answer is visible.
  return (r.join.load(std::memory_order_acquire) & join_done) != 0;
}

inline bool has_ended(const record& r, std::uint64_t generation) noexcept {
  // acquire: pairs with next_life(): who sees the old generation sees the old life's join word.
  return r.generation.load(std::memory_order_acquire) != generation || is_done(r);
}

/// Which stripes the joiners of one worker's fibers went into. Any thread tells, the owner looks.
class joiner_news {
 public:
  /// Somebody stands in that stripe from now on. True: the caller sends the owner its errand.
  bool tell(unsigned stripe) noexcept {
    // release: the joiner stands in the stripe; pairs with the acquire in look().
    in_[stripe / 64].fetch_or(std::uint64_t{1} << stripe % 64, std::memory_order_release);
    return !told_.exchange(true, std::memory_order_acq_rel);
  }
  bool told() const noexcept { return told_.load(std::memory_order_relaxed); }

  /// The errand has arrived: visit(stripe) for each that was told of.
  template <class Visit>
  void look(Visit visit) noexcept {
    // acq_rel: a stripe that is told of from here on comes with an errand of its own.
    told_.exchange(false, std::memory_order_acq_rel);
    for (unsigned i = 0; i < in_.size(); ++i)
      for (std::uint64_t in = in_[i].exchange(0, std::memory_order_acquire); in != 0; in &= in - 1)
        visit(i * 64 + static_cast<unsigned>(std::countr_zero(in)));
  }

 private:
  std::array<atomic<std::uint64_t>, commons::stripes_count / 64> in_ = {};
  atomic<bool> told_{false};
};

/// The joiner stands in its stripe: tell(home) tells the worker where `r` lives. False: there is
/// nothing to wait for after all.
template <class Tell>
bool stands(const record& r, std::uint64_t generation, Tell tell) noexcept {
  // acquire: pairs with next_life(): without a home it has ended, and perhaps before anybody could
  // know of us.
  const std::uint32_t home = r.home.load(std::memory_order_acquire);
  if (home == no_home) return false;
  if (!COIR_MUTANT(joiner_untold)) tell(home);
  // Again: the owner may have gone for good before it could hear of us.
  return !has_ended(r, generation);
}

/// The end. From here on the record may belong to the holder. True: wake_joiners() comes next.
inline bool publish_end(record& fiber, const joiner_news& news) noexcept {
  // relaxed: a hint, for those whose errand has not been run yet; it finds them in any case.
  const bool far_joiners = fiber.far_joiners || news.told();
  // release: publishes the answer.
  fiber.join.store(join_done, COIR_MUTANT(end_unpublished) ? std::memory_order_relaxed
                                                           : std::memory_order_release);
  return far_joiners && !COIR_MUTANT(joiners_forgotten);
}

/// wake(waiter) for whoever waits for that life of the record, which is not touched.
template <class Wake>
void wake_joiners(join_stripe& stripe, const record& fiber, std::uint64_t generation,
                  Wake wake) noexcept {
  const word_lock held(stripe.queue.lock);
  for (waiter* w = stripe.queue.head; w != nullptr;) {
    waiter* const after = w->next;
    const auto& j = static_cast<joiner&>(*w);
    if (j.target == &fiber && j.generation == generation) {
      unlink(stripe.queue, *w);
      wake(*w);
      if (COIR_MUTANT(one_joiner_woken)) return;
    }
    w = after;
  }
}

/// Worker `me` was told of this stripe: who waits for an ended one is woken, and a live one of ours
/// learns that somebody waits.
template <class Wake>
void meet_joiners(join_stripe& stripe, std::uint32_t me, Wake wake) noexcept {
  const word_lock held(stripe.queue.lock);
  for (waiter* w = stripe.queue.head; w != nullptr;) {
    waiter* const after = w->next;
    const auto& j = static_cast<joiner&>(*w);
    // What lives here can end only here, so it does not end while we look. The join word first: 0
    // of a later life, stored with release, brings that life's generation.
    if ((j.target->join.load(std::memory_order_acquire) & join_done) != 0 ||
        j.target->generation.load(std::memory_order_acquire) != j.generation) {
      unlink(stripe.queue, *w);
      wake(*w);
    } else if (j.target->home.load(std::memory_order_acquire) == me) {
      j.target->far_joiners = true;
    }
    w = after;
  }
}

/// The last user of a finished record, whose link is nowhere, leaves it to the next one.
inline void next_life(record& fiber) noexcept {
  // release: pairs with the acquire in wait(fiber_id): whoever still sees the old generation sees
  // the old join word, too.
  // Nobody else writes it: the last user recycles once.
  const std::uint64_t next = fiber.generation.load(std::memory_order_relaxed) + 1;
  if (!COIR_MUTANT(generation_reused)) fiber.generation.store(next, std::memory_order_release);
  // release: pairs with the acquire in stands(): who sees no home sees the next generation.
  fiber.home.store(no_home, std::memory_order_release);
}

}  // namespace coir::detail
