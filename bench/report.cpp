// report.cpp: the words and tables of report.hpp.
//
// Comes from: report.hpp.   Goes to: verdict.hpp.
#include "bench/report.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "bench/verdict.hpp"

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

/// Read before the first measurement: the later ones are our own load.
std::string load_average() {
  static const std::string at_start = [] {
    std::ifstream file("/proc/loadavg");
    std::string one;
    file >> one;
    return one;
  }();
  return at_start;
}

constexpr const char* compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "g++ " __VERSION__;
#endif
}

std::string cell(double value, const std::string& unit = "") {
  const std::string text = rounded(value);
  return text == "-" || unit.empty() ? text : text + " " + unit;
}

const char* word_of(role as) {
  switch (as) {
    case role::ours:
      return "coir";
    case role::variant:
      return "variant";
    case role::base:
      return "plain";
    case role::raw:
      return "raw";
    case role::peer:
      return "peer";
  }
  return "";
}

const char* word_of(verdict v) {
  switch (v) {
    case verdict::met:
      return "met";
    case verdict::missed:
      return "missed";
    case verdict::reported:
      return "reported";
    case verdict::unknown:
      break;
  }
  return "unknown";
}

counted counts_of(const outcome& got) {
  return got.samples.empty() ? counted{} : got.samples.back().per_operation;
}

nlohmann::json number_or_null(double value) {
  return std::isnan(value) ? nlohmann::json(nullptr) : nlohmann::json(value);
}

nlohmann::ordered_json json_of(const row& what, std::size_t i, const outcome& got) {
  const entry& one = what.entries[i];
  nlohmann::ordered_json out = {{"who", one.who}, {"role", word_of(one.as)}};
  if (!one.missing.empty()) out["missing"] = one.missing;
  for (std::size_t f = 0; f < what.figures.size(); ++f) {
    nlohmann::json rounds = nlohmann::json::array();
    for (const sample& s : got.samples) rounds.push_back(number_or_null(s.values[f]));
    out["figures"].push_back({{"name", what.figures[f].name},
                              {"unit", what.figures[f].unit},
                              {"value", number_or_null(got.of(what, f))},
                              {"rounds", rounds}});
  }
  const counted c = counts_of(got);
  if (!std::isnan(c.switches))
    out["per_operation"] = {{"switches", c.switches}, {"sqes", c.sqes}, {"enters", c.enters}};
  return out;
}

/// By a chain of exclusive ors, each of which waits one cycle for the one before.
std::string clock_words() {
#if defined(__x86_64__)
  constexpr unsigned blocks = 1000, links = 100;
  double least_ns = 1e9;
  for (int rounds = 0; rounds < 100; ++rounds) {
    std::uint64_t end = 1;
    const auto began = std::chrono::steady_clock::now();
    for (unsigned i = 0; i < blocks; ++i)
      asm volatile(".rept 100\n\txor %1, %0\n\t.endr" : "+r"(end) : "r"(std::uint64_t{i}) : "cc");
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - began;
    least_ns = std::min(least_ns, took.count());
  }
  char text[48];
  std::snprintf(text, sizeof text, " at %.1f GHz (a chain of xor)", blocks * links / least_ns);
  return text;
#else
  return "";
#endif
}

}  // namespace

std::string method_words(const settings& chosen) {
  std::string text;
  text += "- machine: " + cpu_model() + clock_words() + ", " +
          std::to_string(std::thread::hardware_concurrency()) + " CPUs, " + kernel() +
          ", load average " + load_average() + " at the start\n";
  text += std::string("- compiler: ") + compiler() + ", " COIR_BENCH_BUILD_TYPE "; coir: " +
          COIR_BENCH_LIBRARY
          ", no LTO, with its assertions, run budget, errno and exception state "
          "per fiber\n";
  text += "- each measurement in a fresh process on CPU " + std::to_string(chosen.cpu) +
          " (load client on CPU " + std::to_string(chosen.client_cpu) +
          "; a row about two workers has both); the entries of a row take turns, up to " +
          std::to_string(chosen.rounds) + " rounds; each warms up first and measures for about " +
          std::to_string(spend_ns / 1'000'000) + " ms\n";
  text +=
      "- costs: the least of all rounds (of wake-ups between two CPUs the median); rates and "
      "latencies: the median; CPU is user and "
      "system time of the process\n";
  text +=
      "- `raw`: the same work by hand (the best, where there are several); `x`: theirs divided "
      "by ours, so more than 1 is slower than coir\n";
  if (chosen.quick) text += "- a quick run: small counts, few rounds\n";
  return text;
}

std::string table_head() {
  return "| name | coir | raw twin | x | best peer | x | reach | verdict |\n"
         "|---|--:|--:|--:|---|--:|---|---|\n";
}

namespace {

/// What `say` says of each judged figure: a row may promise two things. Where nothing is known of
/// any of them: `-`.
template <class Say>
std::string of_each_judged(const row& r, Say say) {
  std::string all;
  bool any = false;
  for (const std::size_t figure : judged_figures(r)) {
    const std::string one = say(figure);
    any |= one != "-";
    all += (all.empty() ? "" : ", ") + one;
  }
  return any ? all : "-";
}

}  // namespace

std::string table_line(const result_of_row& one) {
  const row& r = one.what;
  const auto figures = [&](role as) {
    return of_each_judged(r, [&](std::size_t figure) {
      return cell(figure_of(r, one.got, as, figure), r.figures[figure].unit);
    });
  };
  const auto ratios = [&](role as) {
    return of_each_judged(
        r, [&](std::size_t figure) { return cell(ratio_to(r, one.got, as, figure)); });
  };
  const bool has_base = best_of(r, one.got, role::base) >= 0;
  const role beside = has_base ? role::base : role::raw;
  const int peer = best_of(r, one.got, role::peer);
  const std::string peer_words =
      peer < 0 ? "-" : r.entries[static_cast<std::size_t>(peer)].who + " " + figures(role::peer);
  return "| `" + r.name + "` | " + figures(role::ours) + " | " + figures(beside) +
         (has_base ? " (plain)" : "") + " | " + ratios(beside) + " | " + peer_words + " | " +
         ratios(role::peer) + " | " + reach_words(r) + " | " + verdict_words(r, one.got) + " |\n";
}

std::string closing_words(const std::vector<result_of_row>& all) {
  const auto count = [&all](verdict v) {
    return std::to_string(std::ranges::count_if(
        all, [v](const result_of_row& one) { return judge(one.what, one.got) == v; }));
  };
  return count(verdict::met) + " met, " + count(verdict::missed) + " missed, " +
         count(verdict::unknown) + " unknown, " + count(verdict::reported) + " reported";
}

std::string details(const result_of_row& one) {
  const row& r = one.what;
  std::string text =
      "### " + r.name + "\n\n" + r.what + (r.note.empty() ? "" : " (" + r.note + ")");
  text += ". Reach: " + reach_words(r) + ". " + verdict_words(r, one.got) + ".\n\n| |";
  std::string line = "|---|";
  for (const figure& f : r.figures) {
    text += " " + f.name + (f.unit.empty() ? "" : ", " + f.unit) + " |";
    line += "--:|";
  }
  text +=
      " median | x coir | rounds | switches, SQEs, enters each |\n" + line + "--:|--:|--:|---|\n";
  for (std::size_t i = 0; i < one.got.size(); ++i) {
    const entry& e = r.entries[i];
    const outcome& got = one.got[i];
    text += "| " + e.who + " (" + word_of(e.as) + ") |";
    if (got.samples.empty()) {
      text += e.missing.empty() ? " failed |\n" : " not there: " + e.missing + " |\n";
      continue;
    }
    for (std::size_t f = 0; f < r.figures.size(); ++f) text += " " + cell(got.of(r, f)) + " |";
    const counted c = counts_of(got);
    const std::string ratios = of_each_judged(r, [&](std::size_t f) {
      return cell(got.of(r, f) / figure_of(r, one.got, role::ours, f));
    });
    text += " " + cell(got.median()) + " | " + ratios + " | " + std::to_string(got.samples.size()) +
            " | ";
    if (!std::isnan(c.switches))
      text += cell(c.switches) + ", " + cell(c.sqes) + ", " + cell(c.enters);
    text += " |\n";
  }
  return text + "\n";
}

std::string to_json(const settings& chosen, const std::vector<result_of_row>& all) {
  nlohmann::ordered_json out = {{"cpu", cpu_model()},
                                {"cpus", std::thread::hardware_concurrency()},
                                {"kernel", kernel()},
                                {"compiler", compiler()},
                                {"build", COIR_BENCH_BUILD_TYPE},
                                {"library", COIR_BENCH_LIBRARY},
                                {"pinned", chosen.cpu},
                                {"rounds", chosen.rounds},
                                {"quick", chosen.quick},
                                {"load_average", load_average()},
                                {"rows", nlohmann::ordered_json::array()}};
  for (const auto& one : all) {
    nlohmann::ordered_json r = {
        {"name", one.what.name},
        {"what", one.what.what},
        {"verdict", word_of(judge(one.what, one.got))},
        {"ratio_raw", number_or_null(ratio_to(one.what, one.got, role::raw))},
        {"ratio_peer", number_or_null(ratio_to(one.what, one.got, role::peer))}};
    for (const reach& wanted : one.what.reaches) {
      const auto ratio = [&](role as) {
        return number_or_null(ratio_to(one.what, one.got, as, wanted.figure));
      };
      r["reaches"].push_back({{"reach", words_of(one.what, wanted)},
                              {"verdict", word_of(judge(one.what, one.got, wanted))},
                              {"ratio_raw", ratio(role::raw)},
                              {"ratio_peer", ratio(role::peer)}});
    }
    for (std::size_t i = 0; i < one.got.size(); ++i)
      r["entries"].push_back(json_of(one.what, i, one.got[i]));
    out["rows"].push_back(std::move(r));
  }
  return out.dump(1) + "\n";
}

std::string to_tsv(const std::vector<result_of_row>& all) {
  std::string text = "row\trole\twho\tfirst\tsecond\tthird\n";
  for (const auto& one : all)
    for (std::size_t i = 0; i < one.got.size(); ++i) {
      if (one.got[i].samples.empty()) continue;
      const entry& e = one.what.entries[i];
      text += one.what.name + "\t" + word_of(e.as) + "\t" + e.who;
      for (std::size_t f = 0; f < 3; ++f)
        text += "\t" + (f < one.what.figures.size() ? std::to_string(one.got[i].of(one.what, f))
                                                    : std::string("nan"));
      text += "\n";
    }
  return text;
}

}  // namespace bench
