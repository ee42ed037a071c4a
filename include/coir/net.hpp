// net.hpp: TCP over IPv4 and IPv6, in blocking style.
//
// Always true:
//   - A stream is a byte_stream: several fibers of any workers may use it at once, and close ends
//     all of them.
//   - serve places each connection by live fibers, so connections that come one by one spread over
//     all workers.
//
// Comes from: the user.   Goes to: coir/byte_stream.hpp.
#pragma once

#include <functional>
#include <string>

#include "coir/address.hpp"
#include "coir/byte_stream.hpp"
#include "coir/fiber.hpp"
#include "coir/streams.hpp"

namespace coir::net {

/// A connected TCP socket. What it can do is what every byte_stream can. Move-only; its destructor
/// closes (and so may park).
class COIR_API tcp_stream : public byte_stream {
 public:
  tcp_stream() = default;
  explicit tcp_stream(int fd) noexcept : byte_stream(fd) {}
  /// Connects to a numeric address ("127.0.0.1", "::1"); coir/resolve.hpp has net::connect for
  /// names. Fibers only. invalid_argument for a name; errors of connect(2).
  [[nodiscard]] static result<tcp_stream> connect(const std::string& address, std::uint16_t port,
                                                  deadline until = never);
  [[nodiscard]] static result<tcp_stream> connect(const address& target, deadline until = never);
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
    return detail::perform_stream(incoming_connections{{fd_.get()}, no_delay_}, o, &fd_);
  }
  /// Accepts until the listener is closed or the calling fiber is cancelled, and runs `handler` for
  /// each connection on a fiber made with `each`. One of workload io, the usual, begins on the
  /// worker with the fewest live fibers within each.where of the one that accepted it; where that
  /// one's mailbox is full, on the next best or on the one that accepted it. Of another workload it
  /// goes where any spawn of it would. Until it has begun a worker with nothing to do may get it.
  /// With each.worker it is there, and waits for a place in its mailbox. A connection that finds no
  /// room (a record of fibers_max, that place) until each.until is closed. Returns
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
