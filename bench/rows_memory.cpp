// rows_memory.cpp: what a fiber costs while it waits.
//
// Always true:
//   - Counted are the pages of the process that are in memory, and its page tables, before the
//     first fiber and after the last has parked, handles included.
//
// Comes from: coir_bench.cpp.   Goes to: peers.hpp.
#include "bench/peers.hpp"
#include "bench/rows.hpp"

namespace bench {

namespace {

double coir_parked_bytes(std::size_t count, std::size_t stack_bytes) {
  return on_coir([=] {
    coir::event open;
    std::size_t parked = 0;
    std::vector<coir::handle<void>> fibers;
    fibers.reserve(count);
    const double before = resident_bytes();
    for (std::size_t i = 0; i < count; ++i)
      fibers.push_back(coir::spawn(
          [&] {
            ++parked;
            sure(open.wait());
          },
          {.stack_bytes = stack_bytes}));
    while (parked < count) coir::this_fiber::yield();
    const double bytes = (resident_bytes() - before) / static_cast<double>(count);
    open.set();
    for (auto& fiber : fibers) sure(fiber.join());
    return bytes;
  });
}

}  // namespace

void add_memory(tables& to, const settings& chosen) {
  const std::size_t count = chosen.quick ? 10'000 : 100'000;
  table one{
      "memory of a parked fiber, " + std::to_string(count) + " of them",
      "bytes per fiber",
      {{"coir, stacks of 256 KiB with guards", [=] { return sample{coir_parked_bytes(count, 0)}; }},
       {"coir, stacks of 32 KiB with guards",
        [=] { return sample{coir_parked_bytes(count, 32 << 10)}; }},
       {"Boost.Fiber 1.81, pooled stacks of 16 KiB, no guards",
        [=] { return sample{boost_fiber_parked_bytes(count)}; }, boost_fiber_package},
       go_entry(chosen, "memory " + std::to_string(count))}};
  one.rounds_most = 3;
  to.push_back(std::move(one));
}

}  // namespace bench
