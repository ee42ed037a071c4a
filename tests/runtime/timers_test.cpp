// timers_test.cpp: the wheel of timers.hpp against std::multimap, and at its edges.
//
// Always true:
//   - Time is a number that the test chooses; no clock is read.
//   - Random programs come from fixed seeds, so a failure repeats.
//
// Comes from: runtime/timers.hpp.   Goes to: ctest.
#include "runtime/timers.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <vector>

namespace {
using coir::detail::timer;
using coir::detail::timers;

constexpr std::int64_t far_away = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t day_ns = 86'400'000'000'000;

/// The promises of timers.hpp in the plainest form: an ordered map, equals in the order of arming.
class model {
 public:
  explicit model(std::int64_t now_ns) : time_ns_(now_ns) {}

  void arm(timer* one, std::int64_t deadline_ns) {
    where_[one] = armed_.emplace(std::max(deadline_ns, time_ns_), one);
  }
  void cancel(timer* one) {
    const auto at = where_.find(one);
    if (at == where_.end()) return;
    armed_.erase(at->second);
    where_.erase(at);
  }
  timer* expire(std::int64_t now_ns) {
    now_ns = std::max(now_ns, time_ns_);
    if (armed_.empty() || armed_.begin()->first > now_ns) {
      time_ns_ = now_ns;
      return nullptr;
    }
    timer* const due = armed_.begin()->second;
    time_ns_ = armed_.begin()->first;
    cancel(due);
    return due;
  }
  std::int64_t earliest() const { return armed_.empty() ? far_away : armed_.begin()->first; }
  std::size_t size() const { return armed_.size(); }
  bool armed(timer* one) const { return where_.count(one) != 0; }

 private:
  std::int64_t time_ns_;
  std::multimap<std::int64_t, timer*> armed_;
  std::map<timer*, std::multimap<std::int64_t, timer*>::iterator> where_;
};

/// Mostly deadlines near `now_ns`, of every magnitude, many of them equal; some behind it.
std::int64_t some_deadline(std::mt19937_64& random, std::int64_t now_ns) {
  const std::uint64_t distance = random() >> (random() % 64);
  switch (random() % 16) {
    case 0:
      return now_ns - static_cast<std::int64_t>(distance >> 1);
    case 1:
      return far_away - static_cast<std::int64_t>(random() % 3);
    case 2:
      return now_ns;
    case 3:
      return now_ns + static_cast<std::int64_t>(random() % 4);
    default:
      break;
  }
  const auto ahead = static_cast<std::int64_t>(distance >> 1);
  return ahead > far_away - now_ns ? far_away : now_ns + ahead;
}

void run_program(std::uint64_t seed, unsigned steps, std::size_t count, std::int64_t now_ns) {
  std::mt19937_64 random(seed);
  std::vector<timer> all(count);
  timers wheel(now_ns);
  model expected(now_ns);
  for (unsigned step = 0; step < steps; ++step) {
    timer& one = all[random() % count];
    const std::uint64_t act = random() % 16;
    if (act < 8) {
      const std::int64_t deadline_ns = some_deadline(random, now_ns);
      wheel.cancel(one);
      expected.cancel(&one);
      wheel.arm(one, deadline_ns);
      expected.arm(&one, deadline_ns);
    } else if (act < 11) {
      wheel.cancel(one);
      expected.cancel(&one);
    } else {
      // Forward by any magnitude, not at all, to the earliest deadline, or (ignored) backwards.
      std::int64_t to_ns = now_ns;
      if (act == 12) to_ns = some_deadline(random, now_ns);
      if (act == 13) to_ns = wheel.next_deadline();
      if (act >= 14) to_ns = now_ns + static_cast<std::int64_t>(random() >> (24 + random() % 40));
      if (to_ns > far_away / 2) to_ns = now_ns;
      timer* due;
      do {
        due = wheel.expire(to_ns);
        REQUIRE(due == expected.expire(to_ns));
        if (due != nullptr) REQUIRE_FALSE(due->armed());
      } while (due != nullptr && random() % 8 != 0);
      if (due == nullptr) REQUIRE(wheel.next_deadline() > to_ns);
      now_ns = std::max(now_ns, to_ns);
    }
    REQUIRE(wheel.size() == expected.size());
    REQUIRE(one.armed() == expected.armed(&one));
    REQUIRE(wheel.next_deadline() <= expected.earliest());
    REQUIRE((wheel.next_deadline() == far_away || wheel.size() != 0));
    if (wheel.size() <= 16) REQUIRE(wheel.next_deadline() == expected.earliest());
  }
}
}  // namespace

TEST_CASE("timers: random programs agree with an ordered map") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    run_program(seed, 4'000, seed % 2 != 0 ? 12 : 400, 0);
    run_program(seed, 4'000, seed % 2 != 0 ? 400 : 12, 1'700'000'000'000'000'000);
    run_program(seed, 2'000, 60, static_cast<std::int64_t>(seed) * day_ns - 1);
  }
}

TEST_CASE("timers: nobody wakes for a slot that is empty by now, however many there were in it") {
  for (const std::size_t count : {1, 16, 17, 400}) {
    CAPTURE(count);
    std::vector<timer> all(count);
    timer later;
    timers wheel(0);
    constexpr std::int64_t slot_ns = std::int64_t{1} << 30;
    for (std::size_t i = 0; i < count; ++i)
      wheel.arm(all[i], slot_ns + 1'000 * static_cast<std::int64_t>(i + 1));
    wheel.arm(later, 3 * slot_ns + 5);
    CHECK(wheel.next_deadline() >= slot_ns);
    wheel.cancel(all[0]);
    CHECK(wheel.next_deadline() >= slot_ns);
    for (timer& each : all) wheel.cancel(each);
    CHECK(wheel.next_deadline() == 3 * slot_ns + 5);
    CHECK(wheel.expire(slot_ns) == nullptr);
    CHECK(wheel.next_deadline() == 3 * slot_ns + 5);
  }
}

TEST_CASE("timers: each wake-up brings a timer or the time of a later one") {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<timer> all(100);
    timers wheel(0);
    for (timer& each : all)
      wheel.arm(each, static_cast<std::int64_t>(random() >> (20 + random() % 40)));
    std::int64_t now_ns = 0;
    while (wheel.size() != 0) {
      wheel.cancel(all[random() % all.size()]);
      if (random() % 4 == 0) (void)wheel.next_deadline();
      if (wheel.size() == 0 || random() % 4 != 0) continue;
      now_ns = std::max(now_ns, wheel.next_deadline());
      if (wheel.expire(now_ns) == nullptr && wheel.size() != 0)
        REQUIRE(wheel.next_deadline() > now_ns);
    }
  }
}

TEST_CASE("timers: equal deadlines expire in the order of arming, however they were reached") {
  // The same deadline is armed from many moments, so its timers enter at every level.
  constexpr std::int64_t deadline_ns = (std::int64_t{1} << 61) + 12'345'678'901'234'567;
  std::array<timer, 62> all;
  timers wheel(0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    wheel.arm(all[i], deadline_ns);
    CHECK(wheel.expire(deadline_ns - (std::int64_t{1} << (61 - i))) == nullptr);
  }
  for (timer& each : all) REQUIRE(wheel.expire(deadline_ns) == &each);
  CHECK(wheel.expire(far_away) == nullptr);
}

TEST_CASE("timers: a deadline in the past is due at once, before all later ones") {
  std::array<timer, 4> all;
  timers wheel(1'000);
  wheel.arm(all[0], 1'001);
  wheel.arm(all[1], 999);
  wheel.arm(all[2], std::numeric_limits<std::int64_t>::min());
  wheel.arm(all[3], 1'000);
  CHECK(wheel.next_deadline() == 1'000);
  CHECK(wheel.expire(1'000) == &all[1]);
  CHECK(wheel.expire(1'000) == &all[2]);
  CHECK(wheel.expire(1'000) == &all[3]);
  CHECK(wheel.expire(1'000) == nullptr);
  CHECK(wheel.next_deadline() == 1'001);
}

TEST_CASE("timers: time that goes back or stands still fires nothing early and nothing twice") {
  timer one;
  timers wheel(1'000);
  CHECK(wheel.expire(500) == nullptr);
  wheel.arm(one, 1'500);
  CHECK(wheel.expire(1'499) == nullptr);
  CHECK(wheel.expire(1'499) == nullptr);
  CHECK(wheel.expire(3) == nullptr);
  CHECK(wheel.expire(1'500) == &one);
  CHECK(wheel.expire(1'500) == nullptr);
  CHECK(wheel.size() == 0);
}

TEST_CASE("timers: a jump of days, and the last moment there is") {
  std::array<timer, 3> all;
  timers wheel(5);
  wheel.arm(all[0], far_away);
  wheel.arm(all[1], 5 + 30 * day_ns);
  wheel.arm(all[2], 6);
  CHECK(wheel.expire(400 * day_ns) == &all[2]);
  CHECK(wheel.expire(400 * day_ns) == &all[1]);
  CHECK(wheel.expire(400 * day_ns) == nullptr);
  CHECK(wheel.next_deadline() == far_away);
  CHECK(wheel.size() == 1);
  CHECK(wheel.expire(far_away - 1) == nullptr);
  CHECK(wheel.expire(far_away) == &all[0]);
  CHECK(wheel.expire(far_away) == nullptr);
  wheel.arm(all[0], 7);  // the end of time is still a time
  CHECK(wheel.expire(far_away) == &all[0]);
}

TEST_CASE("timers: cancel works at every place of a slot, and on a timer that is not armed") {
  for (std::size_t leaving = 0; leaving < 4; ++leaving) {
    std::array<timer, 4> all;
    timers wheel(0);
    wheel.cancel(all[0]);
    for (timer& each : all) wheel.arm(each, 1'000'000);
    wheel.cancel(all[leaving]);
    wheel.cancel(all[leaving]);
    CHECK_FALSE(all[leaving].armed());
    CHECK(wheel.size() == 3);
    for (std::size_t i = 0; i < 4; ++i)
      if (i != leaving) CHECK(wheel.expire(1'000'000) == &all[i]);
    CHECK(wheel.expire(2'000'000) == nullptr);
  }
}

TEST_CASE("timers: zeroed memory is a timer that is not armed") {
  alignas(timer) std::array<unsigned char, sizeof(timer)> memory{};
  timer& one = *std::bit_cast<timer*>(memory.data());
  timers wheel(0);
  CHECK_FALSE(one.armed());
  wheel.cancel(one);
  wheel.arm(one, 3);
  CHECK(wheel.expire(3) == &one);
}

TEST_CASE("timers: the moment to wake is exact for few timers and early, never late, for many") {
  std::vector<timer> all(1'000);
  timers wheel(0);
  std::int64_t earliest_ns = far_away;
  std::mt19937_64 random(7);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto deadline_ns = 1'100'000'000 + static_cast<std::int64_t>(random() % 500'000'000);
    wheel.arm(all[i], deadline_ns);
    earliest_ns = std::min(earliest_ns, deadline_ns);
    if (i < 16) CHECK(wheel.next_deadline() == earliest_ns);
    CHECK(wheel.next_deadline() <= earliest_ns);
  }
  // A sleeper that only ever wakes when told to reaches the first deadline in few steps.
  int wakes = 0;
  for (;; ++wakes) {
    const std::int64_t wake_ns = wheel.next_deadline();
    REQUIRE(wake_ns <= earliest_ns);
    if (const timer* const due = wheel.expire(wake_ns)) {
      CHECK(due->deadline_ns == earliest_ns);
      break;
    }
    REQUIRE(wakes < 5);
  }
  for (timer& each : all) wheel.cancel(each);
  CHECK(wheel.next_deadline() == far_away);
}

TEST_CASE("timers: a million sleepers wake in order, each once, and cancelled ones never") {
  constexpr std::size_t count = 1'000'000;
  const auto all = std::make_unique<timer[]>(count);
  std::mt19937_64 random(11);
  timers wheel(day_ns);
  for (std::size_t i = 0; i < count; ++i)
    wheel.arm(all[i], day_ns + static_cast<std::int64_t>(random() % 10'000'000'000));
  for (std::size_t i = 0; i < count; i += 3) wheel.cancel(all[i]);
  std::size_t woken = 0;
  std::int64_t last_ns = 0;
  bool ordered = true;
  bool due_only = true;
  bool kept_only = true;
  for (std::int64_t now_ns = day_ns; wheel.size() != 0; now_ns += 7'000'003) {
    while (const timer* const due = wheel.expire(now_ns)) {
      ordered &= last_ns <= due->deadline_ns;
      due_only &= due->deadline_ns <= now_ns && due->deadline_ns > now_ns - 7'000'003;
      kept_only &= (due - all.get()) % 3 != 0;
      last_ns = due->deadline_ns;
      ++woken;
    }
  }
  CHECK(woken == count - (count + 2) / 3);
  CHECK(ordered);
  CHECK(due_only);
  CHECK(kept_only);
}
