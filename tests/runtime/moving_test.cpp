// moving_test.cpp: a fiber that goes to another worker takes with it what is its own, and is found
// there by everybody who wants something of it.
//
// Always true:
//   - What belongs to the thread is read by functions that are never inlined, as move_to asks of
//     everybody.
//   - Bodies count what is wrong; the test case judges after all have ended.
//
// Comes from: runtime/moving.cpp.   Goes to: ctest.
#include "runtime/moving.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <stdexcept>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "coir/stepping.hpp"
#include "runtime/runtime.hpp"
#include "tests/arch/float_controls.hpp"
#include "tests/runtime/errno_here.hpp"
#include "tests/test_options.hpp"

namespace {

using coir::switcher;
using coir::test::float_controls;
using coir::this_fiber::move_to;
using test::errno_here;
using test::set_errno_here;

constexpr unsigned workers = 3;
constexpr int rounds = test::at_full_speed(2'000, 200);

thread_local int mark = -1;

[[gnu::noinline]] int mark_here() {
  asm volatile("" ::: "memory");
  return mark;
}

coir::options three() {
  coir::options o;
  o.workers = workers;
  o.stack_bytes = 64 << 10;
  return test::tested(o);
}

coir::spawn_options on(unsigned worker, switcher sw = switcher::cross_thread_no_float) {
  return {.sw = sw, .worker = worker};
}

/// The kernel's number of each worker's thread, also left in its `mark`.
struct threads {
  std::array<int, workers> ids = {};
  threads() {
    for (unsigned i = 0; i < workers; ++i)
      (void)coir::spawn([&, i] { mark = ids[i] = ::gettid(); }, {.worker = i}).join();
  }
  /// How many of the things that belong to worker `i` are not seen here.
  [[gnu::noinline]] unsigned wrong(unsigned i) const {
    return unsigned{coir::this_fiber::worker() != i} + unsigned{::gettid() != ids[i]} +
           unsigned{mark_here() != ids[i]};
  }
};

/// Runs `body` on a fiber of a runtime of three workers.
template <class F>
void in_three(F body) {
  CHECK(coir::run(std::move(body), three()).has_value());
}

}  // namespace

TEST_CASE("moving: a fiber that moves is on the worker it named, with errno's value its own") {
  unsigned wrong = 0;
  in_three([&] {
    const threads all;
    auto h = coir::spawn(
        [&] {
          for (int i = 0; i < rounds; ++i) {
            const unsigned target = static_cast<unsigned>(i) % workers;
            set_errno_here(i + 1);
            wrong += !move_to(target).has_value();
            wrong += errno_here() != i + 1;
            wrong += all.wrong(target);
          }
        },
        on(0));
    wrong += !h.join().has_value();
  });
  CHECK(wrong == 0);
}

TEST_CASE("moving: only a cross_thread fiber moves, and only to a worker there is") {
  CHECK(move_to(0).error() == coir::errc::not_in_fiber);
  in_three([] {
    CHECK(move_to(1).error() == coir::errc::wrong_operation);
    auto h = coir::spawn(
        [] {
          CHECK(move_to(workers).error() == std::errc::invalid_argument);
          CHECK(coir::this_fiber::worker() == 1);
          CHECK(move_to(1).has_value());  // it is there already
          coir::detail::current_fiber()->wake.fetch_or(coir::detail::wake_cancelled);
          CHECK(move_to(2).error() == std::errc::operation_canceled);
          CHECK(coir::this_fiber::worker() == 1);
        },
        on(1));
    CHECK(h.join().has_value());
    auto refused = coir::spawn([] {}, {.sw = static_cast<switcher>(4)});
    CHECK(refused.join().error() == std::errc::invalid_argument);
  });
}

TEST_CASE("moving: not from inside a computation that the fiber steps, which is of its thread") {
  in_three([] {
    auto h = coir::spawn(
        [] {
          auto stepped = coir::step([] {
            CHECK(move_to(2).error() == coir::errc::wrong_operation);
            return coir::this_fiber::worker();
          });
          CHECK(stepped.value() == 0);
          CHECK(move_to(2).has_value());
        },
        on(0));
    CHECK(h.join().has_value());
  });
}

TEST_CASE("moving: A1 many fibers that move at once are each on one worker at a time") {
  std::atomic<unsigned> wrong{0};
  in_three([&] {
    const threads all;
    coir::scope crowd;
    for (unsigned id = 0; id < 12; ++id)
      crowd.spawn(
          [&, id] {
            unsigned mine = 0;
            volatile std::uint64_t kept[4] = {id, id + 1, id + 2, id + 3};
            for (unsigned i = 0; i < unsigned{rounds}; ++i) {
              const unsigned target = (i * (id + 1) + id) % workers;
              set_errno_here(static_cast<int>(id));
              mine += !move_to(target).has_value();
              mine += all.wrong(target) + unsigned{errno_here() != static_cast<int>(id)};
              if (i % 7 == id % 7) coir::this_fiber::yield();
              mine += all.wrong(target);
              for (unsigned k = 0; k < 4; ++k) mine += kept[k] != id + k;
            }
            wrong += mine;
          },
          on(id % workers));
    wrong += !crowd.join().has_value();
    for (const auto& w : coir::detail::current_core()->snapshot().workers)
      wrong += w.live > workers;  // nobody is counted twice, and nobody where it left
  });
  CHECK(wrong == 0);
}

TEST_CASE("moving: who waits for a fiber is told of its end, wherever either of them is") {
  std::atomic<unsigned> wrong{0};
  in_three([&] {
    const threads all;
    for (int i = 0; i < rounds / 10; ++i) {
      coir::event moved;
      auto runner = coir::spawn(
          [&] {
            coir::this_fiber::yield();  // the neighbour stands in our record by now
            wrong += !move_to(1).has_value();
            coir::this_fiber::yield();
            wrong += !move_to(i % 2 == 0 ? 2 : 0).has_value();
            moved.set();
            return 5;
          },
          on(0));
      const coir::fiber_id id = runner.id();
      coir::scope waiting;
      for (unsigned w = 0; w < workers; ++w)
        waiting.spawn(
            [&, w] {
              const auto ended = coir::wait(id);  // from afar, sometimes too late
              wrong += !ended && ended.error() != coir::errc::stale_handle;
              wrong += all.wrong(w);
            },
            {.worker = w});
      auto neighbour = coir::spawn(
          [&] {
            const auto answer = runner.join();
            wrong += !answer || *answer != 5;
            wrong += all.wrong(0);  // woken by its own worker
          },
          {.worker = 0});
      wrong += !neighbour.join().has_value();
      wrong += !moved.wait().has_value();
      wrong += !waiting.join().has_value();
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("moving: who began to wait just before a fiber left is told of its end elsewhere") {
  constexpr std::uint64_t unknown = UINT64_MAX;
  unsigned wrong = 0;
  in_three([&] {
    for (int i = 0; i < 20; ++i) {
      std::atomic<std::uint64_t> parks{unknown};  // of worker 1, before it waits
      auto runner = coir::spawn(
          [&] {
            // It keeps its worker, which so hears nothing of whoever waits until it has left.
            while (parks == unknown) std::this_thread::yield();
            while (coir::snapshot().workers[1].parks == parks) std::this_thread::yield();
            bool all_well = move_to(2).has_value();
            // Before it ends, the worker it left has heard of whoever waits, and passed it over:
            // what it ran after two round trips came behind that news.
            for (int trip = 0; trip < 2; ++trip)
              all_well &= coir::spawn([] {}, {.worker = 0}).join().has_value();
            return all_well;
          },
          on(0));
      auto afar = coir::spawn(
          [&, id = runner.id()] {
            parks = coir::snapshot().workers[1].parks;
            return coir::wait(id).has_value();
          },
          {.worker = 1});
      wrong += afar.join() != true;
      wrong += runner.join() != true;
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("moving: a cancel and a dropped handle reach a fiber that keeps moving") {
  std::atomic<unsigned> begun{0}, heard{0};
  constexpr unsigned crowd = 8;
  in_three([&] {
    for (int i = 0; i < rounds / 20; ++i) {
      begun = heard = 0;
      std::vector<coir::handle<void>> all;
      for (unsigned id = 0; id < crowd; ++id)
        all.push_back(coir::spawn(
            [&, id] {
              ++begun;  // one that is cancelled before does not run at all
              unsigned at = id;
              while (move_to(++at % workers)) coir::this_fiber::yield();
              heard += coir::this_fiber::cancelled();
            },
            on(id % workers)));
      while (begun != crowd) coir::this_fiber::yield();
      (void)coir::blocking([&] {  // a plain thread, which owns nobody
        for (unsigned id = 0; id < crowd; ++id) {
          all[id].cancel();
          if (id % 2 == 0) all[id].detach();
        }
        return 0;
      });
      for (auto& h : all)
        if (h) CHECK(h.join().has_value());
      while (heard != crowd) coir::this_fiber::yield();
    }
  });
}

TEST_CASE("moving: after a move timers, operations and waits are those of the new worker") {
  unsigned wrong = 0;
  in_three([&] {
    const threads all;
    std::array<int, 2> ends = {};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    auto h = coir::spawn(
        [&] {
          for (unsigned i = 0; i < 30; ++i) {
            const unsigned target = i % workers;
            wrong += !move_to(target).has_value();
            const auto in_time = coir::io::write(ends[1], std::as_bytes(std::span("x", 1)));
            wrong += !in_time || *in_time != 1;
            std::byte taken;
            const auto read = coir::io::read(ends[0], {&taken, 1});
            wrong += !read || *read != 1;
            const auto late =
                coir::io::read(ends[0], {&taken, 1}, coir::in(std::chrono::microseconds(50)));
            wrong += late.has_value() || late.error() != std::errc::timed_out;
            wrong += !coir::this_fiber::sleep_for(std::chrono::microseconds(20)).has_value();
            wrong += all.wrong(target);
          }
          wrong += !coir::io::close(ends[0]).has_value() + !coir::io::close(ends[1]).has_value();
        },
        on(0));
    wrong += !h.join().has_value();
  });
  CHECK(wrong == 0);
}

TEST_CASE("moving: exceptions in flight move with their fiber") {
  unsigned wrong = 0;
  struct moves_while_unwinding {
    unsigned& wrong;
    ~moves_while_unwinding() {
      const int before = std::uncaught_exceptions();
      wrong += before != 1;
      wrong += !move_to(2).has_value();
      wrong += std::uncaught_exceptions() != before;
    }
  };
  in_three([&] {
    auto h = coir::spawn(
        [&] {
          for (unsigned i = 0; i < 100; ++i) {
            wrong += !move_to(0).has_value();
            try {
              const moves_while_unwinding last{wrong};
              throw std::runtime_error("first");
            } catch (const std::runtime_error& first) {
              wrong += !move_to(1).has_value() + (std::string_view(first.what()) != "first");
              try {
                try {
                  throw std::logic_error("second");
                } catch (...) {
                  wrong += !move_to(2).has_value();
                  throw;  // what this stack caught last, not what worker 2 did
                }
              } catch (const std::logic_error& second) {
                wrong += std::string_view(second.what()) != "second";
                wrong += !move_to(i % workers).has_value();
              }
              wrong += !std::current_exception();
            }
            wrong += static_cast<bool>(std::current_exception());
          }
        },
        on(0));
    wrong += !h.join().has_value();
  });
  CHECK(wrong == 0);
}

TEST_CASE(
    "moving: how a cross_thread_float fiber rounds moves with it, and stays with nobody else") {
  std::atomic<unsigned> wrong{0};
  in_three([&] {
    coir::scope crowd;
    for (unsigned id = 0; id < 6; ++id) {
      const bool is_float = id % 2 == 0;
      crowd.spawn(
          [&, id, is_float] {
            const auto mine = is_float ? float_controls::pattern(id) : float_controls::at_start();
            if (is_float) mine.load();
            for (unsigned i = 0; i < unsigned{rounds} / 4; ++i) {
              wrong += !move_to((i + id) % workers).has_value();
              wrong += !(float_controls::now() == mine);
              coir::this_fiber::yield();
              wrong += !(float_controls::now() == mine);
            }
          },
          on(id % workers,
             is_float ? switcher::cross_thread_float : switcher::cross_thread_no_float));
    }
    wrong += !crowd.join().has_value();
  });
  CHECK(wrong == 0);
}

TEST_CASE("moving: a stop reaches fibers that are on their way, and they move no more") {
  for (int i = 0; i < rounds / 40; ++i) {
    auto made = coir::runtime::create(three());
    REQUIRE(made.has_value());
    // First, because four fibers may be more than mailboxes of workers that do not run can hold.
    REQUIRE((*made)->start().has_value());
    std::atomic<unsigned> begun{0}, told{0};
    std::vector<coir::handle<void>> all;
    for (unsigned id = 0; id < 4; ++id)
      all.push_back((*made)->spawn(
          [&, id] {
            ++begun;
            unsigned at = id;
            coir::result<> moved;
            while ((moved = move_to(++at % workers))) {
            }
            const std::error_code why = moved.error();
            told += why == coir::errc::shutting_down || why == std::errc::operation_canceled;
            // Whoever was missed would sleep for ever.
            told += !coir::this_fiber::sleep_until(coir::never).has_value();
          },
          on(id % workers)));
    while (begun != 4) std::this_thread::yield();
    CHECK((*made)->shutdown(coir::never).has_value());
    CHECK(told == 8);
    for (auto& h : all) CHECK(h.join().has_value());
  }
}
