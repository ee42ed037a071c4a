// explorer.cpp: runs generated programs for as many seeds as one likes, and says how quickly.
//
//   explorer SEEDS [FIRST [CHANCE [PARTS]]]
//     seeds from FIRST (1) on, each fault CHANCE (80) times of 1,000, PARTS (1) or more in a
//     program
//
// Always true:
//   - It ends with 0 when every seed kept every promise, else with 1 after the report of the first
//     that did not, shrunk.
#include "explorer.hpp"

#include <malloc.h>

#include <ctime>

#include <cstdio>
#include <cstdlib>

namespace {

double seconds_of_processor() {
  timespec t{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

std::uint64_t argument(int count, char** all, int i, std::uint64_t otherwise) {
  return i < count ? std::strtoull(all[i], nullptr, 10) : otherwise;
}

}  // namespace

int main(int count, char** all) {
  // What a life gives back the next one asks for: not by way of the kernel each time.
  ::mallopt(M_MMAP_THRESHOLD, 64 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 64 << 20);
  const std::uint64_t seeds = argument(count, all, 1, 1000);
  const auto chance = static_cast<unsigned>(argument(count, all, 3, 80));
  const auto parts = static_cast<unsigned>(argument(count, all, 4, 1));
  coir::sim::settings s{.workers = 4, .chances = coir::sim::faults::every(chance)};
  s.seed = argument(count, all, 2, 1);
  s.chances.power_cut = chance == 0 ? 0 : 1;
  s.isolate = std::getenv("COIR_SIM_ISOLATE") != nullptr;
  std::uint64_t steps = 0, decided = 0;
  const double began = seconds_of_processor();
  const auto r = coir::sim::explore(s, seeds, [&](coir::sim::world& w) {
    explored::any_program_of(w, parts);
    steps += w.steps();
    decided += w.decided();
  });
  const double took = seconds_of_processor() - began;
  if (!r.ok()) {
    std::printf("%s\n", r.to_text().c_str());
    return 1;
  }
  const auto n = static_cast<double>(seeds);
  std::printf(
      "%llu seeds, none failed: %.0f seeds a second and core, %.0f steps and %.0f decisions each\n",
      static_cast<unsigned long long>(seeds), n / took, static_cast<double>(steps) / n,
      static_cast<double>(decided) / n);
  return 0;
}
