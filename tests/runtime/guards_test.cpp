// guards_test.cpp: which way of making guards is chosen, on kernels that do, refuse, and lie.
//
// Always true:
//   - What changes the process (a filter, its environment) happens in a child of its own.
//
// Comes from: ctest.   Goes to: runtime/guards.hpp.
#include "runtime/guards.hpp"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>
#include <vector>

#include "runtime/stacks.hpp"
#include "tests/played_kernel.hpp"

using namespace coir::detail;
using coir::guard;

namespace {

constexpr unsigned guard_install = 102;  // MADV_GUARD_INSTALL

/// madvise(…, MADV_GUARD_INSTALL) answers `advice` and mprotect(…, PROT_NONE) answers `protect`
/// from now on, without doing anything; -1 leaves a call alone. 0 is a kernel that lies.
bool pretend(int advice, int protect) {
  const auto answer = [](int code) { return code < 0 ? test::is_made : test::answers(code); };
  return test::play_kernel({{SYS_madvise, {test::argument(2).is(guard_install)}, answer(advice)},
                            {SYS_mprotect, {test::argument(2).is(PROT_NONE)}, answer(protect)}});
}

/// Runs `body` in a child of its own; true when it says so.
template <class F>
bool in_child(F body) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) _exit(body() ? 0 : 1);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

struct chosen {
  coir::result<guard_answer> answer;
  std::vector<std::string> lines;
};

chosen choose(guard_wish wish) {
  chosen all;
  wish.page_bytes = real_page_bytes();
  all.answer =
      choose_guards(wish, [&](const coir::log_record& line) { all.lines.emplace_back(line.text); });
  return all;
}

bool is(const chosen& all, guard_way way) {
  return all.answer && all.answer->way == way && all.lines.empty();
}

bool refused(const chosen& all, std::errc why, const char* word) {
  return !all.answer && all.answer.error() == std::make_error_code(why) && all.lines.size() == 1 &&
         all.lines[0].find(word) != std::string::npos;
}

}  // namespace

TEST_CASE("guards: a kernel that answers 0 and guards nothing is not believed") {
  CHECK(in_child([] { return pretend(0, -1) && is(choose({}), guard_way::mprotect); }));
  CHECK(in_child([] {
    return pretend(0, 0) && refused(choose({}), std::errc::operation_not_supported, "COIR_GUARD");
  }));
  CHECK(in_child([] {
    return pretend(0, 0) &&
           is(choose({.guards = guard::none, .way = {}, .page_bytes = 0}), guard_way::none);
  }));
}

TEST_CASE("guards: a kernel before 6.13 guards by mprotect") {
  CHECK(in_child([] { return pretend(EINVAL, -1) && is(choose({}), guard_way::mprotect); }));
}

TEST_CASE("guards: the way a program asks for by name is used or refused, never exchanged") {
  const guard_wish advice{.guards = guard::every, .way = guard_way::madvise, .page_bytes = 0};
  CHECK(in_child([&] {
    return pretend(EINVAL, -1) &&
           refused(choose(advice), std::errc::operation_not_supported, "asked for");
  }));
}

TEST_CASE("guards: COIR_GUARD wins, and a word it does not know is an error") {
  const guard_wish none{.guards = guard::every, .way = guard_way::none, .page_bytes = 0};
  CHECK(in_child([&] {
    return setenv("COIR_GUARD", "mprotect", 1) == 0 && is(choose(none), guard_way::mprotect);
  }));
  CHECK(in_child(
      [] { return setenv("COIR_GUARD", "none", 1) == 0 && is(choose({}), guard_way::none); }));
  CHECK(in_child([] {
    return setenv("COIR_GUARD", "paper", 1) == 0 &&
           refused(choose({}), std::errc::invalid_argument, "COIR_GUARD");
  }));
}

TEST_CASE("guards: memory counts as locked when the process locked it, and not for being probed") {
  for (const guard guards : {guard::every, guard::none}) {
    const guard_wish wish{.guards = guards, .way = {}, .page_bytes = 0};
    CHECK(in_child([&] {
      const chosen all = choose(wish);
      return all.answer && !all.answer->memory_is_locked;
    }));
    CHECK(in_child([&] {
      // Asked of the kernel directly: sanitizers make the library's call do nothing.
      if (syscall(SYS_mlockall, MCL_FUTURE) != 0) return true;  // not allowed here
      const chosen all = choose(wish);
      return all.answer && all.answer->memory_is_locked;
    }));
  }
}
