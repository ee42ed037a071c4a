// zero_copy_test.cpp: a send that lends its bytes to the network: what it gives is what a send
// gives, and the bytes are lent until the kernel has said that it does not need them.
//
// Always true:
//   - After each case nothing is with the kernel.
//   - Who does not read has a small window, so what it does not take stays with the sender.
//
// Comes from: coir/io.hpp.   Goes to: runtime/perform.cpp, flight.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "on_fiber.hpp"
#include "runtime/worker.hpp"

using namespace std::chrono_literals;
using test::on_fiber;

namespace {

using coir::io::unique_fd;

struct connection {
  unique_fd sender;
  unique_fd reader;
};

connection over_tcp() {
  const unique_fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int small = 16 << 10;
  // Else a packet of the loopback is larger than the window, which then opens by probes only.
  const int packet = 1400;
  REQUIRE(::setsockopt(listener.get(), IPPROTO_TCP, TCP_MAXSEG, &packet, sizeof packet) == 0);
  REQUIRE(::setsockopt(listener.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t bytes = sizeof here;
  auto* const at = reinterpret_cast<sockaddr*>(&here);
  REQUIRE(::bind(listener.get(), at, bytes) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  REQUIRE(::getsockname(listener.get(), at, &bytes) == 0);
  connection made;
  made.sender.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int large = 1 << 19;
  REQUIRE(::setsockopt(made.sender.get(), SOL_SOCKET, SO_SNDBUF, &large, sizeof large) == 0);
  REQUIRE(::connect(made.sender.get(), at, bytes) == 0);
  made.reader.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(made.reader.get() >= 0);
  return made;
}

connection over_unix() {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  return {unique_fd(ends[0]), unique_fd(ends[1])};
}

std::vector<std::byte> some_bytes(std::size_t count) {
  std::vector<std::byte> all(count);
  for (std::size_t i = 0; i < count; ++i) all[i] = static_cast<std::byte>(i * 7 + i / 251);
  return all;
}

coir::detail::flight& operations() { return coir::detail::worker::current()->operations(); }

std::uint64_t completions() { return coir::snapshot().total().cqes; }

/// The kernel has had its turn, with everything that was asked for.
void let_the_kernel() {
  for (int i = 0; i < 8; ++i) REQUIRE(coir::perform(coir::nop{}).has_value());
}

/// Until nothing more is taken.
void fill_up(const unique_fd& sender) {
  const std::vector<std::byte> block(4096);
  for (;;) {
    if (::send(sender.get(), block.data(), block.size(), MSG_DONTWAIT) < 0) return;
  }
}

}  // namespace

TEST_CASE("zero_copy: the bytes are those of a send, on sockets that know it and on others") {
  on_fiber([] {
    const std::vector<std::byte> sent = some_bytes(300'000);
    for (const bool tcp : {true, false}) {
      connection c = tcp ? over_tcp() : over_unix();
      auto reader = coir::spawn([&] {
        std::vector<std::byte> got(sent.size());
        CHECK(coir::io::read_exact(c.reader.get(), got).value() == sent.size());
        return got == sent;
      });
      CHECK(coir::io::send_all_zc(c.sender.get(), sent).value() == sent.size());
      CHECK(reader.join().value());
      CHECK(coir::io::send_zc(c.sender, std::span(sent).first(5)).value() == 5);
      CHECK(coir::io::send_zc(c.sender.get(), {}).value() == 0);
      std::array<std::byte, 5> few{};
      CHECK(coir::io::read_exact(c.reader.get(), few).value() == 5);
      CHECK(std::equal(few.begin(), few.end(), sent.begin()));
      c.reader.reset();
      auto answer = coir::io::send_zc(c.sender, sent);
      while (answer) answer = coir::io::send_zc(c.sender, sent);  // some may come before the reset
      REQUIRE(!answer);
      CHECK((answer.error() == std::errc::broken_pipe ||
             answer.error() == std::errc::connection_reset));
      CHECK(operations().open_count() == 0);
    }
    CHECK(coir::io::send_zc(-1, sent).error() == std::errc::bad_file_descriptor);
    const unique_fd file(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    CHECK(coir::io::send_zc(file, sent).error() == std::errc::not_a_socket);
  });
}

TEST_CASE("zero_copy: the call returns when the bytes are not lent any more, not before") {
  on_fiber([] {
    const std::vector<std::byte> sent = some_bytes(200'000);
    const connection c = over_tcp();
    auto sender = coir::spawn([&] { return coir::io::send_zc(c.sender, sent).value(); });
    test::settle();
    const std::uint64_t before = completions();
    let_the_kernel();
    if (test::on_a_ring("bytes that are lent to the network")) {
      // The kernel has said how many it takes, and nothing else.
      CHECK(completions() - before >= 8);
      CHECK(operations().open_count() == 1);
      CHECK_FALSE(sender.done());
      // A cancel does not change that they are lent; what was taken is the answer.
      sender.cancel();
      let_the_kernel();
      CHECK_FALSE(sender.done());
      CHECK(operations().open_count() == 1);
    }
    std::vector<std::byte> got(sent.size());
    std::size_t there = 0;
    while (!sender.done()) {
      const auto n = ::recv(c.reader.get(), got.data() + there, got.size() - there, MSG_DONTWAIT);
      if (n > 0) there += static_cast<std::size_t>(n);
      let_the_kernel();
    }
    const std::size_t count = sender.join().value();
    REQUIRE(count >= there);
    CHECK(coir::io::read_exact(c.reader.get(), std::span(got).subspan(there, count - there))
              .value() == count - there);
    CHECK(std::equal(got.begin(), got.begin() + static_cast<std::ptrdiff_t>(count), sent.begin()));
    CHECK(operations().open_count() == 0);
    CHECK(operations().stale() == 0);
  });
}

TEST_CASE("zero_copy: on a ring each send has two completions, and its fiber is woken once") {
  if (!test::on_a_ring("the second completion of a send")) return;
  on_fiber([] {
    const connection c = over_tcp();
    const std::vector<std::byte> sent = some_bytes(1000);
    std::vector<std::byte> got(sent.size());
    constexpr int rounds = 3;
    const auto counted = [&](auto send) {
      const auto before = coir::snapshot().total();
      for (int i = 0; i < rounds; ++i) {
        CHECK(send() == sent.size());
        CHECK(::read(c.reader.get(), got.data(), got.size()) == 1000);
      }
      const auto after = coir::snapshot().total();
      CHECK(after.parks - before.parks == rounds);
      CHECK(after.sqes - before.sqes == rounds);
      return after.cqes - before.cqes;
    };
    CHECK(counted([&] { return coir::io::send_zc(c.sender, sent).value(); }) == 2 * rounds);
    // MSG_WAITALL keeps a plain one from being tried without an entry.
    CHECK(counted([&] { return coir::io::send(c.sender, sent, MSG_WAITALL).value(); }) == rounds);
  });
}

TEST_CASE("zero_copy: one that waits for room is ended by cancel, deadline and close") {
  on_fiber([] {
    const std::vector<std::byte> sent = some_bytes(50'000);
    for (const bool tcp : {true, false}) {
      connection c = tcp ? over_tcp() : over_unix();
      fill_up(c.sender);
      CHECK(coir::io::send_zc(c.sender, sent, 0, coir::in(1ms)).error() == std::errc::timed_out);
      CHECK(coir::io::send_zc(c.sender, sent, MSG_DONTWAIT).error() ==
            std::errc::resource_unavailable_try_again);
      auto sender = coir::spawn([&] { return coir::io::send_zc(c.sender, sent).error(); });
      test::settle();
      CHECK_FALSE(sender.done());
      sender.cancel();
      CHECK(sender.join().value() == std::errc::operation_canceled);
      auto other = coir::spawn([&] { return coir::io::send_zc(c.sender, sent).error(); });
      test::settle();
      c.sender.reset();
      CHECK(other.join().value() == std::errc::operation_canceled);
      CHECK(operations().open_count() == 0);
      CHECK(operations().stale() == 0);
    }
  });
}

TEST_CASE("zero_copy: a socket that does not wait is waited for") {
  on_fiber([] {
    const std::vector<std::byte> sent = some_bytes(10'000);
    const connection c = over_tcp();
    REQUIRE(::fcntl(c.sender.get(), F_SETFL, O_NONBLOCK) == 0);
    fill_up(c.sender);
    auto sender = coir::spawn([&] { return coir::io::send_zc(c.sender, sent).value(); });
    test::settle();
    let_the_kernel();
    CHECK_FALSE(sender.done());
    std::vector<std::byte> some(1 << 16);
    while (!sender.done()) {
      (void)::recv(c.reader.get(), some.data(), some.size(), MSG_DONTWAIT);
      let_the_kernel();
    }
    CHECK(sender.join().value() > 0);
  });
}

TEST_CASE("zero_copy: begun by hand and in a loop it falls back as well") {
  const std::vector<std::byte> sent = some_bytes(100);
  std::array<std::byte, 100> got{};
  on_fiber([&] {
    for (const bool tcp : {true, false}) {
      const connection c = tcp ? over_tcp() : over_unix();
      auto begun = coir::start(coir::send_zc_operation(c.sender.get(), sent));
      CHECK(begun.get().value() == 100);
      CHECK(coir::io::read_exact(c.reader.get(), got).value() == 100);
      CHECK(std::equal(got.begin(), got.end(), sent.begin()));
    }
  });
  auto outside = coir::make_backend(test::tested({}));
  REQUIRE(outside);
  auto in = coir::loop::make(**outside).value();
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  auto body =
      in.submit([&] { return coir::perform(coir::send_zc_operation(ends[0], sent)).value_or(0); });
  CHECK(in.run());
  CHECK(body.get().value() == 100);
  for (const int fd : ends) ::close(fd);
}
