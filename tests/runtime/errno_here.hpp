// errno_here.hpp: errno, asked anew each time: a fiber goes on on whichever thread runs it, and a
// compiler would keep the place it has once been told.
//
// Comes from: driving_test.cpp, moving_test.cpp.   Goes to: errno.
#pragma once

#include <cerrno>

namespace test {

[[gnu::noinline]] inline int errno_here() {
  asm volatile("" ::: "memory");
  return errno;
}
[[gnu::noinline]] inline void set_errno_here(int to) {
  asm volatile("" ::: "memory");
  errno = to;
}

}  // namespace test
