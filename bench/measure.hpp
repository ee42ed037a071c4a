// measure.hpp: how every figure of the benchmark is taken: a row compares entries, and the entries
// of a row take turns, round after round.
//
// Always true:
//   - Each measurement runs in a process of its own, pinned to one CPU (that of a row about several
//     workers to two): no entry inherits another's heap, threads or warm caches, and one that hangs
//     or fails costs its own entry only.
//   - Of a cost the least of all rounds counts, of anything else the median.
//   - Whoever measures warms up first and stops by time, not by count, so that a slow entry takes
//     as long as a fast one.
//
// Comes from: coir_bench.cpp.   Goes to: the rows_*.cpp files, verdict.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace bench {

struct settings {
  bool quick = false;
  unsigned rounds = 9;
  int cpu = 1;                   ///< of everything that is measured
  int client_cpu = 0;            ///< of the load client, and the second one of two workers
  std::size_t many = 1'000'000;  ///< what the rows with a million in their name really take
  std::string folder;            ///< where the programs of bench/ were built
};

constexpr double no_figure = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t figures_most = 4;

/// What a fiber runtime counted per operation, from coir's snapshot().
struct counted {
  double switches = no_figure;
  double sqes = no_figure;
  double enters = no_figure;
};

/// One measurement: the figures of its row, in their order.
struct sample {
  sample() { values.fill(no_figure); }
  sample(double only) : sample() { values[0] = only; }
  sample(std::initializer_list<double> all) : sample() {
    std::copy(all.begin(), all.end(), values.begin());
  }
  std::array<double, figures_most> values;
  counted per_operation;
};

/// Who stands in a row, and what it is compared as.
enum class role {
  ours,     ///< coir: the figure that the row is about
  variant,  ///< coir, done otherwise: printed, not judged
  base,     ///< coir without what the row adds
  raw,      ///< the same work written by hand for this row alone
  peer,     ///< another runtime
};

struct entry {
  std::string who;
  role as;
  std::function<sample()> measure;  ///< may throw std::exception: the entry then says "failed"
  std::string missing = {};         ///< the package that is not there; then nothing is measured
  unsigned rounds_most = 9;         ///< dear entries take fewer rounds
};

struct figure {
  std::string name;
  std::string unit;
  bool is_cost = true;  ///< the least round counts; else, of rates and latencies, the median
};

/// What a figure shall keep to.
struct reach {
  enum class kind { at_most, over_raw, of_raw, over_base, of_base, times_peer };
  kind by;
  double bound;
  std::size_t figure = 0;
};

struct row {
  std::string name;
  std::string what;
  std::vector<figure> figures;
  std::vector<entry> entries;
  std::vector<reach> reaches;
  unsigned rounds_most = 9;
  std::string note = {};               ///< what a reader must know to judge it
  bool smaller = false;                ///< than its name says, in this run: not judged
  std::function<void()> prepare = {};  ///< before the first round
  bool two_cpus = false;               ///< the client's, too
};
using rows = std::vector<row>;

/// What came of one entry: empty `samples` when it failed or was skipped.
struct outcome {
  std::vector<sample> samples;
  double least(std::size_t figure = 0) const;
  double median(std::size_t figure = 0) const;
  /// The one that counts.
  double of(const row& in, std::size_t figure = 0) const;
};

/// Measures all entries of `what` in turns; one element per entry.
std::vector<outcome> measure(const row& what, const settings& chosen);

void pin_to(int cpu);
/// Either of the two.
void pin_to(int cpu, int other);

inline std::int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}
/// User and system time of all threads of this process so far.
std::int64_t cpu_used_ns();

/// How long one measurement lasts after its warm-up, about.
inline std::int64_t spend_ns = 40'000'000;

/// How many times a measurement repeats at least, and all operations of this process so far, the
/// warm-up's included: for a profiler, which wants to know what it counted.
inline unsigned calls_least = 3;
inline double operations_done = 0;

/// Calls `once` until the time is spent, at least `calls_least` times after one untimed call;
/// returns the nanoseconds by `clock` of the cheapest call divided by `parts`.
template <class Clock, class F>
double fastest_by(Clock clock, double parts, F&& once) {
  once();
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  const std::int64_t until = now_ns() + spend_ns;
  unsigned calls = 0;
  while (calls < calls_least || now_ns() < until) {
    const std::int64_t began = clock();
    once();
    least = std::min(least, clock() - began);
    ++calls;
  }
  operations_done += parts * (calls + 1);
  return static_cast<double>(least) / parts;
}

template <class F>
double fastest_ns(double parts, F&& once) {
  return fastest_by(&now_ns, parts, std::forward<F>(once));
}
/// The median call instead, for wake-ups between CPUs: in the cheapest one hardly anybody slept.
template <class F>
double usual_ns(double parts, F&& once) {
  once();
  std::vector<std::int64_t> each;
  const std::int64_t until = now_ns() + spend_ns;
  while (each.size() < calls_least || now_ns() < until) {
    const std::int64_t began = now_ns();
    once();
    each.push_back(now_ns() - began);
  }
  operations_done += parts * static_cast<double>(each.size() + 1);
  const auto middle = each.begin() + static_cast<std::ptrdiff_t>(each.size() / 2);
  std::nth_element(each.begin(), middle, each.end());
  return static_cast<double>(*middle) / parts;
}
template <class F>
double fastest_cpu_ns(double parts, F&& once) {
  return fastest_by(&cpu_used_ns, parts, std::forward<F>(once));
}

/// Bytes of this process in memory, page tables included: VmRSS + VmPTE.
double resident_bytes();

}  // namespace bench
