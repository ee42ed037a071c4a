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

#include <atomic>
#include <cstdint>

namespace coir::detail {

struct waiter;

struct wait_queue {
  std::atomic<std::uint32_t> lock{0};
  waiter* head = nullptr;
  waiter* tail = nullptr;
};

}  // namespace coir::detail
