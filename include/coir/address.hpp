// address.hpp: where a socket is: an IPv4 or IPv6 address with a port, as a value.
//
// Always true:
//   - It is written in numbers; names are what coir/resolve.hpp is for.
//   - It holds what the kernel reads and writes, so nothing is converted on the way of a packet.
//
// Comes from: the user, coir/resolve.hpp, what arrives.   Goes to: coir/net.hpp, coir/udp.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "coir/result.hpp"

struct sockaddr;

namespace coir::net {

class COIR_API address {
 public:
  static constexpr unsigned bytes_max = 28;  ///< of a sockaddr_in6, the larger of the two

  /// Nowhere: bytes() is 0.
  address() = default;
  /// "127.0.0.1" or "::1". invalid_argument for anything else, a name too. Any thread.
  [[nodiscard]] static result<address> numeric(const std::string& text, std::uint16_t port);
  /// Copies what a system call gave. address_family_not_supported for other families.
  [[nodiscard]] static result<address> copy_of(const sockaddr* from, unsigned bytes);

  /// Where the socket `fd` is bound. Any thread. Errors of getsockname(2).
  [[nodiscard]] static result<address> of_socket(int fd);

  /// The address without the port, as numeric() takes it; "" for nowhere.
  std::string text() const;
  std::uint16_t port() const noexcept;
  void set_port(std::uint16_t port) noexcept;
  /// AF_INET, AF_INET6, or 0 for nowhere.
  int family() const noexcept;

  /// For system calls: the sockaddr, and how many bytes of it count.
  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(place_); }
  unsigned bytes() const noexcept;
  /// For system calls that write bytes_max bytes at most.
  sockaddr* room() noexcept { return reinterpret_cast<sockaddr*>(place_); }

  /// The same address, scope and port.
  COIR_API friend bool operator==(const address& a, const address& b) noexcept;

 private:
  alignas(8) std::byte place_[bytes_max]{};
};

}  // namespace coir::net
