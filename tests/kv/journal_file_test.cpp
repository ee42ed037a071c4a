// journal_file_test.cpp: the journal's file as it ships, in a simulated world whose power is cut at
// every visit of its worker to the outside.
//
// Always true:
//   - Files, syncs and what a cut leaves are those of coir::sim's disk: torn sectors, files whose
//     name is gone, syncs that fail. Nothing here stands in for the file.
//   - Each world has several lives. Each one looks for what the ones before it were promised, and
//     from then on what it has found is the promise. In a life a store that failed is opened again,
//     with the power on: what the cache holds need not be on the disk.
//   - Twins that leave one sync out, or trust what they read, are caught by the same search.
#include <algorithm>
#include <chrono>
#include <coir/sim.hpp>
#include <iterator>
#include <string>
#include <utility>

#include "crash_store.hpp"
#include "on_fibers.hpp"

using coir::sim::check;
using kv::file_twin;
using kv_test::step;

namespace {

constexpr unsigned cut_lives = 3;    // and one more, which only looks
constexpr unsigned stores_most = 3;  // that are opened in one life, one after the other
constexpr std::uint64_t points_max = 1'000;

struct lives_tally {
  std::size_t lives = 0, acked = 0, wiped = 0, reached = 0, failed = 0, taken_back = 0;
};

struct twins {
  file_twin file = file_twin::none;
  kv::journal_twin journal = kv::journal_twin::none;
};

/// What one world has been asked and has promised.
struct promises {
  lives_tally& t;
  twins twin = {};
  std::uint64_t life = 0;
  kv_test::steps log = {};
  std::size_t happened = 0;      // of the log, when the power went
  bool reset_ill_fated = false;  // one was under way while a sync failed
  std::set<std::string> texts = {};
};

std::uint64_t failed_calls(const coir::sim::world& w) {
  const auto at = std::ranges::find(coir::sim::all_faults, &coir::sim::faults::io_error);
  return w.faults_seen()[static_cast<std::size_t>(at - std::begin(coir::sim::all_faults))];
}

bool reset_is_open(const kv_test::steps& log) {
  return std::ranges::count(log, step::kind::reset_began, &step::what) !=
         std::ranges::count(log, step::kind::reset_acked, &step::what);
}

/// What a store has found must be what was promised.
void take_stock(kv::store& s, promises& h) {
  for (const step& each : h.log)
    if (each.what == step::kind::began) h.texts.insert(each.text);
  std::set<std::string> found;
  for (const std::string& text : h.texts) {
    const auto value = s.find(text);
    if (!value) continue;
    check(value->starts_with(text), "a value that nobody wrote");
    found.insert(text);
  }
  check(s.counters().keys == found.size(), "a key that nobody wrote");
  const kv_test::expectation e = kv_test::expect_after(h.log, h.happened);
  for (const std::string& text : e.present)
    check(found.contains(text), "an acknowledged write is lost");
  // Of a cut whose sync failed the disk may have some sectors, so the journal ends anywhere, and
  // that may be before an erasure. The reset was answered with the failure.
  if (!std::exchange(h.reset_ill_fated, false))
    for (const std::string& text : e.absent)
      check(!found.contains(text), "what was erased is back");
  h.t.acked += e.present.size();
  h.t.wiped += e.absent.size();

  h.log.clear();
  for (const std::string& text : h.texts) {
    h.log.push_back({.what = step::kind::began, .text = text});
    h.log.push_back(
        {.what = found.contains(text) ? step::kind::acked : step::kind::erase_acked, .text = text});
  }
  h.happened = h.log.size();
}

/// Null: a fault was in the way.
std::unique_ptr<kv::store> open_store(const twins& twin) {
  auto file = kv::open_journal_file("data", "journal", twin.file);
  if (!file) return nullptr;
  auto made = kv::store::open(std::move(*file), {.journal = {.twin = twin.journal}});
  return made ? std::move(*made) : nullptr;
}

void note_failures(const coir::sim::world& w, promises& h, std::uint64_t failed_before) {
  if (failed_calls(w) != failed_before && reset_is_open(h.log)) h.reset_ill_fated = true;
}

/// Six callers, until the power is cut: after `point` visits of the worker to the outside, or when
/// they have ended. True: the visits came first.
bool live_until_cut(coir::sim::world& w, promises& h, std::uint64_t point) {
  const std::uint64_t failed_before = failed_calls(w);
  bool over = false, reached = false;
  const bool whole = w.run([&] {
    const std::uint64_t begun = w.steps();
    coir::scope all;
    all.spawn([&]() -> coir::result<> {
      while (!over && w.steps() - begun < point) coir::this_fiber::yield();
      reached = !over;
      // Who still has an answer to hear may go on for a while: what they begin does not count.
      h.happened = h.log.size();
      w.crash();
      return {};
    });
    for (unsigned stores = 0; stores < stores_most; ++stores) {
      const auto s = open_store(h.twin);
      if (s == nullptr) continue;
      note_failures(w, h, failed_before);
      take_stock(*s, h);
      // No key of an earlier one: each is written once, see crash_store.hpp.
      const std::uint64_t own_seed = (w.choose(10'000) * 10 + h.life++) * 100;
      coir::scope callers;
      for (std::uint64_t i = 0; i < 6; ++i)
        callers.spawn([&, i] { return kv_test::write_keys(*s, h.log, own_seed + i); });
      const auto went_well = callers.join();
      h.t.taken_back += s->log().counters().failed_writes;
      if (went_well) break;
      h.happened = h.log.size();
      ++h.t.failed;
    }
    over = true;
    (void)all.join();
  });
  check(!whole, "the power was not cut");
  h.log.resize(h.happened);
  note_failures(w, h, failed_before);
  ++h.t.lives;
  return reached;
}

/// One world: the first life is cut at `point`, those after it anywhere.
void lives_of_a_store(coir::sim::world& w, lives_tally& t, const twins& twin, std::uint64_t point) {
  promises h{.t = t, .twin = twin};
  t.reached += live_until_cut(w, h, point) ? 1 : 0;
  for (unsigned life = 1; life < cut_lives; ++life) (void)live_until_cut(w, h, w.choose(100));
  w.stop_faults();
  w.run([&h] {
    const auto s = open_store(h.twin);
    check(s != nullptr, "it cannot be opened");
    take_stock(*s, h);
  });
}

/// Every point at which the first life can be cut, `seeds` worlds for each, until one has failed.
coir::sim::report cut_everywhere(const twins& twin, std::uint64_t seeds, lives_tally& t) {
  coir::sim::settings s{.chances = coir::sim::faults::every(10),
                        .delay_max = std::chrono::nanoseconds(1'000)};
  if (twin.file != file_twin::none || twin.journal != kv::journal_twin::none) s.shrink_runs = 0;
  coir::sim::report last;
  std::size_t before = 0;
  for (std::uint64_t point = 0; point < points_max; ++point, s.seed += seeds) {
    before = t.reached;
    last = coir::sim::explore(
        s, seeds, [&t, twin, point](coir::sim::world& w) { lives_of_a_store(w, t, twin, point); });
    if (!last.ok() || t.reached == before) break;
  }
  if (last.ok()) CHECK(t.reached == before);  // there was no further point
  return last;
}

}  // namespace

TEST_CASE(
    "journal_file: C-T5, C-T6, C-T11: wherever the power is cut, also while syncs fail, the file "
    "that ships loses no acknowledged change and brings none back") {
  lives_tally t;
  const auto report = cut_everywhere({}, test::at_full_speed<unsigned>(8, 1), t);
  CHECK_MESSAGE(report.ok(), report.to_text());
  CHECK(t.acked > t.lives);
  CHECK(t.wiped > 0);
  CHECK(t.failed > 0);
  CHECK(t.taken_back > 0);
  MESSAGE(t.lives << " lives that were cut, " << t.reached << " first ones in their middle, "
                  << t.acked << " acknowledged writes looked for, " << t.failed
                  << " stores opened again after a failure, " << t.taken_back
                  << " writes that failed and were taken back");
}

TEST_CASE(
    "journal_file: a twin that leaves one of its syncs out, or trusts what it reads, is caught") {
  struct {
    twins twin;
    std::string what;
  } const all[] = {{{.file = file_twin::appends_unsynced}, "is lost"},
                   {{.file = file_twin::cuts_unsynced}, "is back"},
                   {{.file = file_twin::folder_unsynced}, "is lost"},
                   {{.journal = kv::journal_twin::trusts_what_it_reads}, "is lost"},
                   {{.journal = kv::journal_twin::keeps_its_numbers}, "is back"}};
  for (const auto& each : all) {
    CAPTURE(static_cast<int>(each.twin.file));
    CAPTURE(static_cast<int>(each.twin.journal));
    lives_tally t;
    const auto report = cut_everywhere(each.twin, 16, t);
    REQUIRE_FALSE(report.ok());
    CHECK(report.is == coir::sim::verdict::failed_check);
    CHECK_MESSAGE(report.text.find(each.what) != std::string::npos, report.text);
    MESSAGE("caught in life " << t.lives);
  }
}

TEST_CASE(
    "journal_file: C-T11: a runtime that does not take truncations empties the file as well") {
  const kv_test::folder here;
  const auto ended = coir::run(
      [&here] {
        auto s = kv::store::open(here.path()).value();
        REQUIRE(s->write("x", 1).has_value());
        REQUIRE(s->reset().has_value());
        CHECK(std::filesystem::file_size(here.path() + "/journal") == 0);
        REQUIRE(s->write("y", 2).has_value());
        s = nullptr;
        s = kv::store::open(here.path()).value();
        CHECK_FALSE(s->read("x").has_value());
        CHECK(s->read("y") == 2);
      },
      test::tested({.workers = 1, .hardened_ring = true}));
  CHECK_MESSAGE(ended.has_value(), ended.error().message());
}
