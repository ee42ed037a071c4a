// explorer_test.cpp: generated programs under every fault keep every promise; and what was broken
// on purpose is found by them, and shrinks.
//
// Always true:
//   - With a mutant on, the test fails only when that was found within its seeds and shrunk to few
//     decisions: a mutant that is killed here has been both.
#include "explorer.hpp"

#include <doctest/doctest.h>

#include "runtime/base.hpp"
#include "tests/test_options.hpp"

namespace {

constexpr std::uint64_t seeds_for_a_mutant = 10'000;
constexpr std::size_t decisions_most = 50;

bool a_mutant_is_on() {
#if defined(COIR_MUTANTS)
  return coir::detail::mutant_on != 0;
#else
  return false;
#endif
}

coir::sim::settings of(coir::sim::faults chances) {
  coir::sim::settings s{.workers = 4, .chances = chances};
  s.runtime = test::tested(s.runtime);
  s.isolate = a_mutant_is_on();
  return s;
}

void expect_none(const coir::sim::settings& s, std::uint64_t seeds,
                 const coir::sim::program& program = &explored::any_program) {
  const bool mutant = a_mutant_is_on();
  const auto r = coir::sim::explore(s, mutant ? seeds_for_a_mutant : seeds, program);
  if (mutant) MESSAGE(r.to_text());
  const bool counts = !mutant || r.decisions.size() < decisions_most;
  CHECK_MESSAGE(!(!r.ok() && counts), r.to_text());
}

}  // namespace

TEST_CASE("explorer: whatever a program does and whatever goes wrong, every promise is kept") {
  coir::sim::faults chances = coir::sim::faults::every(80);
  chances.power_cut = 1;
  expect_none(of(chances), test::at_full_speed(1500, 100));
}

TEST_CASE("explorer: where nothing goes wrong nobody is told that something did") {
  expect_none(of({}), test::at_full_speed(500, 50));
}

TEST_CASE("explorer: programs of hundreds of parts, which use numbers again, keep every promise") {
  // Where there is room for few fibers all of them may wait for room.
  const coir::sim::settings s = of({});
  const unsigned parts = s.runtime.fibers_max < 4096 ? 4 : 300;
  expect_none(s, test::at_full_speed(40, 4),
              [parts](coir::sim::world& w) { explored::any_program_of(w, parts); });
}
