// wire_test.cpp: pipes and sockets of the world say what Linux would: flags of a receive, and what
// poll tells of those whose other side has gone.
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <string>

#include "in_sim.hpp"

using namespace sim_test;
using namespace std::chrono_literals;

namespace {

std::span<const std::byte> said(std::string_view text) { return std::as_bytes(std::span(text)); }

/// What is received with these flags, or what the error says.
std::string got(int fd, std::size_t bytes, int flags) {
  std::string text(bytes, ' ');
  const auto n = coir::io::recv(fd, std::as_writable_bytes(std::span(text)), flags);
  if (!n) return n.error().message();
  text.resize(*n);
  return text;
}

unsigned held(int fd, unsigned events) {
  const auto holds = coir::io::poll(fd, events, coir::in(1us));
  if (!holds) {
    CHECK(holds.error() == std::errc::timed_out);
    return 0;
  }
  return *holds;
}

}  // namespace

TEST_CASE("sim: a receive that peeks takes nothing, and one that waits for all does") {
  sim_world world;
  const auto [a, b] = world.connection();
  const auto ended = run_in_sim(world, [a = a, b = b] {
    REQUIRE(coir::io::send(b, said("hello")).has_value());
    CHECK(got(a, 3, MSG_PEEK) == "hel");
    CHECK(got(a, 9, MSG_PEEK) == "hello");
    CHECK(got(a, 9, 0) == "hello");
    auto whole = coir::spawn([a] { return got(a, 6, MSG_WAITALL); });
    REQUIRE(coir::io::send(b, said("abc")).has_value());
    CHECK(coir::this_fiber::sleep_for(1ms).has_value());
    CHECK_FALSE(whole.done());
    REQUIRE(coir::io::send(b, said("defg")).has_value());
    CHECK(whole.join() == "abcdef");
    CHECK(got(a, 1, MSG_OOB) == std::make_error_code(std::errc::operation_not_supported).message());
    CHECK(got(a, 1, MSG_DONTWAIT) == "g");
    CHECK(got(a, 1, MSG_DONTWAIT) ==
          std::make_error_code(std::errc::resource_unavailable_try_again).message());
  });
  CHECK_MESSAGE(ended.has_value(), world.describe());
}

TEST_CASE("sim: poll tells a socket whose peer sends no more from one that is gone") {
  sim_world world;
  const auto [a, b] = world.connection();
  const auto ended = run_in_sim(world, [a = a, b = b] {
    constexpr unsigned all = POLLIN | POLLOUT | POLLRDHUP;
    CHECK(held(a, POLLIN) == 0);
    CHECK(held(a, all) == POLLOUT);
    REQUIRE(coir::io::shutdown(b, SHUT_WR).has_value());
    CHECK(held(a, all) == all);
    CHECK(held(a, POLLOUT) == POLLOUT);
    REQUIRE(coir::io::shutdown(a, SHUT_WR).has_value());
    CHECK(held(a, all) == (all | POLLHUP));
  });
  CHECK_MESSAGE(ended.has_value(), world.describe());
}

TEST_CASE("sim: poll tells a pipe that has ended, and one that nobody reads") {
  sim_world world;
  const auto [in, out] = world.pipe();
  const auto [read_end, write_end] = world.pipe();
  const auto ended =
      run_in_sim(world, [in = in, out = out, read_end = read_end, write_end = write_end] {
        REQUIRE(coir::io::write(out, said("x")).has_value());
        REQUIRE(coir::io::close(out).has_value());
        CHECK(held(in, POLLIN) == (POLLIN | POLLHUP));
        CHECK(got(in, 1, 0) == std::make_error_code(std::errc::not_a_socket).message());
        std::array<std::byte, 1> one{};
        CHECK(coir::io::read(in, one) == 1u);
        CHECK(held(in, POLLIN) == POLLHUP);
        REQUIRE(coir::io::close(read_end).has_value());
        CHECK((held(write_end, POLLOUT) & POLLERR) != 0);
      });
  CHECK_MESSAGE(ended.has_value(), world.describe());
}
