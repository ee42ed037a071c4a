// store_model_test.cpp: the store against a map: one caller at a time, and several at once.
//
// Always true:
//   - Both checks are shown a store that is wrong, and must say so.
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "kv/store.hpp"
#include "linear.hpp"
#include "on_fibers.hpp"
#include "program.hpp"
#include "recording_file.hpp"

using kv_test::call;
using kv_test::disk;
using kv_test::on_fibers;
using kv_test::program;

namespace {

/// A store that can lose its power.
class real_store {
 public:
  real_store() { open(); }
  void write(const std::string& key, std::int64_t value) {
    REQUIRE(store_->write(key, value).has_value());
  }
  std::optional<std::int64_t> read(const std::string& key) { return store_->read(key); }
  bool erase(const std::string& key) {
    std::vector<kv::change> one(1);
    one[0].what = kv::change::kind::erase;
    one[0].key = key;
    return store_->change_all(std::move(one)).value() == 1;
  }
  void reset() { REQUIRE(store_->reset().has_value()); }
  void restart() {
    store_.reset();
    disk_.lose_power();
    open();
  }

 private:
  void open() {
    store_ = kv::store::open(std::make_unique<kv_test::recording_file>(disk_)).value();
  }
  disk disk_;
  std::unique_ptr<kv::store> store_;
};

/// Forgets numbers from 10 on at a restart, unless there was a reset.
class forgetful_store {
 public:
  void write(const std::string& key, std::int64_t value) { values_[key] = value; }
  std::optional<std::int64_t> read(const std::string& key) {
    const auto at = values_.find(key);
    return at == values_.end() ? std::nullopt : std::optional(at->second);
  }
  bool erase(const std::string& key) { return values_.erase(key) != 0; }
  void reset() {
    values_.clear();
    was_reset_ = true;
  }
  void restart() {
    if (!was_reset_) std::erase_if(values_, [](const auto& v) { return v.second >= 10; });
  }

 private:
  std::map<std::string, std::int64_t> values_;
  bool was_reset_ = false;
};

template <class Store>
bool goes_wrong(const program& p) {
  Store s;
  return kv_test::first_wrong(s, p).has_value();
}

/// Gives every begin and end a place in one order.
class history {
 public:
  template <class F>
  void record(call c, F act) {
    c.began = next();
    act(c);
    c.ended = next();
    const std::lock_guard held(mutex_);
    calls_.push_back(c);
  }
  std::vector<call> calls() const { return calls_; }

 private:
  std::uint64_t next() {
    const std::lock_guard held(mutex_);
    return ++time_;
  }
  std::mutex mutex_;
  std::uint64_t time_ = 0;
  std::vector<call> calls_;
};

struct parallel_command {
  call what;
  unsigned worker = 0;
};
using batches = std::vector<std::vector<parallel_command>>;

batches random_batches(std::mt19937_64& random) {
  batches all;
  for (std::size_t commands = 0; commands < 16; commands += all.back().size()) {
    all.emplace_back();
    for (auto n = 2 + random() % 4; n > 0; --n) {
      const auto dice = random() >> 8;
      call c{.what = call::kind::read, .key = std::string(1, "ab"[dice % 2])};
      if (dice % 23 == 0) c = {.what = call::kind::reset};
      if (dice % 5 == 1) c.what = call::kind::erase;
      if (dice % 3 == 0)
        c = {.what = call::kind::write, .key = c.key, .value = static_cast<std::int64_t>(dice)};
      all.back().push_back({c, static_cast<unsigned>(dice / 7 % 2)});
    }
  }
  return all;
}

/// How many there were.
std::int64_t erased(kv::store& s, const std::string& key) {
  std::vector<kv::change> one(1);
  one[0].what = kv::change::kind::erase;
  one[0].key = key;
  const auto known = s.change_all(std::move(one));
  REQUIRE(known.has_value());
  return static_cast<std::int64_t>(*known);
}

/// Runs each batch at once and the batches in a row; who waits before a command, and how long, is
/// another thing each time. `read` answers a read.
template <class Read>
std::vector<call> run_batches(const batches& all, std::mt19937_64& random, kv::store& s,
                              Read read) {
  history h;
  const auto act = [&](const call& c) {
    h.record(c, [&](call& one) {
      if (one.what == call::kind::reset)
        REQUIRE(s.reset().has_value());
      else if (one.what == call::kind::write)
        REQUIRE(s.write(one.key, one.value).has_value());
      else if (one.what == call::kind::erase)
        one.answer = erased(s, one.key);
      else
        one.answer = read(one.key);
    });
  };
  for (const auto& batch : all) {
    coir::scope callers;
    for (const parallel_command& c : batch)
      callers.spawn(
          [&act, &c, turns = random() % 6, ns = random() % 5'001] {
            // Not to wait for anything: so that they begin in any order, on either worker.
            for (auto n = turns; n > 0; --n) coir::this_fiber::yield();
            (void)coir::this_fiber::sleep_for(std::chrono::nanoseconds(ns));
            act(c.what);
          },
          {.worker = c.worker});
    REQUIRE(callers.join().has_value());
  }
  return h.calls();
}

}  // namespace

TEST_CASE("store_model: C-T1: any program answers as a map would at every step") {
  on_fibers([] {
    kv_test::coverage seen;
    std::mt19937_64 random(1);
    for (int i = 0; i < test::at_full_speed(300, 60); ++i) {
      const program p = kv_test::random_program(random, 10 + static_cast<std::size_t>(i % 50));
      real_store s;
      if (!kv_test::first_wrong(s, p, &seen)) continue;
      const program least = kv_test::shrink(p, goes_wrong<real_store>);
      FAIL_CHECK("the store answers otherwise than a map: " << kv_test::text_of(least));
    }
    for (const unsigned times : {seen.present, seen.absent, seen.overwritten, seen.erased,
                                 seen.after_reset, seen.after_restart})
      CHECK(times > 20);
  });
}

TEST_CASE("store_model: C-T1: a program that goes wrong becomes a short one") {
  std::mt19937_64 random(5);
  unsigned wrong = 0;
  for (int i = 0; i < 100; ++i) {
    const program p = kv_test::random_program(random, 40);
    if (!goes_wrong<forgetful_store>(p)) continue;
    ++wrong;
    const program least = kv_test::shrink(p, goes_wrong<forgetful_store>);
    CAPTURE(kv_test::text_of(least));
    REQUIRE(least.size() == 3);
    CHECK(least[0].what == kv_test::command::kind::write);
    CHECK(least[0].value == 10);
    CHECK(least[1].what == kv_test::command::kind::restart);
  }
  CHECK(wrong > 10);
}

TEST_CASE("store_model: C-T2: every concurrent history has an order that explains it") {
  on_fibers([] {
    for (std::uint64_t seed = 1; seed <= test::at_full_speed<std::uint64_t>(40, 10); ++seed) {
      std::mt19937_64 random(seed);
      const batches all = random_batches(random);
      for (int time = 0; time < 10; ++time) {
        disk d;
        auto s = kv::store::open(std::make_unique<kv_test::recording_file>(d)).value();
        CAPTURE(seed);
        CAPTURE(time);
        const auto calls =
            run_batches(all, random, *s, [&s](const auto& key) { return s->read(key); });
        CHECK(calls.size() >= 16);
        CHECK(kv_test::is_linear(calls));
        CHECK(s->counters().out_of_order == 0);
      }
    }
  });
}

TEST_CASE("store_model: C-T2: histories of reads that come one value late are refused") {
  on_fibers([] {
    unsigned refused = 0;
    for (std::uint64_t seed = 1; seed <= 10; ++seed) {
      std::mt19937_64 random(seed);
      disk d;
      auto s = kv::store::open(std::make_unique<kv_test::recording_file>(d)).value();
      std::mutex mutex;
      std::map<std::string, std::optional<std::int64_t>> last;
      const auto late = [&](const std::string& key) {
        const auto now = s->read(key);
        const std::lock_guard held(mutex);
        return std::exchange(last[key], now);
      };
      refused += kv_test::is_linear(run_batches(random_batches(random), random, *s, late)) ? 0 : 1;
    }
    CHECK(refused > 5);
  });
}

TEST_CASE("store_model: C-T2: the checker takes legal histories and refuses impossible ones") {
  using kind = call::kind;
  const call write1{.what = kind::write, .key = "x", .value = 1, .began = 1, .ended = 4};
  const call write2{.what = kind::write, .key = "x", .value = 2, .began = 5, .ended = 6};
  const auto read = [](std::optional<std::int64_t> answer, std::uint64_t began,
                       std::uint64_t ended) {
    return call{.what = kind::read, .key = "x", .answer = answer, .began = began, .ended = ended};
  };
  const auto reset = [](std::uint64_t began, std::uint64_t ended) {
    return call{.what = kind::reset, .began = began, .ended = ended};
  };
  const auto erase = [](std::int64_t known, std::uint64_t began, std::uint64_t ended) {
    return call{.what = kind::erase, .key = "x", .answer = known, .began = began, .ended = ended};
  };
  CHECK(kv_test::is_linear({}));
  CHECK(kv_test::is_linear({write1, erase(1, 2, 6), erase(0, 3, 5), read({}, 7, 8)}));
  CHECK(kv_test::is_linear({write1, read({}, 2, 3)}));
  CHECK(kv_test::is_linear({write1, read(1, 2, 3), write2, read(2, 7, 8)}));
  CHECK(kv_test::is_linear({write1, reset(2, 9), read({}, 5, 6), read({}, 7, 8)}));

  CHECK_FALSE(kv_test::is_linear({write1, read({}, 5, 6)}));                  // forgotten
  CHECK_FALSE(kv_test::is_linear({read(1, 1, 2)}));                           // out of nothing
  CHECK_FALSE(kv_test::is_linear({write1, write2, read(1, 7, 8)}));           // stale
  CHECK_FALSE(kv_test::is_linear({write1, read(1, 2, 2), read({}, 3, 3)}));   // seen, then unseen
  CHECK_FALSE(kv_test::is_linear({write1, erase(1, 5, 6), erase(1, 5, 6)}));  // taken twice
  CHECK_FALSE(kv_test::is_linear({write1, erase(0, 5, 6)}));                  // not seen
  CHECK_FALSE(kv_test::is_linear({write1, reset(5, 6), read(1, 7, 8)}));      // back from the dead
}
