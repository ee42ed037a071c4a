// asking.hpp: a system call with the manners of a ring: its answer is a number of zero or more, or
// a negative errno, EINTR is asked again, and errno is as before.
//
// Always true:
//   - Nothing here knows who asks; it may be a worker or a thread of the pool.
//
// Comes from: attempt, attempt_files.   Goes to: the kernel.
#pragma once

#include <linux/io_uring.h>

#include <cerrno>
#include <cstdint>

namespace coir::detail {

template <class Call>
std::int32_t ask(Call call) noexcept {
  const int saved = errno;
  for (;;) {
    const auto n = call();
    const int why = errno;
    errno = saved;
    if (n >= 0) return static_cast<std::int32_t>(n);
    if (why != EINTR) return -why;
  }
}

/// What an entry points to.
template <class T>
T* at(std::uint64_t address) noexcept {
  return reinterpret_cast<T*>(static_cast<std::uintptr_t>(address));
}

inline constexpr std::uint8_t op_ftruncate = 55;  // Linux 6.9; the headers of Debian 12 are older

/// Whatever works on files and their names and may wait for a disk.
std::int32_t do_on_file(const io_uring_sqe& s) noexcept;

}  // namespace coir::detail
