// crash_disk.hpp: what SIGKILL cannot show: power cuts. A journal runs over a file that writes down
// everything asked of it; afterwards the power is cut after every single step, twice: once nothing
// lands that no finished sync covers, once the dice decide for each 512-byte sector of it. The
// journal is opened on what is left.
//
// Always true:
//   - A write may land in part from the moment it was asked for; it must have landed only when a
//     sync that began after it has finished.
//   - One seed decides everything: who writes when, how long the disk takes, which sectors land.
//   - It needs fibers and nothing else, so any backend can run it.
#pragma once

#include <algorithm>
#include <coir/coir.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kv/journal.hpp"
#include "recording_file.hpp"

namespace kv_test {

inline constexpr std::size_t sector_bytes = 512;

/// One thing that happened, in the order of happening.
struct step {
  enum class kind {
    write,
    cut,
    synced,
    began,
    acked,
    reset_began,
    reset_acked,
    erase_began,
    erase_acked
  } what;
  std::uint64_t offset = 0;  // of a write; the size that a cut leaves
  bytes data = {};           // of a write
  std::string text = {};     // of began, acked and erasures
};
using steps = std::vector<step>;

/// Takes some time over everything, so that others run meanwhile.
class crash_file final : public kv::journal_file {
 public:
  crash_file(steps& log, std::uint64_t seed) : log_(log), random_(seed) {}

  coir::result<std::size_t> read_at(std::span<std::byte>, std::uint64_t) override {
    return std::size_t{0};  // new and empty
  }
  coir::result<std::size_t> write_at(std::span<const std::byte> from,
                                     std::uint64_t offset) override {
    log_.push_back(
        {.what = step::kind::write, .offset = offset, .data = {from.begin(), from.end()}});
    take_time();
    return from.size();
  }
  coir::result<> sync() override {
    take_time();
    log_.push_back({.what = step::kind::synced});
    return {};
  }
  coir::result<> truncate(std::uint64_t size) override {
    log_.push_back({.what = step::kind::cut, .offset = size});
    return sync();
  }

 private:
  void take_time() {
    for (auto turns = random_() % 4; turns > 0; --turns) coir::this_fiber::yield();
  }
  steps& log_;
  std::mt19937_64 random_;
};

/// Several fibers of one worker append and now and then reset; returns what happened.
inline steps run_writers(std::uint64_t seed, kv::journal_twin twin) {
  steps log;
  recorder seen;
  auto made = kv::journal::open(std::make_unique<crash_file>(log, seed), seen, {.twin = twin});
  if (!made) throw std::logic_error("a journal does not open");
  kv::journal& j = **made;
  const auto write_some = [&log, &j](std::uint64_t own_seed) -> coir::result<> {
    std::mt19937_64 random(own_seed);
    for (int i = 0; i < 6; ++i) {
      if (random() % 16 == 0) {
        log.push_back({.what = step::kind::reset_began});
        if (auto done = j.reset(); !done) return done;
        log.push_back({.what = step::kind::reset_acked});
        continue;
      }
      std::string text = std::to_string(own_seed) + "-" + std::to_string(i) + " ";
      text.resize(text.size() + random() % 900, 'x');
      log.push_back({.what = step::kind::began, .text = text});
      auto done = j.append(bytes_of(text));
      if (!done) return coir::fail(done.error());
      log.push_back({.what = step::kind::acked, .text = text});
    }
    return {};
  };
  coir::scope writers;
  for (std::uint64_t i = 0; i < 6; ++i)
    writers.spawn([&write_some, seed, i] { return write_some(seed * 100 + i); },
                  {.worker = coir::this_fiber::worker()});
  if (!writers.join() || !j.close()) throw std::logic_error("a run without a power cut failed");
  return log;
}

/// What becomes of sectors that no finished sync covers.
enum class fate { lost, diced };

/// The bytes on the disk when the power goes after `happened` steps.
inline bytes disk_after(const steps& log, std::size_t happened, fate unsynced,
                        std::mt19937_64& random) {
  bytes landed;
  std::vector<const step*> pending;
  const auto land = [&landed](const step& s, auto lands) {
    if (s.what == step::kind::cut) {
      if (lands()) landed.resize(std::min<std::size_t>(landed.size(), s.offset));
      return;
    }
    for (std::size_t at = 0; at < s.data.size();) {
      const std::size_t in_sector = sector_bytes - (s.offset + at) % sector_bytes;
      const std::size_t count = std::min(in_sector, s.data.size() - at);
      if (lands()) {
        landed.resize(std::max<std::size_t>(landed.size(), s.offset + at + count));
        std::copy_n(s.data.begin() + static_cast<std::ptrdiff_t>(at), count,
                    landed.begin() + static_cast<std::ptrdiff_t>(s.offset + at));
      }
      at += count;
    }
  };
  for (std::size_t i = 0; i < happened; ++i) {
    const step& s = log[i];
    if (s.what == step::kind::write || s.what == step::kind::cut) pending.push_back(&s);
    if (s.what != step::kind::synced) continue;
    for (const step* p : pending) land(*p, [] { return true; });
    pending.clear();
  }
  if (unsynced == fate::diced)
    for (const step* p : pending) land(*p, [&random] { return random() % 2 == 0; });
  return landed;
}

struct expectation {
  std::set<std::string> present, absent;
};

/// What must and what must not be found after `happened` steps; nothing is said of the rest.
inline expectation expect_after(const steps& log, std::size_t happened) {
  expectation e;
  std::set<std::string> open, acked;
  std::set<std::string> acked_before_reset;
  unsigned resets_open = 0;
  for (std::size_t i = 0; i < happened; ++i) {
    const step& s = log[i];
    switch (s.what) {
      case step::kind::began:
        if (resets_open == 0) open.insert(s.text);
        break;
      case step::kind::acked:
        acked.insert(s.text);
        if (open.contains(s.text)) e.present.insert(s.text);
        break;
      case step::kind::reset_began:
        // From here on nobody knows on which side of the reset a write is, until it is answered.
        ++resets_open;
        acked_before_reset.insert(acked.begin(), acked.end());
        e.present.clear();
        open.clear();
        break;
      case step::kind::reset_acked:
        if (--resets_open == 0)
          e.absent.insert(acked_before_reset.begin(), acked_before_reset.end());
        break;
      case step::kind::erase_began:
        e.present.erase(s.text);
        open.erase(s.text);
        break;
      case step::kind::erase_acked:
        e.absent.insert(s.text);
        break;
      default:
        break;
    }
  }
  return e;
}

struct crash_tally {
  std::size_t points = 0, acked = 0, wiped = 0, lost = 0, back_from_the_dead = 0, unstable = 0;
};

/// One power cut: what the journal finds on the rest, and finds again after another cut.
inline void crash_once(bytes left, const expectation& e, crash_tally& t) {
  disk after;
  after.cached = std::move(left);
  recorder first, second;
  if (auto j = open_journal(after, first); !j || !(*j)->close()) ++t.unstable;
  after.lose_power();
  if (auto j = open_journal(after, second); !j || !(*j)->close()) ++t.unstable;
  t.unstable += first.texts == second.texts ? 0 : 1;

  const std::set<std::string> found(first.texts.begin(), first.texts.end());
  ++t.points;
  t.acked += e.present.size();
  t.wiped += e.absent.size();
  for (const auto& text : e.present) t.lost += found.contains(text) ? 0 : 1;
  for (const auto& text : e.absent) t.back_from_the_dead += found.contains(text) ? 1 : 0;
}

/// The same crash points, counted for each fate of what was not synced.
struct crash_tallies {
  crash_tally all_lost, diced;
};

/// Cuts the power after every step of one run, both ways.
inline void crash_everywhere(std::uint64_t seed, kv::journal_twin twin, crash_tallies& t) {
  const steps log = run_writers(seed, twin);
  std::mt19937_64 random(seed);
  for (std::size_t happened = 0; happened <= log.size(); ++happened) {
    const expectation e = expect_after(log, happened);
    crash_once(disk_after(log, happened, fate::lost, random), e, t.all_lost);
    crash_once(disk_after(log, happened, fate::diced, random), e, t.diced);
  }
}

}  // namespace kv_test
