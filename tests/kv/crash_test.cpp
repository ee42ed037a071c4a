// crash_test.cpp: no acknowledged write is lost by a power cut at any moment, and the check sees
// the losses of journals that break their promise. In simulated time, so the disk may be slow.
#include "../sim/in_sim.hpp"
#include "crash_disk.hpp"

using kv_test::crash_tallies;

namespace {

constexpr std::size_t points_wanted = 2000;

crash_tallies cut_everywhere(kv::journal_twin twin) {
  crash_tallies t;
  coir::detail::sim_world outside;
  const auto ended = sim_test::run_in_sim(outside, [&t, twin] {
    for (std::uint64_t seed = 1; seed <= 60 && t.diced.points < points_wanted; ++seed)
      kv_test::crash_everywhere(seed, twin, t);
  });
  CHECK(ended.has_value());
  for (const kv_test::crash_tally* each : {&t.all_lost, &t.diced}) {
    CHECK(each->points >= points_wanted);
    CHECK(each->acked > each->points);
    CHECK(each->wiped > 0);
  }
  CHECK(t.all_lost.points == t.diced.points);
  return t;
}

}  // namespace

TEST_CASE(
    "crash: C-T5: 2,000 power cuts, with all that was not synced lost and with its sectors torn at "
    "random, lose no acknowledged write") {
  const crash_tallies t = cut_everywhere(kv::journal_twin::none);
  for (const kv_test::crash_tally* each : {&t.all_lost, &t.diced}) {
    CHECK(each->lost == 0);
    CHECK(each->back_from_the_dead == 0);
    CHECK(each->unstable == 0);
  }
}

TEST_CASE("crash: the twin that never syncs loses acknowledged writes") {
  const crash_tallies t = cut_everywhere(kv::journal_twin::never_syncs);
  CHECK(t.all_lost.lost > t.diced.lost);
  CHECK(t.diced.lost > 0);
}

TEST_CASE("crash: the twin that answers before the disk does loses acknowledged writes") {
  const crash_tallies t = cut_everywhere(kv::journal_twin::answers_before_completion);
  CHECK(t.all_lost.lost > t.diced.lost);
  CHECK(t.diced.lost > 0);
}
