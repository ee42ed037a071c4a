// hungry.hpp: the board on which workers that have nothing to do say so to all others.
//
// Always true:
//   - A name stands there from when its worker found nothing to do until somebody feeds it or it
//     found something. Whoever takes the name away mails to that worker, if it has a place, and
//     nobody else feeds it. Mail that it gets for another reason, by name for example, leaves the
//     name there: the worker takes it away when it finds that mail.
//   - Beside each name stands whether it pays to feed that worker with one fiber alone.
//   - It is advice. Nothing is lost with a name that is read late: what wakes a worker is the bell.
//
// Comes from: worker::sleep_or_poll.   Goes to: placing.cpp, spawn.
#pragma once

#include <array>

#include "coir/detail/atomic.hpp"
#include "runtime/neighbours.hpp"

namespace coir::detail {

class hungry_board {
 public:
  /// Worker `i` has nothing to do. That worker only; every orders here are relaxed: it is advice.
  /// `for_one`: it may be woken for a single fiber.
  void announce(unsigned i, bool for_one = true) noexcept {
    atomic<std::uint64_t>& ones = for_one_[i / 64];
    if (((ones.load(std::memory_order_relaxed) & bit(i)) != 0) != for_one) {
      if (for_one) {
        ones.fetch_or(bit(i), std::memory_order_relaxed);
      } else {
        ones.fetch_and(~bit(i), std::memory_order_relaxed);
      }
    }
    words_[i / 64].fetch_or(bit(i), std::memory_order_relaxed);
  }
  /// False: the name was not there any more, somebody else took it. Any thread.
  bool take_away(unsigned i) noexcept {
    if (COIR_MUTANT(hungry_fed_twice)) return true;
    return (words_[i / 64].fetch_and(~bit(i), std::memory_order_relaxed) & bit(i)) != 0;
  }
  /// It has something to do; costs a locked instruction only when the name still stands there.
  /// False: it did not, somebody feeds it.
  bool withdraw(unsigned i) noexcept {
    return (words_[i / 64].load(std::memory_order_relaxed) & bit(i)) != 0 && take_away(i);
  }
  /// Whether any of the first `workers` names stands there.
  bool any(unsigned workers) const noexcept {
    std::uint64_t all = words_[0].load(std::memory_order_relaxed);
    for (unsigned w = 1; w * 64 < workers; ++w) all |= words_[w].load(std::memory_order_relaxed);
    return all != 0;
  }
  bool any_for_one(unsigned workers) const noexcept {
    std::uint64_t all = 0;
    for (unsigned w = 0; w * 64 < workers; ++w)
      all |=
          words_[w].load(std::memory_order_relaxed) & for_one_[w].load(std::memory_order_relaxed);
    return all != 0;
  }
  /// Of those who stand there, who may be woken for one.
  worker_set look_for_one() const noexcept {
    worker_set set = look();
    for (unsigned w = 0; w < for_one_.size(); ++w)
      set.words[w] &= for_one_[w].load(std::memory_order_relaxed);
    return set;
  }
  worker_set look() const noexcept {
    worker_set set;
    for (unsigned w = 0; w < words_.size(); ++w)
      set.words[w] = words_[w].load(std::memory_order_relaxed);
    return set;
  }

 private:
  static constexpr std::uint64_t bit(unsigned i) noexcept { return std::uint64_t{1} << i % 64; }
  // One line for both: who looks for a name looks at what stands beside it.
  alignas(cache_line_bytes) std::array<atomic<std::uint64_t>, neighbours_max / 64> words_ = {};
  std::array<atomic<std::uint64_t>, neighbours_max / 64> for_one_ = {};
};

}  // namespace coir::detail
