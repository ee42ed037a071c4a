// atomic.hpp: the words that threads share, and the plain data they publish with them: what the
// standard has, or in the build of tests/model what its checker can see.
//
// Always true:
//   - Without COIR_CHECK these are std::atomic, std::atomic_thread_fence and the bare type: the
//     same types, the same code. It stands among the public headers because public objects hold
//     such words.
//   - Nothing in runtime/ or in public headers says std::atomic, so every protocol can be compiled
//     for the checker as it is. COIR_CHECK is the header of the checker to include instead.
//   - plain<T> marks data that one thread writes and another reads later, with an order of some
//     atomic word in between: the checker tells when the order is not enough.
//
// Comes from: every room that shares a word.   Goes to: <atomic>; tests/model/checked.hpp.
#pragma once

#if defined(COIR_CHECK)
#include COIR_CHECK
#else

#include <atomic>

namespace coir::detail {

template <class T>
using atomic = std::atomic<T>;

template <class T>
using plain = T;

[[gnu::always_inline]] inline void fence(std::memory_order order) noexcept {
  std::atomic_thread_fence(order);
}

}  // namespace coir::detail

#endif
