// io.cpp: the calls of coir::io, each one entry.
//
// Always true:
//   - A count above 0x7ffff000 is cut to it, as read(2) does: `len` and `res` have 32 bits.
//   - A descriptor that an open or accept made for a fiber that no longer wants it is delivered all
//     the same: success wins.
//
// Comes from: coir/io.hpp.   Goes to: perform.
#include "coir/io.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "coir/effects.hpp"
#include "runtime/perform.hpp"

namespace coir::io {
namespace {

using detail::ns_of;

constexpr std::size_t most_at_once = 0x7ffff000;
constexpr std::size_t parts_max = 1024;  // IOV_MAX
constexpr std::uint64_t own_position = ~std::uint64_t{0};

std::uint32_t cut(std::size_t bytes) noexcept {
  return static_cast<std::uint32_t>(std::min(bytes, most_at_once));
}

io_uring_sqe entry_of(std::uint8_t opcode, int fd, const void* address, std::uint32_t length,
                      std::uint64_t offset) noexcept {
  io_uring_sqe e{};
  e.opcode = opcode;
  e.fd = fd;
  e.addr = reinterpret_cast<std::uintptr_t>(address);
  e.len = length;
  e.off = offset;
  return e;
}

std::int32_t run(const io_uring_sqe& e, deadline until, const unique_fd* owner = nullptr) noexcept {
  // A negative number of a descriptor is refused here: to some operations -1 means something else.
  if (e.fd < 0 && e.fd != AT_FDCWD) return -EBADF;
  return detail::perform_entry(e, ns_of(until), owner);
}

result<std::size_t> count_of(std::int32_t res) {
  if (res < 0) return fail(detail::io_error(res));
  return static_cast<std::size_t>(res);
}

result<> nothing_of(std::int32_t res) {
  if (res < 0) return fail(detail::io_error(res));
  return {};
}

}  // namespace

result<std::size_t> read(int fd, std::span<std::byte> into, deadline until) {
  return count_of(
      run(entry_of(IORING_OP_READ, fd, into.data(), cut(into.size()), own_position), until));
}

result<std::size_t> write(int fd, std::span<const std::byte> from, deadline until) {
  return count_of(
      run(entry_of(IORING_OP_WRITE, fd, from.data(), cut(from.size()), own_position), until));
}

result<std::size_t> readv(int fd, std::span<const iovec> into, deadline until) {
  if (into.size() > parts_max) return fail(std::errc::invalid_argument);
  return count_of(run(entry_of(IORING_OP_READV, fd, into.data(),
                               static_cast<std::uint32_t>(into.size()), own_position),
                      until));
}

result<std::size_t> writev(int fd, std::span<const iovec> from, deadline until) {
  if (from.size() > parts_max) return fail(std::errc::invalid_argument);
  return count_of(run(entry_of(IORING_OP_WRITEV, fd, from.data(),
                               static_cast<std::uint32_t>(from.size()), own_position),
                      until));
}

result<std::size_t> pread(int fd, std::span<std::byte> into, std::uint64_t offset, deadline until) {
  if (offset > INT64_MAX) return fail(std::errc::invalid_argument);
  return count_of(run(entry_of(IORING_OP_READ, fd, into.data(), cut(into.size()), offset), until));
}

result<std::size_t> pwrite(int fd, std::span<const std::byte> from, std::uint64_t offset,
                           deadline until) {
  if (offset > INT64_MAX) return fail(std::errc::invalid_argument);
  return count_of(run(entry_of(IORING_OP_WRITE, fd, from.data(), cut(from.size()), offset), until));
}

result<std::size_t> read_exact(int fd, std::span<std::byte> into, deadline until) {
  std::size_t done = 0;
  while (done < into.size()) {
    const auto n = read(fd, into.subspan(done), until);
    if (!n) return n;
    if (*n == 0) break;
    done += *n;
  }
  return done;
}

result<std::size_t> write_all(int fd, std::span<const std::byte> from, deadline until) {
  // Linux up to 6.18 at least leaves a regular file's position where it was when the ring cuts a
  // write short (found with a full tmpfs), so the next one would overwrite the first.
  const off_t begin = ::lseek(fd, 0, SEEK_CUR);
  std::size_t done = 0;
  while (done < from.size()) {
    const auto n = write(fd, from.subspan(done), until);
    if (!n) return n;
    if (*n == 0) return fail(std::errc::io_error);  // a device that takes nothing and says nothing
    done += *n;
    if (begin >= 0 && done < from.size() && ::lseek(fd, 0, SEEK_CUR) == begin)
      ::lseek(fd, begin + static_cast<off_t>(done), SEEK_SET);
  }
  return done;
}

result<> fsync(int fd, deadline until) {
  return nothing_of(run(entry_of(IORING_OP_FSYNC, fd, nullptr, 0, 0), until));
}

result<> fdatasync(int fd, deadline until) {
  io_uring_sqe e = entry_of(IORING_OP_FSYNC, fd, nullptr, 0, 0);
  e.fsync_flags = IORING_FSYNC_DATASYNC;
  return nothing_of(run(e, until));
}

result<int> open(const char* path, int flags, unsigned mode, deadline until) {
  io_uring_sqe e = entry_of(IORING_OP_OPENAT, AT_FDCWD, path, mode, 0);
  e.open_flags = static_cast<std::uint32_t>(flags | O_CLOEXEC);
  const std::int32_t res = run(e, until);
  if (res < 0) return fail(detail::io_error(res));
  return res;
}

result<> close(int fd) {
  if (fd < 0) return fail(std::errc::bad_file_descriptor);
  if (detail::runtime_core* const core = detail::current_core())
    return nothing_of(detail::close_everywhere(*core, fd));
  return nothing_of(detail::close_from_thread(fd));
}

result<> statx(int dirfd, const char* path, int flags, unsigned mask, struct ::statx& out,
               deadline until) {
  io_uring_sqe e =
      entry_of(IORING_OP_STATX, dirfd, path, mask, reinterpret_cast<std::uintptr_t>(&out));
  e.statx_flags = static_cast<std::uint32_t>(flags);
  return nothing_of(run(e, until));
}

namespace {

// What a socket is asked for, by its number alone or by who owns it.

result<int> accept(int fd, const unique_fd* owner, sockaddr* address, unsigned* address_bytes,
                   deadline until) {
  io_uring_sqe e =
      entry_of(IORING_OP_ACCEPT, fd, address, 0, reinterpret_cast<std::uintptr_t>(address_bytes));
  e.accept_flags = SOCK_CLOEXEC;
  const std::int32_t res = run(e, until, owner);
  if (res < 0) return fail(detail::io_error(res));
  return res;
}

result<std::size_t> recv(int fd, const unique_fd* owner, std::span<std::byte> into, int flags,
                         deadline until) {
  io_uring_sqe e = entry_of(IORING_OP_RECV, fd, into.data(), cut(into.size()), 0);
  e.msg_flags = static_cast<std::uint32_t>(flags);
  return count_of(run(e, until, owner));
}

result<std::size_t> send(int fd, const unique_fd* owner, std::span<const std::byte> from, int flags,
                         deadline until) {
  io_uring_sqe e = entry_of(IORING_OP_SEND, fd, from.data(), cut(from.size()), 0);
  e.msg_flags = static_cast<std::uint32_t>(flags | MSG_NOSIGNAL);
  return count_of(run(e, until, owner));
}

result<> shutdown(int fd, const unique_fd* owner, int how, deadline until) {
  return nothing_of(run(
      entry_of(IORING_OP_SHUTDOWN, fd, nullptr, static_cast<std::uint32_t>(how), 0), until, owner));
}

}  // namespace

result<int> accept(int fd, sockaddr* address, unsigned* address_bytes, deadline until) {
  return accept(fd, nullptr, address, address_bytes, until);
}

result<int> accept(const unique_fd& on, sockaddr* address, unsigned* address_bytes,
                   deadline until) {
  return accept(on.get(), &on, address, address_bytes, until);
}

result<> connect(int fd, const sockaddr* address, unsigned address_bytes, deadline until) {
  return nothing_of(run(entry_of(IORING_OP_CONNECT, fd, address, 0, address_bytes), until));
}

result<std::size_t> recv(int fd, std::span<std::byte> into, int flags, deadline until) {
  return recv(fd, nullptr, into, flags, until);
}

result<std::size_t> recv(const unique_fd& on, std::span<std::byte> into, int flags,
                         deadline until) {
  return recv(on.get(), &on, into, flags, until);
}

result<std::size_t> send(int fd, std::span<const std::byte> from, int flags, deadline until) {
  return send(fd, nullptr, from, flags, until);
}

result<std::size_t> send(const unique_fd& on, std::span<const std::byte> from, int flags,
                         deadline until) {
  return send(on.get(), &on, from, flags, until);
}

result<> shutdown(int fd, int how, deadline until) { return shutdown(fd, nullptr, how, until); }

result<> shutdown(const unique_fd& on, int how, deadline until) {
  return shutdown(on.get(), &on, how, until);
}

result<unsigned> poll(int fd, unsigned events, deadline until) {
  io_uring_sqe e = entry_of(IORING_OP_POLL_ADD, fd, nullptr, 0, 0);
  e.poll32_events = events;
  const std::int32_t res = run(e, until);
  if (res < 0) return fail(detail::io_error(res));
  return static_cast<unsigned>(res);
}

}  // namespace coir::io
