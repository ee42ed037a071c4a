// worker_inbox_test.cpp: what others send to a worker is heard while it looks around, rings it when
// it sleeps, and leaves no trace where there was no room for it.
//
// Always true:
//   - The backend is the test's own, so each message comes exactly where the test says.
//   - The worker has a neighbour, because one that is alone never looks around before it sleeps;
//     the neighbour has no thread, and nothing is sent to it.
//
// Comes from: runtime/worker.hpp.   Goes to: ctest.
#include <doctest/doctest.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "coir/coir.hpp"
#include "runtime/perform.hpp"
#include "runtime/watch.hpp"
#include "scripted_backend.hpp"

using namespace coir::detail;
using scripted::script;

namespace {

template <class F>
void from_elsewhere(F act) {
  std::thread(act).join();
}

/// Queues `body` for worker 0.
template <class F>
auto spawn_first(runtime_core& core, F body) {
  return spawn_waiting(&core, std::move(body), {.worker = 0}, coir::site::here());
}

struct spins {
  std::uint64_t won = 0, lost = 0;
};

/// A worker is woken by a neighbour as soon as it sleeps, twice, and has learned then to look
/// around for a while before it sleeps. While it does, and its fiber is in `wait`, somebody calls
/// `send`.
template <class Wait, class Send>
spins while_it_looks_around(script& s, runtime_core& core, Wait wait, Send send) {
  std::array<coir::event, 2> woken;
  unsigned nights = 0, looks = 0;
  bool learned = false;
  s.tick_ns = 1'000;  // so that it looks for a while, and not for ever
  s.on_wait = [&](std::int64_t until_ns) {
    if (until_ns == never_ns && nights < woken.size())
      from_elsewhere([&] { woken[nights++].set(); });
  };
  s.on_ready = [&] {
    // The first look is the one before it looks around.
    if (learned && ++looks == 2) from_elsewhere(send);
  };
  spins seen;
  auto root = spawn_first(core, [&] {
    for (auto& each : woken) CHECK(each.wait().has_value());
    const auto& counts = scripted::here().counts();
    const spins before{counts.spins_won.get(), counts.spins_lost.get()};
    learned = true;
    wait();
    learned = false;
    seen = {counts.spins_won.get() - before.won, counts.spins_lost.get() - before.lost};
  });
  CHECK_FALSE(core.run_here());
  CHECK(looks >= 2);
  return seen;
}

}  // namespace

TEST_CASE("worker: one that spins watches its wake-ups") {
  script s;
  const auto core = scripted::make_core(s, {}, 2);
  REQUIRE(core != nullptr);
  coir::event opened;
  const spins seen = while_it_looks_around(
      s, *core, [&] { CHECK(opened.wait().has_value()); }, [&] { opened.set(); });
  CHECK(seen.won == 1);
  CHECK(seen.lost == 0);
}

TEST_CASE("worker: one that spins watches its mail") {
  script s;
  const auto core = scripted::make_core(s, {}, 2);
  REQUIRE(core != nullptr);
  coir::event opened;
  coir::handle<void> mailed;  // kept: letting go of it would be a wake-up of its own
  const spins seen = while_it_looks_around(
      s, *core, [&] { CHECK(opened.wait().has_value()); },
      [&] { mailed = spawn_first(*core, [&] { opened.set(); }); });
  CHECK(seen.won == 1);
  CHECK(seen.lost == 0);
}

TEST_CASE("worker: one that spins watches its ring") {
  script s;
  const auto core = scripted::make_core(s, {}, 2);
  REQUIRE(core != nullptr);
  const spins seen = while_it_looks_around(
      s, *core,
      [] {
        io_uring_sqe e{};
        e.opcode = IORING_OP_NOP;
        e.fd = -1;
        CHECK(perform_entry(e, never_ns) == 0);
      },
      [&] { s.complete(s.submitted.back().name, 0); });
  CHECK(seen.won == 1);
  CHECK(seen.lost == 0);
}

TEST_CASE("worker: one that spins watches for who starves") {
  script s;
  const auto core = scripted::make_core(s, {}, 2);
  REQUIRE(core != nullptr);
  const spins seen = while_it_looks_around(
      s, *core,
      [] { CHECK(coir::this_fiber::sleep_for(std::chrono::milliseconds(1)).has_value()); },
      [&] { core->starved.fetch_add(1); });
  CHECK(seen.won == 1);
}

TEST_CASE("worker: what is sent lies in its inbox before a worker that sleeps is rung") {
  script s;
  const auto core = scripted::make_core(s);
  REQUIRE(core != nullptr);
  std::array<coir::event, 2> opened;
  coir::handle<void> mailed;
  unsigned nights = 0, rung = 0, rung_for_nothing = 0;
  bool sending = false;
  s.on_wait = [&](std::int64_t until_ns) {
    if (until_ns != never_ns || nights == 2) return;
    const worker& asleep = core->at(0);
    CHECK(asleep.rests_for_others());
    sending = true;
    from_elsewhere([&] {
      if (nights++ == 0) return opened[0].set();
      mailed = spawn_first(*core, [&] { opened[1].set(); });
    });
    sending = false;
    // It has been rung and does not know yet: nobody may take it for one that waits for others.
    CHECK_FALSE(asleep.rests_for_others());
  };
  s.on_wake = [&] {
    rung += sending;
    rung_for_nothing += sending && core->at(0).inbox_empty();
  };
  auto root = spawn_first(*core, [&] {
    for (auto& each : opened) CHECK(each.wait().has_value());
  });
  CHECK_FALSE(core->run_here());
  CHECK(rung == 2);
  CHECK(rung_for_nothing == 0);
  CHECK(s.slept_for_ever == 0);
}

namespace {

/// A thread that sends `body` to worker 0 and stands between its two stores until it may go on: it
/// has its place in the mailbox, and nobody can take it out.
class slow_sender {
 public:
  template <class F>
  void begin(runtime_core& core, F body) {
    thread_ = std::thread([this, &core, body] {
      refusal why;
      task* const t = new_task(&core, {.worker = 0}, coir::site::here(), false, why);
      coir::detail::body<F>::put(*t, body);
      auto& fiber = static_cast<record&>(*t);
      CHECK(core.count_foreign_spawn());
      CHECK(core.at(0).mail().send(fiber, [&] {
        fiber.home.store(0, std::memory_order_release);
        stands_.store(true);
        stands_.notify_one();
        may_go_on_.wait(false);
      }));
      core.at(0).ring();
      made_ = coir::handle<void>(*t);
    });
    stands_.wait(false);
  }
  void go_on() {
    may_go_on_.store(true);
    may_go_on_.notify_one();
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::atomic<bool> stands_{false}, may_go_on_{false};
  std::thread thread_;
  coir::handle<void> made_;  // kept: letting go of it would be a wake-up of its own
};

}  // namespace

TEST_CASE(
    "worker: mail that was only begun keeps nobody awake; its sender rings when it is whole") {
  script s;
  const auto core = scripted::make_core(s);
  REQUIRE(core != nullptr);
  coir::event first, second;
  slow_sender slow;
  unsigned nights = 0, turns = 0;
  bool in_mailbox = false;
  s.on_wait = [&](std::int64_t until_ns) {
    if (until_ns != never_ns || nights == 2) return;
    if (++nights == 1) {
      slow.begin(*core, [&] { second.set(); });
      from_elsewhere([&] { first.set(); });
    } else if (nights == 2) {
      in_mailbox = !core->at(0).mail().empty();
      slow.go_on();
    }
  };
  s.on_reap = [&] {
    // One that does not sleep would turn for ever.
    if (nights == 1 && ++turns == 1000) slow.go_on();
  };
  auto root = spawn_first(*core, [&] {
    CHECK(first.wait().has_value());
    CHECK(second.wait().has_value());
  });
  CHECK_FALSE(core->run_here());
  CHECK(nights == 2);
  CHECK(in_mailbox);  // it slept beside it
  CHECK(turns < 10);
  CHECK(s.slept_for_ever == 0);
}

TEST_CASE("worker: a wake-up needs no room in a mailbox") {
  script s;
  const auto core = scripted::make_core(s, {.mailbox_slots = 4});
  REQUIRE(core != nullptr);
  coir::event opened;
  std::vector<coir::handle<void>> mailed;
  bool got = false, sent = false;
  s.on_wait = [&](std::int64_t until_ns) {
    if (until_ns != never_ns || std::exchange(sent, true)) return;
    from_elsewhere([&] {
      for (;;) {
        auto next = spawn_at_once(
            core.get(), [] {}, {.worker = 0}, coir::site::here());
        if (!next) break;
        mailed.push_back(std::move(*next));
      }
      opened.set();
    });
  };
  auto root = spawn_first(*core, [&] { got = opened.wait().has_value(); });
  CHECK_FALSE(core->run_here());
  CHECK(got);
  CHECK_FALSE(mailed.empty());
  CHECK(s.slept_for_ever == 0);
}

TEST_CASE("worker: a fiber whose mail was refused has no home") {
  script s;
  const auto core = scripted::make_core(s, {.mailbox_slots = 1});
  REQUIRE(core != nullptr);
  auto first = spawn_first(*core, [] {});
  record second;
  CHECK_FALSE(core->at(0).send(second));
  CHECK(second.home.load() == no_home);
  CHECK_FALSE(core->run_here());
}

TEST_CASE("worker: a thread_local is shared by the fibers of a worker") {
  thread_local int shared = 0;
  script s;
  int seen = 0;
  CHECK_FALSE(scripted::run(s, [&] {
    std::vector<coir::handle<void>> all;
    for (int i = 0; i < 3; ++i)
      all.push_back(coir::spawn([] {
        ++shared;
        coir::this_fiber::yield();
        ++shared;
      }));
    for (auto& h : all) CHECK(h.join().has_value());
    seen = shared;
  }));
  CHECK(seen == 6);
}

namespace {

constexpr unsigned nights_all = 64;

/// How often a worker with a neighbour looks around, always in vain, while its one fiber waits
/// `nights_all` times, and is woken as soon as the worker sleeps.
spins in_restless_nights(coir::workload kind) {
  script s;
  s.tick_ns = 1'000;
  std::array<coir::event, nights_all> woken;
  unsigned nights = 0;
  s.on_wait = [&](std::int64_t until_ns) {
    if (until_ns == never_ns && nights < nights_all) from_elsewhere([&] { woken[nights++].set(); });
  };
  const auto core = scripted::make_core(s, {}, 2);
  REQUIRE(core != nullptr);
  const auto wait_for_all = [&] {
    for (coir::event& one : woken) CHECK(one.wait().has_value());
  };
  auto sleeper =
      spawn_waiting(core.get(), wait_for_all, {.kind = kind, .worker = 0}, coir::site::here());
  CHECK_FALSE(core->run_here());
  CHECK(nights == nights_all);
  const worker_counters& counts = core->at(0).counts();
  return {counts.spins_won.get(), counts.spins_lost.get()};
}

}  // namespace

TEST_CASE("worker: who was fed with next to nothing says so when it is hungry again") {
  script s;
  const auto core = scripted::make_core(s, {.idle_spin = std::chrono::microseconds(0)}, 2);
  REQUIRE(core != nullptr);
  coir::event over;
  std::array<coir::handle<void>, 2> fed;
  std::array<bool, 3> for_one{};  // what it says each time that it is hungry
  unsigned nights = 0;
  s.on_wait = [&](std::int64_t until_ns) {
    if (until_ns != never_ns || nights == for_one.size()) return;
    CHECK(core->hungry.any(2));
    for_one.at(nights) = core->hungry.any_for_one(2);
    from_elsewhere([&, night = nights++] {
      if (night == fed.size()) return over.set();
      CHECK(core->hungry.take_away(0));  // as whoever feeds it
      fed.at(night) = spawn_first(*core, [&s, night] { s.now_ns += night * 1'000'000; });
    });
  };
  auto root = spawn_first(*core, [&] { CHECK(over.wait().has_value()); });
  CHECK_FALSE(core->run_here());
  CHECK(for_one == std::array{true, false, true});
}

TEST_CASE("worker: one that looks around in vain does so less and less") {
  const spins seen = in_restless_nights(coir::workload::io);
  CHECK(seen.won == 0);
  CHECK(seen.lost >= 2);  // it tries
  CHECK(seen.lost <= nights_all / 4);
}

TEST_CASE("worker: one that looks around goes on, for whoever watches it") {
  script s;
  const auto core = scripted::make_core(s, {}, 2);
  REQUIRE(core != nullptr);
  coir::event enough;
  std::vector<std::uint64_t> beats;
  const auto look_on = [&] {
    s.on_ready = [&, before = s.on_ready] {
      before();
      beats.push_back(beat_of(scripted::here()));
      if (beats.size() == 100) from_elsewhere([&] { enough.set(); });
    };
    CHECK(enough.wait().has_value());
  };
  const spins seen = while_it_looks_around(s, *core, look_on, [] {});
  CHECK(seen.won == 1);
  REQUIRE(beats.size() >= 100);
  CHECK(beats[90] > beats[2]);  // the first look is the one before
}

TEST_CASE("worker: one whose last fiber was in the system does not look around before it sleeps") {
  CHECK(in_restless_nights(coir::workload::system).lost == 0);
}

TEST_CASE("worker: where another runtime wants the processors nobody looks around") {
  COIR_NOT_IN_SIM(processors);
  auto other = coir::runtime::create(test::tested({}));  // as many workers as processors
  REQUIRE(other.has_value());
  REQUIRE((*other)->start().has_value());
  const spins beside = in_restless_nights(coir::workload::io);
  CHECK(beside.won + beside.lost == 0);
  REQUIRE((*other)->shutdown().has_value());
  CHECK(in_restless_nights(coir::workload::io).lost >= 2);
}

TEST_CASE("worker: where there are more workers than processors nobody looks around") {
  cpu_set_t all;
  CPU_ZERO(&all);
  REQUIRE(::sched_getaffinity(0, sizeof all, &all) == 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (unsigned i = 0; CPU_COUNT(&one) == 0; ++i)
    if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
  REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(in_restless_nights(coir::workload::io).lost == 0);
  CHECK(::sched_setaffinity(0, sizeof all, &all) == 0);
}
