// c_io.cpp: the I/O calls of coir.h: checks of what C passes, then one call of coir/io.hpp each.
//
// Always true:
//   - A bad pointer, length or offset is refused before anything is given to the kernel; what a
//     struct points to is the kernel's to refuse.
//   - A call without a deadline is its twin with one that is never over.
//
// Comes from: coir.h.   Goes to: coir/io.hpp, coir/resolve.hpp, c_caller.hpp, c_errors.hpp.
#include <fcntl.h>

#include <cerrno>
#include <climits>
#include <span>

#include "coir.h"
#include "coir/io.hpp"
#include "coir/resolve.hpp"
#include "runtime/c_caller.hpp"
#include "runtime/c_errors.hpp"

namespace coir::detail {
namespace {

/// 0 when `bytes` bytes at `buffer` can be asked for.
int refuse_buffer(const void* buffer, std::size_t bytes) noexcept {
  if (bytes > SSIZE_MAX) return -EINVAL;
  return buffer == nullptr && bytes > 0 ? -EFAULT : 0;
}

std::span<std::byte> bytes_of(void* p, std::size_t n) noexcept {
  return {static_cast<std::byte*>(p), n};
}
std::span<const std::byte> bytes_of(const void* p, std::size_t n) noexcept {
  return {static_cast<const std::byte*>(p), n};
}

/// 0 when `parts` parts at `vector` can be asked for; their number is bounded by coir/io.hpp.
int refuse_parts(const iovec* vector, std::size_t parts) noexcept {
  return vector == nullptr && parts > 0 ? -EFAULT : 0;
}

int listen_c(std::uint16_t port, std::uint16_t* bound) {
  auto listener = net::tcp_listener::listen({.port = port});
  if (!listener) return -errno_of(listener.error());
  // The object closes the number it owns; C gets another one for the same socket.
  const int fd = ::fcntl(listener->fd(), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (bound != nullptr) *bound = listener->port();
  return fd;
}

int connect_host(const char* host, std::uint16_t port, std::int64_t until_ns) {
  auto stream = net::connect(host, port, until(until_ns));
  return stream ? stream->release() : -errno_of(stream.error());
}

}  // namespace
}  // namespace coir::detail

using namespace coir::detail;

// -- files and pipes

ssize_t coir_read(int fd, void* into, size_t bytes) {
  return coir_read_until(fd, into, bytes, COIR_NEVER);
}

ssize_t coir_read_until(int fd, void* into, size_t bytes, int64_t until_ns) {
  if (const int refused = refuse_buffer(into, bytes)) return refused;
  return guarded(
      [&] { return count_of(coir::io::read(fd, bytes_of(into, bytes), until(until_ns))); });
}

ssize_t coir_write(int fd, const void* from, size_t bytes) {
  return coir_write_until(fd, from, bytes, COIR_NEVER);
}

ssize_t coir_write_until(int fd, const void* from, size_t bytes, int64_t until_ns) {
  if (const int refused = refuse_buffer(from, bytes)) return refused;
  return guarded(
      [&] { return count_of(coir::io::write(fd, bytes_of(from, bytes), until(until_ns))); });
}

ssize_t coir_read_exact(int fd, void* into, size_t bytes) {
  return coir_read_exact_until(fd, into, bytes, COIR_NEVER);
}

ssize_t coir_read_exact_until(int fd, void* into, size_t bytes, int64_t until_ns) {
  if (const int refused = refuse_buffer(into, bytes)) return refused;
  return guarded(
      [&] { return count_of(coir::io::read_exact(fd, bytes_of(into, bytes), until(until_ns))); });
}

ssize_t coir_write_all(int fd, const void* from, size_t bytes) {
  return coir_write_all_until(fd, from, bytes, COIR_NEVER);
}

ssize_t coir_write_all_until(int fd, const void* from, size_t bytes, int64_t until_ns) {
  if (const int refused = refuse_buffer(from, bytes)) return refused;
  return guarded(
      [&] { return count_of(coir::io::write_all(fd, bytes_of(from, bytes), until(until_ns))); });
}

ssize_t coir_readv(int fd, const struct iovec* into, size_t parts) {
  return coir_readv_until(fd, into, parts, COIR_NEVER);
}

ssize_t coir_readv_until(int fd, const struct iovec* into, size_t parts, int64_t until_ns) {
  if (const int refused = refuse_parts(into, parts)) return refused;
  return guarded([&] { return count_of(coir::io::readv(fd, {into, parts}, until(until_ns))); });
}

ssize_t coir_writev(int fd, const struct iovec* from, size_t parts) {
  return coir_writev_until(fd, from, parts, COIR_NEVER);
}

ssize_t coir_writev_until(int fd, const struct iovec* from, size_t parts, int64_t until_ns) {
  if (const int refused = refuse_parts(from, parts)) return refused;
  return guarded([&] { return count_of(coir::io::writev(fd, {from, parts}, until(until_ns))); });
}

ssize_t coir_pread(int fd, void* into, size_t bytes, int64_t offset) {
  if (const int refused = refuse_buffer(into, bytes)) return refused;
  if (offset < 0) return -EINVAL;
  const auto at = static_cast<std::uint64_t>(offset);
  return guarded([&] { return count_of(coir::io::pread(fd, bytes_of(into, bytes), at)); });
}

ssize_t coir_pwrite(int fd, const void* from, size_t bytes, int64_t offset) {
  if (const int refused = refuse_buffer(from, bytes)) return refused;
  if (offset < 0) return -EINVAL;
  const auto at = static_cast<std::uint64_t>(offset);
  return guarded([&] { return count_of(coir::io::pwrite(fd, bytes_of(from, bytes), at)); });
}

int coir_open(const char* path, int flags, mode_t mode) {
  if (path == nullptr) return -EFAULT;
  return guarded([&] { return code_of(coir::io::open(path, flags, mode)); });
}

int coir_statx(int dirfd, const char* path, int flags, unsigned mask, struct statx* out) {
  if (path == nullptr || out == nullptr) return -EFAULT;
  return guarded([&] { return code_of(coir::io::statx(dirfd, path, flags, mask, *out)); });
}

int coir_fsync(int fd) {
  return guarded([&] { return code_of(coir::io::fsync(fd)); });
}

int coir_fdatasync(int fd) {
  return guarded([&] { return code_of(coir::io::fdatasync(fd)); });
}

int coir_poll(int fd, unsigned events) { return coir_poll_until(fd, events, COIR_NEVER); }

int coir_poll_until(int fd, unsigned events, int64_t until_ns) {
  return guarded([&] { return code_of(coir::io::poll(fd, events, until(until_ns))); });
}

ssize_t coir_splice(int from, int to, size_t bytes) {
  return coir_splice_until(from, to, bytes, COIR_NEVER);
}

ssize_t coir_splice_until(int from, int to, size_t bytes, int64_t until_ns) {
  if (bytes > SSIZE_MAX) return -EINVAL;
  return guarded([&] { return count_of(coir::io::splice(from, to, bytes, until(until_ns))); });
}

int coir_close(int fd) {
  return guarded([&] { return code_of(coir::io::close(fd)); });
}

// -- sockets

int coir_listen(uint16_t port, uint16_t* bound) {
  return guarded([&] { return listen_c(port, bound); });
}

int coir_accept(int fd, struct sockaddr* address, socklen_t* address_bytes) {
  return coir_accept_until(fd, address, address_bytes, COIR_NEVER);
}

int coir_accept_until(int fd, struct sockaddr* address, socklen_t* address_bytes,
                      int64_t until_ns) {
  if (address != nullptr && address_bytes == nullptr) return -EFAULT;
  return guarded(
      [&] { return code_of(coir::io::accept(fd, address, address_bytes, until(until_ns))); });
}

int coir_connect(int fd, const struct sockaddr* address, socklen_t address_bytes) {
  return coir_connect_until(fd, address, address_bytes, COIR_NEVER);
}

int coir_connect_until(int fd, const struct sockaddr* address, socklen_t address_bytes,
                       int64_t until_ns) {
  if (address == nullptr) return -EFAULT;
  return guarded(
      [&] { return code_of(coir::io::connect(fd, address, address_bytes, until(until_ns))); });
}

int coir_connect_host(const char* host, uint16_t port, int64_t until_ns) {
  if (host == nullptr) return -EFAULT;
  return guarded([&] { return connect_host(host, port, until_ns); });
}

ssize_t coir_recv(int fd, void* into, size_t bytes, int flags) {
  return coir_recv_until(fd, into, bytes, flags, COIR_NEVER);
}

ssize_t coir_recv_until(int fd, void* into, size_t bytes, int flags, int64_t until_ns) {
  if (const int refused = refuse_buffer(into, bytes)) return refused;
  return guarded(
      [&] { return count_of(coir::io::recv(fd, bytes_of(into, bytes), flags, until(until_ns))); });
}

ssize_t coir_send(int fd, const void* from, size_t bytes, int flags) {
  return coir_send_until(fd, from, bytes, flags, COIR_NEVER);
}

ssize_t coir_send_until(int fd, const void* from, size_t bytes, int flags, int64_t until_ns) {
  if (const int refused = refuse_buffer(from, bytes)) return refused;
  return guarded(
      [&] { return count_of(coir::io::send(fd, bytes_of(from, bytes), flags, until(until_ns))); });
}

ssize_t coir_send_zc(int fd, const void* from, size_t bytes, int flags) {
  return coir_send_zc_until(fd, from, bytes, flags, COIR_NEVER);
}

ssize_t coir_send_zc_until(int fd, const void* from, size_t bytes, int flags, int64_t until_ns) {
  if (const int refused = refuse_buffer(from, bytes)) return refused;
  return guarded([&] {
    return count_of(coir::io::send_zc(fd, bytes_of(from, bytes), flags, until(until_ns)));
  });
}

ssize_t coir_recvmsg(int fd, struct msghdr* message, int flags) {
  return coir_recvmsg_until(fd, message, flags, COIR_NEVER);
}

ssize_t coir_recvmsg_until(int fd, struct msghdr* message, int flags, int64_t until_ns) {
  if (message == nullptr) return -EFAULT;
  return guarded([&] { return count_of(coir::io::recvmsg(fd, *message, flags, until(until_ns))); });
}

ssize_t coir_sendmsg(int fd, const struct msghdr* message, int flags) {
  return coir_sendmsg_until(fd, message, flags, COIR_NEVER);
}

ssize_t coir_sendmsg_until(int fd, const struct msghdr* message, int flags, int64_t until_ns) {
  if (message == nullptr) return -EFAULT;
  return guarded([&] { return count_of(coir::io::sendmsg(fd, *message, flags, until(until_ns))); });
}

int coir_shutdown(int fd, int how) {
  return guarded([&] { return code_of(coir::io::shutdown(fd, how)); });
}
