// a_switching_test.cpp: what a fiber takes with it across a park, and what it must never share.
//
// Always true:
//   - Every case goes through the public interface, on the kernel's ring.
//   - Counts shrink under sanitizers; what is checked does not.
//
// Comes from: entries A1, A3, A4, A5 and A8 of the failure catalogue.   Goes to:
// runtime/switching.cpp.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "coir.h"
#include "coir/coir.hpp"
#include "tests/catalogue/child.hpp"
#include "tests/test_options.hpp"

using coir::this_fiber::yield;
using test::at_full_speed;
using test::tested;

namespace {

/// Counts the exceptions that a body finds where it has thrown none.
bool sees_none() { return std::uncaught_exceptions() == 0 && !std::current_exception(); }

/// Parks in its destructor and writes down how many exceptions it saw before and after.
struct parks_at_end {
  int& before;
  int& after;
  ~parks_at_end() {
    before = std::uncaught_exceptions();
    yield();
    after = std::uncaught_exceptions();
  }
};

struct red : std::runtime_error {
  red() : std::runtime_error("red") {}
};
struct blue : std::runtime_error {
  blue() : std::runtime_error("blue") {}
};

/// Throws `Own` inside the handling of another `Own`, parking at each depth, and rethrows: what
/// arrives must be its own every time.
template <class Own>
int nest_and_rethrow(int rounds) {
  int wrong = 0;
  for (int i = 0; i < rounds; ++i) {
    try {
      try {
        throw Own();
      } catch (const Own&) {
        yield();
        try {
          throw Own();
        } catch (...) {
          yield();
          try {
            throw;
          } catch (const Own&) {
            yield();
          } catch (...) {
            ++wrong;
          }
        }
        yield();
        throw;
      }
    } catch (const Own&) {
      if (std::uncaught_exceptions() != 0) ++wrong;
    } catch (...) {
      ++wrong;
    }
    yield();
    if (!sees_none()) ++wrong;
  }
  return wrong;
}

/// True when the frame of this call stands where the ABI wants it. Asked of the frame itself: an
/// over-aligned local would make the compiler align it here.
__attribute__((noinline)) bool stands_aligned() {
  return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) % 16 == 0;
}

/// A pair of fibers on two workers that hand a ball to each other.
struct court {
  std::array<coir::event, 2> ball;
  std::array<std::atomic<pid_t>, 2> on_stack{};
  std::atomic<unsigned> two_at_once{0};
  std::atomic<unsigned> moved{0};

  void play(unsigned side, unsigned rounds) {
    const pid_t thread = ::gettid();
    const auto arrive = [&] {
      if (on_stack[side].exchange(thread) != 0) two_at_once.fetch_add(1);
      if (::gettid() != thread) moved.fetch_add(1);
    };
    arrive();
    for (unsigned i = 0; i < rounds; ++i) {
      if (on_stack[side].exchange(0) != thread) two_at_once.fetch_add(1);
      REQUIRE(ball[side].wait().has_value());
      arrive();
      ball[side].reset();
      ball[1 - side].set();
    }
    on_stack[side].store(0);
  }
};

}  // namespace

TEST_CASE("A1: a fiber that others wake is never on two threads, and never changes its own") {
  constexpr unsigned rounds = at_full_speed(50'000u, 4'000u);
  court c;
  const auto done = coir::run(
      [&] {
        auto left = coir::spawn([&] { c.play(0, rounds); }, {.worker = 0});
        auto right = coir::spawn([&] { c.play(1, rounds); }, {.worker = 1});
        c.ball[0].set();
        CHECK(left.join().has_value());
        CHECK(right.join().has_value());
        return coir::snapshot().total().wakes_sent;
      },
      tested({.workers = 2}));
  REQUIRE(done.has_value());
  CHECK(*done >= rounds);
  CHECK(c.two_at_once == 0);
  CHECK(c.moved == 0);
}

TEST_CASE("A3: each of 64 fibers on two workers finds its own errno after every park") {
  constexpr unsigned fibers = 64;
  constexpr int rounds = at_full_speed(1'600, 100);  // 102,400 yields in all
  const coir::options o = tested({.workers = 2});
  const unsigned at_once = std::min(fibers, o.fibers_max - 1);
  std::array<std::atomic<unsigned>, 2> on_worker{};
  std::atomic<int> wrong{0};
  const auto done = coir::run(
      [&] {
        coir::scope all;
        for (unsigned i = 0; i < at_once; ++i)
          all.spawn(
              [&, mine = static_cast<int>(1'000 + i)] {
                on_worker[coir::this_fiber::worker()].fetch_add(1);
                if (errno != 0) wrong.fetch_add(1);
                for (int k = 0; k < rounds; ++k) {
                  errno = mine;
                  yield();
                  if (errno != mine) wrong.fetch_add(1);
                }
              },
              {.worker = i % 2});
        CHECK(all.join().has_value());
      },
      o);
  CHECK(done.has_value());
  CHECK(wrong == 0);
  for (const auto& here : on_worker) CHECK(here >= at_once / 2);
}

TEST_CASE("A4: a fiber that parks while it unwinds comes back to its own exception") {
  const auto done = coir::run(
      [] {
        int before = -1, after = -1;
        bool other_saw_none = false;
        auto unwinding = coir::spawn([&] {
          try {
            const parks_at_end last{before, after};
            throw red();
          } catch (const red& own) {
            return std::string(own.what());
          }
        });
        auto other = coir::spawn([&] {
          other_saw_none = sees_none();
          try {
            throw blue();
          } catch (const blue&) {
            yield();
          }
        });
        CHECK(unwinding.join().value() == "red");
        CHECK(other.join().has_value());
        CHECK(before == 1);
        CHECK(after == 1);
        CHECK(other_saw_none);
        CHECK(sees_none());
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("A4: a fiber that parks inside a catch still holds its own exception afterwards") {
  const auto done = coir::run(
      [] {
        std::vector<coir::handle<bool>> all;
        for (int i = 0; i < 16; ++i)
          all.push_back(coir::spawn([i] {
            try {
              throw i;
            } catch (...) {
              const std::exception_ptr own = std::current_exception();
              for (int k = 0; k < 20; ++k) yield();
              if (std::current_exception() != own) return false;
              try {
                throw;
              } catch (int mine) {
                return mine == i;
              }
            }
          }));
        for (auto& h : all) CHECK(h.join().value());
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("A4: fibers that nest throws and rethrow them get their own types back") {
  constexpr int rounds = at_full_speed(2'000, 200);
  const auto wrong = coir::run(
      [] {
        std::vector<coir::handle<int>> all;
        for (unsigned i = 0; i < 4; ++i) {
          all.push_back(
              coir::spawn([] { return nest_and_rethrow<red>(rounds); }, {.worker = i % 2}));
          all.push_back(
              coir::spawn([] { return nest_and_rethrow<blue>(rounds); }, {.worker = i % 2}));
        }
        int sum = 0;
        for (auto& h : all) sum += h.join().value();
        return sum;
      },
      tested({.workers = 2}));
  CHECK(wrong.value() == 0);
}

TEST_CASE("A4: a fresh fiber sees no exception of the one that starts it") {
  const auto done = coir::run(
      [] {
        bool in_catch = false, in_unwind = false;
        struct starts {
          bool& saw;
          ~starts() {
            auto fresh = coir::spawn([this] { saw = sees_none(); });
            (void)fresh.join();
          }
        };
        try {
          const starts while_unwinding{in_unwind};
          throw red();
        } catch (const red&) {
          auto fresh = coir::spawn([&] { in_catch = sees_none(); });
          CHECK(fresh.join().has_value());
          CHECK(std::current_exception());
        }
        CHECK(in_catch);
        CHECK(in_unwind);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

namespace {

extern "C" void call_through_c(void (*inner)(void*), void* argument) { inner(argument); }

}  // namespace

TEST_CASE("A5: what leaves a body, also through a frame of C, arrives at join as the same object") {
  const auto done = coir::run(
      [] {
        const void* thrown_at = nullptr;
        auto direct = coir::spawn([&]() -> int {
          try {
            throw red();
          } catch (const red& own) {
            thrown_at = &own;
            throw;
          }
        });
        try {
          (void)direct.join();
          FAIL("join did not throw");
        } catch (const red& own) {
          CHECK(&own == thrown_at);
        }
        auto through = coir::spawn([] { call_through_c([](void*) { throw blue(); }, nullptr); });
        CHECK_THROWS_AS((void)through.join(), blue);
        CHECK(through.join().error() == coir::errc::already_joined);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("A5: catch (...) does not swallow a cancel: every later park answers it") {
  const auto done = coir::run(
      [] {
        int answers = 0;
        coir::event started;
        auto stubborn = coir::spawn([&] {
          started.set();
          for (int i = 0; i < 100; ++i) {
            try {
              if (auto slept = coir::this_fiber::sleep_until(coir::never); !slept)
                throw std::system_error(slept.error());
            } catch (const std::system_error& e) {
              if (e.code() == std::errc::operation_canceled) ++answers;
            } catch (...) {
            }
          }
        });
        CHECK(started.wait().has_value());
        stubborn.cancel();
        CHECK(stubborn.join().has_value());
        CHECK(answers == 100);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("A5: an exception that leaves a body given to C ends the process with the fiber's name") {
  const test::ending end = test::in_child([] {
    const auto root = [](void*) -> intptr_t {
      coir_spawn_options options{};
      options.size = sizeof options;
      options.name = "careless";
      coir_fiber f;
      if (coir_spawn([](void*) -> intptr_t { throw red(); }, nullptr, &options, &f) != 0) return 1;
      return coir_join(f, nullptr);
    };
    const coir_config config = test::tested_config(1);
    intptr_t answer = 0;
    (void)coir_run(&config, root, nullptr, &answer);
  });
  CAPTURE(end.text);
  CHECK(end.signal == SIGABRT);
  CHECK(end.says("careless"));
}

TEST_CASE("A8: every way into a body keeps the stack aligned") {
  std::atomic<int> wrong{0};
  const auto check = [&] {
    if (!stands_aligned()) wrong.fetch_add(1);
    yield();
    if (!stands_aligned()) wrong.fetch_add(1);
  };
  const auto done = coir::run(
      [&] {
        // On a fresh stack, on one that was left, in place of the one that ends, and by join.
        for (const std::size_t bytes : {std::size_t{16} << 10, std::size_t{64} << 10}) {
          coir::scope all;
          for (int i = 0; i < 50; ++i) all.spawn(check, {.stack_bytes = bytes});
          CHECK(all.join().has_value());
          auto started_by_join = coir::spawn(check, {.stack_bytes = bytes});
          CHECK(started_by_join.join().has_value());
        }
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
  CHECK(wrong == 0);
}
