// rows_sleep.cpp: a great many fibers that sleep, and one timer among a great many.
//
// Always true:
//   - The container of timers is measured without the fiber around it: a million parked fibers
//     would measure the memory of the machine instead. This file therefore includes
//     runtime/timers.hpp and is compiled from the tree, with what the installed archive holds of
//     it.
//   - Deadlines are drawn from a minute, from one seed, the same for every entry.
//
// Comes from: coir_bench.cpp.   Goes to: lateness.hpp, runtime/timers.hpp, peers.hpp.
#include <memory>
#include <random>

#include "bench/lateness.hpp"
#include "bench/peers.hpp"
#include "bench/raw_switch.hpp"
#include "bench/rows.hpp"
#include "bench/timer_heap.hpp"
#include "runtime/timers.hpp"

namespace bench {

namespace {

sample coir_sleep(const sleep_plan& plan) {
  return on_coir([&] {
    std::vector<coir::handle<void>> fibers;
    fibers.reserve(plan.fibers);
    const counting counts;
    sample got = measure_sleepers(plan, [&](lateness* late) {
      for (std::size_t i = 0; i < plan.fibers; ++i)
        fibers.push_back(coir::spawn([&plan, late] {
          for (unsigned n = 0; n < plan.times; ++n) {
            const std::int64_t began = late != nullptr ? now_ns() : 0;
            sure(coir::this_fiber::sleep_for(std::chrono::nanoseconds(plan.each_ns)));
            if (late != nullptr) late->add(now_ns() - began - plan.each_ns);
          }
        }));
      for (auto& fiber : fibers) sure(fiber.join());
      fibers.clear();
    });
    got.per_operation = counts.per(3.0 * plan.times * static_cast<double>(plan.fibers));
    return got;
  });
}

constexpr std::int64_t span_ns = 60'000'000'000;

/// Deadlines for every timer and one more for each act.
std::vector<std::int64_t> draw(std::size_t count) {
  std::mt19937_64 random(7);
  std::uniform_int_distribution<std::int64_t> within(1, span_ns);
  std::vector<std::int64_t> all(count);
  for (auto& one : all) one = within(random);
  return all;
}

/// One more timer comes and goes, as around an operation with a deadline that does not fire.
template <class Timer, class Timers>
double pass_ns(Timers& timers, std::size_t others, std::size_t acts) {
  const std::vector<std::int64_t> deadlines = draw(others + acts);
  std::vector<Timer> all(others);
  for (std::size_t i = 0; i < others; ++i) timers.arm(all[i], deadlines[i]);
  Timer mine;
  return fastest_ns(static_cast<double>(acts), [&] {
    for (std::size_t i = 0; i < acts; ++i) {
      timers.arm(mine, deadlines[others + i]);
      timers.cancel(mine);
    }
  });
}

/// Any of them all is cancelled and armed anew: nothing is in the cache.
template <class Timer, class Timers>
double any_ns(Timers& timers, std::size_t others, std::size_t acts) {
  const std::vector<std::int64_t> deadlines = draw(others + acts);
  std::vector<Timer> all(others);
  for (std::size_t i = 0; i < others; ++i) timers.arm(all[i], deadlines[i]);
  return fastest_ns(static_cast<double>(acts), [&] {
    for (std::size_t i = 0; i < acts; ++i) {
      Timer& one = all[static_cast<std::size_t>(deadlines[others + i]) % others];
      timers.cancel(one);
      timers.arm(one, deadlines[others + i]);
    }
  });
}

row timer_row(const settings& chosen, bool any) {
  const std::size_t others = chosen.many;
  constexpr std::size_t acts = 100'000;
  row one{any ? "timer/1000000/any" : "timer/1000000",
          any ? "cancel and arm anew any one of a million timers"
              : "arm and cancel one timer among a million",
          {{"pair", "ns"}},
          {{"coir's wheel", role::ours,
            [=] {
              const auto wheel = std::make_unique<coir::detail::timers>(0);
              return sample(any ? any_ns<coir::detail::timer>(*wheel, others, acts)
                                : pass_ns<coir::detail::timer>(*wheel, others, acts));
            }},
           {"heap by hand", role::raw,
            [=] {
              timer_heap heap;
              return sample(any ? any_ns<heap_timer>(heap, others, acts)
                                : pass_ns<heap_timer>(heap, others, acts));
            }},
           go_entry(chosen, std::string(any ? "timer_any " : "timer ") + std::to_string(others))},
          {{reach::kind::at_most, 60}}};
  one.rounds_most = 3;
  one.smaller = others != 1'000'000;
  one.note = "compiled from the tree: the container alone";
  return one;
}

}  // namespace

void add_sleep(rows& to, const settings& chosen) {
  const sleep_plan plan{chosen.many / 10, 10, 1'000'000};
  row one{
      "sleep/100000x10",
      "100,000 fibers sleep 1 ms ten times",
      {{"CPU", "ms"}, {"wall", "ms"}, {"p99 lateness", "us", false}},
      {{"coir", role::ours, [=] { return coir_sleep(plan); }},
       {"one queue by hand", role::raw, [=] { return raw_sleep(plan); },
        raw::has_switch ? "" : "a switch for this CPU"},
       {"Boost.Fiber", role::peer, [=] { return boost_fiber_sleep(plan); }, boost_fiber_package, 1},
       {"State Threads", role::peer, [=] { return state_threads_sleep(plan); },
        state_threads_package, 2},
       go_entry(chosen, "sleep " + std::to_string(plan.fibers) + " " + std::to_string(plan.times) +
                            " " + std::to_string(plan.each_ns))},
      {{reach::kind::at_most, 150}}};
  one.rounds_most = 5;
  one.entries.back().rounds_most = 2;
  one.smaller = plan.fibers != 100'000;
  if (one.smaller) one.note = "with " + std::to_string(plan.fibers) + " fibers in this run";
  to.push_back(std::move(one));
}

void add_timer(rows& to, const settings& chosen) {
  to.push_back(timer_row(chosen, false));
  to.push_back(timer_row(chosen, true));
}

}  // namespace bench
