// backend.cpp: the one classifier of kernel results, and what is known of each opcode.
//
// Always true:
//   - Every result passes through classify(); no other place looks at errno values of completions.
//   - EINTR is never shown to a user. EAGAIN is shown only for operations whose descriptor cannot
//     be waited for.
//
// Comes from: flight (completions).   Goes to: perform.
#include "runtime/backend.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

namespace coir::detail {

std::int32_t backend::send_now(const io_uring_sqe&) noexcept { return -EAGAIN; }

bool backend::goes_on(std::uint8_t) const noexcept { return false; }
int backend::lend_buffers(std::byte*, unsigned, unsigned) noexcept { return -ENOSYS; }
void backend::return_buffer(unsigned) noexcept {}

void backend::discard(int fd) noexcept { ::close(fd); }

unsigned readiness_of(std::uint8_t opcode) noexcept {
  switch (opcode) {
    case IORING_OP_READ:
    case IORING_OP_READV:
    case IORING_OP_RECV:
    case IORING_OP_RECVMSG:
    case IORING_OP_ACCEPT:
      return POLLIN;
    case IORING_OP_WRITE:
    case IORING_OP_WRITEV:
    case IORING_OP_SEND:
    case IORING_OP_SEND_ZC:
    case IORING_OP_SENDMSG:
    case IORING_OP_SENDMSG_ZC:
    case IORING_OP_CONNECT:
      return POLLOUT;
    default:
      return 0;
  }
}

bool interrupted(std::int32_t res) noexcept {
  // ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND and ERESTART_RESTARTBLOCK are the kernel's inner
  // forms of EINTR. System calls hide them; splice through a ring has been seen to let them out.
  return res == -EINTR || (res <= -512 && res >= -516 && res != -515);
}

void make_plain(io_uring_sqe& entry) noexcept {
  entry.opcode = entry.opcode == IORING_OP_SENDMSG_ZC ? IORING_OP_SENDMSG : IORING_OP_SEND;
  entry.ioprio &= IORING_RECVSEND_POLL_FIRST;  // the rest is about the notification
}

verdict classify(std::uint8_t opcode, std::int32_t res) noexcept {
  if (res >= 0) return verdict::deliver;
  constexpr opcodes zero_copy(IORING_OP_SEND_ZC, IORING_OP_SENDMSG_ZC);
  switch (interrupted(res) ? EINTR : -res) {
    case EINTR:
      if (COIR_MUTANT(eintr_delivered)) return verdict::deliver;
      // close(2) is not to be repeated: the number is gone, and may be somebody else's.
      if (opcode == IORING_OP_CLOSE) return verdict::done;
      // connect(2) goes on by itself; when the socket is ready another one says how it ended.
      return opcode == IORING_OP_CONNECT ? verdict::wait_ready : verdict::retry;
    case EINPROGRESS:
      return opcode == IORING_OP_CONNECT ? verdict::wait_ready : verdict::deliver;
    case EAGAIN:
      // A Unix socket met a full backlog: poll(2) calls it writable, whether there is room or not.
      // Or a datagram socket found every port taken, of which poll(2) tells nothing either.
      if (opcode == IORING_OP_CONNECT && !COIR_MUTANT(connect_spins)) return verdict::later;
      return readiness_of(opcode) != 0 ? verdict::wait_ready : verdict::deliver;
    case EOPNOTSUPP:  // of this socket
    case EINVAL:      // of this kernel; where the entry is wrong, the plain one says so as well
    case ENOMEM:      // of pages that may be locked, which a plain one needs none of
      return zero_copy.have(opcode) && !COIR_MUTANT(zero_copy_or_nothing) ? verdict::plainly
                                                                          : verdict::deliver;
    case EBADR:  // the completion queue lost an entry: an operation would never end
      return verdict::fatal;
    default:
      return verdict::deliver;
  }
}

}  // namespace coir::detail
