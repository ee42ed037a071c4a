// rows_timers.cpp: arming and cancelling one deadline while a million others wait.
//
// Always true:
//   - Deadlines are drawn from a minute, from one seed, the same for every entry.
//   - The container is measured without the fiber around it: a million parked fibers would measure
//     the memory of the machine instead. This file therefore includes runtime/timers.hpp.
//
// Comes from: coir_bench.cpp.   Goes to: runtime/timers.hpp.
#include "runtime/timers.hpp"

#include <map>
#include <random>

#include "bench/rows.hpp"

namespace bench {

namespace {

constexpr std::size_t others = 1'000'000;
constexpr std::int64_t span_ns = 60'000'000'000;
constexpr unsigned repeats = 3;

/// Deadlines for every timer and one more for each act.
std::vector<std::int64_t> draw(std::size_t count) {
  std::mt19937_64 random(7);
  std::uniform_int_distribution<std::int64_t> within(1, span_ns);
  std::vector<std::int64_t> all(count);
  for (auto& one : all) one = within(random);
  return all;
}

/// One more timer comes and goes, as around an operation with a deadline that does not fire.
double wheel_pass_ns(std::size_t acts) {
  const std::vector<std::int64_t> deadlines = draw(others + acts);
  std::vector<coir::detail::timer> all(others);
  const auto wheel = std::make_unique<coir::detail::timers>(0);
  for (std::size_t i = 0; i < others; ++i) wheel->arm(all[i], deadlines[i]);
  coir::detail::timer mine;
  return fastest_ns(repeats, static_cast<double>(acts), [&] {
    for (std::size_t i = 0; i < acts; ++i) {
      wheel->arm(mine, deadlines[others + i]);
      wheel->cancel(mine);
    }
  });
}

/// Any of the million is cancelled and armed anew: nothing is in the cache.
double wheel_any_ns(std::size_t acts) {
  const std::vector<std::int64_t> deadlines = draw(others + acts);
  std::vector<coir::detail::timer> all(others);
  const auto wheel = std::make_unique<coir::detail::timers>(0);
  for (std::size_t i = 0; i < others; ++i) wheel->arm(all[i], deadlines[i]);
  return fastest_ns(repeats, static_cast<double>(acts), [&] {
    for (std::size_t i = 0; i < acts; ++i) {
      coir::detail::timer& one = all[static_cast<std::size_t>(deadlines[others + i]) % others];
      wheel->cancel(one);
      wheel->arm(one, deadlines[others + i]);
    }
  });
}

using tree = std::multimap<std::int64_t, std::size_t>;

double tree_pass_ns(std::size_t acts) {
  const std::vector<std::int64_t> deadlines = draw(others + acts);
  tree all;
  for (std::size_t i = 0; i < others; ++i) all.emplace(deadlines[i], i);
  return fastest_ns(repeats, static_cast<double>(acts), [&] {
    for (std::size_t i = 0; i < acts; ++i) all.erase(all.emplace(deadlines[others + i], i));
  });
}

double tree_any_ns(std::size_t acts) {
  const std::vector<std::int64_t> deadlines = draw(others + acts);
  tree all;
  std::vector<tree::iterator> places(others);
  for (std::size_t i = 0; i < others; ++i) places[i] = all.emplace(deadlines[i], i);
  return fastest_ns(repeats, static_cast<double>(acts), [&] {
    for (std::size_t i = 0; i < acts; ++i) {
      const std::size_t one = static_cast<std::size_t>(deadlines[others + i]) % others;
      all.erase(places[one]);
      places[one] = all.emplace(deadlines[others + i], one);
    }
  });
}

}  // namespace

void add_timers(tables& to, const settings& chosen) {
  const std::size_t acts = chosen.quick ? 100'000 : 500'000;
  table pass{"arm and cancel one timer among 1,000,000",
             "ns per pair",
             {{"coir's wheel", [=] { return sample{wheel_pass_ns(acts)}; }},
              {"std::multimap", [=] { return sample{tree_pass_ns(acts)}; }}}};
  table any{"cancel and arm anew any of 1,000,000 timers",
            "ns per pair",
            {{"coir's wheel", [=] { return sample{wheel_any_ns(acts)}; }},
             {"std::multimap", [=] { return sample{tree_any_ns(acts)}; }}}};
  pass.rounds_most = any.rounds_most = 3;
  to.push_back(std::move(pass));
  to.push_back(std::move(any));
}

}  // namespace bench
