// flight.cpp: what few operations need: their cancel, their close, an answer for nobody.
//
// Always true:
//   - A descriptor that a stale accept or open completion carries is closed, not lost.
//   - Line order is kept: an operation behind others in line never overtakes them.
//
// Comes from: flight.hpp.   Goes to: backend.
#include "runtime/flight.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <new>

namespace coir::detail {

fd_counts::fd_counts(std::uint32_t fds_max) : size_(fds_max) {
  void* const place = ::mmap(nullptr, std::size_t{size_} * sizeof *words_, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) throw std::bad_alloc();
  words_ = static_cast<std::uint32_t*>(place);
}

fd_counts::~fd_counts() { ::munmap(words_, std::size_t{size_} * sizeof *words_); }

bool flight::refused(const pending& p) noexcept {
  return p.fd >= 0 && (*fds_.at(p.fd) & fd_counts::closing) != 0;
}

void flight::cancel(pending& p) noexcept {
  if (p.ended || p.cancel_wanted) return;
  p.cancel_wanted = true;
  if (!p.in_flight) return;  // in line: turn() ends it
  ++cancels_sent_;
  const bool now = cancels_.empty() && cancels_left_ != 0 && outside_.cancel(p.name);
  if (now) --cancels_left_;
  if (!now && !COIR_MUTANT(cancel_tried_once)) cancels_.push_back(p);
}

void flight::dispose(const completion& c) noexcept {
  if (!COIR_MUTANT(stale_uncounted)) ++stale_;
  if (COIR_MUTANT(stale_fd_leaked)) return;
  if (c.to.kind() == token_kind::descriptor && c.res >= 0) outside_.discard(c.res);
}

std::uint32_t flight::close_begin(int fd) noexcept {
  std::uint32_t* const word = fds_.at(fd);
  COIR_ASSERT(word != nullptr);
  *word |= fd_counts::closing;
  const std::uint32_t count = *word & fd_counts::count_mask;
  if (count != 0 && !outside_.cancel_fd(fd)) {
    tokens_.for_each([&](pending& p) {
      if (p.fd == fd) cancel(p);
    });
  }
  return count;
}

void flight::close_end(int fd) noexcept {
  outside_.forget(fd);
  *fds_.at(fd) = 0;
}

}  // namespace coir::detail
