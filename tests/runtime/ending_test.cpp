// ending_test.cpp: the end of a fiber against those who let go of it on other threads.
//
// Always true:
//   - What is a matter of moments elsewhere is brought about here step by step: by a fiber that
//     keeps its worker busy, or by a scope that lets go in the middle of an end.
//
// Comes from: ctest.   Goes to: runtime/ending.cpp, worker::finish.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <utility>

#include "coir/coir.hpp"
#include "runtime/waiting.hpp"
#include "tests/test_options.hpp"

using namespace std::chrono_literals;
using namespace coir::detail;

namespace {

/// An answer that tells of its destruction, and whether a fiber did it.
struct told {
  std::atomic<int>* on_fiber;
  std::atomic<int>* elsewhere;
  told(std::atomic<int>& f, std::atomic<int>& e) : on_fiber(&f), elsewhere(&e) {}
  told(told&& from) noexcept
      : on_fiber(std::exchange(from.on_fiber, nullptr)), elsewhere(from.elsewhere) {}
  ~told() {
    if (on_fiber != nullptr) ++*(coir::this_fiber::id() == coir::fiber_id{} ? elsewhere : on_fiber);
  }
};

void wait_for(const std::atomic<bool>& flag) {
  while (!flag) std::this_thread::yield();
}

}  // namespace

TEST_CASE("ending: an answer that was let go from afar is dropped before the scope is left") {
  auto rt = coir::runtime::create(test::tested({.workers = 2})).value();
  std::atomic<int> dropped{0};
  std::atomic<int> elsewhere{0};
  // Here, because the detached fiber looks at them after the root has ended.
  std::atomic<bool> runs{false};
  std::atomic<bool> let_go{false};
  std::atomic<bool> looked{false};
  const auto ran = rt->run([&] {
    const unsigned other = 1 - coir::this_fiber::worker();
    {
      coir::scope children;
      {
        auto child = children.spawn(
            [&] {
              // Ready when the child ends: its worker does not look at what came in before.
              coir::spawn([&] { wait_for(looked); }).detach();
              runs = true;
              wait_for(let_go);
              return told(dropped, elsewhere);
            },
            {.worker = other});
        wait_for(runs);
      }
      let_go = true;
      CHECK(children.join().has_value());
      CHECK(dropped == 1);
      looked = true;
    }
  });
  CHECK(ran.has_value());
  CHECK(elsewhere == 0);
}

TEST_CASE("ending: an answer that is let go in the middle of the end is dropped on a fiber") {
  auto rt = coir::runtime::create(test::tested({.workers = 1})).value();
  REQUIRE(rt->start().has_value());
  std::atomic<int> dropped{0};
  std::atomic<int> elsewhere{0};
  coir::handle<told> held;
  struct in_between : scope_state {
    coir::handle<told>* of;
  } scope;
  scope.of = &held;
  scope.answered = [](scope_state&, record&) noexcept {};
  // The end has looked whether anybody lets go, and has not yet said that it is done.
  scope.ended = [](scope_state& self, record& child) noexcept {
    child.scope = nullptr;
    std::thread([&] { static_cast<in_between&>(self).of->detach(); }).join();
  };
  std::atomic<bool> runs{false};
  std::atomic<bool> told_of{false};
  held = rt->spawn([&] {
    runs = true;
    wait_for(told_of);
    current_fiber()->scope = &scope;
    return told(dropped, elsewhere);
  });
  wait_for(runs);
  told_of = true;
  CHECK(rt->shutdown(coir::in(10s)).has_value());
  CHECK(dropped == 1);
  CHECK(elsewhere == 0);
  const coir::stats all = rt->snapshot();
  CHECK(all.total().spawned == all.total().finished);
}

TEST_CASE("ending: a runtime that never started refuses who waits for room in a mailbox") {
  auto rt = coir::runtime::create(test::tested({.workers = 1, .mailbox_slots = 1})).value();
  auto first = rt->spawn([] {});
  std::atomic<bool> refused{false};
  std::thread second([&] {
    auto h = rt->spawn([] {});
    refused = !h.join().has_value();
  });
  // Counted before it waits; whether it sleeps already makes no difference to what must happen.
  while (!static_cast<bool>(first)) std::this_thread::yield();
  CHECK(rt->shutdown(coir::in(10s)).has_value());
  second.join();
  CHECK(refused);
  CHECK(first.join().error() == std::errc::operation_canceled);
}
