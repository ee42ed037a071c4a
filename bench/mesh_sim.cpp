// mesh_sim.cpp: how evenly the policy of runtime/deflect.hpp spreads work over 2 to 256 workers, in
// virtual time: a table for people, and the same as TSV for bench/mesh.gp.
//   mesh_sim [--scenario NAME] [--workers N] [--policy mesh|pushes|single|all] [--tsv FILE]
//            [--check] [--bare]   (and others: --help)
//
// Always true:
//   - Nothing is measured, so the figures are the same on every machine and in every build.
//   - --check fails when hot_root at 8, 64 or 256 workers misses its bounds with one of 8 salts.
//
// Comes from: ./build/.../mesh_sim.   Goes to: mesh_model.hpp, docs/benchmarks.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "bench/mesh_model.hpp"

namespace {

using bench::mesh_fiber;
using bench::mesh_figures;
using bench::mesh_model;
using bench::mesh_settings;

constexpr double share_max = 1.3;
constexpr double mail_max = 0.6;
constexpr std::uint64_t us = 1000;

/// A number that looks like chance.
constexpr std::uint32_t mixed(std::uint32_t n) {
  n = (n ^ n >> 16) * 0x7FEB352Du;
  n = (n ^ n >> 15) * 0x846CA68Bu;
  return n ^ n >> 16;
}

std::uint32_t salt = 0;  // other times of all fibers

/// Half of `mean` to one and a half, by a number.
std::uint64_t about(std::uint64_t mean, std::uint32_t n) {
  return mean / 2 + mean * (mixed(n + (salt << 24)) % 1024) / 1024;
}

mesh_fiber short_task(std::uint32_t n) { return {.burst_ns = about(5 * us, n)}; }

/// One fiber on worker 0 spawns all others.
void hot_root(mesh_model& m, unsigned workers) {
  m.begin(1, 0, {.spawns = std::max(10'000u, 200 * workers), .make = short_task});
}

/// One fiber on worker 0 accepts connections; each is served in 20 bursts, 200 us apart, and the
/// workers are busy for about 60 % when as many come as go.
void hot_accept(mesh_model& m, unsigned workers) {
  m.begin(1, 0,
          {.pause_ns = 20 * 205 * us / (25 * workers), .spawns = 100 * workers, .make = [](auto n) {
             return mesh_fiber{.burst_ns = about(5 * us, n),
                               .pause_ns = about(200 * us, n + 7),
                               .bursts = 20,
                               .kind = coir::detail::workload::io};
           }});
}

/// 64 at once, on one worker after the other in no order; busy for about 70 % on the whole.
void bursts(mesh_model& m, unsigned workers) {
  const std::uint64_t apart = 64 * 5 * us * 10 / (7 * workers);
  for (std::uint32_t n = 0; n < 4 * workers + 100; ++n)
    m.begin(1 + n * apart, mixed(n) % workers,
            {.spawns = 64, .make = [n](auto i) { return short_task(64 * n + i); }});
}

/// A root spawns 40, fewer than the threshold, while everybody else has 20 us to do, and computes
/// for 1 ms then: for so long nobody can ask it.
void root_computes(mesh_model& m, unsigned workers) {
  for (unsigned w = 1; w < workers; ++w) m.begin(1, w, {.burst_ns = 20 * us, .aside = true});
  m.begin(1, 0, {.spawns = 40, .make = short_task});
  m.begin(1, 0, {.burst_ns = 1000 * us, .aside = true});
}

struct scenario {
  std::string_view name;
  void (*fill)(mesh_model&, unsigned workers);
  std::vector<unsigned> (*speed)(unsigned workers);
  unsigned batch_most;
};

std::vector<unsigned> equal(unsigned) { return {}; }
/// The last one needs four times as long.
std::vector<unsigned> one_slow(unsigned workers) {
  std::vector<unsigned> all(workers, 100);
  all.back() = 25;
  return all;
}
/// The upper half needs 1.7 times as long.
std::vector<unsigned> half_slower(unsigned workers) {
  std::vector<unsigned> all(workers, 100);
  std::fill(all.begin() + workers / 2, all.end(), 60);
  return all;
}

const scenario scenarios[] = {
    {"hot_root", hot_root, equal, 256},
    {"hot_accept", hot_accept, equal, 1},
    {"bursts", bursts, equal, 256},
    {"one_slow", hot_root, one_slow, 256},
    {"unequal_cores", hot_root, half_slower, 256},
    {"root_computes", root_computes, equal, 256},
};

/// What is there to decide with.
struct policy {
  std::string_view name;
  void (*set)(mesh_settings&);
};
const policy policies[] = {
    {"mesh", [](mesh_settings&) {}},
    // Nobody looks for the hungry but who pushes.
    {"pushes", [](mesh_settings& s) { s.picks_feed = false; }},
    // One fiber a mail, a fixed threshold, no announcements, no distances.
    {"single",
     [](mesh_settings& s) {
       s.batch_max = 1;
       s.pinned = s.flat = true;
       s.hungry = s.picks_feed = false;
     }},
};

struct line {
  std::string_view scenario, policy;
  unsigned workers;
  mesh_figures got;
  std::uint64_t ideal_ns;
};

line simulate(const scenario& s, const policy& p, mesh_settings set) {
  p.set(set);
  set.speed = s.speed(set.workers);
  set.batch_max = std::min(set.batch_max, s.batch_most);
  line l{s.name, p.name, set.workers, {}, 0};
  for (const bool ideal : {true, false}) {
    set.ideal = ideal;
    mesh_model m(set);
    s.fill(m, set.workers);
    const mesh_figures f = m.run();
    ideal ? void(l.ideal_ns = f.ended_ns) : void(l.got = f);
  }
  return l;
}

double over_ideal(const line& l) {
  return static_cast<double>(l.got.ended_ns) / static_cast<double>(l.ideal_ns);
}

void print(const std::vector<line>& all) {
  std::puts(
      "| scenario | policy | workers | fibers | max/mean share | hops per fiber | mail per fiber | "
      "looks per fiber | refused | ended, us | ideal, us | over ideal |");
  std::puts("|---|---|---|---|---|---|---|---|---|---|---|---|");
  for (const line& l : all)
    std::printf("| %s | %s | %u | %llu | %.2f | %.2f | %.2f | %.2f | %llu | %.0f | %.0f | %.2f |\n",
                std::string(l.scenario).c_str(), std::string(l.policy).c_str(), l.workers,
                static_cast<unsigned long long>(l.got.fibers), l.got.share, l.got.hops, l.got.mail,
                l.got.looks, static_cast<unsigned long long>(l.got.refused),
                static_cast<double>(l.got.ended_ns) / 1e3, static_cast<double>(l.ideal_ns) / 1e3,
                over_ideal(l));
}

/// For a program that reads it.
void print_bare(const std::vector<line>& all) {
  for (const line& l : all)
    std::printf("%g %g %g %g\n", l.got.share, l.got.mail, l.got.hops, over_ideal(l));
}

bool save(const std::vector<line>& all, const std::string& path) {
  std::ofstream out(path);
  out << "scenario\tpolicy\tworkers\tshare\thops\tmail\tlooks\trefused\tended_ns\tideal_ns\tover_"
         "ideal\n";
  for (const line& l : all)
    out << l.scenario << '\t' << l.policy << '\t' << l.workers << '\t' << l.got.share << '\t'
        << l.got.hops << '\t' << l.got.mail << '\t' << l.got.looks << '\t' << l.got.refused << '\t'
        << l.got.ended_ns << '\t' << l.ideal_ns << '\t' << over_ideal(l) << '\n';
  return static_cast<bool>(out.flush());
}

/// hot_root with several salts against its bounds; says which one was missed.
bool check_bounds(mesh_settings set) {
  std::vector<line> all;
  for (salt = 0; salt < 8; ++salt)
    for (const unsigned workers : {8u, 64u, 256u}) {
      set.workers = workers;
      all.push_back(simulate(scenarios[0], policies[0], set));
    }
  print(all);
  bool good = true;
  for (const line& l : all) {
    if (l.got.share <= share_max && l.got.mail <= mail_max) continue;
    std::fprintf(stderr,
                 "mesh_sim: %u workers: share %.2f (at most %.2f), mail %.2f (at most %.2f)\n",
                 l.workers, l.got.share, share_max, l.got.mail, mail_max);
    good = false;
  }
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("The deflection policy in virtual time");
  std::string only, tsv, how = "mesh";
  unsigned only_workers = 0;
  bool check = false, bare = false;
  mesh_settings set;
  app.add_option("--scenario", only, "only this one");
  app.add_option("--policy", how, "mesh, pushes, single or all");
  app.add_option("--workers", only_workers, "only so many")->check(CLI::Range(2, 256));
  app.add_option("--batch", set.batch_max, "fibers in one mail at most")->check(CLI::Range(1, 256));
  app.add_option("--threshold", set.threshold, "the first one")->check(CLI::Range(1, 1024));
  app.add_option("--slots", set.mailbox_slots, "mails in one mailbox")->check(CLI::Range(1, 65536));
  app.add_flag("--flat", set.flat, "a machine without distances");
  app.add_option("--salt", salt, "other times of all fibers")->check(CLI::Range(0, 255));
  app.add_option("--tsv", tsv, "the figures for plots");
  app.add_flag("--check", check, "only hot_root: fail when it misses its bounds");
  app.add_flag("--bare", bare, "no table: share, mail, hops and time over the ideal's");
  CLI11_PARSE(app, argc, argv);

  if (check) return check_bounds(set) ? 0 : 1;
  std::vector<line> all;
  for (const policy& p : policies)
    for (const scenario& s : scenarios)
      for (unsigned workers = 2; workers <= coir::detail::neighbours_max; workers *= 2) {
        if ((!only.empty() && only != s.name) || (how != "all" && how != p.name) ||
            (only_workers != 0 && only_workers != workers))
          continue;
        set.workers = workers;
        all.push_back(simulate(s, p, set));
      }
  if (all.empty()) {
    std::fprintf(stderr, "mesh_sim: no such scenario, policy or number of workers\n");
    return 2;
  }
  bare ? print_bare(all) : print(all);
  if (!tsv.empty() && !save(all, tsv)) {
    std::fprintf(stderr, "mesh_sim: cannot write %s\n", tsv.c_str());
    return 1;
  }
  return 0;
}
