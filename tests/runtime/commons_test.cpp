// commons_test.cpp: the rooms where outsiders wait: who is let in, and who had already gone.
//
// Always true:
//   - The waiters are plain threads' ones that nobody sleeps on: only their words are looked at.
//
// Comes from: runtime/commons.hpp.   Goes to: ctest.
#include "runtime/commons.hpp"

#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <set>
#include <string>

using namespace coir::detail;

namespace {

bool woken_up(const waiter& w) { return w.word.load() != 0; }

}  // namespace

TEST_CASE("commons: room for some wakes the first that came, and only so many") {
  const auto all = std::make_unique<commons>();
  std::array<waiter, 4> w;
  for (waiter& one : w) enqueue(all->room, one);
  wake_for_room(*all, 2);
  CHECK(woken_up(w[0]));
  CHECK(woken_up(w[1]));
  CHECK_FALSE(woken_up(w[2]));
  wake_for_room(*all, 0);
  CHECK_FALSE(woken_up(w[2]));
  wake_for_room(*all, UINT32_MAX);
  CHECK(woken_up(w[2]));
  CHECK(woken_up(w[3]));
  CHECK(all->room.head == nullptr);
}

TEST_CASE("commons: one that gave up meanwhile is passed over, and the next gets its room") {
  const auto all = std::make_unique<commons>();
  std::array<waiter, 3> w;
  for (waiter& one : w) enqueue(all->room, one);
  w[0].word.store(1);  // its deadline came first
  wake_for_room(*all, 1);
  CHECK_FALSE(w[0].linked);
  CHECK(woken_up(w[1]));
  CHECK_FALSE(woken_up(w[2]));
}

TEST_CASE("commons: a waiter is ended once; the second who tries learns that it lost") {
  waiter w;
  CHECK(wake_waiter(w));
  CHECK_FALSE(wake_waiter(w));
}

TEST_CASE("commons: a record's joiners always wait in the same stripe, neighbours in others") {
  const auto all = std::make_unique<commons>();
  std::set<const join_stripe*> seen;
  record r;
  for (r.slot = 0; r.slot < commons::stripes_count; ++r.slot) {
    CHECK(&all->stripe_of(r) == &all->stripe_of(r));
    seen.insert(&all->stripe_of(r));
  }
  CHECK(seen.size() == commons::stripes_count);
  CHECK(reinterpret_cast<std::uintptr_t>(&all->stripe_of(r)) % cache_line_bytes == 0);
}

TEST_CASE("commons: a log line reaches the log that was chosen, with its severity") {
  const auto all = std::make_unique<commons>();
  std::string said;
  auto severity = coir::log_record::level::note;
  all->chosen.log = [&](const coir::log_record& line) {
    said = line.text;
    severity = line.severity;
  };
  all->log(coir::log_record::level::warning, "words");
  CHECK(said == "words");
  CHECK(severity == coir::log_record::level::warning);
}
