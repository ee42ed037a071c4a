// byte_stream_test.cpp: what a connected stream does, the same over each kind of socket.
//
// Comes from: coir/byte_stream.hpp.   Goes to: runtime/byte_stream.cpp.
#include <doctest/doctest.h>
#include <sys/socket.h>

#include <array>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "on_fiber.hpp"

using coir::net::tcp_listener;
using coir::net::tcp_stream;
using coir::net::unix_stream;
using test::on_fiber;
using test::settle;

namespace {

/// Runs `body(one, other)` on two connected ends of each kind.
template <class F>
void over_each_kind(F body) {
  on_fiber([&] {
    SUBCASE("over TCP") {
      auto listener = tcp_listener::listen();
      REQUIRE(listener.has_value());
      auto one = tcp_stream::connect("127.0.0.1", listener->port());
      REQUIRE(one.has_value());
      auto other = listener->accept();
      REQUIRE(other.has_value());
      body(*one, *other);
    }
    SUBCASE("over a pair of Unix sockets") {
      auto ends = unix_stream::pair();
      REQUIRE(ends.has_value());
      body(ends->first, ends->second);
    }
  });
}

}  // namespace

TEST_CASE("byte_stream: what is written in one piece is read in pieces, and the end is 0 bytes") {
  over_each_kind([](auto& one, auto& other) {
    REQUIRE(one.write_all("abcdef").has_value());
    REQUIRE(one.shutdown_write().has_value());
    std::array<std::byte, 4> b{};
    REQUIRE(other.read_exact(b).has_value());
    CHECK(b[3] == std::byte{'d'});
    CHECK(other.read_some(b).value() == 2);
    CHECK(other.read_some(b).value() == 0);
    CHECK(other.read_exact(b).error() == std::errc::connection_aborted);
    CHECK(other.write_all("back").has_value());
    CHECK(one.read_exact(b).has_value());
  });
}

TEST_CASE("byte_stream: more bytes than the socket holds arrive whole and in order") {
  over_each_kind([](auto& one, auto& other) {
    std::vector<std::byte> sent(3'000'000);
    for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<std::byte>(i * 7 / 3);
    auto writer = coir::spawn([&] { return one.write_all(sent); });
    std::vector<std::byte> got(sent.size());
    CHECK(other.read_exact(got).has_value());
    CHECK(writer.join().has_value());
    CHECK((got == sent));
  });
}

TEST_CASE("byte_stream: a deadline ends a read and a write, and the stream is as good as before") {
  over_each_kind([](auto& one, auto& other) {
    std::array<std::byte, 1> b{};
    CHECK(one.read_some(b, coir::no_wait).error() == std::errc::timed_out);
    CHECK(one.read_exact(b, coir::no_wait).error() == std::errc::timed_out);
    const std::vector<std::byte> much(64'000'000);
    CHECK(one.write_all(much, coir::no_wait).error() == std::errc::timed_out);
    CHECK(other.write_all("x").has_value());
    CHECK(one.read_exact(b).has_value());
  });
}

TEST_CASE("byte_stream: close ends who reads it, and those that come later find no descriptor") {
  over_each_kind([](auto& one, auto&) {
    std::array<std::byte, 1> b{};
    auto reader = coir::spawn([&] { return one.read_some(b); });
    settle();
    CHECK(one.close().has_value());
    CHECK(reader.join().error() == std::errc::operation_canceled);
    CHECK_FALSE(one);
    CHECK(one.fd() == -1);
    CHECK(one.close().error() == std::errc::bad_file_descriptor);
    CHECK(one.read_some(b).error() == std::errc::bad_file_descriptor);
    CHECK(one.write_all("x").error() == std::errc::bad_file_descriptor);
    CHECK(one.shutdown_write().error() == std::errc::bad_file_descriptor);
  });
}

TEST_CASE("byte_stream: a peer that is gone is an error of the write, and never a signal") {
  over_each_kind([](auto& one, auto& other) {
    CHECK(other.close().has_value());
    std::error_code ended;
    while (!ended) {
      const auto n = one.write_some(std::as_bytes(std::span("x", 1)));
      if (!n) ended = n.error();
    }
    CHECK((ended == std::errc::broken_pipe || ended == std::errc::connection_reset));
  });
}

TEST_CASE("byte_stream: a stream moves with its descriptor, and closes the one it had") {
  over_each_kind([](auto& one, auto& other) {
    const int fd = one.fd();
    auto held = std::move(one);
    CHECK(held.fd() == fd);
    CHECK_FALSE(one);
    other = std::move(held);  // the far end closes, ours takes its place
    CHECK(other.fd() == fd);
    std::array<std::byte, 1> b{};
    CHECK(other.read_some(b).value() == 0);
    const int released = other.release();
    CHECK(released == fd);
    CHECK(coir::io::close(released).has_value());
  });
}

TEST_CASE(
    "byte_stream: who sends all to one that takes nothing is told so, and not held for ever") {
  on_fiber([] {
    auto ends = unix_stream::pair();
    REQUIRE(ends.has_value());
    const auto takes_nothing = [](const auto&) -> coir::result<std::size_t> { return 0; };
    coir::handle_effects(
        [&] {
          CHECK(ends->first.write_all("all").error() == std::errc::io_error);
          const auto sent = std::as_bytes(std::span("all"));
          CHECK(coir::io::send_all_zc(ends->first.fd(), sent).error() == std::errc::io_error);
        },
        coir::on<coir::send_operation>(takes_nothing),
        coir::on<coir::send_zc_operation>(takes_nothing));
  });
}
