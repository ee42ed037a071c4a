// flight.cpp: what few operations need: their cancel, their close, an answer for nobody.
//
// Always true:
//   - A descriptor that a stale accept or open completion carries is closed, not lost.
//   - Line order is kept: an operation behind others in line never overtakes them.
//   - Whose cancel missed it is in cancels_ or in missed_, or its next answer is on the way.
//
// Comes from: flight.hpp.   Goes to: backend.
#include "runtime/flight.hpp"

#include <sys/mman.h>

#include <algorithm>
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
  return (p.fd >= 0 && is_closing(p.fd)) || (p.also >= 0 && is_closing(p.also));
}

void flight::restrict_to(opcodes only) noexcept {
  restricted_ = true;
  only_ = only;
  straight_ = only.without(of_two_descriptors);
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

/// The kernel finds nothing under a name that is open. Either the last completion is on its way, or
/// the operation is on its way from a poll to a thread of the kernel (seen on Linux 6.18, with a
/// Unix connect to a full backlog); then nothing else would ever end it.
void flight::cancel_missed(token target) noexcept {
  pending* const p = tokens_.find(target);
  if (p == nullptr || !p->cancel_wanted || p->linked() || COIR_MUTANT(cancel_asked_once)) return;
  if (p->missed == 0) {
    p->missed = 1;
    return cancels_.push_back(*p);
  }
  p->ask_again_ns = outside_.now_ns() + pause_after(p->missed);
  if (p->missed < 20) ++p->missed;
  look_ns_ = std::min(look_ns_, p->ask_again_ns);
  missed_.push_back(*p);
}

void flight::look_again() noexcept {
  const std::int64_t now = outside_.now_ns();
  if (now >= look_ns_) ask_the_missed(now);
  if (now < closed_ns_) return;
  closed_ns_ = never_ns;
  tokens_.for_each([this](pending& p) {
    if (refused(p)) cancel(p);
  });
}

/// Those whose pause is over, to those who are cancelled in this turn.
void flight::ask_the_missed(std::int64_t now) noexcept {
  look_ns_ = never_ns;
  for (pending* p = missed_.front(); p != nullptr;) {
    pending* const after = missed_.after(*p);
    if (p->ask_again_ns <= now || COIR_MUTANT(cancel_asked_without_pause)) {
      missed_.erase(*p);
      cancels_.push_back(*p);
    } else {
      look_ns_ = std::min(look_ns_, p->ask_again_ns);
    }
    p = after;
  }
}

/// It ends while it waits for another cancel.
void flight::ask_no_more(pending& p) noexcept {
  cancels_.erase(p);  // or out of missed_: a member leaves whichever list it is in
  if (missed_.empty()) look_ns_ = never_ns;
}

void flight::dispose(const completion& c) noexcept {
  if (!COIR_MUTANT(stale_uncounted)) ++stale_;
  if (COIR_MUTANT(stale_fd_leaked)) return;
  const token_kind kind = c.to.kind();
  const bool brings_fd = kind == token_kind::descriptor || kind == token_kind::lasting_descriptor;
  if (brings_fd && c.res >= 0) outside_.discard(c.res);
  if ((c.flags & IORING_CQE_F_BUFFER) != 0 && on_stray_buffer != nullptr &&
      !COIR_MUTANT(stray_buffer_lost))
    on_stray_buffer(stray_context, c.flags >> IORING_CQE_BUFFER_SHIFT);
}

// -- what lasts

/// Not let out of the line: it was cancelled, or its descriptor is being closed.
record* flight::give_up(pending& p) noexcept {
  if (!p.lasts) return end(p, -ECANCELED);
  --in_line_;
  auto& s = static_cast<lasting&>(p);
  return s.arrived(s, {{}, -ECANCELED, 0});
}

record* flight::complete_apart(const completion& c) noexcept {
  if (c.to.kind() == token_kind::cancel) {
    // 0, EALREADY: the target's own completion counts.
    if (c.res == -ENOENT) cancel_missed(c.to);
    return nullptr;
  }
  pending* const p = tokens_.find(c.to);
  if (p == nullptr || !p->lasts) {
    dispose(c);
    return nullptr;
  }
  auto& s = static_cast<lasting&>(*p);
  return s.arrived(s, c);
}

int flight::stand(lasting& s) noexcept {
  s.lasts = true;
  if (!tokens_.have_room()) return -ENOMEM;
  if (!uses_fd(*s.entry)) {
    if (s.fiber->may_move) movers_.push_back(s);
    return 0;
  }
  std::uint32_t* const word = fds_.at(s.entry->fd);
  if (word == nullptr || (*word & fd_counts::closing) != 0) return -EBADF;
  ++*word;
  s.fd = s.entry->fd;
  if (s.fiber->may_move) movers_.push_back(s);
  return 0;
}

int flight::stand_also(lasting& s, int source) noexcept {
  std::uint32_t* const word = fds_.at(source);
  if (word == nullptr || is_closing(source)) return -EBADF;
  ++*word;
  ++pairs_;
  s.also = source;
  return 0;
}

void flight::forget(lasting& s) noexcept {
  if (static_cast<mover_node&>(s).linked()) movers_.erase(s);
}

bool flight::keeps(const record& fiber) noexcept {
  for (lasting* s = movers_.front(); s != nullptr; s = movers_.after(*s))
    if (s->fiber == &fiber) return true;
  return false;
}

void flight::stand_down(lasting& s) noexcept {
  COIR_ASSERT(!s.in_flight && !s.pending::linked());
  s.ended = true;
  if (s.fd >= 0) let_go(s.fd);
  if (s.also < 0) return;
  --pairs_;
  let_go(s.also);
}

void flight::set_off(lasting& s, bool later) noexcept {
  COIR_ASSERT(!s.in_flight && !s.ended);
  leave_rest(s);
  if (s.pending::linked()) return;  // a closing has put it into the line, which ends it
  s.cancel_wanted = false;
  s.missed = 0;
  if (!later && line_.empty() && !refused(s) && launch(s)) return;
  line_.push_back(s);
  ++in_line_;
}

bool flight::rest(lasting& s) noexcept {
  COIR_ASSERT(!s.in_flight && !s.rests);
  // A closing that began would not find it at rest any more: the line refuses it.
  if (refused(s)) {
    set_off(s, true);
    return false;
  }
  if (s.fd >= 0) *fds_.at(s.fd) |= fd_counts::resting;
  resting_.push_back(s);
  s.rests = true;
  return true;
}

void flight::rest_until(lasting& s, std::int64_t at_ns) noexcept {
  if (!rest(s)) return;
  s.rests_until_ns = at_ns;
  ++timed_;
  rested_ns_ = std::min(rested_ns_, at_ns);
}

/// One whose rest is over; null: there is none, and it is known when to look again.
lasting* flight::rested() noexcept {
  const std::int64_t now = rested_ns_ == never_ns ? 0 : outside_.now_ns();
  if (now < rested_ns_) return nullptr;
  rested_ns_ = never_ns;
  for (pending* p = resting_.front(); p != nullptr; p = resting_.after(*p)) {
    auto& s = static_cast<lasting&>(*p);
    rested_ns_ = std::min(rested_ns_, s.rests_until_ns);
    if (s.rests_until_ns <= now) return &s;
  }
  return nullptr;
}

void flight::leave_rest(lasting& s) noexcept {
  if (!s.rests) return;
  resting_.erase(s);
  s.rests = false;
  if (std::exchange(s.rests_until_ns, never_ns) == never_ns) return;
  if (--timed_ == 0 && !COIR_MUTANT(left_rest_looked_for)) rested_ns_ = never_ns;
}

void flight::retire(lasting& s) noexcept {
  if (!s.in_flight) return;
  if (s.pending::linked()) ask_no_more(s);
  tokens_.close(s.name);
  s.in_flight = false;
}

/// The kernel finds an operation by one of its two numbers only.
void flight::end_pairs_on(int fd) noexcept {
  tokens_.for_each([&](pending& p) {
    if (p.also == fd) cancel(p);
  });
}

std::uint32_t flight::close_begin(int fd) noexcept {
  std::uint32_t* const word = fds_.at(fd);
  COIR_ASSERT(word != nullptr);
  *word |= fd_counts::closing;
  const std::uint32_t count = *word & fd_counts::count_mask;
  // Those at rest have no completion to come: the line ends them.
  if ((*word & fd_counts::resting) != 0 && !COIR_MUTANT(close_forgets_the_resting)) {
    for (pending* p = resting_.front(); p != nullptr;) {
      pending* const after = resting_.after(*p);
      if (p->fd == fd) set_off(static_cast<lasting&>(*p), true);
      p = after;
    }
  }
  if (count == 0) return count;
  ++undrained_;
  if (!outside_.cancel_fd(fd)) {
    tokens_.for_each([&](pending& p) {
      if (p.fd == fd) cancel(p);
    });
  } else if (closed_ns_ == never_ns && !COIR_MUTANT(close_asked_once)) {
    closed_ns_ = outside_.now_ns() + close_pause_ns;
  }
  if (pairs_ != 0 && !COIR_MUTANT(close_forgets_the_source)) end_pairs_on(fd);
  return count;
}

void flight::close_end(int fd) noexcept {
  outside_.forget(fd);
  *fds_.at(fd) = 0;
}

}  // namespace coir::detail
