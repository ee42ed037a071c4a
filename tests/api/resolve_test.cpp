// resolve_test.cpp: names of hosts: what a lookup answers, who waits for it, and which address
// wins.
//
// Always true:
//   - Nothing is asked of a name server: names that end in .test are answered here, in the place of
//     the C library's getaddrinfo; all others by the library from this machine's own files.
//
// Comes from: coir/resolve.hpp.   Goes to: runtime/resolve.cpp.
#include <dlfcn.h>
#include <doctest/doctest.h>
#include <netdb.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "on_fiber.hpp"

using coir::net::address;
using coir::net::resolve_category;
using coir::net::tcp_listener;
using coir::net::tcp_stream;
using test::on_fiber;
using test::settle;
using test::tested;

namespace {

using lookup = int (*)(const char*, const char*, const addrinfo*, addrinfo**);

std::atomic<unsigned> lookups{0};

/// Where the lookups of "gate.test" wait.
struct gate {
  std::mutex lock;
  std::condition_variable moved;
  bool open = false;
  unsigned waiting = 0;
  unsigned left = 0;

  void pass() {
    std::unique_lock held(lock);
    ++waiting;
    moved.wait(held, [this] { return open; });
    --waiting;
    ++left;
  }
  unsigned passed() {
    const std::lock_guard held(lock);
    return left;
  }
  unsigned inside() {
    const std::lock_guard held(lock);
    return waiting;
  }
  void set(bool to) {
    const std::lock_guard held(lock);
    open = to;
    if (to) moved.notify_all();
  }
} at_gate;

int numeric(lookup system, const char* text, const addrinfo* hints, addrinfo** found) {
  addrinfo h = *hints;
  h.ai_flags |= AI_NUMERICHOST;
  return system(text, nullptr, &h, found);
}

int answer_for_test(lookup system, std::string_view name, const addrinfo* hints, addrinfo** found) {
  lookups.fetch_add(1);
  if (name == "none.test") return EAI_NONAME;
  if (name == "later.test") return EAI_AGAIN;
  if (name == "memory.test") return EAI_MEMORY;
  if (name == "system.test") {
    errno = ECONNREFUSED;
    return EAI_SYSTEM;
  }
  if (name == "gate.test") at_gate.pass();
  if (name == "two.test") {
    addrinfo* second = nullptr;
    const int failed = numeric(system, "127.0.0.1", hints, &second);
    if (failed != 0) return failed;
    if (numeric(system, "127.0.0.9", hints, found) != 0) return EAI_FAIL;
    (*found)->ai_next = second;
    return 0;
  }
  return numeric(system, "127.0.0.1", hints, found);
}

std::uint16_t port_of_nobody() {
  auto listener = tcp_listener::listen();
  REQUIRE(listener.has_value());
  return listener->port();
}

}  // namespace

extern "C" int getaddrinfo(const char* name, const char* service, const addrinfo* hints,
                           addrinfo** found) {
  static const auto system = reinterpret_cast<lookup>(::dlsym(RTLD_NEXT, "getaddrinfo"));
  const std::string_view text = name == nullptr ? "" : name;
  if (text.ends_with(".test")) return answer_for_test(system, text, hints, found);
  return system(name, service, hints, found);
}

TEST_CASE("resolve: a numeric address is itself, and nobody is asked") {
  on_fiber([] {
    lookups = 0;
    const auto four = coir::net::resolve("127.0.0.1", 80);
    REQUIRE(four.has_value());
    CHECK(*four == std::vector{address::numeric("127.0.0.1", 80).value()});
    CHECK(coir::net::resolve("::1", 80).value().front().text() == "::1");
    CHECK(lookups == 0);
    for (const std::string& none : {std::string(), std::string("a\0b", 3)})
      CHECK(coir::net::resolve(none, 1).error() == std::errc::invalid_argument);
  });
}

TEST_CASE("resolve: a name is looked up in the pool, and one connects to it") {
  on_fiber([] {
    auto listener = tcp_listener::listen();
    REQUIRE(listener.has_value());
    const auto each = coir::net::resolve("one.test", listener->port());
    REQUIRE(each.has_value());
    CHECK(*each == std::vector{address::numeric("127.0.0.1", listener->port()).value()});
    auto client = coir::net::connect("one.test", listener->port());
    REQUIRE(client.has_value());
    CHECK(listener->accept().has_value());
    CHECK(coir::net::connect("127.0.0.1", listener->port()).has_value());
  });
}

TEST_CASE("resolve: localhost is this machine") {
  on_fiber([] {
    if (!coir::net::resolve("localhost", 1)) {
      MESSAGE("localhost has no address here");
      return;
    }
    auto listener = tcp_listener::listen();
    REQUIRE(listener.has_value());
    CHECK(coir::net::connect("localhost", listener->port()).has_value());
  });
}

TEST_CASE("resolve: what the lookup was refused with is an error with the library's own text") {
  on_fiber([] {
    const auto refused = [](const char* name) { return coir::net::connect(name, 1).error(); };
    CHECK(refused("none.test") == std::error_code(EAI_NONAME, resolve_category()));
    CHECK(refused("none.test").message() == ::gai_strerror(EAI_NONAME));
    CHECK(refused("later.test") == std::error_code(EAI_AGAIN, resolve_category()));
    CHECK(refused("later.test").message() == ::gai_strerror(EAI_AGAIN));
    CHECK(refused("memory.test") == std::errc::not_enough_memory);
    CHECK(refused("system.test") == std::errc::connection_refused);
    CHECK(std::string(resolve_category().name()) == "coir resolve");
  });
}

TEST_CASE("resolve: every address is tried in its order, and the last error is told") {
  on_fiber([] {
    auto listener = tcp_listener::listen();  // 127.0.0.1 alone: the first address refuses
    REQUIRE(listener.has_value());
    const std::uint16_t port = listener->port();
    const auto each = coir::net::resolve("two.test", port);
    REQUIRE(each.has_value());
    REQUIRE(each->size() == 2);
    CHECK(each->front().text() == "127.0.0.9");
    auto client = coir::net::connect("two.test", port);
    REQUIRE(client.has_value());
    CHECK(listener->accept().has_value());
    CHECK(listener->close().has_value());
    CHECK(coir::net::connect("two.test", port).error() == std::errc::connection_refused);
    CHECK(coir::net::connect(std::vector{address()}).error() ==
          std::errc::address_family_not_supported);
    const std::vector mixed{address::numeric("127.0.0.1", port).value(), address()};
    CHECK(coir::net::connect(mixed).error() == std::errc::address_family_not_supported);
    CHECK(coir::net::connect(std::span<const address>()).error() == std::errc::invalid_argument);
  });
}

TEST_CASE("resolve: an address that does not answer keeps no later one from its turn") {
  on_fiber([] {
    // Its backlog of none holds one connection; the next is not answered.
    auto full = tcp_listener::listen({.backlog = 0});
    auto good = tcp_listener::listen();
    REQUIRE(full.has_value());
    REQUIRE(good.has_value());
    const auto silent = address::numeric("127.0.0.1", full->port()).value();
    auto first = tcp_stream::connect(silent);
    REQUIRE(first.has_value());
    const auto half_a_second = coir::in(std::chrono::milliseconds(500));
    REQUIRE(tcp_stream::connect(silent, half_a_second).error() == std::errc::timed_out);
    const std::vector each{silent, address::numeric("127.0.0.1", good->port()).value()};
    CHECK(coir::net::connect(each, coir::in(std::chrono::seconds(2))).has_value());
    const std::vector none{silent, silent};
    CHECK(coir::net::connect(none, coir::in(std::chrono::milliseconds(20))).error() ==
          std::errc::timed_out);
  });
}

TEST_CASE("resolve: who gives up leaves the lookup alone, and it ends without them") {
  COIR_NOT_IN_SIM(threads);
  for (const bool by_cancel : {true, false}) {
    CAPTURE(by_cancel);
    at_gate.set(false);
    at_gate.left = 0;
    on_fiber([&] {
      if (by_cancel) {
        auto asking = coir::spawn([] { return coir::net::connect("gate.test", 1); });
        while (at_gate.inside() == 0) coir::this_fiber::yield();
        asking.cancel();
        CHECK(asking.join().error() == std::errc::operation_canceled);
      } else {
        // Until a thread had taken it before its deadline came.
        for (auto patience = std::chrono::milliseconds(1); at_gate.inside() == 0; patience *= 2) {
          REQUIRE(patience < std::chrono::seconds(10));
          CHECK(coir::net::connect("gate.test", 1, coir::in(patience)).error() ==
                std::errc::timed_out);
        }
      }
      CHECK(at_gate.inside() >= 1);  // still inside, and nobody waits for it
      CHECK(at_gate.passed() == 0);
      at_gate.set(true);
    });
    CHECK(at_gate.passed() >= 1);  // the runtime ended after it
    CHECK(at_gate.inside() == 0);
  }
}

TEST_CASE("resolve: a lookup that no thread has taken when its asker gives up is never made") {
  COIR_NOT_IN_SIM(threads);
  coir::options o = tested({.workers = 1});
  o.offload_threads = 1;
  lookups = 0;
  at_gate.set(false);
  const auto ran = coir::run(
      [] {
        auto busy = coir::spawn([] { return coir::net::resolve("gate.test", 1); });
        while (at_gate.inside() == 0) coir::this_fiber::yield();
        CHECK(coir::net::resolve("one.test", 1, coir::no_wait).error() == std::errc::timed_out);
        CHECK(coir::net::connect("one.test", 1, coir::in(std::chrono::milliseconds(2))).error() ==
              std::errc::timed_out);
        settle();
        at_gate.set(true);
        CHECK(busy.join().has_value());
      },
      std::move(o));
  CHECK(ran.has_value());
  CHECK(lookups == 1);
}

TEST_CASE("resolve: on a plain thread a lookup blocks, and a connection asks for a fiber") {
  CHECK(coir::net::resolve("one.test", 7).value().front().port() == 7);
  CHECK(coir::net::connect("one.test", 7).error() == coir::errc::not_in_fiber);
  const auto here = address::numeric("127.0.0.1", port_of_nobody()).value();
  CHECK(coir::net::connect(std::vector{here}).error() == coir::errc::not_in_fiber);
}
