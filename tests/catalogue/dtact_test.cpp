// dtact_test.cpp: the acceptance tests DT1 to DT6 and DT8 of an earlier runtime of this kind, as
// this one means them; docs/rows-dtact.md says where the others are.
//
// Always true:
//   - Whatever is drawn at random comes from a seed that is part of the message of a failure.
//
// Comes from: ctest.   Goes to: coir.hpp, runtime/stacks.hpp, runtime/deflect.hpp.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "runtime/deflect.hpp"
#include "runtime/fiber.hpp"
#include "runtime/mailbox.hpp"
#include "runtime/stacks.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;

// A record has one owner at a time, whoever asks for it, and no name comes twice.
TEST_CASE("DT1: eight threads share 1,024 records, none is owned twice, generations only grow") {
  constexpr unsigned slots = 1024, threads = 8, rounds = at_full_speed(1'000u, 100u);
  struct place {
    std::atomic<bool> owned{false};
    std::atomic<std::uint64_t> newest{0};
  };
  const auto places = std::make_unique<std::array<place, slots>>();
  std::atomic<unsigned> wrong{0}, ran{0};
  auto made = coir::runtime::create(tested({.workers = 2, .fibers_max = slots}));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; ++t)
    all.emplace_back([&] {
      for (unsigned i = 0; i < rounds; ++i) {
        const auto ended = (*made)->spawn([&] {
          const coir::fiber_id me = coir::this_fiber::id();
          place& mine = (*places)[me.slot];
          if (mine.owned.exchange(true)) ++wrong;
          if (mine.newest.exchange(me.generation) >= me.generation) ++wrong;
          coir::this_fiber::yield();
          mine.owned = false;
          ++ran;
        });
        while (!ended.done()) coir::this_fiber::yield();
      }
    });
  for (std::thread& t : all) t.join();
  CHECK((*made)->shutdown().has_value());
  CHECK(wrong == 0);
  CHECK(ran == threads * rounds);
}

namespace {

using coir::detail::stack;

std::byte *guard_begin, *guard_end;

void leave_with_the_answer(int, siginfo_t* info, void*) {
  const auto* const at = static_cast<std::byte*>(info->si_addr);
  ::_exit(at >= guard_begin && at < guard_end ? 42 : 1);
}

/// Whether a child that writes there dies by SIGSEGV, and the fault is inside the guard of `s`.
bool faults(const stack& s, std::byte* at) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    guard_begin = s.slot;
    guard_end = s.bottom;
    struct sigaction action {};
    action.sa_sigaction = &leave_with_the_answer;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGSEGV, &action, nullptr);
    *const_cast<volatile std::byte*>(at) = std::byte{1};
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 42;
}

}  // namespace

// Every slot of a small pool, in every size there is: both ends of its guard fault, and the byte
// above is the stack's own.
TEST_CASE("DT2: whoever writes into the guard of any stack gets SIGSEGV there") {
  constexpr std::uint32_t slots = at_full_speed(16u, 2u);
  for (unsigned klass = 0; klass < coir::detail::stack_classes; ++klass) {
    auto pool = coir::detail::stacks::make({.stacks_max = slots, .log = [](const auto&) {}});
    REQUIRE(pool);
    if (!(*pool)->shape(klass).usable) continue;  // of 16 KiB where a signal frame is large
    coir::detail::stack_cache cache(**pool);
    std::vector<stack> taken;
    while (const stack one = cache.take(klass)) taken.push_back(one);
    CHECK(taken.size() == slots);
    for (const stack& s : taken) {
      CAPTURE(klass);
      CHECK(s.bottom > s.slot);
      CHECK(faults(s, s.slot));
      CHECK(faults(s, s.bottom - 1));
      CHECK_FALSE(faults(s, s.bottom));
    }
    for (const stack& s : taken) cache.give(s);
  }
}

// A yield of a fiber lets another one run, and it comes back.
TEST_CASE("DT3: a fiber runs, yields, and runs its second half") {
  std::string order;
  const auto done = coir::run(
      [&] {
        auto fiber = coir::spawn([&] {
          order += "first ";
          coir::this_fiber::yield();
          order += "second";
        });
        while (order.empty()) coir::this_fiber::yield();
        order += "root ";
        CHECK(fiber.join().has_value());
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
  CHECK(order == "first root second");
}

// How a kind of fibers is treated may be a constant of the program.
constexpr coir::spawn_options background{.name = "background", .prio = coir::priority::low};
static_assert(background.prio == coir::priority::low);

// Whatever a fiber is called and however it is treated, it ends.
TEST_CASE("DT4: fibers of every priority, kind, affinity and name complete") {
  std::atomic<unsigned> ran{0};
  unsigned spawned = 0;
  const auto done = coir::run(
      [&] {
        for (unsigned each = 0; each < 64; ++each) {
          const std::string name = "fiber " + std::to_string(each);
          coir::spawn(
              [&ran] {
                coir::this_fiber::yield();
                ++ran;
              },
              {.name = name,
               .prio = static_cast<coir::priority>(each % 4),
               .kind = static_cast<coir::workload>(each / 4 % 4),
               .where = static_cast<coir::affinity>(each / 16)})
              .detach();
          ++spawned;
        }
        CHECK(coir::spawn([&ran] { ++ran; }, background).join().has_value());
        ++spawned;
      },
      tested({.workers = 2}));
  CHECK(done.has_value());
  CHECK(ran == spawned);
}

// A closure that does not fit the record lies in one counted allocation, and arrives whole.
TEST_CASE("DT5: a closure of 16 KiB goes to the heap, and is counted") {
  const auto done = coir::run(
      [] {
        std::array<unsigned char, 16 << 10> payload;
        for (std::size_t i = 0; i < payload.size(); ++i)
          payload[i] = static_cast<unsigned char>(i * 7);
        const std::uint64_t before = coir::snapshot().boxes;
        CHECK(coir::spawn([] { return 1; }).join().value() == 1);
        CHECK(coir::snapshot().boxes == before);
        auto large = coir::spawn([payload, &original = payload] { return payload == original; });
        CHECK(coir::snapshot().boxes == before + 1);
        CHECK(large.join().value());
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

// A fiber waits for a value that somebody else will have: another thread, another fiber, a timer.
TEST_CASE("DT6: a fiber that waits for a value that comes later gets it") {
  const auto sum = coir::run(
      [] {
        int value = 0;
        coir::event ready;
        auto waits = coir::spawn([&] {
          CHECK(ready.wait().has_value());
          return value;
        });
        CHECK(coir::blocking([] { return 100; }).value() == 100);
        auto gives = coir::spawn([&] {
          CHECK(coir::this_fiber::sleep_for(std::chrono::nanoseconds(1)).has_value());
          value = 100;
          ready.set();
        });
        CHECK(gives.join().has_value());
        return waits.join().value();
      },
      tested({.workers = 2}));
  CHECK(sum.value() == 100);
}

namespace {

namespace inside = coir::detail;
using dice = std::mt19937;

unsigned up_to(dice& d, unsigned most) { return d() % (most + 1); }

/// A machine of 2 to 64 workers, each with a queue and a mailbox; what is pushed goes where the
/// policy says, or stays where the mailbox refused it.
class paper_machine {
 public:
  explicit paper_machine(dice& d) : dice_(d), flat_(up_to(d, 1) == 0), queues_(2 + up_to(d, 62)) {
    for (unsigned i = 0; i < queues_.size(); ++i)
      boxes_.push_back(std::make_unique<inside::mailbox>(1 + up_to(d, 3)));
  }

  void push(inside::record& fresh, unsigned source) {
    const inside::neighbours around(source, size(), [&](unsigned i) { return far(source, i); });
    inside::worker_set hungry;
    for (unsigned i = 0; i < size(); ++i)
      if (i != source && up_to(dice_, 15) == 0) hungry.insert(i);
    inside::pusher from;
    from.around = &around;
    from.mine = load_of(source);
    from.threshold = 1 + up_to(dice_, 20);
    from.spare = up_to(dice_, 20);
    from.seed = dice_();
    from.batch_max = 1 + up_to(dice_, 63);
    from.hungry = up_to(dice_, 1) == 0 ? &hungry : nullptr;
    const inside::cargo what{static_cast<coir::affinity>(up_to(dice_, 3)),
                             static_cast<coir::workload>(up_to(dice_, 3)), up_to(dice_, 2)};
    const auto d = inside::deflect(from, what, [&](unsigned i) { return load_of(i); });
    auto& mine = queues_[source];
    if (d.count == 0) return mine.push_back(&fresh);
    REQUIRE(d.target < size());
    REQUIRE(d.target != source);
    REQUIRE(d.count <= from.batch_max);
    REQUIRE(inside::may_go(what, far(source, d.target)));
    // Those that go along are mailed one by one here: the policy is what is looked at.
    for (unsigned i = 1; i < d.count && !mine.empty(); ++i) {
      if (!boxes_[d.target]->send(*mine.front())) break;
      mine.pop_front();
    }
    if (!boxes_[d.target]->send(fresh)) mine.push_back(&fresh);
  }
  void take(unsigned worker) {
    while (inside::record* one = boxes_[worker]->take()) queues_[worker].push_back(one);
  }
  /// How often `one` is in the queues; every mailbox has been emptied before.
  std::size_t places_of(const inside::record& one) const {
    std::size_t found = 0;
    for (const auto& q : queues_) found += static_cast<std::size_t>(std::ranges::count(q, &one));
    return found;
  }
  unsigned size() const { return static_cast<unsigned>(queues_.size()); }

 private:
  inside::distance far(unsigned a, unsigned b) const {
    if (flat_) return inside::distance::any;
    if (a / 2 == b / 2) return inside::distance::sibling;
    if (a / 4 == b / 4) return inside::distance::cluster;
    return a / 8 == b / 8 ? inside::distance::node : inside::distance::any;
  }
  inside::load load_of(unsigned i) const {
    const auto n = static_cast<std::uint32_t>(queues_[i].size() + boxes_[i]->depth());
    return {n, n};
  }

  dice& dice_;
  bool flat_;
  std::vector<std::deque<inside::record*>> queues_;
  std::vector<std::unique_ptr<inside::mailbox>> boxes_;
};

}  // namespace

// The policy and the mailboxes alone: no fiber is dropped and none is in two places.
TEST_CASE("DT8: for any source, load, threshold and topology a fiber is enqueued exactly once") {
  for (unsigned seed = 0; seed < at_full_speed(400u, 60u); ++seed) {
    CAPTURE(seed);
    dice d(seed);
    paper_machine machine(d);
    std::vector<inside::record> fibers(up_to(d, 150));
    for (auto& each : fibers) {
      machine.push(each, up_to(d, machine.size() - 1));
      if (up_to(d, 3) == 0) machine.take(up_to(d, machine.size() - 1));
    }
    for (unsigned i = 0; i < machine.size(); ++i) machine.take(i);
    for (const auto& each : fibers) REQUIRE(machine.places_of(each) == 1);
  }
}

namespace {

coir::spawn_options any_options(dice& d, unsigned workers) {
  coir::spawn_options o{.prio = static_cast<coir::priority>(up_to(d, 3)),
                        .kind = static_cast<coir::workload>(up_to(d, 3)),
                        .where = static_cast<coir::affinity>(up_to(d, 3))};
  if (up_to(d, 7) == 0) o.worker = up_to(d, workers - 1);
  return o;
}

}  // namespace

// The same with real workers: fibers and a thread spawn side by side, and everybody runs once.
TEST_CASE("DT8: whoever spawns with whatever options on 2 to 8 workers, each fiber runs once") {
  constexpr unsigned sources = 4, each = at_full_speed(2'000u, 200u);
  std::uint64_t given_away = 0;
  for (unsigned workers = 2; workers <= 8; ++workers) {
    CAPTURE(workers);
    dice d(workers);
    auto made = coir::runtime::create(
        tested({.workers = workers,
                .topo = workers % 2 == 0 ? coir::topology::mesh : coir::topology::global,
                .mailbox_slots = 1 + up_to(d, 7),
                .run_budget = 1 + up_to(d, 255),
                .deflect_threshold = 1 + up_to(d, 31)}));
    REQUIRE(made.has_value());
    std::vector<std::atomic<unsigned>> runs((sources + 1) * each);
    const auto spawn_share = [&](unsigned source, auto spawn) {
      dice own(workers * 100 + source);
      for (unsigned i = 0; i < each; ++i)
        spawn([&ran = runs[source * each + i]] { ++ran; }, any_options(own, workers));
    };
    REQUIRE((*made)->start().has_value());
    std::thread outside([&] {
      spawn_share(sources, [&](auto body, const coir::spawn_options& o) {
        (*made)->spawn(std::move(body), o).detach();
      });
    });
    const auto done = (*made)->run([&] {
      coir::scope all;
      for (unsigned source = 0; source < sources; ++source)
        all.spawn(
            [&, source] {
              spawn_share(source, [](auto body, const coir::spawn_options& o) {
                coir::spawn(std::move(body), o).detach();
              });
            },
            {.worker = source % workers});
      return all.join();
    });
    outside.join();
    CHECK(done.has_value());
    CHECK((*made)->run([] {}).has_value());  // waits for what the thread spawned last
    CHECK((*made)->shutdown().has_value());
    std::size_t never = 0, again = 0;
    for (const auto& n : runs) {
      never += n == 0 ? 1 : 0;
      again += n > 1 ? 1 : 0;
    }
    CHECK(never == 0);
    CHECK(again == 0);
    const coir::worker_stats sums = (*made)->snapshot().total();
    CHECK(sums.spawned == sums.finished);
    CHECK(sums.deflected_in >= sums.deflected_out);
    given_away += sums.deflected_out;
  }
  CHECK(given_away > 0);  // not by each: all may have had enough to do
}
