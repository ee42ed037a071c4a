// placing_test.cpp: where new fibers go on two workers: to who has nothing to do, to who has less,
// in one mail with others; and who stays.
//
// Always true:
//   - Worker 0 is held by the root, which does not park; so what runs meanwhile runs on worker 1.
//     A worker that shall have no time for others is held by a fiber that was sent there by name.
//   - Who waits for something that a broken build never does waits for ever: that is noticed too.
//
// Comes from: ctest.   Goes to: runtime/placing.cpp.
#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "held_worker.hpp"
#include "runtime/runtime.hpp"

using coir::detail::worker;
using namespace test;

namespace {

/// Fibers that note on which worker they ran.
struct crowd {
  std::array<count, 2> on{};
  std::vector<coir::handle<void>> all;

  void spawn(unsigned fibers, const coir::spawn_options& o = {}) {
    for (unsigned i = 0; i < fibers; ++i)
      all.push_back(coir::spawn([this] { ++on[coir::this_fiber::worker()]; }, o));
  }
  void join() {
    for (auto& each : all) CHECK(each.join().has_value());
    CHECK(on[0] + on[1] == all.size());
  }
};

/// Until some of `c` have run on worker 1, which looks for work.
void feed_hungry_neighbour(crowd& c) {
  wait_for([] { return worker::current()->shared().hungry.any(2); });
  c.spawn(4);
  wait_for([&] { return c.on[1] != 0; });
}

/// Somebody from elsewhere stands in the stripe of that fiber.
bool is_waited_for(const coir::fiber_id& id) {
  coir::detail::commons& all = worker::current()->shared();
  auto& queue = all.stripe_of(*static_cast<coir::detail::record*>(all.records.at(id.slot))).queue;
  const coir::detail::word_lock held(queue.lock);
  return queue.head != nullptr;
}

/// The kernel says that this thread of ours sleeps.
bool is_asleep(int thread) {
  std::ifstream about("/proc/self/task/" + std::to_string(thread) + "/stat");
  std::string text;
  std::getline(about, text);
  const std::size_t name_end = text.rfind(')');
  return name_end != std::string::npos && text.compare(name_end + 1, 2, " S") == 0;
}

/// Two fibers that compute until the other one has begun, too; for a long time, but not for ever.
class pair_of_long {
 public:
  void spawn() {
    for (coir::handle<void>& each : both_) each = coir::spawn([this] { compute(); });
  }
  void join() {
    for (coir::handle<void>& each : both_) CHECK(each.join().has_value());
    CHECK(met_ == 2);
    CHECK(on_[0] == 1);
    CHECK(on_[1] == 1);
  }

 private:
  void compute() {
    ++on_[coir::this_fiber::worker()];
    ++begun_;
    for (unsigned i = 0; begun_ < 2 && i < 2'000'000; ++i) std::this_thread::yield();
    if (begun_ == 2) ++met_;
  }
  std::array<count, 2> on_{};
  count begun_{0}, met_{0};
  std::array<coir::handle<void>, 2> both_;
};

/// As serve() spawns the fiber of a connection.
constexpr auto spawn_connection = [](auto body) {
  using made = coir::detail::handle_of<decltype(body)>;
  coir::detail::refusal why;
  coir::detail::task* const t = coir::detail::spawn_task<&coir::detail::launch_placed>(
      nullptr, std::move(body), {}, coir::site::here(), true, why);
  return t != nullptr ? made(*t) : made(why);
};

/// How many of so many go to a neighbour that takes no mail just now; the others run.
std::uint64_t gone_of(unsigned fibers) {
  const std::uint64_t before = given_away();
  for (unsigned i = 0; i < fibers; ++i)
    coir::spawn([] {}, {.kind = coir::workload::compute}).detach();
  const std::uint64_t gave = given_away() - before;
  while (worker::current()->own_unstarted() != 0) coir::this_fiber::yield();
  return gave;
}

}  // namespace

TEST_CASE("placing: a worker with nothing to do is fed from a few, far below the threshold") {
  on_two_workers({.deflect_threshold = 1024}, [](coir::runtime&) {
    crowd c;
    feed_hungry_neighbour(c);
    c.join();
  });
}

TEST_CASE("placing: two long fibers run on two workers") {
  on_two_workers({}, [](coir::runtime&) {
    pair_of_long both;
    wait_for_hunger();
    both.spawn();
    CHECK(given_away() == 1);
    both.join();
  });
}

TEST_CASE("placing: who joins one of two gives the other one to who has become hungry meanwhile") {
  on_two_workers({}, [](coir::runtime&) {
    held_worker other;
    pair_of_long both;
    both.spawn();
    CHECK(given_away() == 0);
    other.let_go();
    wait_for_hunger();
    both.join();
    CHECK(given_away() == 1);
  });
}

TEST_CASE("placing: who was fed with next to nothing says so, until it was worth it") {
  if (COIR_TSAN) return;  // there nothing is over in 20 us
  on_two_workers({.deflect_threshold = 1024}, [](coir::runtime&) {
    const coir::detail::hungry_board& board = worker::current()->shared().hungry;
    const auto is_hungry = [&] { return board.any(2); };
    bool told = false;
    for (int i = 0; i < 10'000 && !told; ++i) {  // another program may have held it up
      wait_for(is_hungry);
      crowd c;
      c.spawn(2);
      c.join();
      wait_for(is_hungry);
      told = !board.any_for_one(2);
    }
    CHECK(told);
    std::vector<coir::handle<void>> all;
    for (int i = 0; i < 4; ++i)
      all.push_back(coir::spawn([] {
        const auto until = coir::clock::now() + std::chrono::milliseconds(1);
        wait_for([until] { return coir::clock::now() >= until; });
      }));
    for (auto& each : all) CHECK(each.join().has_value());
    wait_for(is_hungry);
    CHECK(board.any_for_one(2));
  });
}

TEST_CASE("placing: one alone stays with its spawner") {
  on_two_workers({}, [](coir::runtime&) {
    for (int i = 0; i < 100; ++i) {
      wait_for_hunger();
      CHECK(coir::spawn([] { return coir::this_fiber::worker(); }).join() == 0u);
    }
    CHECK(given_away() == 0);
  });
}

TEST_CASE("placing: who was sent to a worker by name stays there") {
  on_two_workers({}, [](coir::runtime&) {
    crowd c;
    c.spawn(40, {.worker = 0});
    crowd free;
    feed_hungry_neighbour(free);
    c.join();
    CHECK(c.on[1] == 0);
    free.join();
  });
}

TEST_CASE("placing: what is left when a root has ended its pushes is fed at the picks") {
  on_two_workers({.deflect_threshold = 1024}, [](coir::runtime&) {
    held_worker other;
    count elsewhere{0};
    auto all = until_one_is_elsewhere(40, elsewhere, spawn_usual);
    CHECK(given_away() == 0);  // nobody was hungry, and they are too few
    other.release();
    for (auto& each : all) CHECK(each.join().has_value());
    CHECK(given_away() != 0);
  });
}

TEST_CASE(
    "placing: a connection that found no place elsewhere is fed to a hungry worker as others") {
  on_two_workers({.mailbox_slots = 1}, [](coir::runtime&) {
    held_worker other;
    auto mail = coir::try_spawn([] {}, {.worker = 1});
    REQUIRE(mail.has_value());  // in its only place
    count elsewhere{0};
    auto all = until_one_is_elsewhere(8, elsewhere, spawn_connection);
    CHECK(given_away() == 0);
    CHECK(coir::snapshot().workers[0].mailbox_refused != 0);
    CHECK(worker::current()->own_unstarted() == all.size());
    other.release();
    for (auto& each : all) CHECK(each.join().has_value());
    CHECK(given_away() != 0);
    CHECK(mail->join().has_value());
  });
}

TEST_CASE("placing: a hungry worker gets nobody where all who wait are of another priority") {
  on_two_workers({}, [](coir::runtime&) {
    crowd c;
    c.spawn(20, {.prio = coir::priority::low, .worker = 0});
    wait_for([] { return worker::current()->shared().hungry.any(2); });
    c.spawn(1, {.worker = 0});  // at its pick the others are looked at
    c.join();
    CHECK(c.on[1] == 0);
  });
}

TEST_CASE("placing: a pick of another priority feeds, too, by its turn and by name") {
  constexpr auto critical = coir::priority::critical;
  for (const bool by_name : {false, true}) {
    on_two_workers({.deflect_threshold = 1024}, [by_name](coir::runtime&) {
      held_worker other;
      crowd usual;
      usual.spawn(20);
      count begun{0};
      std::vector<std::uint64_t> gave;  // until each of the urgent ones had begun
      std::vector<coir::handle<void>> urgent;
      for (int i = 0; i < 40; ++i)
        urgent.push_back(coir::spawn(
            [&] {
              gave.push_back(given_away());
              if (++begun != 1) return;
              other.let_go();
              wait_for_hunger();
            },
            {.prio = coir::priority::high, .worker = 0}));
      const auto join_them = [&] {
        for (auto& each : urgent) CHECK(each.join().has_value());
        urgent.clear();
      };
      // More urgent than those, it goes on when the first has ended, and names the second.
      if (by_name) CHECK(coir::spawn(join_them, {.prio = critical, .worker = 0}).join());
      while (begun != 40) coir::this_fiber::yield();
      join_them();
      CHECK(gave.size() == 40);
      CHECK(gave[0] == 0);
      CHECK(gave[1] != 0);
      usual.join();
    });
  }
}

TEST_CASE("placing: a new fiber of any priority is spread") {
  for (const auto level : {coir::priority::low, coir::priority::high, coir::priority::critical}) {
    on_two_workers({.deflect_threshold = 8}, [level](coir::runtime&) {
      held_worker other;
      crowd c;
      c.spawn(40, {.prio = level, .kind = coir::workload::compute});
      CHECK(given_away() != 0);
      other.release();
      c.join();
      CHECK(c.on[1] != 0);
    });
  }
}

TEST_CASE("placing: a pinned threshold is kept") {
  on_two_workers({}, [](coir::runtime& all) {
    held_worker other;
    const auto gone_at = [&](unsigned threshold) {
      CHECK(all.set_deflection_threshold(0, threshold).has_value());
      a_turn_passes();
      return gone_of(40);
    };
    CHECK(gone_at(50'000) == 0);
    CHECK(gone_at(8) != 0);
    CHECK(all.set_deflection_threshold(2, 1).error() == std::errc::invalid_argument);
    other.release();
  });
}

TEST_CASE("placing: a threshold of 0 adapts again, from what it had learnt before") {
  on_two_workers({.deflect_threshold = 8}, [](coir::runtime& all) {
    held_worker other;
    for (const unsigned pinned : {50'000u, 60'000u}) {
      CHECK(all.set_deflection_threshold(0, pinned).has_value());
      a_turn_passes();
      CHECK(gone_of(40) == 0);
    }
    CHECK(all.set_deflection_threshold(0, 0).has_value());
    a_turn_passes();
    CHECK(gone_of(40) != 0);
    other.release();
  });
}

TEST_CASE("placing: io goes to who has fewer live fibers, compute only where many wait to start") {
  for (const coir::workload kind : {coir::workload::io, coir::workload::compute}) {
    on_two_workers({.deflect_threshold = 8}, [kind](coir::runtime&) {
      coir::event gate;
      std::array<count, 2> on{};
      std::vector<coir::handle<void>> all;
      const unsigned fibers = 40;
      for (unsigned i = 0; i < fibers; ++i) {
        all.push_back(coir::spawn(
            [&] {
              ++on[coir::this_fiber::worker()];
              CHECK(gate.wait().has_value());
            },
            {.kind = kind}));
        // It lives before the next one is placed.
        while (on[0] + on[1] != i + 1) coir::this_fiber::yield();
      }
      if (kind == coir::workload::io) {
        CHECK(on[1] >= 8);
      } else {
        CHECK(on[1] == 0);
      }
      gate.set();
      for (auto& each : all) CHECK(each.join().has_value());
    });
  }
}

TEST_CASE("placing: a mailbox that is full costs nobody, and who stays keeps the order") {
  on_two_workers({.mailbox_slots = 1, .deflect_threshold = 4}, [](coir::runtime&) {
    held_worker other;  // it takes no mail
    crowd c;
    std::vector<unsigned> order;
    for (unsigned i = 0; i < 50; ++i)
      c.all.push_back(coir::spawn(
          [&c, &order, i] {
            ++c.on[coir::this_fiber::worker()];
            if (coir::this_fiber::worker() == 0) order.push_back(i);
          },
          {.kind = coir::workload::compute}));
    CHECK(coir::snapshot().workers[0].mailbox_refused != 0);
    a_turn_passes();
    while (worker::current()->own_unstarted() != 0) coir::this_fiber::yield();
    // All but the one mail that found room, which may come back when the other one has time.
    CHECK(order.size() < 50);
    CHECK(std::is_sorted(order.begin(), order.end()));
    other.release();
    c.join();
  });
}

TEST_CASE("placing: what one full mailbox refuses goes to the next best worker") {
  on_workers(3, {.mailbox_slots = 1, .deflect_threshold = 8}, [](coir::runtime&) {
    held_worker full(1), other(2, 4);
    auto mail = coir::try_spawn([] {}, {.worker = 1});
    REQUIRE(mail.has_value());  // one waits at worker 1, four at worker 2, which has a place
    std::vector<coir::handle<void>> all;
    for (int i = 0; i < 40; ++i)
      all.push_back(coir::spawn([] {}, {.kind = coir::workload::compute}));
    CHECK(coir::snapshot().workers[0].mailbox_refused != 0);
    CHECK(given_away() != 0);
    other.release();
    full.release();
    for (auto& each : all) CHECK(each.join().has_value());
    CHECK(mail->join().has_value());
    CHECK(coir::snapshot().workers[2].deflected_in > 1);  // who holds it was the first
  });
}

TEST_CASE("placing: a thread that found all mailboxes full goes to whichever has a place first") {
  for (const bool own_frees : {false, true}) {
    on_two_workers({.mailbox_slots = 1}, [own_frees](coir::runtime& all) {
      held_worker other;  // and worker 0 is held by us
      std::atomic<int> name{0};
      std::atomic<bool> ran{false};
      for (int round = 0; round < 2; ++round) {  // twice: whose turn it is goes round
        name = 0;
        ran = false;
        std::thread outside([&] {
          std::vector<coir::handle<void>> mails;
          while (auto mail = all.try_spawn([] {})) mails.push_back(std::move(*mail));
          name = ::gettid();
          auto late = all.spawn([] {}, {.until = coir::in(std::chrono::seconds(20))});
          CHECK(late.join().has_value());
          ran = true;
          for (auto& each : mails) each.detach();
        });
        wait_for([&] { return name != 0 && is_asleep(name); });
        if (!own_frees) other.let_go();
        while (!ran) own_frees ? a_turn_passes() : std::this_thread::yield();
        outside.join();
        if (!own_frees) break;  // it is held no more
      }
      other.release();
    });
  }
}

TEST_CASE("placing: threads that wait for a fiber hear of its end wherever it went") {
  on_two_workers({.deflect_threshold = 1024}, [](coir::runtime&) {
    for (int round = 0; round < 20; ++round) {
      held_worker other;
      count elsewhere{0};
      auto all = until_one_is_elsewhere(8, elsewhere, spawn_usual);
      std::array<std::atomic<int>, 8> names{};
      std::vector<std::thread> threads;
      for (std::size_t i = 0; i < all.size(); ++i)
        threads.emplace_back([&name = names[i], id = all[i].id()] {
          name = ::gettid();
          const auto ended = coir::wait(id);
          CHECK((ended || ended.error() == coir::errc::stale_handle));
        });
      // They have told worker 0, which has not heard it: it has not had a turn since.
      for (std::size_t i = 0; i < all.size(); ++i)
        wait_for([&] { return is_waited_for(all[i].id()) && is_asleep(names[i]); });
      // Its next pick of one that has not started sends others on.
      other.let_go();
      wait_for([] { return worker::current()->shared().hungry.any(2); });
      for (auto& each : all) CHECK(each.join().has_value());
      for (std::thread& t : threads) t.join();
      CHECK(elsewhere != 0);
    }
  });
}
