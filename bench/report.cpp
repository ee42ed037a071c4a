// report.cpp: the words and tables that a run prints.
//
// Always true:
//   - The header states the method and the machine, so that a figure can be judged without its
//     author.
//   - Figures and ratios only: nothing here says good or bad.
//
// Comes from: measure.hpp.   Goes to: stdout.
#include <sys/utsname.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "bench/measure.hpp"

namespace bench {

namespace {

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  return "unknown";
}

std::string kernel() {
  utsname names{};
  return ::uname(&names) == 0 ? std::string(names.sysname) + " " + names.release : "unknown";
}

std::string load_average() {
  std::ifstream file("/proc/loadavg");
  std::string one;
  file >> one;
  return one;
}

constexpr const char* compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

std::string rounded(double value) {
  if (std::isnan(value)) return "-";
  char text[32];
  const int digits = value < 10 ? 2 : value < 1000 ? 1 : 0;
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

nlohmann::json number_or_null(double value) {
  return std::isnan(value) ? nlohmann::json(nullptr) : nlohmann::json(value);
}

std::string outcome(const entry& one, const figures& f) {
  if (!one.missing.empty()) return "skipped: " + one.missing + " is not installed";
  return f.values.empty() ? "failed" : rounded(f.least());
}

}  // namespace

void print_header(const settings& chosen) {
  std::printf("# coir_bench\n\n");
  std::printf("- machine: %s, %u CPUs, %s, load average %s at the start\n", cpu_model().c_str(),
              std::thread::hardware_concurrency(), kernel().c_str(), load_average().c_str());
  std::printf("- compiler: %s, %s, coir as a static library without LTO\n", compiler(),
              COIR_BENCH_BUILD_TYPE);
  std::printf(
      "- method: each measurement in a fresh process on CPU %d (load client on CPU %d); the "
      "entries of a table take turns, %u rounds (fewer where the table says so); "
      "least of all rounds, median beside it%s\n",
      chosen.cpu, chosen.client_cpu, chosen.rounds, chosen.quick ? "; --quick: small counts" : "");
  std::printf("- `x coir`: the figure divided by that of the table's first row\n");
  std::fflush(stdout);
}

void print_markdown(const table& what, const std::vector<figures>& got) {
  const bool aside = !what.aside.empty();
  std::printf("\n## %s (%s)\n\n", what.title.c_str(), what.unit.c_str());
  std::printf("| | least | median | x coir | rounds |%s%s\n", aside ? " " : "",
              aside ? (what.aside + " |").c_str() : "");
  std::printf("|---|--:|--:|--:|--:|%s\n", aside ? "--:|" : "");
  const double ours = got.empty() ? no_figure : got[0].least();
  for (std::size_t i = 0; i < got.size(); ++i) {
    const figures& f = got[i];
    std::printf("| %s | %s | %s | %s | %zu |", what.entries[i].who.c_str(),
                outcome(what.entries[i], f).c_str(), rounded(f.median()).c_str(),
                rounded(f.least() / ours).c_str(), f.values.size());
    if (aside) std::printf(" %s |", rounded(f.least_aside()).c_str());
    std::printf("\n");
  }
  std::fflush(stdout);
}

std::string json_of(const table& what, const std::vector<figures>& got) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < got.size(); ++i) {
    nlohmann::ordered_json row = {{"who", what.entries[i].who},
                                  {"least", number_or_null(got[i].least())},
                                  {"median", number_or_null(got[i].median())},
                                  {"all", got[i].values}};
    if (!what.entries[i].missing.empty()) row["missing"] = what.entries[i].missing;
    if (!what.aside.empty()) row["aside"] = number_or_null(got[i].least_aside());
    rows.push_back(std::move(row));
  }
  nlohmann::ordered_json all = {{"title", what.title}, {"unit", what.unit}};
  if (!what.aside.empty()) all["aside"] = what.aside;
  all["rows"] = std::move(rows);
  return all.dump();
}

std::string json_header(const settings& chosen) {
  return nlohmann::ordered_json{{"cpu", cpu_model()},
                                {"cpus", std::thread::hardware_concurrency()},
                                {"kernel", kernel()},
                                {"compiler", compiler()},
                                {"build", COIR_BENCH_BUILD_TYPE},
                                {"pinned", chosen.cpu},
                                {"rounds", chosen.rounds},
                                {"quick", chosen.quick},
                                {"load_average", load_average()}}
      .dump();
}

}  // namespace bench
