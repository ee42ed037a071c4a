// crash_store_test.cpp: the store loses no acknowledged change by a power cut at any append or
// sync.
//
// Always true:
//   - COIR_KV_CRASHES says how many cuts there are at least (each place twice: all that was not
//     synced is lost, or the dice decide); the number that there were is printed.
#include "crash_store.hpp"

#include <cstdlib>

#include "../sim/in_sim.hpp"

using kv_test::crash_tallies;

namespace {

std::size_t cuts_wanted() {
  const char* const told = std::getenv("COIR_KV_CRASHES");
  if (told != nullptr) return std::strtoul(told, nullptr, 10);
  return test::at_full_speed<std::size_t>(10'000, 1'000);
}

crash_tallies cut_everywhere(kv::journal_twin twin, std::size_t cuts) {
  crash_tallies t;
  coir::detail::sim_world outside;
  const auto ended = sim_test::run_in_sim(outside, [&t, twin, cuts] {
    for (std::uint64_t seed = 1; seed <= cuts && t.diced.points * 2 < cuts; ++seed)
      kv_test::crash_store_everywhere(seed, twin, t);
  });
  CHECK(ended.has_value());
  CHECK(t.all_lost.points + t.diced.points >= cuts);
  return t;
}

}  // namespace

TEST_CASE(
    "crash_store: C-T5, C-T6, C-T8: 10,000 power cuts, at every append and every sync, lose no "
    "acknowledged change and bring none back") {
  const crash_tallies t = cut_everywhere(kv::journal_twin::none, cuts_wanted());
  for (const kv_test::crash_tally* each : {&t.all_lost, &t.diced}) {
    CHECK(each->acked > each->points);
    CHECK(each->wiped > 0);
    CHECK(each->lost == 0);
    CHECK(each->back_from_the_dead == 0);
    CHECK(each->unstable == 0);
  }
  const std::size_t cuts = t.all_lost.points + t.diced.points;
  const std::size_t looked_for = t.all_lost.acked + t.diced.acked;
  const std::size_t lost = t.all_lost.lost + t.diced.lost;
  MESSAGE(cuts << " power cuts, " << looked_for << " acknowledged writes looked for, " << lost
               << " lost");
}

TEST_CASE("crash_store: twins of the journal that break its promise lose acknowledged writes") {
  for (const auto twin :
       {kv::journal_twin::never_syncs, kv::journal_twin::answers_before_completion}) {
    const crash_tallies t = cut_everywhere(twin, 600);
    CHECK(t.all_lost.lost > 0);
    CHECK(t.diced.lost > 0);
  }
}
