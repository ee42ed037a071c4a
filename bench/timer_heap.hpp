// timer_heap.hpp: timers by hand: a heap of four children per node in one array, each timer knowing
// its place.
//
// Always true:
//   - all_[i].owner->place == i, and no node is due before its parent.
//
// Comes from: rows_sleep.cpp.   Goes to: nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace bench {

struct heap_timer {
  std::size_t place = 0;
};

class timer_heap {
 public:
  void arm(heap_timer& one, std::int64_t due_ns) {
    all_.push_back({due_ns, &one});
    up(all_.size() - 1);
  }

  void cancel(heap_timer& one) {
    const std::size_t hole = one.place;
    const node moved = all_.back();
    all_.pop_back();
    if (hole == all_.size()) return;
    set(hole, moved);
    up(hole);
    down(moved.owner->place);
  }

 private:
  static constexpr std::size_t children = 4;
  struct node {
    std::int64_t due_ns;
    heap_timer* owner;
  };

  void set(std::size_t at, const node& one) {
    all_[at] = one;
    one.owner->place = at;
  }

  void up(std::size_t at) {
    const node one = all_[at];
    while (at > 0 && one.due_ns < all_[(at - 1) / children].due_ns) {
      set(at, all_[(at - 1) / children]);
      at = (at - 1) / children;
    }
    set(at, one);
  }

  void down(std::size_t at) {
    const node one = all_[at];
    for (;;) {
      const std::size_t first = at * children + 1;
      if (first >= all_.size()) break;
      const std::size_t end = std::min(first + children, all_.size());
      std::size_t least = first;
      for (std::size_t i = first + 1; i < end; ++i)
        if (all_[i].due_ns < all_[least].due_ns) least = i;
      if (one.due_ns <= all_[least].due_ns) break;
      set(at, all_[least]);
      at = least;
    }
    set(at, one);
  }

  std::vector<node> all_;
};

}  // namespace bench
