// levels.hpp: who waits for a turn on one worker at another level than the normal one.
//
// Always true:
//   - The highest level comes first. Within a level who is ready comes first, in the order of
//     arrival, and of its unstarted ones one at least at every 8th of its turns.
//   - A level that has waited for `ages_after` picks has one before all higher ones; of several the
//     one that has waited longest. So the lowest gets on beside a flood of the highest.
//   - The normal level waits elsewhere (worker) and is asked for here by a null.
//   - Nothing is allocated. One owner.
//
// Comes from: worker::make_ready, worker::enqueue.   Goes to: worker::choose_with_care.
#pragma once

#include <array>
#include <cstdint>

#include "coir/placing.hpp"
#include "runtime/list.hpp"

namespace coir::detail {

template <class T, class Node>
class levels {
 public:
  static constexpr std::uint64_t ages_after = 32;  // picks
  static constexpr unsigned unstarted_every = 8;   // picks of its level

  bool any() const noexcept { return (ready_ | unstarted_) != 0; }
  bool any_ready() const noexcept { return ready_ != 0; }
  std::uint32_t ready() const noexcept { return ready_; }

  void push_ready(T& one, priority p, std::uint64_t pick) noexcept {
    arrive(pick);
    at(p).ready.push_back(one);
    ++ready_;
  }
  void push_unstarted(T& one, priority p, std::uint64_t pick) noexcept {
    arrive(pick);
    at(p).unstarted.push_back(one);
    ++unstarted_;
  }
  /// It was taken and could not be started.
  void put_back(T& one, priority p) noexcept {
    at(p).unstarted.push_front(one);
    ++unstarted_;
  }
  /// `one` waits here.
  void erase(T& one, priority p, bool unstarted) noexcept {
    level& l = at(p);
    unstarted ? l.unstarted.erase(one) : l.ready.erase(one);
    --(unstarted ? unstarted_ : ready_);
  }

  /// Whose turn it is at this pick, taken out; null: the normal level's, or nobody's who may run.
  /// `may_start`: there are stacks for unstarted ones.
  T* next(std::uint64_t pick, bool normal_waits, bool may_start) noexcept {
    const unsigned turn = choose(pick, normal_waits, may_start);
    if (turn == nobody) return nullptr;
    level& l = of_[turn];
    l.served_at = pick;
    if (turn == normal) return nullptr;
    const bool fresh =
        may_start && !l.unstarted.empty() && (l.ready.empty() || ++l.turns % unstarted_every == 0);
    --(fresh ? unstarted_ : ready_);
    return fresh ? l.unstarted.pop_front() : l.ready.pop_front();
  }

  /// The first unstarted one that `wanted` says yes to, taken out; null when there is none.
  template <class Wanted>
  T* take_unstarted(Wanted wanted) noexcept {
    for (level& l : of_) {
      for (T* one = l.unstarted.front(); one != nullptr; one = l.unstarted.after(*one)) {
        if (!wanted(*one)) continue;
        l.unstarted.erase(*one);
        --unstarted_;
        return one;
      }
    }
    return nullptr;
  }

 private:
  static constexpr unsigned count = 4;
  static constexpr unsigned nobody = count;
  static constexpr auto normal = static_cast<unsigned>(priority::normal);

  struct level {
    list<T, Node> ready, unstarted;
    std::uint64_t served_at = 0;  // the pick; while it is empty, the last time it was asked
    unsigned turns = 0;
  };

  level& at(priority p) noexcept { return of_[static_cast<unsigned>(p)]; }

  /// Nobody was here, so nobody has waited.
  void arrive(std::uint64_t pick) noexcept {
    if (any()) return;
    for (level& l : of_) l.served_at = pick;
  }

  unsigned choose(std::uint64_t pick, bool normal_waits, bool may_start) noexcept {
    unsigned best = nobody;
    std::uint64_t longest = ages_after;
    for (unsigned i = count; i-- > 0;) {
      level& l = of_[i];
      const bool waits =
          i == normal ? normal_waits : !l.ready.empty() || (may_start && !l.unstarted.empty());
      if (!waits) {
        l.served_at = pick;
        continue;
      }
      const std::uint64_t waited = pick - l.served_at;
      const bool aged = waited >= longest && !COIR_MUTANT(levels_never_age);
      if (aged) longest = waited + 1;
      if (aged || best == nobody) best = i;
    }
    return best;
  }

  std::array<level, count> of_;
  std::uint32_t ready_ = 0;
  std::uint32_t unstarted_ = 0;
};

}  // namespace coir::detail
