// udp_test.cpp: datagrams: who sent them, what was cut, and how a wait for one ends.
//
// Always true:
//   - Only the loopback is used, with ports that the system picks.
//
// Comes from: coir/udp.hpp.   Goes to: runtime/udp.cpp.
#include <doctest/doctest.h>

#include <array>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "on_fiber.hpp"

using coir::net::address;
using coir::net::udp_socket;
using test::on_fiber;
using test::settle;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

udp_socket bound(const char* at = "127.0.0.1") {
  auto s = udp_socket::bind(at);
  REQUIRE(s.has_value());
  REQUIRE(s->port() != 0);
  return std::move(*s);
}

address where(const udp_socket& s, const char* at = "127.0.0.1") {
  return address::numeric(at, s.port()).value();
}

}  // namespace

TEST_CASE("udp: a datagram arrives whole, with the address of who sent it, and is answered there") {
  on_fiber([] {
    auto server = bound();
    auto client = bound();
    CHECK(client.send_to(bytes_of("question"), where(server)).value() == 8);
    std::array<std::byte, 64> b{};
    const auto q = server.recv_from(b);
    REQUIRE(q.has_value());
    CHECK(text_of(std::span(b).first(q->bytes)) == "question");
    CHECK(q->bytes_sent == 8);
    CHECK_FALSE(q->truncated());
    CHECK(q->from == where(client));
    CHECK(server.send_to(bytes_of("answer"), q->from).value() == 6);
    const auto a = client.recv_from(b);
    REQUIRE(a.has_value());
    CHECK(text_of(std::span(b).first(a->bytes)) == "answer");
    CHECK(a->from == where(server));
  });
}

TEST_CASE("udp: one that is longer than the buffer is cut, and its true length is told") {
  on_fiber([] {
    auto server = bound();
    auto client = bound();
    REQUIRE(client.connect(where(server)).has_value());
    REQUIRE(server.connect("127.0.0.1", client.port()).has_value());
    std::array<std::byte, 4> b{};
    for (const bool who : {true, false}) {
      CAPTURE(who);
      CHECK(client.send(bytes_of("0123456789")).value() == 10);
      CHECK(client.send(bytes_of("next")).value() == 4);
      const auto cut = who ? server.recv_from(b) : server.recv(b);
      REQUIRE(cut.has_value());
      CHECK(cut->truncated());
      CHECK(cut->bytes == 4);
      CHECK(cut->bytes_sent == 10);
      CHECK(text_of(b) == "0123");
      CHECK(cut->from == (who ? where(client) : address()));
      const auto whole = who ? server.recv_from(b) : server.recv(b);
      REQUIRE(whole.has_value());
      CHECK_FALSE(whole->truncated());
      CHECK(text_of(b) == "next");
    }
    CHECK(client.send(bytes_of("dropped")).value() == 7);
    const auto none = server.recv({});
    REQUIRE(none.has_value());
    CHECK(none->bytes == 0);
    CHECK(none->bytes_sent == 7);
  });
}

TEST_CASE("udp: an empty datagram is a datagram") {
  on_fiber([] {
    auto server = bound();
    auto client = bound();
    CHECK(client.send_to({}, where(server)).value() == 0);
    std::array<std::byte, 4> b{};
    const auto none = server.recv_from(b);
    REQUIRE(none.has_value());
    CHECK(none->bytes == 0);
    CHECK(none->from == where(client));
  });
}

TEST_CASE("udp: a connected socket hears its peer alone, and what became of what it sent") {
  on_fiber([] {
    auto server = bound();
    auto client = bound();
    auto stranger = bound();
    REQUIRE(client.connect(where(server)).has_value());
    CHECK(stranger.send_to(bytes_of("no"), where(client)).value() == 2);
    CHECK(server.send_to(bytes_of("yes"), where(client)).value() == 3);
    std::array<std::byte, 8> b{};
    const auto heard = client.recv(b);
    REQUIRE(heard.has_value());
    CHECK(text_of(std::span(b).first(heard->bytes)) == "yes");
    const address gone = where(server);
    CHECK(server.close().has_value());
    CHECK(client.send(bytes_of("x")).has_value());
    CHECK(client.recv(b).error() == std::errc::connection_refused);
    // Another peer, and it goes on.
    REQUIRE(client.connect(where(stranger)).has_value());
    CHECK(client.send(bytes_of("hello")).has_value());
    CHECK(stranger.recv_from(b).value().from == where(client));
    CHECK_FALSE(gone == where(stranger));
  });
}

TEST_CASE("udp: a wait ends by its deadline, by a cancel and by a close, and loses no datagram") {
  on_fiber([] {
    auto server = bound();
    auto client = bound();
    std::array<std::byte, 8> b{};
    CHECK(server.recv_from(b, coir::no_wait).error() == std::errc::timed_out);
    CHECK(server.recv(b, coir::no_wait).error() == std::errc::timed_out);
    auto waiting = coir::spawn([&] { return server.recv_from(b); });
    settle();
    waiting.cancel();
    CHECK(waiting.join().error() == std::errc::operation_canceled);
    CHECK(client.send_to(bytes_of("kept"), where(server)).has_value());
    CHECK(server.recv_from(b).value().bytes == 4);
    auto met = coir::spawn([&] { return server.recv_from(b); });
    settle();
    CHECK(server.close().has_value());
    CHECK(met.join().error() == std::errc::operation_canceled);
    CHECK_FALSE(server);
    CHECK(server.close().error() == std::errc::bad_file_descriptor);
    CHECK(server.recv_from(b).error() == std::errc::bad_file_descriptor);
    CHECK(server.recv(b).error() == std::errc::bad_file_descriptor);
    CHECK(server.send(bytes_of("x")).error() == std::errc::bad_file_descriptor);
    CHECK(server.send_to(bytes_of("x"), where(client)).error() == std::errc::bad_file_descriptor);
    CHECK(server.connect(where(client)).error() == std::errc::bad_file_descriptor);
  });
}

TEST_CASE("udp: what the system refuses is its own error") {
  on_fiber([] {
    CHECK(udp_socket::bind("localhost").error() == std::errc::invalid_argument);
    CHECK(udp_socket::bind(address()).error() == std::errc::address_family_not_supported);
    auto one = bound();
    CHECK(udp_socket::bind("127.0.0.1", one.port()).error() == std::errc::address_in_use);
    CHECK(one.connect("localhost", 1).error() == std::errc::invalid_argument);
    CHECK(one.send(bytes_of("x")).error() == std::errc::destination_address_required);
    const std::vector<std::byte> long_one(70'000);
    CHECK(one.send_to(long_one, where(one)).error() == std::errc::message_size);
  });
}

TEST_CASE("udp: over IPv6 it is the same") {
  on_fiber([] {
    auto six = udp_socket::bind("::1");
    if (!six) {
      MESSAGE("no IPv6 loopback here: " << six.error().message());
      return;
    }
    CHECK(six->send_to(bytes_of("me"), where(*six, "::1")).value() == 2);
    std::array<std::byte, 8> b{};
    const auto back = six->recv_from(b);
    REQUIRE(back.has_value());
    CHECK(back->bytes == 2);
    CHECK(back->from == where(*six, "::1"));
  });
}

TEST_CASE("udp: on a plain thread a socket is made and closed, and asks for a fiber to be used") {
  auto s = bound();
  std::array<std::byte, 1> b{};
  CHECK(s.recv_from(b).error() == coir::errc::not_in_fiber);
  CHECK(s.send_to(b, where(s)).error() == coir::errc::not_in_fiber);
  CHECK(s.connect(where(s)).error() == coir::errc::not_in_fiber);
  CHECK(s.close().has_value());
}
