// net_test.cpp: sockets: what is refused, how streams end, and how a server ends.
//
// Always true:
//   - Only the loopback is used, with ports that the system picks.
//
// Comes from: coir/net.hpp.   Goes to: runtime/net.cpp.
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "on_fiber.hpp"
#include "tests/catalogue/child.hpp"
#include "tests/runtime/held_worker.hpp"

using coir::net::tcp_listener;
using coir::net::tcp_stream;
using test::on_fiber;
using test::settle;
using test::tested;

namespace {

bool no_delay(int fd) {
  int on = -1;
  socklen_t bytes = sizeof on;
  REQUIRE(::getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &bytes) == 0);
  return on != 0;
}

void echo(tcp_stream s) {
  std::array<std::byte, 64> b{};
  for (;;) {
    const auto n = s.read_some(b);
    if (!n || *n == 0 || !s.write_all(std::span(b).first(*n))) return;
  }
}

/// Sends a word and waits until it came back, so the handler is known to run.
tcp_stream greeted(std::uint16_t port) {
  auto s = tcp_stream::connect("127.0.0.1", port);
  REQUIRE(s.has_value());
  REQUIRE(s->write_all("hi").has_value());
  std::array<std::byte, 2> back{};
  REQUIRE(s->read_exact(back).has_value());
  return std::move(*s);
}

}  // namespace

TEST_CASE("net: only numeric addresses are taken, of either family") {
  on_fiber([] {
    for (const char* name : {"localhost", "", "127.0.0.1 ", "256.0.0.1", "::g", "[::1]"}) {
      CAPTURE(name);
      CHECK(tcp_stream::connect(name, 80).error() == std::errc::invalid_argument);
      CHECK(tcp_listener::listen({.address = name}).error() == std::errc::invalid_argument);
    }
    auto six = tcp_listener::listen({.address = "::1"});
    if (!six && (six.error() == std::errc::address_not_available ||
                 six.error() == std::errc::address_family_not_supported)) {
      MESSAGE("no IPv6 loopback here");
      return;
    }
    REQUIRE(six.has_value());
    CHECK(six->port() != 0);
    auto client = tcp_stream::connect("::1", six->port());
    REQUIRE(client.has_value());
    CHECK(six->accept().has_value());
  });
}

TEST_CASE("net: a port that nobody listens on, or that is taken, is an error of the system") {
  on_fiber([] {
    auto listener = tcp_listener::listen();
    REQUIRE(listener.has_value());
    const std::uint16_t port = listener->port();
    CHECK(tcp_listener::listen({.port = port}).error() == std::errc::address_in_use);
    CHECK(listener->close().has_value());
    CHECK(listener->close().error() == std::errc::bad_file_descriptor);
    CHECK(listener->accept().error() == std::errc::bad_file_descriptor);
    CHECK(tcp_stream::connect("127.0.0.1", port).error() == std::errc::connection_refused);
    tcp_stream none;
    CHECK_FALSE(none);
    CHECK(none.close().error() == std::errc::bad_file_descriptor);
    CHECK(none.write_all("x").error() == std::errc::bad_file_descriptor);
  });
}

TEST_CASE("net: packets are sent at once unless a listener was told otherwise") {
  on_fiber([] {
    for (const bool wanted : {true, false}) {
      auto listener = tcp_listener::listen({.no_delay = wanted});
      REQUIRE(listener.has_value());
      auto client = tcp_stream::connect("127.0.0.1", listener->port());
      REQUIRE(client.has_value());
      CHECK(no_delay(client->fd()));
      auto server = listener->accept();
      REQUIRE(server.has_value());
      CHECK(no_delay(server->fd()) == wanted);
    }
  });
}

TEST_CASE("net: a peer that ends in the middle is an error of read_exact, not of read_some") {
  on_fiber([] {
    auto listener = tcp_listener::listen();
    REQUIRE(listener.has_value());
    auto client = tcp_stream::connect("127.0.0.1", listener->port());
    REQUIRE(client.has_value());
    auto server = listener->accept();
    REQUIRE(server.has_value());
    REQUIRE(client->write_all("abc").has_value());
    REQUIRE(client->shutdown_write().has_value());
    std::array<std::byte, 4> b{};
    CHECK(server->read_exact(b).error() == std::errc::connection_aborted);
    CHECK(server->read_some(b).value() == 0);
    // The other direction still works.
    CHECK(server->write_all("d").has_value());
    CHECK(client->read_exact(std::span(b).first(1)).has_value());
    CHECK(client->read_exact({}).has_value());
    CHECK(client->read_some(b, coir::no_wait).error() == std::errc::timed_out);
    CHECK(client->read_exact(b, coir::no_wait).error() == std::errc::timed_out);
    CHECK(listener->accept(coir::no_wait).error() == std::errc::timed_out);
  });
}

TEST_CASE("net: serve ends well when its listener is closed, after the last handler has ended") {
  on_fiber(
      [] {
        auto listener = tcp_listener::listen();
        REQUIRE(listener.has_value());
        auto serving = coir::spawn([&] { return listener->serve(&echo); });
        auto client = greeted(listener->port());
        CHECK(listener->close().has_value());
        settle();
        CHECK_FALSE(serving.done());  // a handler still has a peer
        CHECK(client.write_all("still").has_value());
        std::array<std::byte, 5> back{};
        CHECK(client.read_exact(back).has_value());
        CHECK(client.close().has_value());
        CHECK(serving.join().has_value());
      },
      2);
}

TEST_CASE("net: a cancel of serve reaches the handlers and is its answer") {
  on_fiber(
      [] {
        auto listener = tcp_listener::listen();
        REQUIRE(listener.has_value());
        std::atomic<unsigned> canceled{0};
        auto serving = coir::spawn([&] {
          return listener->serve([&](tcp_stream s) {
            std::array<std::byte, 2> b{};
            if (!s.read_exact(b) || !s.write_all(b)) return;
            const auto n = s.read_some(b);
            if (!n && n.error() == std::errc::operation_canceled) canceled.fetch_add(1);
          });
        });
        const auto one = greeted(listener->port());
        const auto two = greeted(listener->port());
        serving.cancel();
        CHECK(serving.join().error() == std::errc::operation_canceled);
        CHECK(canceled == 2);
      },
      2);
}

TEST_CASE("net: the exception of a handler comes out of serve, when everybody has ended") {
  on_fiber([] {
    auto listener = tcp_listener::listen();
    REQUIRE(listener.has_value());
    auto serving = coir::spawn([&] {
      return listener->serve([](tcp_stream s) {
        std::array<std::byte, 1> b{};
        (void)s.read_exact(b);
        throw std::runtime_error("handler");
      });
    });
    auto client = tcp_stream::connect("127.0.0.1", listener->port());
    REQUIRE(client.has_value());
    REQUIRE(client->write_all("x").has_value());
    std::array<std::byte, 1> b{};
    CHECK(client->read_some(b).value() == 0);  // its stream was closed while it unwound
    CHECK(listener->close().has_value());
    CHECK_THROWS_AS((void)serving.join(), std::runtime_error);
  });
}

TEST_CASE("net: serve tells of options that no connection's fiber can have") {
  on_fiber(
      [] {
        for (const coir::spawn_options& each :
             {coir::spawn_options{.stack_bytes = 1}, coir::spawn_options{.worker = 2u}}) {
          auto listener = tcp_listener::listen();
          REQUIRE(listener.has_value());
          auto serving = coir::spawn([&] { return listener->serve(&echo, each); });
          auto client = tcp_stream::connect("127.0.0.1", listener->port());
          REQUIRE(client.has_value());
          const auto ended = serving.join(coir::in(std::chrono::seconds(10)));
          REQUIRE_FALSE(ended.has_value());
          CHECK(ended.error() == std::errc::invalid_argument);
          serving.cancel();
        }
      },
      2);
}

TEST_CASE("net: a worker that serve was given by name gets every connection") {
  on_fiber(
      [] {
        auto listener = tcp_listener::listen();
        REQUIRE(listener.has_value());
        auto serving = coir::spawn([&] {
          return listener->serve(
              [](tcp_stream s) {
                const auto here = static_cast<char>('0' + coir::this_fiber::worker());
                (void)s.write_all(std::string_view(&here, 1));
                std::byte end{};
                (void)s.read_some({&end, 1});
              },
              {.worker = 1u});
        });
        std::vector<tcp_stream> all;
        for (int i = 0; i < 8; ++i) {
          auto s = tcp_stream::connect("127.0.0.1", listener->port());
          REQUIRE(s.has_value());
          std::byte where{};
          REQUIRE(s->read_exact({&where, 1}).has_value());
          CHECK(where == std::byte{'1'});
          all.push_back(std::move(*s));
        }
        all.clear();
        CHECK(listener->close().has_value());
        CHECK(serving.join().has_value());
      },
      2);
}

TEST_CASE("net: serve places a connection as its kind and its affinity say") {
  COIR_NOT_IN_SIM(threads);
  for (const coir::spawn_options& each :
       {coir::spawn_options{}, coir::spawn_options{.kind = coir::workload::compute},
        coir::spawn_options{.where = coir::affinity::same_core}}) {
    // On a machine without distances every other worker is farther than one's own core.
    test::on_two_workers({.topo = coir::topology::global}, [&each](coir::runtime&) {
      test::held_worker other;  // so worker 0 accepts all
      auto listener = tcp_listener::listen();
      REQUIRE(listener.has_value());
      test::count begun{0};
      const auto stay = [&](tcp_stream s) {
        ++begun;
        std::byte end{};
        (void)s.read_some({&end, 1});
      };
      auto serving = coir::spawn([&] { return listener->serve(stay, each); }, {.worker = 0});
      std::vector<tcp_stream> all;
      for (unsigned i = 1; i <= 8; ++i) {
        auto s = tcp_stream::connect("127.0.0.1", listener->port());
        REQUIRE(s.has_value());
        all.push_back(std::move(*s));
        while (begun + test::given_away() != i) coir::this_fiber::yield();
      }
      const coir::worker_stats here = coir::snapshot().workers[0];
      const bool usual = each.kind == coir::workload::io && each.where == coir::affinity::any;
      // By few live fibers; where that mailbox has one place, the other acceptor is in it.
      CHECK((here.deflected_out + here.mailbox_refused != 0) == usual);
      all.clear();
      other.release();
      CHECK(listener->close().has_value());
      CHECK(serving.join().has_value());
    });
  }
}

TEST_CASE("net: a connection for whom the emptiest worker has no place is served where it came") {
  COIR_NOT_IN_SIM(threads);
  test::on_two_workers({.mailbox_slots = 1}, [](coir::runtime&) {
    test::held_worker other;  // the acceptor that is sent to it fills its mailbox
    auto listener = tcp_listener::listen();
    REQUIRE(listener.has_value());
    const auto greet = [](tcp_stream s) {
      const auto here = static_cast<char>('0' + coir::this_fiber::worker());
      (void)s.write_all(std::string_view(&here, 1));
      std::byte end{};
      (void)s.read_some({&end, 1});
    };
    auto serving = coir::spawn([&] { return listener->serve(greet); }, {.worker = 0});
    std::vector<tcp_stream> all;
    for (int i = 0; i < 8; ++i) {
      auto s = tcp_stream::connect("127.0.0.1", listener->port());
      REQUIRE(s.has_value());
      std::byte where{};
      const bool served =
          s->read_exact({&where, 1}, coir::in(std::chrono::seconds(10))).has_value();
      CHECK(served);
      if (!served) break;
      CHECK(where == std::byte{'0'});
      all.push_back(std::move(*s));
    }
    CHECK(coir::snapshot().workers[0].mailbox_refused >= all.size());
    all.clear();
    other.release();
    CHECK(listener->close().has_value());
    CHECK(serving.join().has_value());
  });
}

TEST_CASE("net: a table full of descriptors is waited out with one line, and accept goes on") {
  const test::ending end = test::in_child([] {
    std::atomic<unsigned> lines{0};
    coir::options o = tested({.workers = 1});
    o.log = [&](const coir::log_record& line) {
      if (line.text.find("accept: ") != line.text.npos &&
          line.text.find("ulimit -n") != line.text.npos)
        lines.fetch_add(1);
    };
    const auto done = coir::run(
        [&] {
          auto listener = tcp_listener::listen();
          auto client = listener ? tcp_stream::connect("127.0.0.1", listener->port())
                                 : coir::result<tcp_stream>();
          if (!client || !*client) return 3;
          // Every free number is used up; the connection waits in the backlog.
          std::vector<int> hoard;
          rlimit before{};
          ::getrlimit(RLIMIT_NOFILE, &before);
          const rlimit few{64, before.rlim_max};
          ::setrlimit(RLIMIT_NOFILE, &few);
          for (int fd; (fd = ::dup(client->fd())) >= 0;) hoard.push_back(fd);
          auto server = coir::spawn([&] { return listener->accept(); });
          auto late =
              coir::spawn([&] { return listener->accept(coir::in(std::chrono::milliseconds(1))); });
          if (late.join().error() != std::errc::timed_out) return 4;
          while (lines.load() < 2) coir::this_fiber::yield();
          if (server.done()) return 5;
          for (const int fd : hoard) ::close(fd);
          return server.join().has_value() ? 0 : 6;
        },
        std::move(o));
    ::_exit(done.has_value() ? (lines == 2 ? *done : 7) : 8);
  });
  CAPTURE(end.text);
  CHECK(end.code == 0);
}
