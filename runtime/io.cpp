// io.cpp: the calls of coir::io, each one operation, and what that asks the kernel for.
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
#include <type_traits>

#include "coir/operations.hpp"
#include "runtime/perform.hpp"

namespace coir {

// -- what each operation asks the kernel for

namespace {

constexpr std::size_t most_at_once = 0x7ffff000;
constexpr std::size_t parts_max = 1024;  // IOV_MAX

std::uint32_t cut(std::size_t bytes) noexcept {
  return static_cast<std::uint32_t>(std::min(bytes, most_at_once));
}

void fill_entry(io_uring_sqe& e, std::uint8_t opcode, int fd, const void* address,
                std::uint32_t length, std::uint64_t offset) noexcept {
  e.opcode = opcode;
  e.fd = fd;
  e.addr = reinterpret_cast<std::uintptr_t>(address);
  e.len = length;
  e.off = offset;
}

}  // namespace

void read_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_READ, fd, into.data(), cut(into.size()), offset);
}

void write_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_WRITE, fd, from.data(), cut(from.size()), offset);
}

void readv_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_READV, fd, into.data(), static_cast<std::uint32_t>(into.size()),
             own_position);
}

void writev_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_WRITEV, fd, from.data(), static_cast<std::uint32_t>(from.size()),
             own_position);
}

void fsync_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_FSYNC, fd, nullptr, 0, 0);
  if (data_only) e.fsync_flags = IORING_FSYNC_DATASYNC;
}

void open_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_OPENAT, AT_FDCWD, path, mode, 0);
  e.open_flags = static_cast<std::uint32_t>(flags | O_CLOEXEC);
}

void statx_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_STATX, dirfd, path, mask, reinterpret_cast<std::uintptr_t>(out));
  e.statx_flags = static_cast<std::uint32_t>(flags);
}

void accept_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_ACCEPT, fd, address, 0, reinterpret_cast<std::uintptr_t>(address_bytes));
  e.accept_flags = SOCK_CLOEXEC;
}

void connect_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_CONNECT, fd, address, 0, address_bytes);
}

void recv_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_RECV, fd, into.data(), cut(into.size()), 0);
  e.msg_flags = static_cast<std::uint32_t>(flags);
}

void send_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_SEND, fd, from.data(), cut(from.size()), 0);
  e.msg_flags = static_cast<std::uint32_t>(flags | MSG_NOSIGNAL);
}

void send_zc_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_SEND_ZC, fd, from.data(), cut(from.size()), 0);
  e.msg_flags = static_cast<std::uint32_t>(flags | MSG_NOSIGNAL);
}

void splice_operation::fill(io_uring_sqe& e) const noexcept {
  e.opcode = IORING_OP_SPLICE;
  e.fd = to;
  e.off = to_offset;
  e.splice_fd_in = from;
  e.splice_off_in = from_offset;
  e.len = cut(bytes);
  e.splice_flags = flags;
}

void recvmsg_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_RECVMSG, fd, message, 1, 0);
  e.msg_flags = static_cast<std::uint32_t>(flags);
}

void sendmsg_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_SENDMSG, fd, message, 1, 0);
  e.msg_flags = static_cast<std::uint32_t>(flags | MSG_NOSIGNAL);
}

void shutdown_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_SHUTDOWN, fd, nullptr, static_cast<std::uint32_t>(how), 0);
}

void poll_operation::fill(io_uring_sqe& e) const noexcept {
  fill_entry(e, IORING_OP_POLL_ADD, fd, nullptr, 0, 0);
  e.poll32_events = events;
}

result<> close_operation::outside(deadline) const {
  int closed = 0;
  if (detail::runtime_core* const core = detail::current_core()) {
    closed = detail::close_everywhere(*core, fd);
  } else {
    closed = detail::close_from_thread(fd);
  }
  if (closed < 0) return fail(detail::io_error(closed));
  return {};
}

// -- the calls

namespace io {
namespace {

using detail::ns_of;

template <class Op>
using answer = result<typename Op::value_type>;

template <class Op>
[[gnu::always_inline]] inline answer<Op> outside(const Op& op, deadline until,
                                                 const unique_fd* owner) {
  io_uring_sqe e{};
  op.fill(e);
  // A negative number of a descriptor is refused here: to some operations -1 means something else.
  if (e.fd < 0 && e.fd != AT_FDCWD) return fail(std::errc::bad_file_descriptor);
  if (std::is_same_v<Op, splice_operation> && e.splice_fd_in < 0)
    return fail(std::errc::bad_file_descriptor);
  return detail::answer_of(op, detail::perform_entry(e, ns_of(until), owner));
}

template <class Op>
[[gnu::always_inline]] inline answer<Op> run(const Op& op, deadline until,
                                             const unique_fd* owner = nullptr) {
  if (detail::handlers_are_there()) [[unlikely]] {
    return detail::perform_handled(op, until, nullptr, [&] { return outside(op, until, owner); });
  }
  return outside(op, until, owner);
}

/// A call of several operations on one number: all of them on the same owner's.
class parts_on {
 public:
  explicit parts_on(int fd) noexcept
      : fd_(fd), here_(detail::current_fiber() != nullptr ? detail::worker::current() : nullptr) {
    if (here_ != nullptr) era_ = detail::era_of(*here_, fd_);
  }
  bool still_ours() const noexcept {
    return here_ == nullptr || detail::era_of(*here_, fd_) == era_;
  }
  /// `by_kernel`: it was no handler that answered, so the number names what it is for.
  template <class Op>
  answer<Op> run(const Op& op, deadline until, bool* by_kernel = nullptr) const {
    const auto by_number = [&]() -> answer<Op> {
      if (fd_ < 0) return fail(std::errc::bad_file_descriptor);
      io_uring_sqe e{};
      op.fill(e);
      return detail::answer_of(op, detail::perform_part(e, ns_of(until), era_));
    };
    if (detail::handlers_are_there()) [[unlikely]]
      return detail::perform_handled(op, until, nullptr, by_number, false,
                                     COIR_MUTANT(forwarded_write_unminded) ? nullptr : by_kernel);
    if (by_kernel != nullptr) *by_kernel = true;
    return by_number();
  }

 private:
  const int fd_;
  detail::worker* const here_;
  std::uint64_t era_ = 0;
};

}  // namespace

result<std::size_t> read(int fd, std::span<std::byte> into, deadline until) {
  return run(read_operation(fd, into), until);
}

result<std::size_t> write(int fd, std::span<const std::byte> from, deadline until) {
  return run(write_operation(fd, from), until);
}

result<std::size_t> read_told(int fd, std::span<std::byte> into, deadline until, bool& by_kernel) {
  return parts_on(fd).run(read_operation(fd, into), until, &by_kernel);
}

result<std::size_t> write_told(int fd, std::span<const std::byte> from, deadline until,
                               bool& by_kernel) {
  return parts_on(fd).run(write_operation(fd, from), until, &by_kernel);
}

result<std::size_t> readv(int fd, std::span<const iovec> into, deadline until) {
  if (into.size() > parts_max) return fail(std::errc::invalid_argument);
  return run(readv_operation(fd, into), until);
}

result<std::size_t> writev(int fd, std::span<const iovec> from, deadline until) {
  if (from.size() > parts_max) return fail(std::errc::invalid_argument);
  return run(writev_operation(fd, from), until);
}

result<std::size_t> pread(int fd, std::span<std::byte> into, std::uint64_t offset, deadline until) {
  if (offset > INT64_MAX) return fail(std::errc::invalid_argument);
  return run(read_operation(fd, into, offset), until);
}

result<std::size_t> pwrite(int fd, std::span<const std::byte> from, std::uint64_t offset,
                           deadline until) {
  if (offset > INT64_MAX) return fail(std::errc::invalid_argument);
  return run(write_operation(fd, from, offset), until);
}

result<std::size_t> read_exact(int fd, std::span<std::byte> into, deadline until) {
  const parts_on whole(fd);
  std::size_t done = 0;
  while (done < into.size()) {
    const auto n = whole.run(read_operation(fd, into.subspan(done)), until);
    if (!n) return n;
    if (*n == 0) break;
    done += *n;
  }
  return done;
}

result<std::size_t> write_all(int fd, std::span<const std::byte> from, deadline until) {
  // Linux up to 6.18 at least leaves a regular file's position where it was when the ring cuts a
  // write short (found with a full tmpfs), so the next one would overwrite the first.
  const parts_on whole(fd);
  const off_t begin = ::lseek(fd, 0, SEEK_CUR);
  bool by_kernel = false;
  std::size_t done = 0;
  while (done < from.size()) {
    const auto n = whole.run(write_operation(fd, from.subspan(done)), until, &by_kernel);
    if (!n) return n;
    if (*n == 0) return fail(std::errc::io_error);  // a device that takes nothing and says nothing
    done += *n;
    if (begin >= 0 && by_kernel && done < from.size() && whole.still_ours() &&
        ::lseek(fd, 0, SEEK_CUR) == begin)
      ::lseek(fd, begin + static_cast<off_t>(done), SEEK_SET);
  }
  return done;
}

result<> fsync(int fd, deadline until) { return run(fsync_operation(fd), until); }

result<> fdatasync(int fd, deadline until) { return run(fsync_operation(fd, true), until); }

result<int> open(const char* path, int flags, unsigned mode, deadline until) {
  return run(open_operation(path, flags, mode), until);
}

result<> close(int fd) {
  if (fd < 0) return fail(std::errc::bad_file_descriptor);
  if (detail::handlers_are_there()) [[unlikely]] {
    const close_operation op{fd};
    return detail::perform_handled(
        op, never, nullptr, [&op] { return op.outside(never); }, true);
  }
  return close_operation{fd}.outside(never);
}

result<> statx(int dirfd, const char* path, int flags, unsigned mask, struct ::statx& out,
               deadline until) {
  return run(statx_operation(dirfd, path, flags, mask, out), until);
}

result<int> accept(int fd, sockaddr* address, unsigned* address_bytes, deadline until) {
  return run(accept_operation(fd, address, address_bytes), until);
}

result<int> accept(const unique_fd& on, sockaddr* address, unsigned* address_bytes,
                   deadline until) {
  return run(accept_operation(on.get(), address, address_bytes), until, &on);
}

result<> connect(int fd, const sockaddr* address, unsigned address_bytes, deadline until) {
  return run(connect_operation(fd, address, address_bytes), until);
}

result<std::size_t> recv(int fd, std::span<std::byte> into, int flags, deadline until) {
  return run(recv_operation(fd, into, flags), until);
}

result<std::size_t> recv(const unique_fd& on, std::span<std::byte> into, int flags,
                         deadline until) {
  return run(recv_operation(on.get(), into, flags), until, &on);
}

result<std::size_t> send(int fd, std::span<const std::byte> from, int flags, deadline until) {
  return run(send_operation(fd, from, flags), until);
}

result<std::size_t> send(const unique_fd& on, std::span<const std::byte> from, int flags,
                         deadline until) {
  return run(send_operation(on.get(), from, flags), until, &on);
}

result<std::size_t> send_zc(int fd, std::span<const std::byte> from, int flags, deadline until) {
  return run(send_zc_operation(fd, from, flags), until);
}

result<std::size_t> send_zc(const unique_fd& on, std::span<const std::byte> from, int flags,
                            deadline until) {
  return run(send_zc_operation(on.get(), from, flags), until, &on);
}

result<std::size_t> send_all_zc(int fd, std::span<const std::byte> from, deadline until) {
  const parts_on whole(fd);
  std::size_t done = 0;
  while (done < from.size()) {
    const auto n = whole.run(send_zc_operation(fd, from.subspan(done), 0), until);
    if (!n) return n;
    if (*n == 0) return fail(std::errc::io_error);
    done += *n;
  }
  return done;
}

result<std::size_t> splice(int from, int to, std::size_t bytes, deadline until) {
  return run(splice_operation(from, to, bytes), until);
}

result<> connect(const unique_fd& on, const sockaddr* address, unsigned address_bytes,
                 deadline until) {
  return run(connect_operation(on.get(), address, address_bytes), until, &on);
}

result<std::size_t> recvmsg(int fd, msghdr& message, int flags, deadline until) {
  return run(recvmsg_operation(fd, message, flags), until);
}

result<std::size_t> recvmsg(const unique_fd& on, msghdr& message, int flags, deadline until) {
  return run(recvmsg_operation(on.get(), message, flags), until, &on);
}

result<std::size_t> sendmsg(int fd, const msghdr& message, int flags, deadline until) {
  return run(sendmsg_operation(fd, message, flags), until);
}

result<std::size_t> sendmsg(const unique_fd& on, const msghdr& message, int flags, deadline until) {
  return run(sendmsg_operation(on.get(), message, flags), until, &on);
}

result<> shutdown(int fd, int how, deadline until) {
  return run(shutdown_operation(fd, how), until);
}

result<> shutdown(const unique_fd& on, int how, deadline until) {
  return run(shutdown_operation(on.get(), how), until, &on);
}

result<unsigned> poll(int fd, unsigned events, deadline until) {
  return run(poll_operation(fd, events), until);
}

}  // namespace io
}  // namespace coir
