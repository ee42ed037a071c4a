// unix_socket.hpp: streams between processes of one machine, in blocking style.
//
// Always true:
//   - A name is a path, or "@name" for the abstract ones, which are no files ("./@name" is a file).
//   - No file of anybody else is ever removed: neither to make room for ours, nor when ours has
//     been replaced meanwhile.
//
// Comes from: the user.   Goes to: coir/byte_stream.hpp.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "coir/byte_stream.hpp"
#include "coir/fiber.hpp"
#include "coir/streams.hpp"

namespace coir::net {

/// Of a path, and of an abstract name without its "@": what the kernel's sockaddr_un holds.
inline constexpr std::size_t unix_name_bytes_max = 107;

/// A connected Unix socket. What it can do is what every byte_stream can. Move-only; its destructor
/// closes (and so may park).
class COIR_API unix_stream : public byte_stream {
 public:
  unix_stream() = default;
  explicit unix_stream(int fd) noexcept : byte_stream(fd) {}
  /// Waits while the listener's backlog is full. Fibers only. Errors: errc::name_too_long,
  /// invalid_argument (an empty name, a path with a zero byte), and those of connect(2):
  /// no_such_file_or_directory, connection_refused when nobody listens.
  [[nodiscard]] static result<unix_stream> connect(const std::string& name, deadline until = never);
  /// Two streams that are each other's peer. Any thread. Errors of socketpair(2).
  [[nodiscard]] static result<std::pair<unix_stream, unix_stream>> pair();
};

/// Connections of a listening Unix socket; see unix_listener::incoming.
struct incoming_unix_connections {
  using value_type = unix_stream;
  static constexpr std::string_view name = "incoming_unix_connections";
  accept_stream accepts;
  void fill(io_uring_sqe& sqe) const noexcept { accepts.fill(sqe); }
  unix_stream item(std::int32_t res, std::uint32_t) const noexcept { return unix_stream(res); }
  static bool passes(std::int32_t res) noexcept { return accept_stream::passes(res); }
};

/// A listening Unix socket. Move-only. Its destructor closes.
class COIR_API unix_listener {
 public:
  unix_listener() = default;
  unix_listener(unix_listener&&) noexcept = default;
  unix_listener& operator=(unix_listener&& from) noexcept;
  ~unix_listener();

  /// Any thread; never parks. A path becomes a file with the rights that umask(2) leaves; make it
  /// an absolute one in a program that changes its directory. Errors: errc::name_too_long,
  /// invalid_argument (an empty name, a path with a zero byte), address_in_use when somebody has
  /// the name, errc::stale_socket when a socket's file lies there that nobody listens on (remove
  /// it yourself if it is yours: it is left alone), file_exists when a file of another kind does;
  /// and those of socket(2), bind(2), listen(2).
  [[nodiscard]] static result<unix_listener> listen(const std::string& name, int backlog = 4096);
  /// One connection. Fibers only. Errors of accept(2); a full descriptor table is waited out, with
  /// one log line.
  [[nodiscard]] result<unix_stream> accept(deadline until = never);
  /// As tcp_listener::incoming.
  [[nodiscard]] multishot<unix_stream> incoming(const stream_options& o = {}) const {
    return detail::perform_stream(incoming_unix_connections{{fd_.get()}}, o, &fd_);
  }
  /// As tcp_listener::serve.
  [[nodiscard]] result<> serve(std::function<void(unix_stream)> handler,
                               const spawn_options& each = {});
  /// Ends accept and serve, and removes the socket's file if it is still the one that listen made,
  /// in the process that made it (the child of a fork leaves it to its parent). Any thread.
  [[nodiscard]] result<> close();

  const std::string& name() const noexcept { return name_; }
  int fd() const noexcept { return fd_.get(); }

 private:
  void remove_file() const noexcept;

  io::unique_fd fd_;
  std::string name_;
  // Which file is ours: the socket keeps it in use, so its number names nothing else before we
  // close.
  std::uint64_t device_ = 0;
  std::uint64_t inode_ = 0;
  int process_ = 0;  // 0: there is no file
};

}  // namespace coir::net
