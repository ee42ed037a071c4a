// no_park_test.cpp: what a fiber does with what belongs to its thread, it does without a park.
//
// Always true:
//   - Whether parks are checked is asked of the build; where they are not, the same lines go
//     through.
//
// Comes from: coir/no_park.hpp, entry A18 of the failure catalogue.   Goes to: ctest.
#include "coir/no_park.hpp"

#include <doctest/doctest.h>

#include <mutex>

#include "coir/coir.hpp"
#include "on_fiber.hpp"
#include "runtime/worker.hpp"
#include "tests/catalogue/child.hpp"

namespace {

/// How a process ends whose fiber does `park` while it holds a std::mutex.
template <class F>
test::ending holding_a_lock(F park) {
  return test::in_child([&] {
    const auto done = coir::run(
        [&] {
          auto holder = coir::spawn(
              [&] {
                std::mutex of_the_system;
                const std::lock_guard held(of_the_system);
                const coir::no_park until_unlocked("the table's lock");
                park();
              },
              {.name = "holder"});
          return holder.join();
        },
        test::tested({.workers = 1}));
    ::_exit(done ? 0 : 1);
  });
}

template <class F>
void expect_checked(F park) {
  const test::ending end = holding_a_lock(park);
  CAPTURE(end.text);
  if (!coir::detail::parks_are_checked) {
    CHECK(end.code == 0);
    return;
  }
  CHECK(end.signal == SIGABRT);
  CHECK(end.says("the table's lock"));
  CHECK(end.says("holder"));
}

}  // namespace

TEST_CASE(
    "no_park: A18 a park while a lock of the system is held is named where parks are checked") {
  expect_checked([] { coir::this_fiber::yield(); });
  expect_checked([] { (void)coir::this_fiber::sleep_for(std::chrono::milliseconds(1)); });
  expect_checked([] { (void)coir::perform(coir::nop{}); });
  expect_checked([] {
    coir::event never_set;
    (void)never_set.wait(coir::in(std::chrono::milliseconds(1)));
  });
}

TEST_CASE("no_park: A18 whoever moves parks, too") {
  const test::ending end = test::in_child([] {
    const auto done = coir::run(
        [] {
          auto holder = coir::spawn(
              [] {
                const coir::no_park until_unlocked("the table's lock");
                return coir::this_fiber::move_to(1);
              },
              {.name = "holder", .sw = coir::switcher::cross_thread_no_float, .worker = 0});
          return holder.join();
        },
        test::tested({.workers = 2}));
    ::_exit(done ? 0 : 1);
  });
  CAPTURE(end.text);
  if (!coir::detail::parks_are_checked) {
    CHECK(end.code == 0);
    return;
  }
  CHECK(end.signal == SIGABRT);
  CHECK(end.says("the table's lock"));
}

TEST_CASE("no_park: what does not park goes through, and after the scope a fiber parks as before") {
  test::on_fiber([] {
    {
      const coir::no_park outer("outer");
      {
        const coir::no_park inner("inner");
        auto unstarted = coir::spawn([] {});
        unstarted.detach();
        coir::mutex free;
        const std::lock_guard held(free);
      }
    }
    coir::this_fiber::yield();
    auto other = coir::spawn([] {
      const coir::no_park mine("mine");
      return 1;
    });
    CHECK(other.join().value() == 1);
  });
  const coir::no_park on_a_thread("means nothing");
}

TEST_CASE("no_park: an inner scope that ends leaves the outer one in force") {
  expect_checked([] {
    { const coir::no_park inner("inner"); }
    coir::this_fiber::yield();
  });
}
