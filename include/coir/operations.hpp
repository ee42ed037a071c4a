// operations.hpp: what the calls of coir::io and this_fiber::sleep_for ask for, as values: for
// those who answer in place of the kernel, and for whoever starts one by hand.
//
// Always true:
//   - io::read(fd, into) asks for read_operation{fd, into}, and so on: a handler sees each call.
//   - What an operation names (buffers, addresses, paths) is lent until it was answered.
//   - fill() writes every field of the entry that the operation means; what is out of range was
//     refused before.
//
// Comes from: coir/io.hpp, handlers.   Goes to: coir/effects.hpp, runtime/io.cpp.
#pragma once

#include "coir/effects.hpp"
#include "coir/io.hpp"

namespace coir {

/// At the file's own position.
inline constexpr std::uint64_t own_position = ~std::uint64_t{0};

namespace detail {
struct counts_bytes {
  using value_type = std::size_t;
  std::size_t complete(std::int32_t res) const noexcept { return static_cast<std::size_t>(res); }
};
struct makes_descriptor {
  using value_type = int;
  int complete(std::int32_t res) const noexcept { return res; }
};
struct gives_nothing {
  using value_type = void;
  void complete(std::int32_t) const noexcept {}
};
}  // namespace detail

struct read_operation : detail::counts_bytes {
  static constexpr std::string_view name = "coir.read";
  read_operation(int f, std::span<std::byte> to, std::uint64_t at = own_position) noexcept
      : fd(f), into(to), offset(at) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int fd;
  std::span<std::byte> into;
  std::uint64_t offset;
};

struct write_operation : detail::counts_bytes {
  static constexpr std::string_view name = "coir.write";
  write_operation(int f, std::span<const std::byte> what, std::uint64_t at = own_position) noexcept
      : fd(f), from(what), offset(at) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int fd;
  std::span<const std::byte> from;
  std::uint64_t offset;
};

struct readv_operation : detail::counts_bytes {
  static constexpr std::string_view name = "coir.readv";
  readv_operation(int f, std::span<const iovec> to) noexcept : fd(f), into(to) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int fd;
  std::span<const iovec> into;
};

struct writev_operation : detail::counts_bytes {
  static constexpr std::string_view name = "coir.writev";
  writev_operation(int f, std::span<const iovec> what) noexcept : fd(f), from(what) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int fd;
  std::span<const iovec> from;
};

struct fsync_operation : detail::gives_nothing {
  static constexpr std::string_view name = "coir.fsync";
  explicit fsync_operation(int f, bool data = false) noexcept : fd(f), data_only(data) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int fd;
  bool data_only;  ///< fdatasync(2)
};

struct open_operation : detail::makes_descriptor {
  static constexpr std::string_view name = "coir.open";
  open_operation(const char* p, int f, unsigned m) noexcept : path(p), flags(f), mode(m) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  const char* path;
  int flags;  ///< of open(2); O_CLOEXEC is added
  unsigned mode;
};

/// What is asked is that the number is free afterwards, so it is none of the kernel's.
struct close_operation {
  using value_type = void;
  static constexpr std::string_view name = "coir.close";
  [[nodiscard]] COIR_API result<> outside(deadline until) const;
  int fd;
};

struct statx_operation : detail::gives_nothing {
  static constexpr std::string_view name = "coir.statx";
  statx_operation(int d, const char* p, int f, unsigned m, struct ::statx& o) noexcept
      : dirfd(d), path(p), flags(f), mask(m), out(&o) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int dirfd;
  const char* path;
  int flags;
  unsigned mask;
  struct ::statx* out;
};

struct accept_operation : detail::makes_descriptor {
  static constexpr std::string_view name = "coir.accept";
  accept_operation(int f, sockaddr* a, unsigned* n) noexcept
      : fd(f), address(a), address_bytes(n) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int fd;
  sockaddr* address;        ///< may be null
  unsigned* address_bytes;  ///< likewise
};

struct connect_operation : detail::gives_nothing {
  static constexpr std::string_view name = "coir.connect";
  connect_operation(int f, const sockaddr* a, unsigned n) noexcept
      : fd(f), address(a), address_bytes(n) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int fd;
  const sockaddr* address;
  unsigned address_bytes;
};

struct recv_operation : detail::counts_bytes {
  static constexpr std::string_view name = "coir.recv";
  recv_operation(int f, std::span<std::byte> to, int how = 0) noexcept
      : fd(f), into(to), flags(how) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int fd;
  std::span<std::byte> into;
  int flags;
};

struct send_operation : detail::counts_bytes {
  static constexpr std::string_view name = "coir.send";
  send_operation(int f, std::span<const std::byte> what, int how = 0) noexcept
      : fd(f), from(what), flags(how) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int fd;
  std::span<const std::byte> from;
  int flags;  ///< MSG_NOSIGNAL is added
};

/// As send_operation, and the bytes are not copied where the network takes them as they are: see
/// io::send_zc.
struct send_zc_operation : detail::counts_bytes {
  static constexpr std::string_view name = "coir.send_zc";
  send_zc_operation(int f, std::span<const std::byte> what, int how = 0) noexcept
      : fd(f), from(what), flags(how) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int fd;
  std::span<const std::byte> from;
  int flags;  ///< MSG_NOSIGNAL is added
};

/// splice(2): `from` or `to` is a pipe, whose offset has to be own_position. Performed by a fiber
/// it waits as io::splice says. Begun by start(), or in a loop, it is as the system call: a thread
/// of the kernel waits with it, and of ends that are O_NONBLOCK it may say operation_would_block.
struct splice_operation : detail::counts_bytes {
  static constexpr std::string_view name = "coir.splice";
  splice_operation(int f, int t, std::size_t count, std::uint64_t from_at = own_position,
                   std::uint64_t to_at = own_position, unsigned how = 0) noexcept
      : from(f), to(t), bytes(count), from_offset(from_at), to_offset(to_at), flags(how) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int from;
  int to;
  std::size_t bytes;
  std::uint64_t from_offset;
  std::uint64_t to_offset;
  unsigned flags;  ///< SPLICE_F_MOVE, SPLICE_F_MORE; SPLICE_F_NONBLOCK: "not now" is the answer
};

struct recvmsg_operation : detail::counts_bytes {
  static constexpr std::string_view name = "coir.recvmsg";
  recvmsg_operation(int f, msghdr& m, int how = 0) noexcept : fd(f), message(&m), flags(how) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int fd;
  msghdr* message;  ///< written to, as recvmsg(2) does
  int flags;
};

struct sendmsg_operation : detail::counts_bytes {
  static constexpr std::string_view name = "coir.sendmsg";
  sendmsg_operation(int f, const msghdr& m, int how = 0) noexcept
      : fd(f), message(&m), flags(how) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int fd;
  const msghdr* message;
  int flags;  ///< MSG_NOSIGNAL is added
};

struct shutdown_operation : detail::gives_nothing {
  static constexpr std::string_view name = "coir.shutdown";
  shutdown_operation(int f, int h) noexcept : fd(f), how(h) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  int fd;
  int how;  ///< SHUT_RD, SHUT_WR or SHUT_RDWR
};

struct poll_operation {
  using value_type = unsigned;
  static constexpr std::string_view name = "coir.poll";
  poll_operation(int f, unsigned e) noexcept : fd(f), events(e) {}
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  unsigned complete(std::int32_t res) const noexcept { return static_cast<unsigned>(res); }
  int fd;
  unsigned events;  ///< POLLIN, POLLOUT, ...
};

/// What this_fiber::sleep_for and sleep_until ask for. Nobody asked: the fiber parks, a thread
/// sleeps.
struct sleep_operation {
  using value_type = void;
  static constexpr std::string_view name = "coir.sleep";
  [[nodiscard]] COIR_API result<> outside(deadline limit) const;
  deadline until;
};

}  // namespace coir
