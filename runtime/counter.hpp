// counter.hpp: a number that one thread counts and anybody may read.
//
// Always true:
//   - One writer at a time. Who reads gets a recent value, and learns nothing else by it.
//
// Comes from: worker, backend, flight, timers.   Goes to: worker::stats, the watch.
#pragma once

#include <cstdint>

#include "coir/detail/atomic.hpp"

namespace coir::detail {

class counter {
 public:
  // relaxed: see above.
  std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }
  void operator+=(std::uint64_t n) noexcept { set(get() + n); }
  void operator++() noexcept { set(get() + 1); }
  void operator--() noexcept { set(get() - 1); }
  void set(std::uint64_t n) noexcept { value_.store(n, std::memory_order_relaxed); }

 private:
  atomic<std::uint64_t> value_{0};
};

}  // namespace coir::detail
