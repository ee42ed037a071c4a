// io.hpp: files and descriptors in blocking style: each call is one effect that parks the fiber.
//
// Always true:
//   - Buffers are lent until the call returns, whatever it returns; end of file is a read of 0
//     bytes.
//   - close waits for the last completion of every operation on that descriptor, on whichever
//     worker it was started, before the number can name anything else. Operations that it meets end
//     with operation_canceled.
//   - A plain int owns nothing: use unique_fd to close by scope.
//
// Comes from: the user.   Goes to: coir/effects.hpp.
#pragma once

#include <sys/stat.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "coir/clock.hpp"
#include "coir/detail/atomic.hpp"
#include "coir/result.hpp"

struct statx;
struct sockaddr;
struct msghdr;

namespace coir::io {

// Every call here: fibers only (errc::not_in_fiber on a plain thread). Errors besides those named:
// operation_canceled, timed_out, bad_file_descriptor, and those of the system call of the same
// name. More than 2 GiB at once is cut to 0x7ffff000 bytes as the kernel does; read_exact and
// write_all loop.

/// read(2) and write(2) at the file's own position. Return the count; a write may be short. After a
/// short one on a regular file (the disk is full) Linux may leave the position where it was: go on
/// with pwrite, or use write_all, which minds it.
[[nodiscard]] COIR_API result<std::size_t> read(int fd, std::span<std::byte> into,
                                                deadline until = never);
[[nodiscard]] COIR_API result<std::size_t> write(int fd, std::span<const std::byte> from,
                                                 deadline until = never);
/// readv(2), writev(2): at most 1024 parts (invalid_argument).
[[nodiscard]] COIR_API result<std::size_t> readv(int fd, std::span<const iovec> into,
                                                 deadline until = never);
[[nodiscard]] COIR_API result<std::size_t> writev(int fd, std::span<const iovec> from,
                                                  deadline until = never);
/// pread(2), pwrite(2): at `offset` bytes from the start.
[[nodiscard]] COIR_API result<std::size_t> pread(int fd, std::span<std::byte> into,
                                                 std::uint64_t offset, deadline until = never);
[[nodiscard]] COIR_API result<std::size_t> pwrite(int fd, std::span<const std::byte> from,
                                                  std::uint64_t offset, deadline until = never);
/// Until `into` is full, or the end of the file: returns the count, less than asked only at end of
/// file.
[[nodiscard]] COIR_API result<std::size_t> read_exact(int fd, std::span<std::byte> into,
                                                      deadline until = never);
/// Until everything is written. On an error nothing says how much was: use write when that matters.
[[nodiscard]] COIR_API result<std::size_t> write_all(int fd, std::span<const std::byte> from,
                                                     deadline until = never);
[[nodiscard]] COIR_API result<> fsync(int fd, deadline until = never);
[[nodiscard]] COIR_API result<> fdatasync(int fd, deadline until = never);
/// open(2): returns the descriptor. O_CLOEXEC is added. A descriptor that a cancelled open made is
/// closed, not lost.
[[nodiscard]] COIR_API result<int> open(const char* path, int flags, unsigned mode = 0,
                                        deadline until = never);
/// Ends every operation of this runtime on `fd` (they answer operation_canceled), waits for their
/// last completions, then closes. A second close that comes meanwhile answers bad_file_descriptor.
/// Also on plain threads, where it blocks. In the body of a loop also those of that loop.
[[nodiscard]] COIR_API result<> close(int fd);
/// statx(2).
[[nodiscard]] COIR_API result<> statx(int dirfd, const char* path, int flags, unsigned mask,
                                      struct ::statx& out, deadline until = never);
/// accept4(2) with SOCK_CLOEXEC: returns the connection. `address` may be null.
[[nodiscard]] COIR_API result<int> accept(int fd, sockaddr* address = nullptr,
                                          unsigned* address_bytes = nullptr,
                                          deadline until = never);
[[nodiscard]] COIR_API result<> connect(int fd, const sockaddr* address, unsigned address_bytes,
                                        deadline until = never);
[[nodiscard]] COIR_API result<std::size_t> recv(int fd, std::span<std::byte> into, int flags = 0,
                                                deadline until = never);
/// send(2) with MSG_NOSIGNAL: a closed peer is EPIPE, never a signal. Returns without a park when
/// the kernel takes the bytes at once and no other fiber of this worker is ready.
[[nodiscard]] COIR_API result<std::size_t> send(int fd, std::span<const std::byte> from,
                                                int flags = 0, deadline until = never);
/// As send, but that the network takes the bytes from where they lie, and the call returns when
/// they are not needed there any more: when the other side has acknowledged them, which may take as
/// long as it takes to read. So for large blocks: the kernel's documentation says from about 10 KB
/// on. Over loopback, and where a network card cannot do it, the kernel copies all the same, and
/// this is the dearer call. Where the socket knows no such thing (Unix sockets), the pages may not
/// be locked, or there is no io_uring, it is a send. A deadline or a cancel ends the wait for room,
/// not that for the other side: bytes that were taken are on their way, and their count is the
/// answer. A close waits for it, too. So where you do not trust the other side to read, set
/// TCP_USER_TIMEOUT.
[[nodiscard]] COIR_API result<std::size_t> send_zc(int fd, std::span<const std::byte> from,
                                                   int flags = 0, deadline until = never);
/// Until everything is sent. On an error nothing says how much was: use send_zc when that matters.
[[nodiscard]] COIR_API result<std::size_t> send_all_zc(int fd, std::span<const std::byte> from,
                                                       deadline until = never);
/// splice(2): moves up to `bytes` bytes from one descriptor to another, at their own positions; one
/// of them is a pipe, and the bytes come by no memory of the program. Returns the count, 0 where
/// the source has ended. Parks until the source has some and the target has room. For offsets and
/// flags perform a splice_operation. A thread of the kernel does it, so it pays for large blocks
/// only. It raises no SIGPIPE. Without io_uring one of a socket that is not O_NONBLOCK is done by a
/// thread of the pool, and one that this has begun is ended by the other side only.
[[nodiscard]] COIR_API result<std::size_t> splice(int from, int to, std::size_t bytes,
                                                  deadline until = never);
/// recvmsg(2), sendmsg(2): `message` and all that it names are lent until the call returns.
/// MSG_NOSIGNAL is added to a send.
[[nodiscard]] COIR_API result<std::size_t> recvmsg(int fd, msghdr& message, int flags = 0,
                                                   deadline until = never);
[[nodiscard]] COIR_API result<std::size_t> sendmsg(int fd, const msghdr& message, int flags = 0,
                                                   deadline until = never);
/// shutdown(2): `how` is SHUT_RD, SHUT_WR or SHUT_RDWR.
[[nodiscard]] COIR_API result<> shutdown(int fd, int how, deadline until = never);
/// Waits until one of `events` (POLLIN, POLLOUT, ...) holds; returns what holds.
[[nodiscard]] COIR_API result<unsigned> poll(int fd, unsigned events, deadline until = never);

/// Owns a descriptor: closes it by io::close where it ends, on a fiber or a plain thread.
/// Move-only.
class unique_fd {
 public:
  unique_fd() = default;
  explicit unique_fd(int fd) noexcept : fd_(fd) {}
  unique_fd(unique_fd&& from) noexcept : fd_(from.release()) {}
  unique_fd& operator=(unique_fd&& from) noexcept {
    if (this != &from) reset(from.release());
    return *this;
  }
  ~unique_fd() { reset(); }
  // relaxed: close may come from another fiber or thread than the one that reads; the number alone
  // is what both need, and what it names is guarded by io::close itself: whoever enters a number
  // after its close acquires the exchange below, and asks us again (runtime/perform.cpp).
  int get() const noexcept { return fd_.load(std::memory_order_relaxed); }
  int release() noexcept { return fd_.exchange(-1, std::memory_order_relaxed); }
  explicit operator bool() const noexcept { return get() >= 0; }
  void reset(int fd = -1) noexcept {
    const int old = fd_.exchange(fd, std::memory_order_relaxed);
    if (old >= 0) (void)io::close(old);
  }

 private:
  detail::atomic<int> fd_{-1};
};

/// The same calls on a socket that another fiber may close meanwhile: one that comes too late
/// answers bad_file_descriptor, also when the number names something new by then. With the number
/// alone nobody can tell.
[[nodiscard]] COIR_API result<int> accept(const unique_fd& on, sockaddr* address = nullptr,
                                          unsigned* address_bytes = nullptr,
                                          deadline until = never);
[[nodiscard]] COIR_API result<std::size_t> recv(const unique_fd& on, std::span<std::byte> into,
                                                int flags = 0, deadline until = never);
[[nodiscard]] COIR_API result<std::size_t> send(const unique_fd& on,
                                                std::span<const std::byte> from, int flags = 0,
                                                deadline until = never);
[[nodiscard]] COIR_API result<std::size_t> send_zc(const unique_fd& on,
                                                   std::span<const std::byte> from, int flags = 0,
                                                   deadline until = never);
[[nodiscard]] COIR_API result<> connect(const unique_fd& on, const sockaddr* address,
                                        unsigned address_bytes, deadline until = never);
[[nodiscard]] COIR_API result<std::size_t> recvmsg(const unique_fd& on, msghdr& message,
                                                   int flags = 0, deadline until = never);
[[nodiscard]] COIR_API result<std::size_t> sendmsg(const unique_fd& on, const msghdr& message,
                                                   int flags = 0, deadline until = never);
[[nodiscard]] COIR_API result<> shutdown(const unique_fd& on, int how, deadline until = never);

}  // namespace coir::io
