// measure.cpp: one measurement in a process of its own, and the rounds in which entries take turns.
//
// Always true:
//   - A child dies with its parent, and the parent waits for every child it started.
//   - A child gets a bounded time; the limit is far above what a sound run needs.
//
// Comes from: measure.hpp.   Goes to: nothing.
#include "bench/measure.hpp"

#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <string>
#include <system_error>

namespace bench {

namespace {

constexpr int patience_ms = 60'000;

[[noreturn]] void run_child(const entry& one, int cpu, int answer) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  int code = 1;
  try {
    pin_to(cpu);
    const sample got = one.measure();
    if (::write(answer, &got, sizeof got) == static_cast<ssize_t>(sizeof got)) code = 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", one.who.c_str(), e.what());
  }
  // Not exit(): what the parent registered to run at its end is not ours.
  ::_exit(code);
}

/// False when the child failed, crashed or took too long.
bool measure_once(const entry& one, int cpu, sample& got) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::system_error(errno, std::system_category(), "pipe");
  const pid_t child = ::fork();
  if (child == -1) throw std::system_error(errno, std::system_category(), "fork");
  if (child == 0) {
    ::close(ends[0]);
    run_child(one, cpu, ends[1]);
  }
  ::close(ends[1]);
  pollfd wanted{ends[0], POLLIN, 0};
  const bool in_time = ::poll(&wanted, 1, patience_ms) == 1;
  const bool complete =
      in_time && ::read(ends[0], &got, sizeof got) == static_cast<ssize_t>(sizeof got);
  ::close(ends[0]);
  if (!in_time) {
    std::fprintf(stderr, "%s: stopped after %d s\n", one.who.c_str(), patience_ms / 1000);
    ::kill(child, SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (in_time && WIFSIGNALED(status))
    std::fprintf(stderr, "%s: died of signal %d\n", one.who.c_str(), WTERMSIG(status));
  return complete;
}

double number_after(const char* path, const char* field) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (line.rfind(field, 0) == 0) return std::strtod(line.c_str() + std::strlen(field), nullptr);
  throw std::system_error(ENOENT, std::system_category(), path);
}

double middle_of(std::vector<double> values) {
  if (values.empty()) return no_figure;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double least_of(const std::vector<double>& values) {
  return values.empty() ? no_figure : *std::min_element(values.begin(), values.end());
}

}  // namespace

double figures::least() const { return least_of(values); }
double figures::median() const { return middle_of(values); }
double figures::least_aside() const { return least_of(asides); }

std::vector<figures> measure(const table& what, const settings& chosen) {
  std::vector<figures> all(what.entries.size());
  std::vector<bool> broken(what.entries.size());
  const unsigned rounds = std::min(chosen.rounds, what.rounds_most);
  for (unsigned round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < what.entries.size(); ++i) {
      if (broken[i] || !what.entries[i].missing.empty()) continue;
      sample got;
      if (!measure_once(what.entries[i], chosen.cpu, got)) {
        // One bad round makes the row worthless: a figure that sometimes fails is no figure.
        broken[i] = true;
        all[i] = {};
        continue;
      }
      all[i].values.push_back(got.value);
      if (!std::isnan(got.aside)) all[i].asides.push_back(got.aside);
    }
  }
  return all;
}

void pin_to(int cpu) {
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(static_cast<std::size_t>(cpu), &only);
  if (::sched_setaffinity(0, sizeof only, &only) != 0)
    throw std::system_error(errno, std::system_category(), "sched_setaffinity");
}

double resident_bytes() {
  // smaps_rollup walks the page tables; VmRSS of status may lag by many pages per thread.
  return 1024 * (number_after("/proc/self/smaps_rollup", "Rss:") +
                 number_after("/proc/self/status", "VmPTE:"));
}

}  // namespace bench
