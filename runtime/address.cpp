// address.cpp: addresses between texts and what the kernel takes.
//
// Always true:
//   - The family inside decides everything; a family that is neither of the two is nowhere.
//
// Comes from: coir/address.hpp.   Goes to: inet_pton(3), inet_ntop(3).
#include "coir/address.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace coir::net {
namespace {

static_assert(sizeof(sockaddr_in6) == address::bytes_max);
static_assert(sizeof(sockaddr_in) <= address::bytes_max);

// Copies, because what is read may lie anywhere: the compiler makes plain loads of them.
template <class T>
T read_as(const sockaddr* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
sockaddr_in v4_of(const address& a) noexcept { return read_as<sockaddr_in>(a.get()); }
sockaddr_in6 v6_of(const address& a) noexcept { return read_as<sockaddr_in6>(a.get()); }

}  // namespace

result<address> address::numeric(const std::string& text, std::uint16_t port) {
  address made;
  if (text.find('\0') != text.npos) return fail(std::errc::invalid_argument);
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (::inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    std::memcpy(made.place_, &v4, sizeof v4);
  } else if (::inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    std::memcpy(made.place_, &v6, sizeof v6);
  } else {
    return fail(std::errc::invalid_argument);
  }
  made.set_port(port);
  return made;
}

result<address> address::copy_of(const sockaddr* from, unsigned bytes) {
  address made;
  if (bytes < sizeof(sa_family_t)) return fail(std::errc::address_family_not_supported);
  const auto family = read_as<sa_family_t>(from);  // the first field of every sockaddr
  const std::size_t wanted = family == AF_INET    ? sizeof(sockaddr_in)
                             : family == AF_INET6 ? sizeof(sockaddr_in6)
                                                  : 0;
  if (wanted == 0 || bytes < wanted) return fail(std::errc::address_family_not_supported);
  std::memcpy(made.place_, from, wanted);
  return made;
}

result<address> address::of_socket(int fd) {
  sockaddr_storage there{};
  socklen_t bytes = sizeof there;
  auto* const at = reinterpret_cast<sockaddr*>(&there);
  if (::getsockname(fd, at, &bytes) != 0) return fail(detail::system_error(-errno));
  return copy_of(at, bytes);
}

std::string address::text() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (family() == AF_INET) {
    const sockaddr_in v4 = v4_of(*this);
    ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
  } else if (family() == AF_INET6) {
    const sockaddr_in6 v6 = v6_of(*this);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
  }
  return text;
}

// The port lies in the same place in both families.
static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));

std::uint16_t address::port() const noexcept { return ntohs(v4_of(*this).sin_port); }

void address::set_port(std::uint16_t port) noexcept {
  const std::uint16_t there = htons(port);
  std::memcpy(place_ + offsetof(sockaddr_in, sin_port), &there, sizeof there);
}

int address::family() const noexcept { return read_as<sa_family_t>(get()); }

unsigned address::bytes() const noexcept {
  switch (family()) {
    case AF_INET:
      return sizeof(sockaddr_in);
    case AF_INET6:
      return sizeof(sockaddr_in6);
    default:
      return 0;
  }
}

bool operator==(const address& a, const address& b) noexcept {
  if (a.family() != b.family() || a.port() != b.port()) return false;
  if (a.family() == AF_INET) return v4_of(a).sin_addr.s_addr == v4_of(b).sin_addr.s_addr;
  if (a.family() != AF_INET6) return true;
  const sockaddr_in6 one = v6_of(a);
  const sockaddr_in6 other = v6_of(b);
  return one.sin6_scope_id == other.sin6_scope_id &&
         std::memcmp(&one.sin6_addr, &other.sin6_addr, sizeof one.sin6_addr) == 0;
}

}  // namespace coir::net
