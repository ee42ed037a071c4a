// attempt.cpp: opcodes as system calls.
//
// Always true:
//   - `not_ready` comes with the descriptor and the events to wait for.
//   - A partial result counts: what was read or written is never told as an error.
//
// Comes from: attempt.hpp.   Goes to: the kernel.
#include "runtime/attempt.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

#include "coir/detail/atomic.hpp"
#include "runtime/asking.hpp"
#include "runtime/futex.hpp"
#include "runtime/list.hpp"

namespace coir::detail {
namespace {

bool is_socket_of(int fd, int type) noexcept {
  int is = 0;
  socklen_t bytes = sizeof is;
  return ask([&] { return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &is, &bytes); }) == 0 && is == type;
}

// -- read and write

bool reads(const io_uring_sqe& s) noexcept {
  return s.opcode == IORING_OP_READ || s.opcode == IORING_OP_READV;
}
bool of_parts(const io_uring_sqe& s) noexcept {
  return s.opcode == IORING_OP_READV || s.opcode == IORING_OP_WRITEV;
}

std::int32_t transfer(const io_uring_sqe& s, int flags) noexcept {
  iovec one{at<void>(s.addr), s.len};
  const iovec* const parts = of_parts(s) ? at<const iovec>(s.addr) : &one;
  const int count = of_parts(s) ? static_cast<int>(s.len) : 1;
  const int how = static_cast<int>(s.rw_flags) | flags;
  const auto from = [&](std::uint64_t where) {
    const auto offset = static_cast<off_t>(where);
    return ask([&] {
      return reads(s) ? ::preadv2(s.fd, parts, count, offset, how)
                      : ::pwritev2(s.fd, parts, count, offset, how);
    });
  };
  const std::int32_t res = from(s.off);
  // A pipe has no positions; the ring does not look at the offset there.
  return res == -ESPIPE && s.off != ~std::uint64_t{0} ? from(~std::uint64_t{0}) : res;
}

std::int32_t try_transfer(effort& e, bool polled) noexcept {
  io_uring_sqe& s = e.entry();
  const std::uint32_t wanted = reads(s) ? POLLIN : POLLOUT;
  // Few file systems write without waiting, and the rest of several parts would have to be cut out.
  if (!polled && s.opcode != IORING_OP_READ && is_file(s.fd)) return for_a_thread;
  if (COIR_MUTANT(poll_changes_flags)) ::fcntl(s.fd, F_SETFL, ::fcntl(s.fd, F_GETFL) | O_NONBLOCK);
  const std::int32_t res = transfer(s, RWF_NOWAIT);
  if (res > 0 && !polled && s.opcode == IORING_OP_READ && static_cast<std::uint32_t>(res) < s.len &&
      is_file(s.fd)) {
    // What lies in memory; the rest has to come from the disk, unless the file ends here.
    e.done += res;
    s.addr += static_cast<std::uint32_t>(res);
    s.len -= static_cast<std::uint32_t>(res);
    if (s.off != ~std::uint64_t{0}) s.off += static_cast<std::uint32_t>(res);
    return for_a_thread;
  }
  if (res == -EAGAIN) return (s.rw_flags & RWF_NOWAIT) != 0 ? -EAGAIN : wait_for(e, s.fd, wanted);
  if (res != -EOPNOTSUPP && res != -EINVAL) return res;
  // RWF_NOWAIT is not known there.
  if (never_waits(s.fd)) {
    const std::int32_t plain = transfer(s, 0);
    return plain == -EAGAIN ? wait_for(e, s.fd, wanted) : plain;
  }
  return is_ready(s.fd, wanted) ? for_a_thread : wait_for(e, s.fd, wanted);
}

std::int32_t do_transfer(effort& e) noexcept {
  const std::int32_t res = transfer(e.entry(), 0);
  if (res < 0) return e.done > 0 ? e.done : res;
  return e.done + res;
}

// -- sockets

std::uint32_t events_of_receive(std::uint32_t flags) noexcept {
  if ((flags & MSG_ERRQUEUE) != 0) return POLLERR;
  return (flags & MSG_OOB) != 0 ? POLLPRI : POLLIN;
}

std::int32_t stream_step(const io_uring_sqe& s, int flags) noexcept {
  if (s.opcode == IORING_OP_RECV)
    return ask([&] { return ::recv(s.fd, at<void>(s.addr), s.len, flags); });
  return ask([&] {
    return ::sendto(s.fd, at<void>(s.addr), s.len, flags | MSG_NOSIGNAL, at<sockaddr>(s.addr2),
                    s.addr_len);
  });
}

std::int32_t message_step(const io_uring_sqe& s, int flags) noexcept {
  if (s.opcode == IORING_OP_RECVMSG)
    return ask([&] { return ::recvmsg(s.fd, at<msghdr>(s.addr), flags); });
  return ask([&] { return ::sendmsg(s.fd, at<const msghdr>(s.addr), flags | MSG_NOSIGNAL); });
}

bool receives(const io_uring_sqe& s) noexcept {
  return s.opcode == IORING_OP_RECV || s.opcode == IORING_OP_RECVMSG;
}

std::int32_t try_message(effort& e) noexcept {
  io_uring_sqe& s = e.entry();
  constexpr unsigned multishot = IORING_RECV_MULTISHOT;
  if (receives(s) && (s.ioprio & multishot) != 0) return -EINVAL;
  const std::uint32_t wanted = receives(s) ? events_of_receive(s.msg_flags) : POLLOUT;
  const bool plain =
      s.opcode == IORING_OP_RECV || s.opcode == IORING_OP_SEND || s.opcode == IORING_OP_SEND_ZC;
  const bool all = plain && (s.msg_flags & MSG_WAITALL) != 0;
  const int flags =
      static_cast<int>(all ? s.msg_flags & ~std::uint32_t{MSG_WAITALL} : s.msg_flags) |
      MSG_DONTWAIT;
  for (;;) {
    const std::int32_t res = plain ? stream_step(s, flags) : message_step(s, flags);
    if (res == -EAGAIN)
      return (s.msg_flags & MSG_DONTWAIT) != 0 ? given_up(e, EAGAIN) : wait_for(e, s.fd, wanted);
    if (res < 0) return e.done > 0 ? e.done : res;
    if (!all) return res;
    e.done += res;
    if (res == 0 || static_cast<std::uint32_t>(res) == s.len || !is_socket_of(s.fd, SOCK_STREAM))
      return e.done;
    s.addr += static_cast<std::uint32_t>(res);
    s.len -= static_cast<std::uint32_t>(res);
  }
}

std::int32_t accept_now(const io_uring_sqe& s) noexcept {
  return ask([&] {
    return ::accept4(s.fd, at<sockaddr>(s.addr), at<socklen_t>(s.addr2),
                     static_cast<int>(s.accept_flags));
  });
}

/// Whether the kernel would wait for a connection there; 0, or what it says at once.
std::int32_t not_a_listener(int fd) noexcept {
  int listens = 0;
  socklen_t bytes = sizeof listens;
  const std::int32_t asked =
      ask([&] { return ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes); });
  return asked == 0 && listens == 0 ? -EINVAL : asked;
}

std::int32_t try_accept(effort& e) noexcept {
  const io_uring_sqe& s = e.entry();
  if ((s.ioprio & IORING_ACCEPT_MULTISHOT) != 0) return -EINVAL;
  if (never_waits(s.fd) || COIR_MUTANT(poll_accept_waits)) {
    const std::int32_t res = accept_now(s);
    return res == -EAGAIN ? wait_for(e, s.fd, POLLIN) : res;
  }
  if (is_ready(s.fd, POLLIN)) return for_a_thread;
  if (const std::int32_t refused = not_a_listener(s.fd); refused != 0) return refused;
  return wait_for(e, s.fd, POLLIN);
}

std::int32_t connect_now(const io_uring_sqe& s) noexcept {
  const int saved = errno;
  const int n = ::connect(s.fd, at<const sockaddr>(s.addr), static_cast<socklen_t>(s.addr2));
  const int why = errno;
  errno = saved;
  return n == 0 ? 0 : -why;
}

/// How a connect that was begun has ended; `not_ready` when it has not. Asking SO_ERROR instead
/// would leave the socket believing that it connects, and the next connect(2) would say so.
std::int32_t end_of_connect(effort& e) noexcept {
  const std::int32_t res = connect_now(e.entry());
  if (res == -EALREADY || res == -EINPROGRESS || res == -EINTR)
    return wait_for(e, e.entry().fd, POLLOUT);
  return res == -EISCONN ? 0 : res;
}

std::int32_t try_connect(effort& e) noexcept {
  if (e.begun) return end_of_connect(e);
  // One to a datagram socket only notes the address.
  if (!never_waits(e.entry().fd) && !is_socket_of(e.entry().fd, SOCK_DGRAM)) return for_a_thread;
  const std::int32_t res = connect_now(e.entry());
  // EALREADY: an earlier one, whose fiber has given up, is still under way; it may be this one's.
  if (res != -EINPROGRESS && res != -EINTR && res != -EALREADY) return res;
  e.begun = true;
  return wait_for(e, e.entry().fd, POLLOUT);
}

std::int32_t do_connect(effort& e) noexcept {
  const std::int32_t res = connect_now(e.entry());
  if (res != -EINTR) return res;
  pollfd one{e.entry().fd, POLLOUT, 0};
  ask([&] { return ::poll(&one, 1, -1); });
  return end_of_connect(e);
}

// -- the rest

std::int32_t try_poll(effort& e) noexcept {
  const io_uring_sqe& s = e.entry();
  if (s.len != 0) return -EINVAL;  // for several answers, or to change another one
  std::uint32_t wanted = s.poll32_events;
  pollfd one{s.fd, static_cast<short>(wanted), 0};
  const std::int32_t n = ask([&] { return ::poll(&one, 1, 0); });
  if (n < 0) return n;
  if (n == 0) return wait_for(e, s.fd, wanted);
  return (one.revents & POLLNVAL) != 0 ? -EBADF : one.revents & 0xffff;
}

/// Of those who read from one number now, or write to it; in the list of them while it lives. They
/// are as many as the threads of the pools.
class one_at_a_time : public list_node {
 public:
  one_at_a_time(int fd, std::uint32_t events) noexcept
      : fd_(COIR_MUTANT(numbers_share_a_turn) ? fd % 256 : fd),
        events_(COIR_MUTANT(writers_wait_for_readers) ? 0 : events) {
    const word_lock held(lock_);
    first_ = !has_twin();
    if (first_) all_.push_back(*this);
  }
  ~one_at_a_time() {
    if (!first_) return;
    const word_lock held(lock_);
    all_.erase(*this);
  }
  one_at_a_time(const one_at_a_time&) = delete;
  one_at_a_time& operator=(const one_at_a_time&) = delete;
  explicit operator bool() const noexcept { return first_; }

 private:
  bool has_twin() const noexcept {
    for (one_at_a_time* each = all_.front(); each != nullptr; each = all_.after(*each))
      if (each->fd_ == fd_ && each->events_ == events_) return true;
    return false;
  }

  inline static constinit list<one_at_a_time> all_;
  inline static constinit atomic<std::uint32_t> lock_{0};
  int fd_;
  std::uint32_t events_;
  bool first_ = false;
};

/// What may wait although somebody has looked before: not ready any more, or not our turn.
template <class Call>
std::int32_t alone(effort& e, std::uint32_t events, Call call) noexcept {
  const one_at_a_time turn(e.entry().fd, events);
  if (!turn || !is_ready(e.entry().fd, events)) return wait_for(e, e.entry().fd, events);
  return call();
}

}  // namespace

std::int32_t try_now(effort& e, bool polled) noexcept {
  const io_uring_sqe& s = e.entry();
  if ((s.flags & IOSQE_FIXED_FILE) != 0) return -EBADF;
  if ((s.flags & IOSQE_BUFFER_SELECT) != 0) return -EOPNOTSUPP;
  switch (s.opcode) {
    case IORING_OP_NOP:
      return 0;
    case IORING_OP_READ:
    case IORING_OP_READV:
    case IORING_OP_WRITE:
    case IORING_OP_WRITEV:
      return try_transfer(e, polled);
    case IORING_OP_RECV:
    case IORING_OP_SEND:
    case IORING_OP_SEND_ZC:
    case IORING_OP_RECVMSG:
    case IORING_OP_SENDMSG:
    case IORING_OP_SENDMSG_ZC:
      return try_message(e);
    case IORING_OP_ACCEPT:
      return try_accept(e);
    case IORING_OP_CONNECT:
      return try_connect(e);
    case IORING_OP_POLL_ADD:
      return try_poll(e);
    case IORING_OP_SPLICE:
    case IORING_OP_TEE:
      return try_splice(e);
    case IORING_OP_CLOSE:
      // EINTR is not asked again: the number is gone, and may be somebody else's.
      return ask([&] { return ::close(s.fd) == 0 || errno == EINTR ? 0 : -1; });
    case IORING_OP_SHUTDOWN:
      return ask([&] { return ::shutdown(s.fd, static_cast<int>(s.len)); });
    case IORING_OP_SOCKET:
      return ask([&] { return ::socket(s.fd, static_cast<int>(s.off), static_cast<int>(s.len)); });
    case IORING_OP_FSYNC:
    case IORING_OP_SYNC_FILE_RANGE:
    case IORING_OP_OPENAT:
    case IORING_OP_OPENAT2:
    case IORING_OP_STATX:
    case IORING_OP_FALLOCATE:
    case IORING_OP_FADVISE:
    case IORING_OP_MADVISE:
    case IORING_OP_RENAMEAT:
    case IORING_OP_UNLINKAT:
    case IORING_OP_MKDIRAT:
    case IORING_OP_SYMLINKAT:
    case IORING_OP_LINKAT:
    case op_ftruncate:
      return for_a_thread;
    case IORING_OP_TIMEOUT:
      return -EINVAL;  // who asked has a clock
    default:
      // What no kernel knew when this was built is answered as by a kernel that does not know it.
      return s.opcode < IORING_OP_LAST ? -EOPNOTSUPP : -EINVAL;
  }
}

bool tells_of_each_byte(int fd) noexcept {
  int least = 0;
  socklen_t bytes = sizeof least;
  return is_socket_of(fd, SOCK_STREAM) &&
         ask([&] { return ::getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &least, &bytes); }) == 0 &&
         least == 1;
}

std::int32_t do_now(effort& e) noexcept {
  const io_uring_sqe& s = e.entry();
  switch (s.opcode) {
    case IORING_OP_READ:
    case IORING_OP_READV:
    case IORING_OP_WRITE:
    case IORING_OP_WRITEV:
      if (is_file(s.fd)) return do_transfer(e);
      return alone(e, reads(s) ? POLLIN : POLLOUT, [&] { return do_transfer(e); });
    case IORING_OP_ACCEPT:
      return alone(e, POLLIN, [&] { return accept_now(s); });
    case IORING_OP_CONNECT:
      return do_connect(e);
    case IORING_OP_SPLICE:
    case IORING_OP_TEE:
      return do_splice(e);
    default:
      return do_on_file(s);
  }
}

std::int32_t send_at_once(const io_uring_sqe& entry) noexcept {
  // A ring never raises SIGPIPE, whatever the entry says.
  return ask([&] {
    return ::send(entry.fd, at<const void>(entry.addr), entry.len,
                  static_cast<int>(entry.msg_flags) | MSG_DONTWAIT | MSG_NOSIGNAL);
  });
}

void hurry(const effort& e) noexcept {
  if (e.entry().opcode == IORING_OP_CONNECT)
    ask([&] { return ::shutdown(e.entry().fd, SHUT_RDWR); });
}

}  // namespace coir::detail
