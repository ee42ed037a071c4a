// fds.cpp: the words of all descriptor numbers: one mapping, touched where used.
//
// Always true:
//   - Zero pages are words of numbers that nobody uses.
//
// Comes from: fds.hpp.   Goes to: mmap(2).
#include "runtime/fds.hpp"

#include <sys/mman.h>
#include <sys/resource.h>

#include <new>

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

}  // namespace coir::detail
