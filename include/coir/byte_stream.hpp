// byte_stream.hpp: what every connected stream socket can do, whatever carries its bytes.
//
// Always true:
//   - A stream may be used by several fibers of any workers at once; close ends all of them with
//     operation_canceled, and those that come later with bad_file_descriptor.
//   - The kinds of streams differ in how they are made, and in nothing else.
//
// Comes from: coir/net.hpp, coir/unix_socket.hpp.   Goes to: coir/io.hpp.
#pragma once

#include <string_view>

#include "coir/io.hpp"
#include "coir/streams.hpp"

namespace coir::net {

/// Made as a tcp_stream or a unix_stream. Move-only; its destructor closes (and so may park).
/// Calls: fibers only, but close.
class COIR_API byte_stream {
 public:
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
    return detail::perform_stream(recv_stream{fd_.get()}, o, &fd_);
  }
  /// Ends the operations of every fiber on this stream, waits for them, closes. Any thread.
  [[nodiscard]] result<> close() {
    const int fd = fd_.release();
    return fd >= 0 ? io::close(fd) : result<>(fail(std::errc::bad_file_descriptor));
  }

  int fd() const noexcept { return fd_.get(); }
  int release() noexcept { return fd_.release(); }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

 protected:
  byte_stream() = default;
  explicit byte_stream(int fd) noexcept : fd_(fd) {}
  byte_stream(byte_stream&&) noexcept = default;
  byte_stream& operator=(byte_stream&&) noexcept = default;
  ~byte_stream() = default;

  io::unique_fd fd_;
};

}  // namespace coir::net
