// child.hpp: a body run in a child process, for what ends a process: and what the child said and
// how it ended.
//
// Always true:
//   - The child leaves no core file, and its own alarm ends it after a bounded time.
//   - A body that returns ends the child with code 77, so that "nothing happened" is seen.
//
// Comes from: tests of the catalogue.   Goes to: fork(2), and what the body does.
#pragma once

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <string_view>

namespace test {

/// How a child ended, and what it wrote to stderr.
struct ending {
  std::string text;
  int signal = 0;  ///< 0: it ended by itself
  int code = -1;

  bool says(std::string_view words) const { return text.find(words) != std::string::npos; }
  std::size_t count(std::string_view words) const {
    std::size_t found = 0;
    for (std::size_t at = 0; (at = text.find(words, at)) != std::string::npos; ++at) ++found;
    return found;
  }
};

inline constexpr int returned = 77;

/// Runs `body` in a child and waits for its end.
template <class F>
ending in_child(F body, unsigned seconds = 60) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const rlimit no_core = {0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::alarm(seconds);
    // The handlers of the test runner are not what a program has.
    for (const int fatal : {SIGSEGV, SIGBUS, SIGABRT, SIGTERM, SIGFPE, SIGILL, SIGINT})
      std::signal(fatal, SIG_DFL);
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    body();
    ::_exit(returned);
  }
  ::close(ends[1]);
  ending end;
  char some[512];
  for (;;) {
    const ssize_t got = ::read(ends[0], some, sizeof some);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    end.text.append(some, static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
  if (WIFEXITED(status)) end.code = WEXITSTATUS(status);
  return end;
}

}  // namespace test
