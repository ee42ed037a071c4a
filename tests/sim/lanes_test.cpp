// lanes_test.cpp: several workers on one thread, and chance decides which of them steps.
//
// Always true:
//   - A failure prints the seed; the seed alone repeats it.
#include "runtime/lanes.hpp"

#include <array>
#include <cerrno>
#include <set>
#include <stdexcept>

#include "coir/sync.hpp"
#include "in_sim.hpp"

using namespace sim_test;
using namespace std::chrono_literals;

namespace {

coir::options with(unsigned workers) {
  coir::options o = small();
  o.workers = workers;
  return o;
}

/// What each of `count` fibers spread over the workers saw, in the order in which it happened.
struct story {
  std::vector<unsigned> order;
  std::uint64_t hash = 0;
  bool operator==(const story&) const = default;
};

story tell(std::uint64_t seed, unsigned workers) {
  sim_world world({.seed = seed, .delay_max_ns = 1000});
  story s;
  const auto body = [&s, workers] {
    std::vector<coir::handle<void>> all;
    for (unsigned i = 0; i < 3 * workers; ++i)
      all.push_back(coir::spawn(
          [&s, i, workers] {
            CHECK(coir::this_fiber::worker() == i % workers);
            for (unsigned round = 0; round < 4; ++round) {
              s.order.push_back(i);
              CHECK(coir::perform(coir::nop{}).has_value());
            }
          },
          {.worker = i % workers}));
    for (auto& one : all) CHECK(one.join().has_value());
  };
  CHECK(run_in_sim(world, body, with(workers)).has_value());
  s.hash = world.hash();
  return s;
}

}  // namespace

TEST_CASE("lanes: the same seed steps the same workers in the same order, another one others") {
  std::set<std::vector<unsigned>> seen;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    const story once = tell(seed, 3);
    CHECK(once.order.size() == 36);
    CHECK(once == tell(seed, 3));
    seen.insert(once.order);
  }
  CHECK(seen.size() > 40);
}

TEST_CASE("lanes: bytes, joins, cancels and semaphores cross from worker to worker") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    sim_world world({.seed = seed, .delay_max_ns = 500});
    const auto body = [&world] {
      const auto [reader, writer] = world.pipe(16);
      coir::mutex guard;
      coir::condition_variable more;
      int turns = 0;
      auto sends = coir::spawn(
          [&, to = writer] {
            for (int i = 0; i < 20; ++i) {
              {
                std::unique_lock held(guard);
                CHECK(more.wait(held, [&turns] { return turns > 0; }).has_value());
                --turns;
              }
              const auto byte = static_cast<std::byte>(i);
              CHECK(coir::io::write(to, std::span(&byte, 1)).has_value());
            }
            CHECK(coir::io::close(to).has_value());
          },
          {.worker = 1});
      auto waits = coir::spawn([] { return coir::this_fiber::sleep_for(1h); }, {.worker = 2});
      int got = 0;
      for (;;) {
        {
          const std::lock_guard held(guard);
          ++turns;
        }
        more.notify_one();
        std::byte byte{};
        const auto n = coir::io::read(reader, std::span(&byte, 1));
        REQUIRE(n.has_value());
        if (*n == 0) break;
        CHECK(byte == static_cast<std::byte>(got++));
      }
      CHECK(got == 20);
      waits.cancel();
      CHECK(waits.join().error() == std::errc::operation_canceled);
      CHECK(sends.join().has_value());
      CHECK(coir::io::close(reader).has_value());
    };
    CHECK(run_in_sim(world, body, with(3)).has_value());
    CHECK(world.open_fds() == 0);
    CHECK(world.memory.violations() == 0);
  }
}

TEST_CASE("lanes: a deadlock across workers is found, and who waits is named") {
  sim_world world;
  std::vector<std::string> log;
  const auto body = [] {
    coir::event nobody_sets;
    auto far =
        coir::spawn([&nobody_sets] { (void)nobody_sets.wait(); }, {.name = "far one", .worker = 1});
    (void)far.join();
  };
  CHECK(run_in_sim(world, body, with(2), &log).error() == coir::errc::deadlock);
  REQUIRE(log.size() == 1);
  CHECK(log[0].find("far one") != std::string::npos);
}

TEST_CASE("lanes: each worker has errno, and what is being caught, for itself") {
  sim_world world({.seed = 7, .delay_max_ns = 100});
  const auto body = [] {
    std::vector<coir::handle<void>> all;
    for (unsigned w = 0; w < 2; ++w)
      all.push_back(coir::spawn(
          [w] {
            for (int i = 0; i < 20; ++i) try {
                throw std::runtime_error(std::to_string(w));
              } catch (const std::runtime_error& caught) {
                errno = static_cast<int>(w) + 1;
                CHECK(coir::perform(coir::nop{}).has_value());
                CHECK(errno == static_cast<int>(w) + 1);
                CHECK(caught.what() == std::to_string(w));
              }
          },
          {.worker = w}));
    for (auto& one : all) CHECK(one.join().has_value());
  };
  CHECK(run_in_sim(world, body, with(2)).has_value());
}

TEST_CASE("lanes: work goes to the neighbour that has none, and a fiber moves over") {
  sim_world world;
  const auto body = [] {
    std::array<unsigned, 2> ran{};
    CHECK(coir::this_fiber::sleep_for(1ms)
              .has_value());  // by then the other one says that it has none
    std::vector<coir::handle<void>> all;
    for (int i = 0; i < 40; ++i)
      all.push_back(coir::spawn([&ran] {
        ++ran[coir::this_fiber::worker()];
        CHECK(coir::perform(coir::nop{}).has_value());
      }));
    for (auto& one : all) CHECK(one.join().has_value());
    CHECK(ran[0] + ran[1] == 40);
    CHECK(ran[1] > 0);
    auto moves = coir::spawn(
        [] {
          CHECK(coir::this_fiber::move_to(1).has_value());
          return coir::this_fiber::worker();
        },
        {.sw = coir::switcher::cross_thread_no_float, .worker = 0});
    CHECK(moves.join() == 1u);
  };
  CHECK(run_in_sim(world, body, with(2)).has_value());
}

TEST_CASE(
    "lanes: a worker that stands still keeps what it has, and nobody waits for it but its own") {
  sim_world world({.delay_max_ns = 100});
  world.on_pause = [](unsigned worker) { return worker == 1 ? 1'000'000 : 0; };
  const auto body = [&world] {
    std::int64_t slow_ns = 0, quick_ns = 0;
    const auto three = [&world](std::int64_t& took) {
      const std::int64_t began = world.now_ns();
      for (int i = 0; i < 3; ++i) CHECK(coir::perform(coir::nop{}).has_value());
      took = world.now_ns() - began;
    };
    auto slow = coir::spawn([&] { three(slow_ns); }, {.worker = 1});
    three(quick_ns);
    CHECK(quick_ns < 1'000'000);
    CHECK(slow.join().has_value());
    CHECK(slow_ns >= 3'000'000);
  };
  CHECK(run_in_sim(world, body, with(2)).has_value());
}

TEST_CASE("lanes: whoever moves is told of only after it has left its stack") {
  sim_world world;
  bool moving = false;
  unsigned told = 0, too_early = 0;
  world.on_ring = [&](unsigned worker) {
    if (!moving || worker != 1) return;
    ++told;
    too_early += coir::detail::worker::current()->stands_on() != nullptr;
  };
  const auto body = [&moving] {
    // It sleeps by then, so it has to be rung for.
    CHECK(coir::this_fiber::sleep_for(1ms).has_value());
    moving = true;
    CHECK(coir::this_fiber::move_to(1).has_value());
    moving = false;
    CHECK(coir::this_fiber::worker() == 1);
  };
  const auto all = [&body] {
    auto moves = coir::spawn(body, {.sw = coir::switcher::cross_thread_no_float, .worker = 0});
    CHECK(moves.join().has_value());
  };
  CHECK(run_in_sim(world, all, with(2)).has_value());
  CHECK(told == 1);
  CHECK(too_early == 0);
}
