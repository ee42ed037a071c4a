// worker_test.cpp: one core: whose turn it is, for how long, what belongs to a fiber, and what a
// worker looks at before it sleeps.
//
// Always true:
//   - Where time or order matters the backend is the test's own, so both are exact.
//
// Comes from: runtime/worker.hpp.   Goes to: ctest.
#include "runtime/worker.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "runtime/perform.hpp"
#include "scripted_backend.hpp"

using namespace coir::detail;
using scripted::script;

namespace {

void perform_nop() {
  io_uring_sqe e{};
  e.opcode = IORING_OP_NOP;
  e.fd = -1;
  CHECK(perform_entry(e, never_ns) == 0);
}

/// How often a fiber can yield while another one's two NOPs are with the backend; at most 10,000.
/// The first of them may profit from the first look at the clock, which always ends a turn.
unsigned yields_during_a_nop(script& s, coir::options o) {
  s.answer_all(0);
  unsigned yields = 0;
  CHECK_FALSE(scripted::run(
      s,
      [&] {
        bool done = false;
        auto a = coir::spawn([&] {
          perform_nop();
          perform_nop();
          done = true;
        });
        while (!done && yields < 10'000) {
          coir::this_fiber::yield();
          ++yields;
        }
        CHECK(a.join().has_value());
      },
      std::move(o)));
  return yields;
}

std::uint64_t switches_of_ten_nops() {
  const worker& here = *worker::current();
  const std::uint64_t before = here.switches();
  for (int i = 0; i < 10; ++i) perform_nop();
  return here.switches() - before;
}

}  // namespace

TEST_CASE("worker: errno's value is the fiber's own across every park") {
  script s;
  s.answer_all(0);
  unsigned wrong = 0;
  CHECK_FALSE(scripted::run(s, [&] {
    std::vector<coir::handle<void>> all;
    for (int mine = 1; mine <= 16; ++mine)
      all.push_back(coir::spawn([&, mine] {
        for (int i = 0; i < 50; ++i) {
          errno = mine;
          coir::this_fiber::yield();
          if (errno != mine) ++wrong;
          errno = mine;
          perform_nop();
          if (errno != mine) ++wrong;
        }
      }));
    errno = 99;
    for (auto& h : all) CHECK(h.join().has_value());
    CHECK(errno == 99);
  }));
  CHECK(wrong == 0);
}

TEST_CASE("worker: ready fibers run first in, first out") {
  script s;
  std::string order;
  CHECK_FALSE(scripted::run(s, [&] {
    std::vector<coir::handle<void>> all;
    coir::event gate;
    unsigned waiting = 0;
    for (const char name : {'a', 'b', 'c'})
      all.push_back(coir::spawn([&, name] {
        ++waiting;
        CHECK(gate.wait().has_value());
        for (int i = 0; i < 3; ++i) {
          order += name;
          coir::this_fiber::yield();
        }
      }));
    while (waiting != 3) coir::this_fiber::yield();
    gate.set();
    for (auto& h : all) CHECK(h.join().has_value());
  }));
  CHECK(order == "abcabcabc");
}

TEST_CASE("worker: unstarted fibers get at least every eighth pick, however busy the others are") {
  script s;
  unsigned yields = 0;
  CHECK_FALSE(scripted::run(s, [&] {
    bool started = false;
    auto h = coir::spawn([&] { started = true; });
    for (; !started && yields < 1'000; ++yields) coir::this_fiber::yield();
    CHECK(h.join().has_value());
  }));
  CHECK(yields <= 8);
}

TEST_CASE("worker: join of an unstarted fiber starts it at once, before those that came earlier") {
  script s;
  std::string order;
  CHECK_FALSE(scripted::run(s, [&] {
    auto a = coir::spawn([&] { order += 'a'; });
    auto b = coir::spawn([&] { order += 'b'; });
    auto c = coir::spawn([&] { order += 'c'; });
    CHECK(c.join().has_value());
    CHECK(a.join().has_value());
    CHECK(b.join().has_value());
  }));
  CHECK(order == "cab");
}

TEST_CASE("worker: after run_budget switches the loop is visited, and completions are heard") {
  script s;
  CHECK(yields_during_a_nop(s, {.run_budget = 32}) <= 5 * 32);
}

TEST_CASE("worker: after 200 us the loop is visited, whatever the budget") {
  script s;
  s.tick_ns = 50'000;
  CHECK(yields_during_a_nop(s, {.run_budget = 65'536}) <= 20 * 32);
}

TEST_CASE("worker: runs that may be long are dearer: a turn of them is over sooner") {
  const auto turns_of = [](coir::workload kind) {
    script s;
    std::uint64_t turns = 0;
    CHECK_FALSE(scripted::run(s, [&] {
      const auto& count = worker::current()->counts().turns;
      const std::uint64_t before = count.get();
      const coir::spawn_options o{.kind = kind};
      std::vector<coir::handle<void>> all;
      for (int i = 0; i < 4; ++i)
        all.push_back(coir::spawn(
            [] {
              for (int k = 0; k < 255; ++k) coir::this_fiber::yield();
            },
            o));
      for (auto& h : all) CHECK(h.join().has_value());
      turns = count.get() - before;
    }));
    return turns;
  };
  // 1,024 runs, and 256 picks to a turn.
  CHECK(turns_of(coir::workload::io) <= 1024 / 256 + 2);
  CHECK(turns_of(coir::workload::memory) >= 1024 * 4 / 256 * 7 / 8);
  CHECK(turns_of(coir::workload::system) >= 1024 * 8 / 256 * 7 / 8);
  CHECK(turns_of(coir::workload::compute) >= 1024 * 32 / 256 * 7 / 8);
}

TEST_CASE("worker: after each run of a compute fiber the clock is asked whether the turn is over") {
  const auto yields_while = [](coir::workload kind) {
    script s;
    s.tick_ns = 50'000;
    s.answer_all(0);
    unsigned yields = 0;
    CHECK_FALSE(scripted::run(s, [&] {
      bool done = false;
      auto asks = coir::spawn([&] {
        for (int i = 0; i < 4; ++i) perform_nop();
        done = true;
      });
      auto busy = coir::spawn(
          [&] {
            while (!done && yields < 10'000) {
              ++yields;
              coir::this_fiber::yield();
            }
          },
          {.kind = kind});
      CHECK(asks.join().has_value());
      CHECK(busy.join().has_value());
    }));
    return yields;
  };
  CHECK(yields_while(coir::workload::compute) <= 4 * 6);
  CHECK(yields_while(coir::workload::io) > 4 * 32);
}

TEST_CASE("worker: a turn runs whoever is first, however long the worker has slept") {
  script s;
  s.answer_all(0);
  std::uint64_t turns = 0;
  CHECK_FALSE(scripted::run(s, [&] {
    const auto& count = worker::current()->counts().turns;
    perform_nop();
    const std::uint64_t before = count.get();
    for (int i = 0; i < 10; ++i) {
      s.now_ns += 1'000'000;
      perform_nop();
    }
    turns = count.get() - before;
  }));
  CHECK(turns == 10);
}

TEST_CASE("worker: who parks while nobody is ready waits without a switch, if nothing forbids it") {
  const auto in_catch = [&] {
    try {
      throw 1;
    } catch (int) {
      return switches_of_ten_nops();
    }
  };
  struct {
    std::uint64_t plain = 0, after = 0, small = 0, in_catch = 0, with_controls = 0;
  } seen;
  script s;
  s.answer_all(0);
  CHECK_FALSE(scripted::run(s, [&] {
    seen.plain = switches_of_ten_nops();
    auto small = coir::spawn(switches_of_ten_nops, {.stack_bytes = 16 << 10});
    seen.small = small.join().value();
    seen.in_catch = coir::spawn(in_catch).join().value();
    seen.with_controls =
        coir::spawn(switches_of_ten_nops, {.sw = coir::switcher::same_thread_float}).join().value();
    seen.after = switches_of_ten_nops();
  }));
  CHECK(seen.plain == 0);
  CHECK(seen.after == 0);
  // To the loop and back: 16 KiB have no room for it, and what the others bring is not the loop's.
  CHECK(seen.small == 20);
  CHECK(seen.in_catch == 20);
  CHECK(seen.with_controls == 20);
}

TEST_CASE("worker: among more than 1,024 fibers the loop stands on its own stack") {
  script s;
  s.answer_all(0);
  std::uint64_t among_many = 0, afterwards = 0;
  CHECK_FALSE(scripted::run(s, [&] {
    coir::event over;
    std::vector<coir::handle<void>> crowd;
    for (int i = 0; i < 1'100; ++i)
      crowd.push_back(coir::spawn([&] { CHECK(over.wait().has_value()); }));
    perform_nop();
    while (worker::current()->own_unstarted() != 0) coir::this_fiber::yield();
    among_many = switches_of_ten_nops();
    over.set();
    for (auto& h : crowd) CHECK(h.join().has_value());
    afterwards = switches_of_ten_nops();
  }));
  CHECK(among_many == 20);
  CHECK(afterwards == 0);
}

TEST_CASE("worker: a wake-up that comes while a worker goes to sleep keeps it awake") {
  script s;
  coir::event opened;
  bool sent = false;
  s.on_ready = [&] {
    if (std::exchange(sent, true)) return;
    // Between the first look and the announcement: the sender sees a worker that is awake.
    std::thread([&] { opened.set(); }).join();
  };
  CHECK_FALSE(scripted::run(s, [&] { CHECK(opened.wait().has_value()); }));
  CHECK(sent);
  CHECK(s.slept_for_ever == 0);
}

TEST_CASE("worker: mail that comes while a worker goes to sleep keeps it awake") {
  script s;
  auto core = scripted::make_core(s);
  REQUIRE(core != nullptr);
  coir::event opened;
  bool sent = false;
  coir::handle<void> mailed;  // kept: letting go of it would be a wake-up of its own
  s.on_ready = [&] {
    if (std::exchange(sent, true)) return;
    std::thread([&] { mailed = scripted::spawn_on(*core, [&] { opened.set(); }); }).join();
  };
  bool got = false;
  {
    auto root = scripted::spawn_on(*core, [&] { got = opened.wait().has_value(); });
    CHECK_FALSE(core->run_here());
  }
  CHECK(got);
  CHECK(s.slept_for_ever == 0);
}

TEST_CASE("worker: a stop that comes while a worker goes to sleep is not slept through") {
  script s;
  auto core = scripted::make_core(s);
  REQUIRE(core != nullptr);
  s.on_ready = [&] { std::thread([&] { core->at(0).quit(); }).join(); };
  auto root = scripted::spawn_on(
      *core, [] { CHECK_FALSE(coir::this_fiber::sleep_until(coir::never).has_value()); });
  (void)core->run_here();
  CHECK(s.slept_for_ever == 0);
  root.detach();
}

TEST_CASE("worker: a fiber that was cancelled before its first run never runs, and is destroyed") {
  script s;
  const auto kept = std::make_shared<int>(1);
  bool ran = false;
  CHECK_FALSE(scripted::run(s, [&] {
    auto h = coir::spawn([&ran, kept] { ran = true; });
    CHECK(kept.use_count() == 2);
    h.cancel();
    CHECK(h.join().error() == std::errc::operation_canceled);
    CHECK(kept.use_count() == 1);
  }));
  CHECK_FALSE(ran);
}

TEST_CASE("worker: a fiber that joins itself is told so instead of waiting") {
  script s;
  CHECK_FALSE(scripted::run(s, [&] {
    coir::handle<void> self;
    self = coir::spawn([&] {
      CHECK(self.join(coir::in(std::chrono::seconds(1))).error() == coir::errc::deadlock);
    });
    while (!self.done()) coir::this_fiber::yield();
  }));
}

TEST_CASE("worker: a fiber that has started stays on its worker, whoever wakes it") {
  constexpr int rounds = COIR_TSAN ? 50 : 500;
  const auto done = coir::run(
      [] {
        std::array<coir::event, 2> turn;
        std::vector<coir::handle<void>> all;
        for (unsigned w = 0; w < 2; ++w)
          all.push_back(coir::spawn(
              [&turn, w] {
                const auto thread = std::this_thread::get_id();
                for (int i = 0; i < rounds; ++i) {
                  REQUIRE(turn[w].wait().has_value());
                  turn[w].reset();
                  REQUIRE(coir::this_fiber::worker() == w);
                  REQUIRE(std::this_thread::get_id() == thread);
                  turn[1 - w].set();
                }
              },
              {.worker = w}));
        turn[0].set();
        for (auto& h : all) CHECK(h.join().has_value());
      },
      test::tested({.workers = 2}));
  CHECK(done.has_value());
}
