// asking.hpp: a system call with the manners of a ring: its answer is a number of zero or more, or
// a negative errno, EINTR is asked again, and errno is as before.
//
// Always true:
//   - Nothing here knows who asks; it may be a worker or a thread of the pool.
//
// Comes from: attempt, attempt_files, attempt_splice, uring, driving.   Goes to: the kernel.
#pragma once

#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

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

/// Whether poll(2) says so now.
inline bool is_ready(int fd, std::uint32_t events) noexcept {
  pollfd one{fd, static_cast<short>(events), 0};
  return ask([&] { return ::poll(&one, 1, 0); }) > 0;
}

inline bool never_waits(int fd) noexcept {
  const std::int32_t flags = ask([&] { return ::fcntl(fd, F_GETFL); });
  return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

inline bool is_file(int fd) noexcept {
  struct ::stat about {};
  return ask([&] { return ::fstat(fd, &about); }) == 0 &&
         (S_ISREG(about.st_mode) || S_ISBLK(about.st_mode));
}

/// A socket heeds its own O_NONBLOCK only: with one that has none a splice waits, whatever it was
/// told.
inline bool splices_with_waits(int fd) noexcept {
  struct ::stat about {};
  return ask([&] { return ::fstat(fd, &about); }) == 0 && S_ISSOCK(about.st_mode) &&
         !never_waits(fd);
}

/// The kernel raises SIGPIPE for a pipe or a socket that nobody reads, and nobody wants to hear it.
/// Held back on this thread while this lives, unless somebody else holds one back already.
class held_sigpipe {
 public:
  held_sigpipe() noexcept {
    sigset_t waiting;
    ::sigpending(&waiting);
    if (::sigismember(&waiting, SIGPIPE) != 0) return;
    ::sigemptyset(&pipe_);
    ::sigaddset(&pipe_, SIGPIPE);
    holds_ = ::pthread_sigmask(SIG_BLOCK, &pipe_, &before_) == 0;
  }
  ~held_sigpipe() {
    if (holds_) ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  held_sigpipe(const held_sigpipe&) = delete;
  held_sigpipe& operator=(const held_sigpipe&) = delete;

  /// One that was raised is gone.
  void take() const noexcept {
    constexpr timespec at_once{0, 0};
    if (holds_) ask([&] { return ::sigtimedwait(&pipe_, nullptr, &at_once); });
  }

 private:
  sigset_t pipe_{};
  sigset_t before_{};
  bool holds_ = false;
};

/// What an entry points to.
template <class T>
T* at(std::uint64_t address) noexcept {
  return reinterpret_cast<T*>(static_cast<std::uintptr_t>(address));
}

inline constexpr std::uint8_t op_ftruncate = 55;  // Linux 6.9; the headers of Debian 12 are older

/// Whatever works on files and their names and may wait for a disk.
std::int32_t do_on_file(const io_uring_sqe& s) noexcept;

}  // namespace coir::detail
