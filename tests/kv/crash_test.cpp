// crash_test.cpp: no acknowledged write is lost by a power cut at any moment, and the check sees
// the losses of journals that break their promise. In simulated time, so the disk may be slow.
#include "../sim/in_sim.hpp"
#include "crash_disk.hpp"

using kv_test::crash_tally;

namespace {

constexpr std::size_t points_wanted = 2000;

crash_tally cut_everywhere(kv::journal_twin twin) {
  crash_tally t;
  coir::detail::sim_world outside;
  const auto ended = sim_test::run_in_sim(outside, [&t, twin] {
    for (std::uint64_t seed = 1; seed <= 60 && t.points < points_wanted; ++seed)
      kv_test::crash_everywhere(seed, twin, t);
  });
  CHECK(ended.has_value());
  CHECK(t.points >= points_wanted);
  CHECK(t.acked > t.points);
  CHECK(t.wiped > 0);
  return t;
}

}  // namespace

TEST_CASE("crash: C-T5: 2,000 power cuts, sectors torn at random, lose no acknowledged write") {
  const crash_tally t = cut_everywhere(kv::journal_twin::none);
  CHECK(t.lost == 0);
  CHECK(t.back_from_the_dead == 0);
  CHECK(t.unstable == 0);
}

TEST_CASE("crash: the twin that never syncs loses acknowledged writes") {
  CHECK(cut_everywhere(kv::journal_twin::never_syncs).lost > 0);
}

TEST_CASE("crash: the twin that answers before the disk does loses acknowledged writes") {
  CHECK(cut_everywhere(kv::journal_twin::answers_before_completion).lost > 0);
}
