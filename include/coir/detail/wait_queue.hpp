// wait_queue.hpp: the part of a waiting room that lives inside public objects: a lock word and two
// ends of a list.
//
// Always true:
//   - Constant-initialised and trivially destroyed empty: a static mutex needs no constructor at
//     run time.
//   - `lock` guards the list; it is held for a few instructions and never across a park.
//
// Comes from: coir/sync.hpp.   Goes to: runtime/waits.hpp, which alone knows what a waiter is.
#pragma once

#include <cstdint>

#include "coir/detail/atomic.hpp"

namespace coir::detail {

struct waiter;

struct wait_queue {
  atomic<std::uint32_t> lock{0};
  plain<waiter*> head = nullptr;
  plain<waiter*> tail = nullptr;
};

}  // namespace coir::detail
