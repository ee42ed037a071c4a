// attempt_splice.cpp: splice(2) and tee(2) in place of a ring's.
//
// Always true:
//   - Whoever tries does not wait: pipes are told not to, and a socket that would is given to a
//     thread, and only when both ends are ready. There it may have to wait for the other side of a
//     socket to read, which nothing but that ends.
//   - Nothing raises SIGPIPE.
//
// Comes from: attempt.hpp.   Goes to: the kernel.
#include <fcntl.h>
#include <poll.h>

#include "runtime/asking.hpp"
#include "runtime/attempt.hpp"
#include "runtime/base.hpp"

namespace coir::detail {
namespace {

std::int32_t splice_now(const io_uring_sqe& s) noexcept {
  const held_sigpipe quiet;  // from a ring's splice nobody hears it
  const unsigned flags = (s.splice_flags & ~SPLICE_F_FD_IN_FIXED) | SPLICE_F_NONBLOCK;
  off64_t in = static_cast<off64_t>(s.splice_off_in);
  off64_t out = static_cast<off64_t>(s.off);
  const std::int32_t res = ask([&] {
    if (s.opcode == IORING_OP_TEE) return ::tee(s.splice_fd_in, s.fd, s.len, flags);
    return ::splice(s.splice_fd_in, in == -1 ? nullptr : &in, s.fd, out == -1 ? nullptr : &out,
                    s.len, flags);
  });
  if (res == -EPIPE && !COIR_MUTANT(splice_raises)) quiet.take();
  return res;
}

/// The one end that is not ready; both are: somebody was quicker, so the source is asked again.
std::int32_t wait_for_splice(effort& e) noexcept {
  const io_uring_sqe& s = e.entry();
  if ((s.splice_flags & SPLICE_F_NONBLOCK) != 0) return -EAGAIN;
  if (is_ready(s.splice_fd_in, POLLIN) && !is_ready(s.fd, POLLOUT))
    return wait_for(e, s.fd, POLLOUT);
  return wait_for(e, s.splice_fd_in, POLLIN);
}

bool both_ready(const io_uring_sqe& s) noexcept {
  return is_ready(s.splice_fd_in, POLLIN) && is_ready(s.fd, POLLOUT);
}

}  // namespace

std::int32_t try_splice(effort& e) noexcept {
  const io_uring_sqe& s = e.entry();
  if ((s.splice_flags & SPLICE_F_FD_IN_FIXED) != 0) return -EBADF;
  if (is_file(s.splice_fd_in) || is_file(s.fd)) return for_a_thread;
  if (splices_with_waits(s.splice_fd_in) || splices_with_waits(s.fd))
    return both_ready(s) ? for_a_thread : wait_for_splice(e);
  const std::int32_t res = splice_now(s);
  return res == -EAGAIN ? wait_for_splice(e) : res;
}

std::int32_t do_splice(effort& e) noexcept {
  const io_uring_sqe& s = e.entry();
  const bool waits = splices_with_waits(s.splice_fd_in) || splices_with_waits(s.fd);
  if (waits && !both_ready(s)) return wait_for_splice(e);
  const std::int32_t res = splice_now(s);
  return res == -EAGAIN ? wait_for_splice(e) : res;
}

}  // namespace coir::detail
