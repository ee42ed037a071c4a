// coir_bench.cpp: what coir costs, beside what the same work costs by hand and elsewhere. One run
// prints one Markdown table.
//
// Always true:
//   - A failed entry fails the run: exit code 1. One that is not there names its package and does
//     not, and neither does a missed reach: the table says so.
//
// Comes from: ./dev bench, tools/bench.sh.   Goes to: rows.hpp, report.hpp, stdout.
#include <sched.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>

#include "bench/page.hpp"
#include "bench/report.hpp"
#include "bench/rows.hpp"

namespace {

struct wishes {
  bench::settings chosen;
  std::string rows = ".";
  std::string entry;
  std::string results, json, tsv;
  bool list = false;
  bool small = false;
  bool first = false;
};

bench::rows all_rows(const wishes& w) {
  bench::rows all;
  for (const auto add :
       {bench::add_switch, bench::add_yield, bench::add_spawn, bench::add_parked, bench::add_sleep,
        bench::add_timer, bench::add_nop, bench::add_file_read, bench::add_echo, bench::add_kv,
        bench::add_deadline, bench::add_effects, bench::add_pingpong, bench::add_mesh})
    add(all, w.chosen);
  return all;
}

bench::rows wanted_rows(const wishes& w) {
  bench::rows all = all_rows(w);
  const std::regex wanted(w.rows);
  std::erase_if(all, [&](const bench::row& r) { return !std::regex_search(r.name, wanted); });
  return all;
}

bool has_failed(const bench::result_of_row& one) {
  for (std::size_t i = 0; i < one.got.size(); ++i)
    if (one.got[i].samples.empty() && one.what.entries[i].missing.empty()) return true;
  return false;
}

void write_file(const std::string& path, const std::string& text) {
  if (path.empty()) return;
  std::ofstream file(path);
  file << text;
  file.close();
  if (!file) std::fprintf(stderr, "%s: not written\n", path.c_str());
}

/// A run of some rows leaves the others on the page as they are.
void write_page(const wishes& w, std::string page) {
  if (w.results.empty()) return;
  std::ifstream file(w.results);
  if (w.rows != "." && file) {
    std::vector<std::string> order;
    for (const bench::row& one : all_rows(w)) order.push_back(one.name);
    const std::string before(std::istreambuf_iterator<char>(file), {});
    page = bench::merged_page(before, page, order);
  }
  write_file(w.results, page);
}

void say(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

/// False when an entry failed.
bool run(const wishes& w) {
  const std::int64_t began = bench::now_ns();
  const std::string method = bench::method_words(w.chosen);
  say(method + "\n" + bench::table_head());
  std::string table, every;
  std::vector<bench::result_of_row> all;
  bool sound = true;
  for (const bench::row& what : wanted_rows(w)) {
    all.push_back({what, bench::measure(what, w.chosen)});
    sound = sound && !has_failed(all.back());
    table += bench::table_line(all.back());
    every += bench::details(all.back());
    say(bench::table_line(all.back()));
  }
  const std::string end = bench::closing_words(all) + "; took " +
                          std::to_string((bench::now_ns() - began) / 1'000'000'000) + " s\n";
  say("\n" + end + "\n" + every);
  write_page(w,
             "# Results\n\nOne run of `./dev bench --write`. What was tried, what it "
             "gave and what stayed: [decisions.md](decisions.md).\n\n" +
                 method + "\n" + bench::table_head() + table + "\n" + end + "\n## Every entry\n\n" +
                 every);
  write_file(w.json, bench::to_json(w.chosen, all));
  write_file(w.tsv, bench::to_tsv(all));
  return sound;
}

/// Measures one entry once in this very process, for a debugger or a profiler.
int run_here(const wishes& w) {
  for (const bench::row& what : wanted_rows(w)) {
    if (what.prepare) what.prepare();
    for (const bench::entry& one : what.entries) {
      if (!one.missing.empty() || one.who.find(w.entry) == std::string::npos) continue;
      bench::operations_done = 0;
      const bench::sample got = one.measure();
      std::printf("%s\t%s\t%.0f operations", what.name.c_str(), one.who.c_str(),
                  bench::operations_done);
      for (const double value : got.values)
        if (!std::isnan(value)) std::printf("\t%g", value);
      std::printf("\n");
      if (w.first) return 0;
    }
  }
  return 0;
}

bool may_use(int cpu) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  return ::sched_getaffinity(0, sizeof allowed, &allowed) == 0 &&
         CPU_ISSET(static_cast<std::size_t>(cpu), &allowed);
}

}  // namespace

int main(int argc, char** argv) {
  wishes w;
  unsigned rounds = 0;
  int spend_ms = -1;
  CLI::App app{"coir beside the same work by hand and beside its peers: one Markdown table."};
  app.add_flag("--quick", w.chosen.quick, "2 short rounds and small counts: to see that it works");
  app.add_flag("--small", w.small, "rows with a million take 100,000, those with 100,000 10,000");
  app.add_flag("--list", w.list, "the names of the rows and what they are");
  app.add_option("--rows", w.rows, "only rows whose name matches this regular expression");
  app.add_option("--rounds", rounds, "rounds at most; default 9")->check(CLI::Range(1, 100));
  app.add_option("--ms", spend_ms, "of one measurement after its warm-up; default 40")
      ->check(CLI::Range(0, 100'000));
  app.add_option("--cpu", w.chosen.cpu, "CPU of what is measured; default 1")
      ->check(CLI::Range(0, 1023));
  app.add_option("--client-cpu", w.chosen.client_cpu, "CPU of the load client; default 0")
      ->check(CLI::Range(0, 1023));
  app.add_option("--json", w.json, "all rounds of all entries, into this file");
  app.add_option("--tsv", w.tsv, "one line per entry, for the plots, into this file");
  app.add_option("--results", w.results,
                 "the page of results, into this file; with --rows the other rows stay in it");
  const auto* here = app.add_option(
      "--here", w.entry,
      "no table: measure once, in this process, the entries whose name contains this");
  app.add_flag("--first", w.first, "with --here: only the first such entry");
  app.add_option("--calls", bench::calls_least, "repeats of a measurement at least; default 3")
      ->check(CLI::Range(1, 1'000'000));
  CLI11_PARSE(app, argc, argv);
  w.chosen.rounds = rounds != 0 ? rounds : w.chosen.quick ? 2 : 9;
  if (w.small || w.chosen.quick) w.chosen.many = 100'000;
  if (spend_ms < 0) spend_ms = w.chosen.quick ? 10 : 40;
  bench::spend_ns = spend_ms * std::int64_t{1'000'000};
  w.chosen.folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  if (w.list) {
    for (const auto& what : wanted_rows(w))
      std::printf("%-28s %s\n", what.name.c_str(), what.what.c_str());
    return 0;
  }
  if (here->count() > 0) return run_here(w);
  if (!may_use(w.chosen.cpu) || !may_use(w.chosen.client_cpu)) {
    std::fprintf(stderr, "CPU %d or %d is not for us: choose with --cpu and --client-cpu\n",
                 w.chosen.cpu, w.chosen.client_cpu);
    return 2;
  }
  return run(w) ? 0 : 1;
}
