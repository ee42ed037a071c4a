// udp.hpp: datagrams over IPv4 and IPv6, in blocking style.
//
// Always true:
//   - A datagram is taken whole or cut, and whoever takes it is told how long it was.
//   - A socket may be used by several fibers of any workers at once; close ends all of them with
//     operation_canceled, and those that come later with bad_file_descriptor.
//
// Comes from: the user.   Goes to: coir/io.hpp.
#pragma once

#include <span>
#include <string>

#include "coir/address.hpp"
#include "coir/io.hpp"

namespace coir::net {

/// One datagram that arrived.
struct datagram {
  std::size_t bytes = 0;       ///< of it that were written into the buffer
  std::size_t bytes_sent = 0;  ///< that it had when it was sent; what did not fit is lost
  address from = {};           ///< who sent it
  bool truncated() const noexcept { return bytes_sent > bytes; }
};

/// A bound UDP socket. Move-only; its destructor closes (and so may park). Calls: fibers only, but
/// bind and close.
class COIR_API udp_socket {
 public:
  udp_socket() = default;
  /// Bound to a numeric address of this machine, which also decides the family; port 0: the system
  /// picks one. Any thread; never parks. Errors: invalid_argument for a bad address, and those of
  /// socket(2) and bind(2).
  [[nodiscard]] static result<udp_socket> bind(const std::string& address = "127.0.0.1",
                                               std::uint16_t port = 0);
  [[nodiscard]] static result<udp_socket> bind(const address& local);
  /// The port it is bound to.
  std::uint16_t port() const noexcept { return port_; }

  /// From now on only datagrams of `peer` are taken, and send() goes there. Again: another peer.
  /// Errors of connect(2).
  [[nodiscard]] result<> connect(const address& peer, deadline until = never);
  [[nodiscard]] result<> connect(const std::string& address, std::uint16_t port,
                                 deadline until = never);

  /// The next datagram, of which into.size() bytes are kept; one of 0 bytes is a datagram as any
  /// other and no end. Errors of recvmsg(2): after a connect also what became of an earlier send
  /// (connection_refused).
  [[nodiscard]] result<datagram> recv_from(std::span<std::byte> into, deadline until = never);
  /// One datagram to `peer`. Returns from.size(). Errors of sendmsg(2): message_size for one that
  /// is longer than 65,507 bytes (IPv4).
  [[nodiscard]] result<std::size_t> send_to(std::span<const std::byte> from, const address& peer,
                                            deadline until = never);

  /// On a connected socket: recv_from that need not say who sent it (`from` stays empty).
  [[nodiscard]] result<datagram> recv(std::span<std::byte> into, deadline until = never);
  /// On a connected socket: one datagram to its peer. destination_address_required without one.
  [[nodiscard]] result<std::size_t> send(std::span<const std::byte> from, deadline until = never) {
    return io::send(fd_, from, 0, until);
  }

  /// Ends the operations of every fiber on this socket, waits for them, closes. Any thread.
  [[nodiscard]] result<> close() {
    const int fd = fd_.release();
    return fd >= 0 ? io::close(fd) : result<>(fail(std::errc::bad_file_descriptor));
  }

  int fd() const noexcept { return fd_.get(); }
  int release() noexcept { return fd_.release(); }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

 private:
  io::unique_fd fd_;
  std::uint16_t port_ = 0;
};

}  // namespace coir::net
