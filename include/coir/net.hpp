// net.hpp: TCP over IPv4 and IPv6, in blocking style.
//
// Always true:
//   - A stream may be used by several fibers of any workers at once; close ends all of them with
//     operation_canceled, and those that come later with bad_file_descriptor.
//   - serve places each connection by live fibers, so connections that come one by one spread over
//     all workers.
//
// Comes from: the user.   Goes to: coir/io.hpp.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "coir/fiber.hpp"
#include "coir/io.hpp"
#include "coir/streams.hpp"

namespace coir::net {

/// A connected TCP socket. Move-only; its destructor closes (and so may park). Calls: fibers only,
/// but close.
class COIR_API tcp_stream {
 public:
  tcp_stream() = default;
  explicit tcp_stream(int fd) noexcept : fd_(fd) {}
  /// Connects to a numeric address ("127.0.0.1", "::1"). invalid_argument for a name; errors of
  /// connect(2).
  [[nodiscard]] static result<tcp_stream> connect(const std::string& address, std::uint16_t port,
                                                  deadline until = never);

  /// What there is, up to into.size() bytes; 0 at end of stream.
  [[nodiscard]] result<std::size_t> read_some(std::span<std::byte> into, deadline until = never) {
    return io::recv(fd_, into, 0, until);
  }
  /// Exactly into.size() bytes; errc of connection_aborted when the peer ended before.
  [[nodiscard]] result<> read_exact(std::span<std::byte> into, deadline until = never);
  [[nodiscard]] result<std::size_t> write_some(std::span<const std::byte> from,
                                               deadline until = never) {
    return io::send(fd_, from, 0, until);
  }
  [[nodiscard]] result<> write_all(std::span<const std::byte> from, deadline until = never);
  [[nodiscard]] result<> write_all(std::string_view text, deadline until = never) {
    return write_all(std::as_bytes(std::span(text)), until);
  }
  /// Tells the peer that nothing more will be sent.
  [[nodiscard]] result<> shutdown_write(deadline until = never) {
    return io::shutdown(fd_, 1 /* SHUT_WR */, until);
  }
  /// What the peer sends, as a stream of leases; ends when the peer has. Fibers only.
  [[nodiscard]] multishot<leased_bytes> incoming_bytes(const stream_options& o = {}) const {
    return detail::stream_of(recv_stream{fd_.get()}, o, &fd_);
  }
  /// Ends the operations of every fiber on this stream, waits for them, closes. Any thread.
  [[nodiscard]] result<> close() {
    const int fd = fd_.release();
    return fd >= 0 ? io::close(fd) : result<>(fail(std::errc::bad_file_descriptor));
  }

  int fd() const noexcept { return fd_.get(); }
  int release() noexcept { return fd_.release(); }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

 private:
  io::unique_fd fd_;
};

/// Connections of a listening socket; see tcp_listener::incoming.
struct incoming_connections {
  using value_type = tcp_stream;
  static constexpr std::string_view name = "incoming_connections";
  accept_stream accepts;
  bool no_delay = true;
  void fill(io_uring_sqe& sqe) const noexcept { accepts.fill(sqe); }
  COIR_API tcp_stream item(std::int32_t res, std::uint32_t) const noexcept;
  static bool passes(std::int32_t res) noexcept { return accept_stream::passes(res); }
};

struct listen_options {
  std::string address = "127.0.0.1";  ///< numeric; "0.0.0.0" or "::" for every interface
  std::uint16_t port = 0;             ///< 0: the system picks one
  int backlog = 4096;
  bool no_delay = true;  ///< TCP_NODELAY on accepted connections
};

/// A listening TCP socket. Move-only.
class COIR_API tcp_listener {
 public:
  /// Any thread; never parks. Errors: those of socket(2), bind(2), listen(2); invalid_argument for
  /// a bad address.
  [[nodiscard]] static result<tcp_listener> listen(const listen_options& o = {});
  std::uint16_t port() const noexcept { return port_; }
  /// One connection. Fibers only. Errors of accept(2); a full descriptor table is waited out, with
  /// one log line.
  [[nodiscard]] result<tcp_stream> accept(deadline until = never);
  /// Connections as a stream. One that nobody takes is closed with it. A full descriptor table ends
  /// it with too_many_files_open: ask for another one once descriptors are free. Fibers only.
  [[nodiscard]] multishot<tcp_stream> incoming(const stream_options& o = {}) const {
    return detail::stream_of(incoming_connections{{fd_.get()}, no_delay_}, o, &fd_);
  }
  /// Accepts until the listener is closed or the calling fiber is cancelled, and runs `handler` for
  /// each connection on a fiber made with `each`: of the worker with the fewest live fibers, unless
  /// each.worker names one. A connection that finds no room until each.until is closed. Returns
  /// when every handler has ended; operation_canceled after a cancel (which the handlers get too),
  /// success after close. Fibers only. Errors: those of accept, and invalid_argument (stack_bytes,
  /// worker) once a connection came. The exception of a handler is rethrown.
  [[nodiscard]] result<> serve(std::function<void(tcp_stream)> handler,
                               const spawn_options& each = {});
  /// Ends accept and serve. Any thread.
  [[nodiscard]] result<> close();
  int fd() const noexcept { return fd_.get(); }

 private:
  io::unique_fd fd_;
  std::uint16_t port_ = 0;
  bool no_delay_ = true;
};

}  // namespace coir::net
