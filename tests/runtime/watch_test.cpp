// watch_test.cpp: a worker that stands still is named, once, with the fiber and the place.
//
// Always true:
//   - A fiber stands still until the test has seen the line, or has seen that there will be none,
//     so nothing depends on how fast the machine is.
//
// Comes from: runtime/watch.hpp; entries A18 and B12 of the failure catalogue.   Goes to: ctest.
#include "runtime/watch.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "tests/catalogue/child.hpp"
#include "tests/catalogue/process_facts.hpp"
#include "tests/test_options.hpp"

using namespace std::chrono_literals;
using test::tested;

namespace {

/// Lines of a log, as they come from any thread.
class lines {
 public:
  coir::options into(coir::options o) {
    o.log = [this](const coir::log_record& line) {
      const std::lock_guard held(lock_);
      all_.emplace_back(line.text);
    };
    return tested(std::move(o));
  }
  std::size_t count(std::string_view words) const {
    const std::lock_guard held(lock_);
    std::size_t n = 0;
    for (const auto& line : all_) n += line.find(words) != line.npos ? 1 : 0;
    return n;
  }
  std::string text() const {
    const std::lock_guard held(lock_);
    std::string joined;
    for (const auto& line : all_) joined += line + '\n';
    return joined;
  }

 private:
  mutable std::mutex lock_;
  std::vector<std::string> all_;
};

constexpr std::string_view still = "has stood still for";

/// Blocks its thread, as a careless call does, until `enough`.
template <class F>
__attribute__((noinline)) void block_until(F enough) {
  while (!enough()) std::this_thread::sleep_for(1ms);
}

}  // namespace

TEST_CASE("watch: B12 a standstill is told before it has lasted twice as long as is allowed") {
  using coir::detail::look_every_ns;
  constexpr std::int64_t after_ns = 1'000'000;
  // Whenever it begins between two looks.
  for (std::int64_t begins_ns = 1; begins_ns <= after_ns; begins_ns += 1'000) {
    coir::detail::standstill seen;
    std::int64_t told_ns = 0;
    unsigned told = 0;
    for (std::int64_t now_ns = 1; now_ns < 10 * after_ns; now_ns += look_every_ns(after_ns)) {
      const std::int64_t beat = now_ns < begins_ns ? now_ns : begins_ns;  // goes on until then
      if (seen.look(static_cast<std::uint64_t>(beat), true, now_ns, after_ns) == 0) continue;
      ++told;
      told_ns = now_ns;
    }
    CHECK(told == 1);
    CHECK(told_ns - begins_ns >= after_ns);
    CHECK(told_ns - begins_ns <= 2 * after_ns);
  }
}

TEST_CASE("watch: B12 whoever sleeps, or goes on, does not stand still") {
  coir::detail::standstill sleeps, goes_on;
  for (std::int64_t now_ns = 1; now_ns < 100; ++now_ns) {
    CHECK(sleeps.look(7, false, now_ns, 2) == 0);
    CHECK(goes_on.look(static_cast<std::uint64_t>(now_ns), true, now_ns, 2) == 0);
  }
}

TEST_CASE(
    "watch: B12 a fiber that blocks its worker is named, with the place, once for each time") {
  lines log;
  const auto done = coir::run(
      [&] {
        for (std::size_t times = 1; times <= 3; ++times) {
          auto blocks = coir::spawn(
              [&] {
                block_until([&] { return log.count("'careless'") == times; });
                // As long again, and longer: the same standstill is not told twice.
                const auto until = std::chrono::steady_clock::now() + 60ms;
                block_until([&] { return std::chrono::steady_clock::now() > until; });
              },
              {.name = "careless"});
          REQUIRE(blocks.join().has_value());
        }
      },
      log.into({.workers = 1, .stall_after = 20ms}));
  REQUIRE(done.has_value());
  CAPTURE(log.text());
  CHECK(log.count("'careless'") == 3);
  CHECK(log.count("watch_test.cpp") >= 3);
  CHECK(log.count("; at ") >= 3);
  CHECK(log.count("coir::blocking()") >= 3);
}

TEST_CASE("watch: B12 the same call on the offload pool stalls nobody, and the others go on") {
  lines log;
  std::atomic<unsigned> others{0};
  const auto done = coir::run(
      [&] {
        auto waits = coir::spawn(
            [&] {
              return coir::blocking([&] {
                // Until the others have had a thousand turns, and much longer than is allowed.
                const auto until = std::chrono::steady_clock::now() + 100ms;
                block_until(
                    [&] { return others > 1'000 && std::chrono::steady_clock::now() > until; });
              });
            },
            {.name = "offloads"});
        while (!waits.done()) {
          others.fetch_add(1);
          coir::this_fiber::yield();
        }
        REQUIRE(waits.join().has_value());
      },
      log.into({.workers = 1, .stall_after = 20ms}));
  REQUIRE(done.has_value());
  CHECK(others > 1'000);
  CHECK(log.count("'offloads'") == 0);
}

// The thread sanitizer has a thread of its own, so nobody there can know that all threads rest.
TEST_CASE("watch: a deadlock is still told, although one thread more is there" *
          doctest::skip(COIR_TSAN)) {
  REQUIRE(test::comes_down_to(1, &test::live_threads));
  lines log;
  coir::event never_set;
  const auto done =
      coir::run([&] { return never_set.wait(); }, log.into({.workers = 1, .stall_after = 10ms}));
  CHECK(done.error() == coir::errc::deadlock);
}

TEST_CASE("watch: A18 a std::mutex that a parked fiber holds is suspected by name") {
  const test::ending end = test::in_child([] {
    std::mutex of_the_system;
    coir::event never_set;
    coir::options o = tested({.workers = 1, .stall_after = 50ms});
    o.log = [](const coir::log_record& line) {
      const std::string text = std::string(line.text) + '\n';
      (void)!::write(STDERR_FILENO, text.data(), text.size());
      if (line.text.find(still) != line.text.npos) ::_exit(0);
    };
    (void)coir::run(
        [&] {
          bool is_held = false;
          auto holds = coir::spawn(
              [&] {
                const std::lock_guard held(of_the_system);
                is_held = true;
                (void)never_set.wait();
              },
              {.name = "holds"});
          while (!is_held) coir::this_fiber::yield();
          auto wants =
              coir::spawn([&] { const std::lock_guard held(of_the_system); }, {.name = "wants"});
          (void)wants.join();
        },
        o);
  });
  CAPTURE(end.text);
  CHECK(end.code == 0);
  CHECK(end.says("OS mutex held by a parked fiber?"));
  // The thread sanitizer keeps a signal back while its thread waits for a mutex.
  if (!COIR_TSAN) CHECK(end.says("'wants'"));
}
