// fds.cpp: the words of all descriptor numbers: one mapping, touched where used; and those who wait
// until one is closed.
//
// Always true:
//   - Zero pages are words of numbers that nobody uses.
//
// Comes from: fds.hpp.   Goes to: mmap(2), waiting.
#include "runtime/fds.hpp"

#include <sys/mman.h>
#include <sys/resource.h>

#include <new>

#include "runtime/waiting.hpp"

namespace coir::detail {

std::uint32_t fds_max_of_process() noexcept {
  rlimit limit{};
  constexpr std::uint32_t most = 1u << 20;  // fs.nr_open unless an administrator raised it
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max > most) return most;
  return limit.rlim_max < 1024 ? 1024 : static_cast<std::uint32_t>(limit.rlim_max);
}

fd_users::fd_users(std::uint32_t fds_max) : size_(fds_max) {
  void* const place = ::mmap(nullptr, std::size_t{size_} * sizeof *words_, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) throw std::bad_alloc();
  words_ = static_cast<atomic<std::uint64_t>*>(place);  // zero bytes are a zero atomic
}

fd_users::~fd_users() { ::munmap(words_, std::size_t{size_} * sizeof *words_); }

/// Under the queue's lock. False: the kernel is not closing it.
bool fd_users::awaits_end(int fd) noexcept {
  std::uint64_t now = words_[fd].load(std::memory_order_acquire);
  do {
    if ((now & closing) == 0 || (now & released) == 0) return false;
  } while (!words_[fd].compare_exchange_weak(now, now | awaited, std::memory_order_acq_rel));
  return true;
}

void fd_users::wait_for_end(int fd) noexcept {
  waiter me;
  // Cancellation is not heeded: the kernel answers a close soon.
  (void)wait_here(waiting_, me, never_ns, false, [&] { return awaits_end(fd); });
}

void fd_users::wake_waiting() noexcept {
  // Whoever said that it waits did so under the lock, and stands in the queue when we have it. Who
  // waits for another number asks again.
  const word_lock held(waiting_.lock);
  while (waiter* const w = dequeue(waiting_)) (void)wake_waiter(*w);
}

}  // namespace coir::detail
