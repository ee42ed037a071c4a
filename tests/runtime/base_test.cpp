// base_test.cpp: the ground: what our own mistakes lead to, and arithmetic that says when it wraps.
//
// Comes from: runtime/base.hpp.   Goes to: ctest.
#include "runtime/base.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

using namespace coir::detail;

namespace {

struct ending {
  int status = 0;
  std::string said;
};

/// Runs `act` in a child process and returns how that ended and what it wrote to stderr.
template <class F>
ending in_child(F act) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::signal(SIGABRT, SIG_DFL);
    ::dup2(ends[1], STDERR_FILENO);
    act();
    ::_exit(0);
  }
  ::close(ends[1]);
  ending e;
  char text[256];
  for (ssize_t n = 0; (n = ::read(ends[0], text, sizeof text)) > 0;)
    e.said.append(text, static_cast<std::size_t>(n));
  ::close(ends[0]);
  ::waitpid(child, &e.status, 0);
  return e;
}

}  // namespace

TEST_CASE("base: an assertion that fails stops the process and says what and where, in release") {
  const ending e = in_child([] {
    const int answer = 41;
    COIR_ASSERT(answer == 42);
  });
  CHECK(WIFSIGNALED(e.status));
  CHECK(WTERMSIG(e.status) == SIGABRT);
  CHECK(e.said.find("answer == 42") != std::string::npos);
  CHECK(e.said.find("base_test.cpp:") != std::string::npos);
}

TEST_CASE("base: an assertion that holds costs one evaluation and nothing else") {
  int evaluated = 0;
  COIR_ASSERT(++evaluated == 1);
  CHECK(evaluated == 1);
}

TEST_CASE("base: an assertion with a very long condition still ends in an abort") {
  const ending e = in_child([] {
    const std::string condition(4000, 'x');
    assertion_failed(condition.c_str(), "somewhere.cpp", 7);
  });
  CHECK(WIFSIGNALED(e.status));
  CHECK(e.said.size() == 511);
}

TEST_CASE("base: rounding up reaches the next multiple and leaves multiples alone") {
  for (std::size_t unit = 1; unit <= 4096; unit *= 2)
    for (std::size_t value : {std::size_t{0}, std::size_t{1}, unit - 1, unit, unit + 1}) {
      const std::size_t rounded = round_up(value, unit);
      CHECK(rounded % unit == 0);
      CHECK(rounded >= value);
      CHECK(rounded - value < unit);
    }
}

TEST_CASE("base: a product that does not fit is reported, one that fits is exact") {
  std::size_t out = 0;
  CHECK_FALSE(multiply_overflows(SIZE_MAX, 1, out));
  CHECK(out == SIZE_MAX);
  CHECK_FALSE(multiply_overflows(SIZE_MAX / 2, 2, out));
  CHECK(out == SIZE_MAX - 1);
  CHECK(multiply_overflows(SIZE_MAX / 2 + 1, 2, out));
  CHECK(multiply_overflows(std::size_t{1} << 32, std::size_t{1} << 32, out));
  CHECK_FALSE(multiply_overflows(0, SIZE_MAX, out));
  CHECK(out == 0);
}

TEST_CASE("base: a mutant is recognised by its whole name") {
  static_assert(mutant_number("drop_fence") == mutant_number("drop_fence"));
  static_assert(mutant_number("drop_fence") != mutant_number("drop_fences"));
  static_assert(mutant_number("drop_fences") != mutant_number("drop_fencf"));
  static_assert(mutant_number("") != 0);
  CHECK_FALSE(COIR_MUTANT(nobody_has_this_name));
}
