// flight.cpp: start, cancel and complete operations.
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

int flight::start(pending& p) noexcept {
  // Without a token in flight nothing would ever come to give a place in the line.
  if (!tokens_.have_room()) return -ENOMEM;
  if (uses_fd(*p.entry)) {
    std::uint32_t* const word = fds_.at(p.entry->fd);
    if (word == nullptr) return -EBADF;
    if ((*word & fd_counts::closing) != 0 && !COIR_MUTANT(closing_admits)) return -EBADF;
    ++*word;
    p.fd = p.entry->fd;
  }
  if ((!line_.empty() && !COIR_MUTANT(line_overtaken)) || !launch(p)) {
    if (COIR_MUTANT(failed_submit_ends)) return -EAGAIN;
    line_.push_back(p);
    ++in_line_;
  }
  return 0;
}

bool flight::launch(pending& p) noexcept {
  const token name =
      tokens_.open(p, makes_fd(p.entry->opcode) ? token_kind::descriptor : token_kind::operation);
  if (name.raw == 0) return false;
  if (!outside_.submit(*p.entry, name, false)) {
    // The turn submits early; only if that gave no room the operation waits in line.
    if (!COIR_MUTANT(full_queue_waits)) outside_.wait(no_wait_ns);
    if (!outside_.submit(*p.entry, name, false)) {
      tokens_.close(name);
      return false;
    }
  }
  p.name = name;
  p.in_flight = true;
  return true;
}

bool flight::refused(const pending& p) noexcept {
  return p.fd >= 0 && (*fds_.at(p.fd) & fd_counts::closing) != 0;
}

record* flight::end(pending& p, std::int32_t res) noexcept {
  COIR_ASSERT(!p.ended);
  p.ended = true;
  p.res = res;
  if (p.in_flight) {
    if (p.linked()) cancels_.erase(p);
    tokens_.close(p.name);
    p.in_flight = false;
  } else {
    --in_line_;
  }
  if (p.fd >= 0) let_go(p.fd);
  return p.fiber;
}

void flight::let_go(int fd) noexcept {
  std::uint32_t& word = *fds_.at(fd);
  COIR_ASSERT((word & fd_counts::count_mask) != 0);
  --word;
  if ((word & fd_counts::closing) != 0 && (word & fd_counts::count_mask) == 0)
    on_drained(drained_context, fd);
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

record* flight::complete(const completion& c) noexcept {
  if (c.to.kind() == token_kind::cancel)
    return nullptr;  // 0, ENOENT, EALREADY: the target's own completion counts
  pending* const p = tokens_.find(c.to);
  if (p == nullptr) {
    dispose(c);
    return nullptr;
  }
  p->flags = c.flags;
  if (c.more() && !COIR_MUTANT(ignore_more)) {  // SEND_ZC and the like: the buffer is still lent
    p->res = c.res;
    return nullptr;
  }
  const bool notification = (c.flags & IORING_CQE_F_NOTIF) != 0;
  return end(*p, notification && !COIR_MUTANT(notification_is_answer) ? p->res : c.res);
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

void flight::close_end(int fd) noexcept { *fds_.at(fd) = 0; }

}  // namespace coir::detail
