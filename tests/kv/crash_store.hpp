// crash_store.hpp: the power cuts of crash_disk.hpp for the whole store: callers, machine, journal
// and table, and what a store that is opened on the rest finds.
//
// Always true:
//   - A key is written once and erased at most once, so for each one an answer says all there is to
//     know.
#pragma once

#include <functional>

#include "crash_disk.hpp"
#include "kv/store.hpp"

namespace kv_test {

/// One caller: writes keys of its own, now and then erases one of them or resets the store.
inline coir::result<> write_keys(kv::store& s, steps& log, std::uint64_t own_seed) {
  std::mt19937_64 random(own_seed);
  std::vector<std::string> mine;
  for (int i = 0; i < 6; ++i) {
    const auto dice = random() % 16;
    if (dice == 0) {
      log.push_back({.what = step::kind::reset_began});
      if (auto done = s.reset(); !done) return done;
      log.push_back({.what = step::kind::reset_acked});
    } else if (dice < 4 && !mine.empty()) {
      const std::string text = mine.back();
      mine.pop_back();
      log.push_back({.what = step::kind::erase_began, .text = text});
      std::vector<kv::change> one(1);
      one[0].what = kv::change::kind::erase;
      one[0].key = text;
      auto done = s.change_all(std::move(one));
      if (!done) return coir::fail(done.error());
      log.push_back({.what = step::kind::erase_acked, .text = text});
    } else {
      const std::string text = std::to_string(own_seed) + "-" + std::to_string(i);
      log.push_back({.what = step::kind::began, .text = text});
      if (auto done = s.write(text, text + std::string(random() % 900, 'x')); !done) return done;
      log.push_back({.what = step::kind::acked, .text = text});
      mine.push_back(text);
    }
  }
  return {};
}

/// Several callers of one worker; returns what happened.
inline steps run_store(std::uint64_t seed, kv::journal_twin twin) {
  steps log;
  auto made = kv::store::open(std::make_unique<crash_file>(log, seed), {.journal = {.twin = twin}});
  if (!made) throw std::logic_error("a store does not open");
  kv::store& s = **made;
  coir::scope callers;
  for (std::uint64_t i = 0; i < 6; ++i)
    callers.spawn([&s, &log, seed, i] { return write_keys(s, log, seed * 100 + i); },
                  {.worker = coir::this_fiber::worker()});
  if (!callers.join() || !s.close()) throw std::logic_error("a run without a power cut failed");
  if (s.counters().out_of_order != 0) throw std::logic_error("changes came out of order");
  return log;
}

/// The keys of `texts` that a store finds on `on`; each with the value that was written.
inline std::set<std::string> found_on(disk& on, const std::set<std::string>& texts,
                                      crash_tally& t) {
  std::set<std::string> found;
  auto s = kv::store::open(std::make_unique<recording_file>(on));
  if (!s) {
    ++t.unstable;
    return found;
  }
  for (const auto& text : texts) {
    const auto value = (*s)->find(text);
    if (!value) continue;
    if (!value->starts_with(text)) ++t.unstable;
    found.insert(text);
  }
  if ((*s)->counters().keys != found.size() || !(*s)->close()) ++t.unstable;
  return found;
}

/// One power cut: what a store finds on the rest, and finds again after another cut.
inline void crash_store_once(bytes left, const expectation& e, const std::set<std::string>& texts,
                             crash_tally& t) {
  disk after;
  after.cached = std::move(left);
  const auto first = found_on(after, texts, t);
  after.lose_power();
  const auto second = found_on(after, texts, t);
  t.unstable += first == second ? 0 : 1;
  ++t.points;
  t.acked += e.present.size();
  t.wiped += e.absent.size();
  for (const auto& text : e.present) t.lost += first.contains(text) ? 0 : 1;
  for (const auto& text : e.absent) t.back_from_the_dead += first.contains(text) ? 1 : 0;
}

/// Cuts the power after every step of one run, both ways.
inline void crash_store_everywhere(std::uint64_t seed, kv::journal_twin twin, crash_tallies& t) {
  const steps log = run_store(seed, twin);
  std::set<std::string> texts;
  for (const step& s : log)
    if (s.what == step::kind::began) texts.insert(s.text);
  std::mt19937_64 random(seed);
  for (std::size_t happened = 0; happened <= log.size(); ++happened) {
    const expectation e = expect_after(log, happened);
    crash_store_once(disk_after(log, happened, fate::lost, random), e, texts, t.all_lost);
    crash_store_once(disk_after(log, happened, fate::diced, random), e, texts, t.diced);
  }
}

}  // namespace kv_test
