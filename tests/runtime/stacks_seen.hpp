// stacks_seen.hpp: what the kernel says of stacks: guarded, usable, resident.
//
// Comes from: the tests of stacks.   Goes to: write(2), mincore(2).
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <memory>
#include <utility>

#include "runtime/stacks.hpp"

namespace test {

inline constexpr std::size_t kib = 1024;

inline std::unique_ptr<coir::detail::stacks> pool_of(coir::detail::stack_settings settings) {
  auto made = coir::detail::stacks::make(std::move(settings));
  REQUIRE(made);
  return std::move(*made);
}

inline unsigned class_for(std::size_t bytes) {
  const auto klass = coir::detail::stack_class(bytes);
  REQUIRE(klass);
  return *klass;
}

/// Whether the kernel refuses to read the byte at `at` for us.
inline bool refused(const std::byte* at) {
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
  const bool fault = write(ends[1], at, 1) == -1 && errno == EFAULT;
  close(ends[0]);
  close(ends[1]);
  return fault;
}

inline bool guarded(const coir::detail::stack& s) {
  return refused(s.slot) && refused(s.bottom - 1);
}
inline bool usable(const coir::detail::stack& s) {
  return !refused(s.bottom) && !refused(s.top - 1) &&
         !refused(static_cast<std::byte*>(coir::detail::header(s)) +
                  coir::detail::stack_header_bytes - 1);
}

inline bool resident(const std::byte* page) {
  unsigned char answer = 0;
  auto at = reinterpret_cast<std::uintptr_t>(page) & ~(coir::detail::real_page_bytes() - 1);
  REQUIRE(mincore(reinterpret_cast<void*>(at), 1, &answer) == 0);
  return (answer & 1) != 0;
}

}  // namespace test
