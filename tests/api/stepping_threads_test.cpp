// stepping_threads_test.cpp: computations and the threads that they belong to: the wrong one, one
// that ends, and one whose computation needs more stack than it has.
//
// Always true:
//   - What ends a process happens in a child, whose parent reads what it said.
//
// Comes from: coir/stepping.hpp.   Goes to: runtime/stepping.cpp, runtime/overflow.cpp.
#include <doctest/doctest.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>

#include "on_fiber.hpp"
#include "tests/api/asked.hpp"
#include "tests/api/scripted_outside.hpp"
#include "tests/arch/pretended_status.hpp"
#include "tests/catalogue/child.hpp"

using coir::errc;
using test::ask_number;
using test::number;

namespace {

/// Says so on stderr when it ends.
struct last_words {
  ~last_words() { (void)!::write(STDERR_FILENO, "ended\n", 6); }
};

coir::step_result<int> waiting() {
  return coir::step([] {
    const last_words at_the_end;
    return number();
  });
}

/// std::exit also writes what the parent has in its buffers.
template <class F>
test::ending in_fresh_child(F body) {
  std::fflush(nullptr);
  return test::in_child(body);
}

[[gnu::noinline]] int deeper(int depth) {
  volatile char frame[512];
  frame[0] = static_cast<char>(depth);
  return depth < 0 ? 0 : deeper(depth + 1) + frame[0];
}

constexpr const char* overflows_where = "COIR_TEST_OVERFLOWS";

void overflow_in_steps(const char* name) {
  auto s = coir::step([] { return deeper(number()); }, {.stack_bytes = 64 << 10, .name = name});
  (void)s.waiting().resume<ask_number>(1);
}

/// This program once more, where nobody has taken the place of the report yet.
test::ending this_test_again(const char* where) {
  const std::string wish =
      std::string("--test-case=") + doctest::getContextOptions()->currentTest->m_name;
  return in_fresh_child([&] {
    ::setenv(overflows_where, where, 1);
    ::execl("/proc/self/exe", "tests", wish.c_str(), static_cast<char*>(nullptr));
  });
}

}  // namespace

TEST_CASE("step: on another thread no way to go on is taken, and all is as it was") {
  auto s = coir::step([] { return coir::perform(ask_number{}).error() == std::errc::io_error; });
  std::thread([&] {
    auto& waits = s.waiting();
    CHECK(waits.resume_answered(coir::detail::reply::answered).error() == errc::wrong_thread);
    CHECK(waits.resume_failing(make_error_code(std::errc::io_error)).error() == errc::wrong_thread);
    CHECK(waits.resume_throwing(std::make_exception_ptr(1)).error() == errc::wrong_thread);
    CHECK(waits);
  }).join();
  auto end = s.waiting().resume_failing(make_error_code(std::errc::io_error));
  REQUIRE(end.has_value());
  CHECK(end.value());
  auto& used = s.waiting();
  CHECK_FALSE(used);
  CHECK(used.resume_answered(coir::detail::reply::answered).error() == errc::resumed_twice);
  CHECK(used.resume_failing(make_error_code(std::errc::io_error)).error() == errc::resumed_twice);
  CHECK(used.resume_throwing(std::make_exception_ptr(1)).error() == errc::resumed_twice);
}

TEST_CASE("step: a static ends its computation while the process ends") {
  const auto end = in_fresh_child([] {
    static std::optional<coir::step_result<int>> left;  // destroyed behind all thread-locals
    left.emplace(waiting());
    std::exit(left->is_suspended() ? 5 : 6);
  });
  CHECK(end.code == 5);
  CHECK(end.says("ended"));
}

TEST_CASE("step: a static steps while the process ends, although nobody did before") {
  const auto end = in_fresh_child([] {
    static struct late {
      ~late() { auto s = waiting(); }
    } steps;
    std::exit(5);
  });
  CHECK(end.code == 5);
  CHECK(end.says("ended"));
}

TEST_CASE("step: a thread-local ends its computation with its thread") {
  const auto end = in_fresh_child([] {
    std::thread([] {
      static thread_local std::optional<coir::step_result<int>> left;  // before the first step
      left.emplace(waiting());
    }).join();
    std::exit(5);
  });
  CHECK(end.code == 5);
  CHECK(end.says("ended"));
}

TEST_CASE("step: discarded on another thread it ends the process, which says why") {
  const auto end = in_fresh_child([] {
    auto s = waiting();
    std::thread([&] { s.waiting().discard(); }).join();
  });
  CHECK(end.signal == SIGABRT);
  CHECK(end.says("is destroyed by the thread that began it"));
}

TEST_CASE("discard: a body that asks on for ever is named and left, and its stack is kept") {
  const auto end = in_fresh_child([] {
    int asked = 0;
    bool destroyed = false;
    {
      auto s = coir::step(
          [&] {
            const struct on_stack {
              bool& told;
              ~on_stack() { told = true; }
            } here{destroyed};
            for (; asked < 5000; ++asked) (void)coir::perform(coir::nop{});
            return 1;
          },
          {.name = "stubborn"});
    }
    // It has left nothing behind that keeps others from going on.
    auto next = waiting();
    next.waiting().discard();
    std::exit(asked == 1001 && !destroyed ? 5 : 6);
  });
  CHECK(end.code == 5);
  CHECK_MESSAGE(end.says("computation 'stubborn' is to end and ignored 1000 answers"), end.text);
}

TEST_CASE(
    "loop: a body that asks on for ever after a cancel is named and left, and so is the loop") {
  const auto end = in_fresh_child([] {
    test::scripted_outside outside;
    auto made = coir::loop::make(outside);
    int asked = 0;
    auto stubborn = made->submit(
        [&] {
          for (; asked < 5000; ++asked) (void)coir::this_fiber::sleep_for(std::chrono::hours(1));
          return 1;
        },
        "stubborn");
    const bool waited = made->drain() == 1 && made->pending() == 0;
    const bool told = stubborn.get().error() == std::errc::operation_canceled;
    std::exit(waited && told && asked == 1001 ? 5 : 6);
  });
  CHECK(end.code == 5);
  CHECK_MESSAGE(end.says("computation 'stubborn' is to end and ignored 1000 answers"), end.text);
}

TEST_CASE("step: a computation that overflows its stack is named") {
  if (const char* const where = std::getenv(overflows_where)) {
    if (std::string(where) == "thread") overflow_in_steps("a deep one");
    if (std::string(where) == "nameless") overflow_in_steps("");
    if (std::string(where) == "fiber") test::on_fiber([] { overflow_in_steps("a deep one"); });
    std::_Exit(test::returned);
  }
  for (const char* const where : {"thread", "fiber", "nameless"}) {
    CAPTURE(where);
    const auto end = this_test_again(where);
    CHECK(end.signal == SIGSEGV);
    const std::string name = where == std::string("nameless") ? "" : " 'a deep one'";
    CHECK_MESSAGE(end.says("coir: computation" + name + " overflowed its stack of 64 KiB"),
                  end.text);
    CHECK(end.says("step_options::stack_bytes"));
    CHECK_FALSE(end.says("coir: fiber"));
  }
}

#ifdef COIR_CAN_PRETEND
TEST_CASE("step: A13 a thread with a shadow stack steps nothing, and is told so") {
  enum { ran, other_error, refused };
  const auto step = [] {
    auto s = coir::step([] { return 1; });
    if (s.has_value()) return ran;
    return s.error() == std::errc::operation_not_supported ? refused : other_error;
  };
  // Threads of their own: one that has stepped is not asked again.
  const auto on_thread = [&](unsigned long features) {
    return test::asked_with(features, [&] {
      int how = -1;
      std::thread([&] { how = step(); }).join();
      return how;
    });
  };
  const int without = on_thread(0);
  if (without == test::cannot_pretend) return;
  CHECK(without == ran);
  CHECK(on_thread(1) == refused);
}
#endif
