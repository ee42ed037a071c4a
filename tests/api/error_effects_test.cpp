// error_effects_test.cpp: errors with types of their own, and what is given back: T27 to T34, each
// on a runtime with real pipes, under exec, and by hand.
#include "coir/error_effects.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

namespace {

using coir::dispatched;
using coir::errc;
using coir::outcome;
using coir::result;
using read_op = coir::read_operation;
using write_op = coir::write_operation;

/// A pipe, or two numbers that only a dispatcher knows.
struct ends {
  int read = 1000, write = 1001;
};

void put(const ends& p, int value) {
  const auto byte = static_cast<std::byte>(value);
  REQUIRE(coir::io::write(p.write, std::span(&byte, 1)) == 1u);
}
int get(const ends& p) {
  std::byte byte{};
  return coir::io::read(p.read, std::span(&byte, 1)) == 1u ? std::to_integer<int>(byte) : -1;
}

/// A pipe without a kernel.
struct pretended {
  using handles = coir::operations<read_op, write_op>;
  std::string bytes;
  std::size_t at = 0;
  dispatched<std::size_t> dispatch(const read_op& op, coir::dispatch_context<read_op>&) {
    if (at == bytes.size()) return dispatched<std::size_t>::done(0);
    op.into[0] = static_cast<std::byte>(bytes[at++]);
    return dispatched<std::size_t>::done(1);
  }
  dispatched<std::size_t> dispatch(const write_op& op, coir::dispatch_context<write_op>&) {
    bytes.push_back(std::to_integer<char>(op.from[0]));
    return dispatched<std::size_t>::done(1);
  }
};

/// What body(ends) gives on a runtime, under exec, and by hand; it is the same, or the test fails.
template <class F>
auto each_way(const F& body) {
  using whole = std::invoke_result_t<const F&, const ends&>;
  auto ran = coir::run(
      [&] {
        std::array<int, 2> fds{};
        REQUIRE(::pipe(fds.data()) == 0);
        const coir::io::unique_fd in(fds[0]), out(fds[1]);
        return std::optional<whole>(body(ends{in.get(), out.get()}));
      },
      test::tested({.workers = 1}));
  REQUIRE(ran);
  pretended by;
  CHECK(coir::exec(by, [&] { return body(ends{}); }) == **ran);
  pretended hand;
  coir::fuel left{100};
  auto stepped = coir::advance_all(hand, coir::step([&] { return body(ends{}); }), left);
  REQUIRE(stepped.state.has_value());
  CHECK(stepped.state.value() == **ran);
  CHECK(hand.bytes == by.bytes);
  return **std::move(ran);
}

using caught = tl::expected<int, std::string>;

}  // namespace

TEST_CASE("T27 run_catching: a body that raises nothing has a value") {
  CHECK(each_way([](const ends& p) {
          return coir::run_catching<std::string>([&] {
            put(p, 42);
            return get(p) + 1;
          });
        }) == caught(43));
  CHECK(coir::run_catching<int>([] {}));
}

TEST_CASE("T28 run_catching: what is raised is told, and nothing after it happens") {
  CHECK(each_way([](const ends& p) {
          return coir::run_catching<std::string>([&] {
            put(p, 1);
            if (get(p) == 1) coir::raise(std::string("boom"));
            put(p, 2);
            return 0;
          });
        }) == caught(tl::unexpected<std::string>("boom")));
}

TEST_CASE("T29 catch_error: the handler goes on with I/O of its own") {
  CHECK(each_way([](const ends& p) {
          return coir::catch_error<std::string>([&]() -> int { coir::raise(std::string("abc")); },
                                                [&](const std::string& what) {
                                                  put(p, static_cast<int>(what.size()));
                                                  return get(p) + 10;
                                                });
        }) == 13);
}

TEST_CASE("T30 catch_error: I/O, then an error, then its handler: 142") {
  CHECK(each_way([](const ends& p) {
          return coir::catch_error<int>(
              [&]() -> int {
                put(p, 42);
                coir::raise(get(p));
              },
              [](int got) { return got + 100; });
        }) == 142);
}

TEST_CASE("catch_error: each type is caught by its own, exactly, and the innermost is first") {
  struct base {};
  struct derived : base {};
  CHECK(each_way([](const ends& p) {
          return coir::run_catching<std::string>([&]() -> int {
            return coir::catch_error<int>(
                [&]() -> int {
                  put(p, 7);
                  coir::raise("seven:" + std::to_string(get(p)));
                },
                [](int) { return 0; });
          });
        }) == caught(tl::unexpected<std::string>("seven:7")));
  const auto outer = coir::run_catching<derived>([] {
    return coir::catch_error<base>([]() -> int { coir::raise(derived{}); },
                                   [](const base&) { return 1; });
  });
  CHECK_FALSE(outer);
  // By accident nobody meets it: neither who catches the type itself, nor std::exception.
  const auto met = coir::run_catching<std::runtime_error>([]() -> int {
    try {
      coir::raise(std::runtime_error("x"));
    } catch (const std::exception&) {
      return 1;
    }
  });
  REQUIRE_FALSE(met);
  CHECK(std::string(met.error().what()) == "x");
  CHECK_THROWS_AS((void)coir::run_catching<int>([]() -> int { throw std::logic_error("y"); }),
                  std::logic_error);
  // A handler that raises is outside of its own catch.
  CHECK(coir::run_catching<int>([]() -> int {
          return coir::catch_error<int>([]() -> int { coir::raise(1); },
                                        [](int e) -> int { coir::raise(e + 1); });
        }) == tl::expected<int, int>(tl::unexpected<int>(2)));
}

TEST_CASE("T31 step: one step at a time through a body that raises, catches and goes on") {
  auto s = coir::step_catching<std::string>([] {
    const ends p;
    const int first = coir::catch_error<int>(
        [&]() -> int {
          const int n = get(p);
          coir::raise(n);
        },
        [&](int e) { return e + get(p); });
    return first * 2;
  });
  pretended by;
  by.bytes = "\x05\x06";
  for (int i = 0; i < 2; ++i) {
    REQUIRE(s.is_suspended());
    auto at = coir::advance_catching<std::string>(by, std::move(s.waiting()));
    CHECK(at.last == outcome::ok);
    s = std::move(at.state);
  }
  REQUIRE(s.has_value());
  CHECK(s.value() == caught(22));
}

TEST_CASE("T32 step: what is raised ends the computation, and its stack by itself") {
  int destroyed = 0;
  struct counted {
    int& n;
    ~counted() { ++n; }
  };
  auto s = coir::step_catching<std::string>([&]() -> int {
    const counted here{destroyed};
    coir::raise(std::to_string(get({})));
  });
  REQUIRE(s.is_suspended());
  auto held = std::move(s.waiting());
  pretended by;
  by.bytes = "\x09";
  auto at = coir::advance_catching<std::string>(by, std::move(held));
  REQUIRE(at.state.has_value());
  CHECK(at.state.value() == caught(tl::unexpected<std::string>("9")));
  CHECK(destroyed == 1);
  CHECK(held.resume<read_op>(1u).error() == errc::resumed_twice);
}

namespace {
/// Raises in place of an answer.
struct raising {
  using handles = coir::operations<read_op>;
  dispatched<std::size_t> dispatch(const read_op&, coir::dispatch_context<read_op>&) {
    coir::raise(std::string("from outside"));
  }
};
}  // namespace

TEST_CASE("T32 advance: what the dispatcher raises ends the computation, too") {
  std::error_code seen;
  auto s = coir::step_catching<std::string>([&] {
    std::byte byte{};
    seen = coir::io::read(3, std::span(&byte, 1)).error();
    return 1;
  });
  auto held = std::move(s.waiting());
  raising by;
  auto at = coir::advance_catching<std::string>(by, std::move(held));
  REQUIRE(at.state.has_value());
  CHECK(at.state.value() == caught(tl::unexpected<std::string>("from outside")));
  CHECK(seen == std::errc::operation_canceled);
  CHECK_FALSE(held);
  // Of another type it passes, and the suspension is what it was.
  auto t = coir::step_catching<int>([] { return get({}); });
  auto kept = std::move(t.waiting());
  CHECK_FALSE(coir::run_catching<std::string>(
      [&] { return coir::advance_catching<int>(by, std::move(kept)); }));
  CHECK(kept);
}

TEST_CASE("T33 advance: not now and a failure keep the suspension") {
  struct busy {
    using handles = coir::operations<read_op>;
    int asked = 0;
    dispatched<std::size_t> dispatch(const read_op& op, coir::dispatch_context<read_op>&) {
      if (++asked == 1) return dispatched<std::size_t>::would_block({.fd = 5});
      if (asked == 2) return dispatched<std::size_t>::failed(make_error_code(std::errc::io_error));
      op.into[0] = std::byte{3};
      return dispatched<std::size_t>::done(1);
    }
  } by;
  auto s = coir::step_catching<std::string>([] { return get({}); });
  auto at = coir::advance_catching<std::string>(by, std::move(s.waiting()));
  CHECK(at.last == outcome::would_block);
  CHECK(at.hint.fd == 5);
  at = coir::advance_catching<std::string>(by, std::move(at.state.waiting()));
  CHECK(at.last == outcome::failure);
  CHECK(at.error == std::errc::io_error);
  at = coir::advance_catching<std::string>(by, std::move(at.state.waiting()));
  CHECK(at.state.value() == caught(3));
}

TEST_CASE("T34 bracket: released once after a value and after an error, with I/O all the way") {
  for (const bool fails : {false, true}) {
    const auto said = each_way([fails](const ends& p) {
      std::vector<int> order;
      const auto got = coir::run_catching<std::string>([&] {
        return coir::bracket(
            [&] {
              put(p, 1);
              return get(p);
            },
            [&](int& held) {
              order.push_back(held);
              put(p, 2);
              order.push_back(get(p));
              if (fails) coir::raise(std::string("boom"));
              return held + 100;
            },
            [&](int& held) {
              put(p, held + 2);
              order.push_back(get(p));
            });
      });
      return std::pair(order, got);
    });
    CHECK(said.first == std::vector{1, 2, 3});
    CHECK(said.second == (fails ? caught(tl::unexpected<std::string>("boom")) : caught(101)));
  }
}

TEST_CASE("T34 bracket: released once when the body is discarded, and before discard returns") {
  int released = 0, used = 0;
  auto s = coir::step([&] {
    coir::bracket([] { return 5; },
                  [&](int) {
                    used = get({});  // is given up
                  },
                  [&](int held) {
                    released += held;
                    CHECK(get({}) == -1);  // nobody is there who could answer
                  });
    return 1;
  });
  REQUIRE(s.is_suspended());
  CHECK(released == 0);
  s.waiting().discard();
  CHECK(used == -1);
  CHECK(released == 5);
}

TEST_CASE("T34 bracket: released once when its fiber is cancelled, and then it can still close") {
  const auto done = coir::run(
      [] {
        std::array<int, 2> fds{};
        REQUIRE(::pipe(fds.data()) == 0);
        const coir::io::unique_fd out(fds[1]);
        int released = 0;
        coir::event begun;
        auto reader = coir::spawn([&] {
          return coir::bracket(
              [&] { return fds[0]; },
              [&](int fd) -> result<std::size_t> {
                std::array<std::byte, 4> some{};
                begun.set();
                return coir::io::read(fd, some);
              },
              [&](int fd) -> result<> {
                ++released;
                CHECK(coir::perform(coir::nop{}).error() == std::errc::operation_canceled);
                return coir::io::close(fd);
              });
        });
        REQUIRE(begun.wait());
        reader.cancel();
        CHECK(reader.join().error() == std::errc::operation_canceled);
        CHECK(released == 1);
        const std::byte one{};
        CHECK(coir::io::write(out.get(), std::span(&one, 1)).error() == std::errc::broken_pipe);
      },
      test::tested({.workers = 1}));
  CHECK(done);
}

TEST_CASE("bracket: a body that its handler finished is released, and its close is asked for") {
  int closed = 0;
  const int got = coir::handle_effects(
      [] {
        return coir::bracket([] { return 77; }, [](int) { return get({}); },
                             [](int fd) { (void)coir::io::close(fd); });
      },
      coir::on<read_op>([](const read_op&) { return dispatched<std::size_t>::finish(9); }),
      coir::on<coir::close_operation>([&](const coir::close_operation& op) { closed += op.fd; }));
  CHECK(got == 9);
  CHECK(closed == 77);
}

TEST_CASE("bracket: what acquire throws releases nothing, and the first error is the one told") {
  int released = 0;
  const auto nothing = [&](int) { ++released; };
  CHECK_THROWS_AS(coir::bracket([]() -> int { throw std::logic_error("acquire"); },
                                [](int) { return 1; }, nothing),
                  std::logic_error);
  CHECK(released == 0);
  const auto broken = [&](int) {
    ++released;
    throw std::runtime_error("release");
  };
  CHECK_THROWS_WITH(
      coir::bracket([] { return 1; }, [](int) -> int { throw std::logic_error("use"); }, broken),
      "use");
  CHECK_THROWS_WITH(coir::bracket([] { return 1; }, [](int) { return 1; }, broken), "release");
  CHECK_THROWS_WITH(coir::bracket([] { return 1; }, [](int) {}, broken), "release");
  CHECK(released == 3);
  // Errors that are values: of use, then of release.
  const auto answer = [&](std::error_code of_use, std::error_code of_release) {
    return coir::bracket([] { return 1; },
                         [&](int) -> result<int> {
                           if (of_use) return coir::fail(of_use);
                           return 5;
                         },
                         [&](int) -> result<> {
                           ++released;
                           if (of_release) return coir::fail(of_release);
                           return {};
                         });
  };
  const std::error_code bad = make_error_code(std::errc::io_error), worse = errc::finished;
  CHECK(answer({}, {}) == 5);
  CHECK(answer({}, bad).error() == bad);
  CHECK(answer(worse, bad).error() == worse);
  CHECK(released == 6);
}

TEST_CASE("on_error: cleaned up after an error of either kind, and after nothing else") {
  int cleaned = 0;
  const auto clean = [&] { ++cleaned; };
  CHECK(coir::on_error([] { return 3; }, clean) == 3);
  CHECK(coir::on_error([]() -> result<int> { return 4; }, clean) == 4);
  coir::on_error([] {}, clean);
  CHECK(cleaned == 0);
  CHECK(coir::on_error([]() -> result<int> { return coir::fail(errc::finished); }, clean).error() ==
        errc::finished);
  CHECK(cleaned == 1);
  CHECK(each_way([](const ends& p) {
          return coir::run_catching<std::string>([&] {
            return coir::on_error([&]() -> int { coir::raise(std::string("x")); },
                                  [&] { put(p, 1); });
          });
        }) == caught(tl::unexpected<std::string>("x")));
  CHECK_THROWS_WITH(coir::on_error([]() -> int { throw std::logic_error("body"); },
                                   [] { throw std::runtime_error("cleanup"); }),
                    "body");
}

TEST_CASE("raise: it passes a join, and is caught on the other side") {
  const auto done = coir::run(
      [] {
        auto a = coir::spawn([]() -> int {
          coir::this_fiber::yield();
          coir::raise(std::string("far"));
        });
        const auto got = coir::run_catching<std::string>([&] { return *a.join(); });
        CHECK(got == caught(tl::unexpected<std::string>("far")));
        // Two that are on their way at once do not meet.
        const auto each = [](int mine) {
          return coir::run_catching<int>([mine]() -> int {
            return coir::bracket([] { return 0; }, [&](int) -> int { coir::raise(mine); },
                                 [](int) { coir::this_fiber::yield(); });
          });
        };
        auto b = coir::spawn([&] { return each(1).error(); });
        auto c = coir::spawn([&] { return each(2).error(); });
        CHECK(b.join() == 1);
        CHECK(c.join() == 2);
      },
      test::tested({.workers = 1}));
  CHECK(done);
}
