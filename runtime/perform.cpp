// perform.cpp: the road of every operation from a fiber to the kernel and back.
//
// Always true:
//   - This is the only place where a fiber waits for the kernel.
//
// Comes from: perform.hpp.   Goes to: flight, worker::park.
#include "runtime/perform.hpp"

#include <cerrno>

#include "coir/effects.hpp"

namespace coir {

void nop::fill(io_uring_sqe& sqe) const noexcept {
  sqe.opcode = IORING_OP_NOP;
  sqe.fd = -1;
}

namespace detail {
namespace {

/// A park that ends by the last completion only; a deadline or a cancel asks the kernel to hurry.
struct operation_park : park_site {
  explicit operation_park(pending& p) noexcept : what(p) { stop = &hurry; }
  pending& what;

 private:
  static void hurry(park_site& self, record&, woken why) noexcept {
    auto& me = static_cast<operation_park&>(self);
    if (me.what.ended) return;
    if (me.why == woken::by_item) me.why = why;  // the first reason is the one that is told
    worker::current()->operations().cancel(me.what);
  }
};

/// Marks this worker as a user of the descriptor, once. False: it is being closed.
bool enter_descriptor(worker& here, int fd) noexcept {
  std::uint32_t* const word = here.operations().fd_word(fd);
  if (word == nullptr) return true;  // no such number: the kernel says so
  if ((*word & (fd_counts::marked | fd_counts::closing)) == fd_counts::marked) [[likely]]
    return true;
  for (;;) {
    if ((*word & fd_counts::closing) != 0) return false;
    fd_users& users = static_cast<runtime_core&>(here.shared()).descriptors();
    switch (users.enter(fd, here.index())) {
      case entrance::open:
        *word |= fd_counts::marked;
        return true;
      case entrance::closing:
        return false;
      case entrance::later:
        here.yield();
    }
  }
}

std::int32_t once(worker& here, const io_uring_sqe& entry, std::int64_t until_ns,
                  bool heed_cancel) noexcept {
  record& me = *here.self();
  if (heed_cancel && is_cancelled(me)) return -ECANCELED;
  if (uses_fd(entry) && !enter_descriptor(here, entry.fd)) return -EBADF;
  pending p;
  p.fiber = &me;
  p.entry = &entry;
  if (const int refused = here.operations().start(p); refused < 0) return refused;
  operation_park site(p);
  const woken why = here.park(site, until_ns, heed_cancel);
  COIR_ASSERT(p.ended || COIR_MUTANT(return_before_completion));
  if (p.res == -ECANCELED && why == woken::by_deadline) return -ETIMEDOUT;
  return p.res;
}

std::int32_t wait_until_ready(worker& here, const io_uring_sqe& entry, std::int64_t until_ns,
                              bool heed_cancel) noexcept {
  io_uring_sqe poll{};
  poll.opcode = IORING_OP_POLL_ADD;
  poll.fd = entry.fd;
  poll.poll32_events = readiness_of(entry.opcode);
  return once(here, poll, until_ns, heed_cancel);
}

std::int32_t perform(const io_uring_sqe& entry, std::int64_t until_ns, bool heed_cancel) noexcept {
  worker* const here = worker::current();
  if (here == nullptr || here->self() == nullptr)
    return -(io_own_base + static_cast<int>(errc::not_in_fiber));
  for (;;) {
    const std::int32_t res = once(*here, entry, until_ns, heed_cancel);
    switch (classify(entry.opcode, res)) {
      case verdict::deliver:
        return res;
      case verdict::retry:
        break;
      case verdict::wait_ready:
        if (const std::int32_t waited = wait_until_ready(*here, entry, until_ns, heed_cancel);
            waited < 0 && waited != -EINTR)
          return waited;
        break;
      case verdict::fatal:
        COIR_ASSERT(!"the kernel lost a completion (EBADR)");
    }
  }
}

}  // namespace

std::int32_t perform_entry(const io_uring_sqe& entry, std::int64_t until_ns) noexcept {
  return perform(entry, until_ns, true);
}

std::int32_t perform_to_the_end(const io_uring_sqe& entry) noexcept {
  return perform(entry, never_ns, false);
}

std::int32_t perform_io(fill_function fill, const void* op, deadline until) noexcept {
  io_uring_sqe entry{};
  fill(op, entry);
  return perform_entry(entry, ns_of(until));
}

}  // namespace detail
}  // namespace coir
