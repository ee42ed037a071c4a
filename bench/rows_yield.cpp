// rows_yield.cpp: fibers of one worker that yield in turn.
//
// Always true:
//   - "One call site": all fibers run the same loop. "Two": each of the two has a loop of its own,
//     so that the processor sees two places to return to.
//
// Comes from: coir_bench.cpp.   Goes to: yield_ring.hpp, peers.hpp.
#include "bench/peers.hpp"
#include "bench/rows.hpp"
#include "bench/yield_ring.hpp"

namespace bench {

namespace {

double coir_yield_ns(const ring_plan& plan, bool two_sites) {
  return on_coir([&] {
    yield_ring ring(plan);
    const auto yield = [] { coir::this_fiber::yield(); };
    std::vector<coir::handle<void>> fibers;
    for (unsigned i = 0; i < plan.fibers; ++i) {
      if (two_sites && i % 2 == 1)
        fibers.push_back(coir::spawn([&ring, i, yield] { ring.walk<1>(i, yield); }));
      else
        fibers.push_back(coir::spawn([&ring, i, yield] { ring.walk<0>(i, yield); }));
    }
    for (auto& fiber : fibers) sure(fiber.join());
    return ring.per_switch_ns();
  });
}

entry coir_entry(const ring_plan& plan, bool two_sites) {
  return {"coir", [=] { return sample{coir_yield_ns(plan, two_sites)}; }};
}

entry boost_entry(const ring_plan& plan, bool two_sites) {
  return {"Boost.Fiber 1.81", [=] { return sample{boost_fiber_yield_ns(plan, two_sites)}; },
          boost_fiber_package};
}

entry state_threads_entry(const ring_plan& plan) {
  return {"State Threads (signal the next, wait)",
          [=] { return sample{state_threads_yield_ns(plan)}; }, state_threads_package};
}

entry go_entry_of(const settings& chosen, const ring_plan& plan) {
  return go_entry(chosen, "yield " + std::to_string(plan.fibers) + " " + std::to_string(plan.laps));
}

}  // namespace

void add_yield(tables& to, const settings& chosen) {
  const unsigned switches = chosen.quick ? 200'000 : 2'000'000;
  const ring_plan two{2, switches / 2};
  to.push_back({"yield, 2 fibers at one call site",
                "ns per switch",
                {coir_entry(two, false), boost_entry(two, false), state_threads_entry(two),
                 go_entry_of(chosen, two)}});
  to.push_back({"yield, 2 fibers at two call sites",
                "ns per switch",
                {coir_entry(two, true), boost_entry(two, true)}});
  for (const unsigned fibers : {1'000u, 10'000u}) {
    const ring_plan many{fibers, std::max(switches / fibers, 10u)};
    to.push_back({"yield among " + std::to_string(fibers) + " fibers",
                  "ns per switch",
                  {coir_entry(many, false), boost_entry(many, false), state_threads_entry(many),
                   go_entry_of(chosen, many)}});
  }
}

}  // namespace bench
