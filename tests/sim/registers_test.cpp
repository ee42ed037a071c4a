// registers_test.cpp: what the library's own hop, as it was compiled, keeps for a callee: every
// register, for each of the four switchers, when fibers of all of them yield and park in turn.
//
// Always true:
//   - Each turn leaves through worker::hop and comes back by way of another fiber or of the loop;
//     tests/arch/switchers_test.cpp has the switch alone, against an oracle.
#include <doctest/doctest.h>

#include <cstdint>

#include "tests/arch/register_probe.hpp"
#include "tests/sim/in_sim.hpp"
#include "tests/test_options.hpp"

using coir::switcher;
using sim_test::run_in_sim;
using sim_world = coir::detail::sim_world;

namespace {

constexpr std::uint64_t turns = ::test::at_full_speed(25'000u, 1'000u);
constexpr std::uint64_t crowd = 10;  // of each switcher: a million turns in all

void leave(void* turn) {
  // Most go straight on to another fiber; some wait, and come back through the loop.
  if (*static_cast<const std::uint64_t*>(turn) % 50 != 0) return coir::this_fiber::yield();
  (void)coir::perform(coir::nop{});
}

}  // namespace

TEST_CASE("registers: A7 a yield or a park keeps every register of a callee, for each switcher") {
  sim_world world;
  std::uint64_t lost = 0, left = 0;
  const auto done = run_in_sim(world, [&] {
    coir::scope all;
    for (std::uint64_t i = 0; i < 4 * crowd; ++i) {
      constexpr switcher each[] = {switcher::same_thread_no_float, switcher::same_thread_float,
                                   switcher::cross_thread_no_float, switcher::cross_thread_float};
      (void)all.spawn(
          [&, i] {
            const auto wanted = coir::test::patterns_of(i);
            for (std::uint64_t turn = i; turn < i + turns; ++turn, ++left)
              lost |= coir::test::coir_test_registers_lost(&leave, &turn, wanted.data());
          },
          {.sw = each[i % 4]});
    }
    return all.join();
  });
  REQUIRE(done.has_value());
  CHECK(left == 4 * crowd * turns);
  CHECK(lost == 0);
}
