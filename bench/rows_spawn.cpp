// rows_spawn.cpp: starting fibers and waiting for their end.
//
// Always true:
//   - All of a batch are spawned before the first is joined; the body counts itself, so that none
//     can be left out.
//   - The fastest of several batches counts: the first one pays for pages, the later ones find
//     records and stacks warm.
//
// Comes from: coir_bench.cpp.   Goes to: peers.hpp.
#include "bench/peers.hpp"
#include "bench/rows.hpp"

namespace bench {

namespace {

double coir_spawn_ns(const spawn_plan& plan) {
  return on_coir([&] {
    std::size_t ran = 0;
    std::vector<coir::handle<void>> fibers;
    fibers.reserve(plan.batch);
    const double ns = fastest_ns(plan.repeats, static_cast<double>(plan.timed()), [&] {
      for (std::size_t n = 0; n < plan.batches; ++n) {
        for (std::size_t i = 0; i < plan.batch; ++i)
          fibers.push_back(coir::spawn([&ran] { ++ran; }));
        for (auto& fiber : fibers) sure(fiber.join());
        fibers.clear();
      }
    });
    if (ran != plan.all()) throw std::logic_error("a fiber did not run");
    return ns;
  });
}

}  // namespace

void add_spawn(tables& to, const settings& chosen) {
  const std::size_t large = chosen.quick ? 100'000 : 1'000'000;
  for (const spawn_plan p :
       {spawn_plan{1, 10'000, 10}, spawn_plan{10'000, 1, 20}, spawn_plan{large, 1, 3}}) {
    table one{"spawn and join, " +
                  (p.batch == 1 ? "one at a time" : "batches of " + std::to_string(p.batch)),
              "ns per fiber",
              {{"coir", [=] { return sample{coir_spawn_ns(p)}; }},
               {"Boost.Fiber 1.81, pooled stacks", [=] { return sample{boost_fiber_spawn_ns(p)}; },
                boost_fiber_package}}};
    // State Threads maps every stack on its own, so a million meets vm.max_map_count.
    if (p.batch <= 10'000)
      one.entries.push_back({"State Threads", [=] { return sample{state_threads_spawn_ns(p)}; },
                             state_threads_package});
    else
      one.rounds_most = 3;
    one.entries.push_back(go_entry(chosen, "spawn " + std::to_string(p.batch) + " " +
                                               std::to_string(p.batches) + " " +
                                               std::to_string(p.repeats)));
    to.push_back(std::move(one));
  }
}

}  // namespace bench
