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
#include <ctime>
#include <exception>
#include <fstream>
#include <string>
#include <system_error>
#include <type_traits>

namespace bench {

namespace {

constexpr int patience_ms = 150'000;
static_assert(std::is_trivially_copyable_v<sample>);  // it travels through a pipe

[[noreturn]] void run_child(const entry& one, const settings& chosen, bool two_cpus, int answer) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  int code = 1;
  try {
    pin_to(chosen.cpu, two_cpus ? chosen.client_cpu : chosen.cpu);
    const sample got = one.measure();
    if (::write(answer, &got, sizeof got) == static_cast<ssize_t>(sizeof got)) code = 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: %s\n", one.who.c_str(), e.what());
  }
  // Not exit(): what the parent registered to run at its end is not ours.
  ::_exit(code);
}

/// False when the child failed, crashed or took too long.
bool measure_once(const entry& one, const settings& chosen, bool two_cpus, sample& got) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::system_error(errno, std::system_category(), "pipe");
  const pid_t child = ::fork();
  if (child == -1) throw std::system_error(errno, std::system_category(), "fork");
  if (child == 0) {
    ::close(ends[0]);
    run_child(one, chosen, two_cpus, ends[1]);
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

std::vector<double> known(const std::vector<sample>& samples, std::size_t figure) {
  std::vector<double> all;
  for (const sample& one : samples)
    if (!std::isnan(one.values[figure])) all.push_back(one.values[figure]);
  return all;
}

}  // namespace

double outcome::least(std::size_t figure) const {
  const auto all = known(samples, figure);
  return all.empty() ? no_figure : *std::min_element(all.begin(), all.end());
}

double outcome::median(std::size_t figure) const {
  auto all = known(samples, figure);
  if (all.empty()) return no_figure;
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
  std::nth_element(all.begin(), middle, all.end());
  return *middle;
}

double outcome::of(const row& in, std::size_t figure) const {
  return in.figures[figure].is_cost ? least(figure) : median(figure);
}

std::vector<outcome> measure(const row& what, const settings& chosen) {
  std::vector<outcome> all(what.entries.size());
  std::vector<bool> broken(what.entries.size());
  if (what.prepare) what.prepare();
  const unsigned rounds = std::min(chosen.rounds, what.rounds_most);
  for (unsigned round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < what.entries.size(); ++i) {
      const entry& one = what.entries[i];
      if (broken[i] || !one.missing.empty() || round >= one.rounds_most) continue;
      sample got;
      if (measure_once(one, chosen, what.two_cpus, got)) {
        all[i].samples.push_back(got);
        continue;
      }
      // One bad round makes the entry worthless: a figure that sometimes fails is no figure.
      broken[i] = true;
      all[i] = {};
    }
  }
  return all;
}

void pin_to(int cpu) { pin_to(cpu, cpu); }

void pin_to(int cpu, int other) {
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(static_cast<std::size_t>(cpu), &only);
  CPU_SET(static_cast<std::size_t>(other), &only);
  if (::sched_setaffinity(0, sizeof only, &only) != 0)
    throw std::system_error(errno, std::system_category(), "sched_setaffinity");
}

std::int64_t cpu_used_ns() {
  // What getrusage(2) reports as a sum, without its rounding to microseconds.
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return std::int64_t{used.tv_sec} * 1'000'000'000 + used.tv_nsec;
}

double resident_bytes() {
  return 1024 * (number_after("/proc/self/status", "VmRSS:") +
                 number_after("/proc/self/status", "VmPTE:"));
}

}  // namespace bench
