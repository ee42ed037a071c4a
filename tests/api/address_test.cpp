// address_test.cpp: addresses as values: in from texts and system calls, and out again.
//
// Comes from: coir/address.hpp.   Goes to: runtime/address.cpp.
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <ostream>
#include <string>

#include "coir/address.hpp"

using coir::net::address;

TEST_CASE("address: what is written in numbers comes out as it went in, of either family") {
  for (const char* text : {"127.0.0.1", "0.0.0.0", "255.255.255.255", "::", "::1", "2001:db8::7"}) {
    CAPTURE(text);
    const auto a = address::numeric(text, 4711);
    REQUIRE(a.has_value());
    CHECK(a->text() == text);
    CHECK(a->port() == 4711);
    const bool six = std::string(text).find(':') != std::string::npos;
    CHECK(a->family() == (six ? AF_INET6 : AF_INET));
    CHECK(a->bytes() == (six ? sizeof(sockaddr_in6) : sizeof(sockaddr_in)));
  }
}

TEST_CASE("address: a name, half an address, or one with something behind it is refused") {
  const std::string with_end("127.0.0.1\0x", 11);
  for (const std::string& text :
       {std::string("localhost"), std::string(), std::string("127.0.0"), std::string("127.0.0.1 "),
        std::string("[::1]"), std::string("::g"), std::string("fe80::1%lo"), with_end}) {
    CAPTURE(text);
    CHECK(address::numeric(text, 1).error() == std::errc::invalid_argument);
  }
}

TEST_CASE("address: equal means family, address, scope and port, and nothing that lies between") {
  const auto one = address::numeric("127.0.0.1", 7).value();
  CHECK(one == address::numeric("127.0.0.1", 7).value());
  CHECK_FALSE(one == address::numeric("127.0.0.1", 8).value());
  CHECK_FALSE(one == address::numeric("127.0.0.2", 7).value());
  CHECK_FALSE(one == address::numeric("::1", 7).value());
  CHECK_FALSE(one == address());
  CHECK(address() == address());
  auto padded = one;
  reinterpret_cast<sockaddr_in*>(padded.room())->sin_zero[3] = 1;
  CHECK(padded == one);
  const auto six = address::numeric("fe80::1", 7).value();
  auto scoped = six;
  reinterpret_cast<sockaddr_in6*>(scoped.room())->sin6_scope_id = 2;
  CHECK_FALSE(scoped == six);
  auto flowing = six;
  reinterpret_cast<sockaddr_in6*>(flowing.room())->sin6_flowinfo = 9;
  CHECK(flowing == six);
  CHECK_FALSE(six == address::numeric("fe80::2", 7).value());
}

TEST_CASE("address: nowhere has no family, no bytes and no text") {
  const address none;
  CHECK(none.family() == 0);
  CHECK(none.bytes() == 0);
  CHECK(none.text().empty());
  CHECK(none.port() == 0);
}

TEST_CASE("address: what a system call gave is taken when it is one of the two, and whole") {
  const auto one = address::numeric("127.0.0.1", 7).value();
  CHECK(address::copy_of(one.get(), one.bytes()).value() == one);
  CHECK(address::copy_of(one.get(), one.bytes() - 1).error() ==
        std::errc::address_family_not_supported);
  CHECK(address::copy_of(one.get(), 0).error() == std::errc::address_family_not_supported);
  sockaddr_un other{};
  other.sun_family = AF_UNIX;
  CHECK(address::copy_of(reinterpret_cast<sockaddr*>(&other), sizeof other).error() ==
        std::errc::address_family_not_supported);
  CHECK(address::of_socket(-1).error() == std::errc::bad_file_descriptor);
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  REQUIRE(fd >= 0);
  CHECK(address::of_socket(fd).value() == address::numeric("0.0.0.0", 0).value());
  ::close(fd);
}
