// coir_bench.cpp: what coir costs, beside what the same work costs elsewhere. One run prints every
// table, as Markdown or as one JSON object per line.
//
// Always true:
//   - Figures and ratios, no targets and no verdicts.
//   - A failed row fails the run: exit code 1. A skipped one names its package and does not.
//
// Comes from: ./dev bench, tools/bench.sh.   Goes to: rows.hpp, stdout.
#include <sched.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <string>

#include "bench/rows.hpp"

namespace {

struct wishes {
  bench::settings chosen;
  std::string only;
  bool json = false;
  bool list = false;
};

bench::tables all_tables(const bench::settings& chosen) {
  bench::tables all;
  for (const auto add :
       {bench::add_switch, bench::add_yield, bench::add_spawn, bench::add_nop, bench::add_deadlines,
        bench::add_timers, bench::add_memory, bench::add_echo})
    add(all, chosen);
  return all;
}

bool has_failed(const bench::table& what, const std::vector<bench::figures>& got) {
  for (std::size_t i = 0; i < got.size(); ++i)
    if (got[i].values.empty() && what.entries[i].missing.empty()) return true;
  return false;
}

/// False when a row failed.
bool run(const wishes& w) {
  if (w.json)
    std::printf("%s\n", bench::json_header(w.chosen).c_str());
  else
    bench::print_header(w.chosen);
  bool sound = true;
  for (const bench::table& what : all_tables(w.chosen)) {
    if (what.title.find(w.only) == std::string::npos) continue;
    const auto got = bench::measure(what, w.chosen);
    if (has_failed(what, got)) sound = false;
    if (w.json)
      std::printf("%s\n", bench::json_of(what, got).c_str());
    else
      bench::print_markdown(what, got);
    std::fflush(stdout);
  }
  return sound;
}

}  // namespace

int main(int argc, char** argv) {
  wishes w;
  unsigned rounds = 0;
  CLI::App app{"coir beside its peers: Markdown tables, or JSON."};
  app.add_flag("--quick", w.chosen.quick, "small counts and 3 rounds: to see that it works");
  app.add_flag("--json", w.json, "one JSON object per table");
  app.add_flag("--list", w.list, "the titles of the tables");
  app.add_option("--only", w.only, "only tables whose title contains this");
  app.add_option("--rounds", rounds, "rounds; default 9")->check(CLI::Range(1, 100));
  app.add_option("--cpu", w.chosen.cpu, "CPU of what is measured; default 1")
      ->check(CLI::Range(0, 1023));
  app.add_option("--client-cpu", w.chosen.client_cpu, "CPU of the load client; default 0")
      ->check(CLI::Range(0, 1023));
  CLI11_PARSE(app, argc, argv);
  w.chosen.rounds = rounds != 0 ? rounds : w.chosen.quick ? 3 : 9;
  w.chosen.folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  if (w.list) {
    for (const auto& what : all_tables(w.chosen)) std::printf("%s\n", what.title.c_str());
    return 0;
  }
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0 ||
      !CPU_ISSET(static_cast<std::size_t>(w.chosen.cpu), &allowed) ||
      !CPU_ISSET(static_cast<std::size_t>(w.chosen.client_cpu), &allowed)) {
    std::fprintf(stderr, "CPU %d or %d is not for us: choose with --cpu and --client-cpu\n",
                 w.chosen.cpu, w.chosen.client_cpu);
    return 2;
  }
  return run(w) ? 0 : 1;
}
