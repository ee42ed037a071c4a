// measure.hpp: how every figure of the benchmark is taken: what is compared stands in one table,
// and the entries of a table take turns, round after round.
//
// Always true:
//   - Each measurement runs in a process of its own, pinned to one CPU: no entry inherits another's
//     heap, threads or warm caches, and one that hangs or fails costs its own row only.
//   - A figure is the least of all rounds; the median beside it shows how quiet the machine was.
//   - The first entry of a table is coir's: ratios are theirs divided by ours.
//
// Comes from: coir_bench.cpp.   Goes to: the rows_*.cpp files.
#pragma once

#include <algorithm>
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
  int cpu = 1;         ///< of everything that is measured
  int client_cpu = 0;  ///< of the load client
  std::string folder;  ///< where the programs of bench/ were built
};

constexpr double no_figure = std::numeric_limits<double>::quiet_NaN();

struct sample {
  double value = no_figure;
  double aside = no_figure;  ///< a second thing seen in the same run
};

struct entry {
  std::string who;
  std::function<sample()> measure;  ///< may throw std::exception: the row then says "failed"
  std::string missing = {};         ///< the package that is not installed; then nothing is measured
};

struct table {
  std::string title;
  std::string unit;
  std::vector<entry> entries;
  std::string aside = {};    ///< what `aside` is, with its unit
  unsigned rounds_most = 9;  ///< dear tables take fewer rounds
};
using tables = std::vector<table>;

/// What came of one entry: empty `values` when it failed or was skipped.
struct figures {
  std::vector<double> values;
  std::vector<double> asides;
  double least() const;
  double median() const;
  double least_aside() const;
};

/// Measures all entries of `what` in turns; one element per entry.
std::vector<figures> measure(const table& what, const settings& chosen);

void pin_to(int cpu);

inline std::int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

/// Calls `once` so often and returns the nanoseconds of the fastest call divided by `parts`.
template <class F>
double fastest_ns(unsigned repeats, double parts, F&& once) {
  std::int64_t least = std::numeric_limits<std::int64_t>::max();
  for (unsigned i = 0; i < repeats; ++i) {
    const std::int64_t began = now_ns();
    once();
    least = std::min(least, now_ns() - began);
  }
  return static_cast<double>(least) / parts;
}

/// Bytes of this process in memory, page tables included.
double resident_bytes();

/// The table's header, its rows, and in JSON the same facts.
void print_header(const settings& chosen);
void print_markdown(const table& what, const std::vector<figures>& got);
std::string json_of(const table& what, const std::vector<figures>& got);
std::string json_header(const settings& chosen);

}  // namespace bench
