// handlers_waits_test.cpp: what is waited for before a handler is asked again, and how long; and
// that of a close it is waited for in a cancelled fiber, too.
//
// Always true:
//   - The pauses are looked at in virtual time.
//
// Comes from: coir/handlers.hpp.   Goes to: runtime/handlers.cpp.
#include <doctest/doctest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>
#include <vector>

#include "on_fiber.hpp"
#include "tests/api/asked.hpp"
#include "tests/sim/in_sim.hpp"

using coir::dispatched;
using test::ask_number;
using test::number;
using test::on_fiber;
using test::settle;

namespace {

enum class answers { after_a_pause, at_a_time, by_event, by_descriptor, later };

/// A close that is first answered so, in a fiber that is cancelled by then; there, or in a
/// computation that a coroutine steps.
void close_when_cancelled(answers how, bool stepped) {
  CAPTURE(static_cast<int>(how));
  CAPTURE(stepped);
  coir::event open;
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  coir::resumption<void> kept;
  int asked = 0;
  const auto not_now = [&](coir::dispatch_context<coir::close_operation>& c) -> dispatched<void> {
    switch (how) {
      case answers::after_a_pause:
        return dispatched<void>::would_block();
      case answers::at_a_time:
        return dispatched<void>::would_block({.until = coir::in(std::chrono::microseconds(10))});
      case answers::by_event:
        return dispatched<void>::would_block({.gate = &open});
      case answers::by_descriptor:
        return dispatched<void>::would_block({.fd = ends[0], .events = POLLIN});
      case answers::later:
        break;
    }
    kept = c.keep();
    return dispatched<void>::later();
  };
  const auto answer = [&](const coir::close_operation&,
                          coir::dispatch_context<coir::close_operation>& c) -> dispatched<void> {
    return asked++ == 0 ? not_now(c) : dispatched<void>::done();
  };
  auto keeper = coir::on<coir::close_operation>(answer);
  coir::result<> closed = coir::fail(std::errc::io_error);
  auto closing = coir::spawn([&] {
    while (!coir::this_fiber::cancelled()) coir::this_fiber::yield();
    const auto body = [&] {
      coir::handle_effects([&] { closed = coir::io::close(4'321); }, keeper);
    };
    stepped ? coir::reflect(coir::reify(body))() : body();
  });
  settle();
  closing.cancel();
  settle();
  CHECK(asked > 0);
  if (how == answers::by_event || how == answers::by_descriptor || how == answers::later)
    CHECK_FALSE(closing.done());
  open.set();
  CHECK(::write(ends[1], "x", 1) == 1);
  if (how == answers::later) CHECK(kept.resume({}).has_value());
  CHECK(closing.join().has_value());
  CHECK(closed.has_value());
  CHECK(asked == (how == answers::later ? 1 : 2));
  for (const int one : ends) ::close(one);
}

}  // namespace

TEST_CASE("handlers: a close in a cancelled fiber waits for its handler, whatever that waits for") {
  on_fiber([] {
    for (const auto how : {answers::after_a_pause, answers::at_a_time, answers::by_event,
                           answers::by_descriptor, answers::later})
      for (const bool stepped : {false, true}) close_when_cancelled(how, stepped);
  });
}

TEST_CASE("handlers: any other effect of a cancelled fiber waits for no handler") {
  on_fiber([] {
    auto busy =
        coir::on<ask_number>([](const ask_number&) { return dispatched<int>::would_block(); });
    std::error_code why;
    auto asking = coir::spawn(
        [&] { coir::handle_effects([&] { why = coir::perform(ask_number{}).error(); }, busy); });
    settle();
    asking.cancel();
    CHECK(asking.join().has_value());
    CHECK(why == std::errc::operation_canceled);
  });
}

TEST_CASE("handlers: the pauses before one is asked again are those of a backoff") {
  using std::chrono::microseconds;
  const coir::retry_policy quick{.pause = microseconds(100), .pause_max = microseconds(250)};
  for (const coir::retry_policy& policy : {coir::retry_policy(), quick}) {
    sim_test::sim_world world;
    std::vector<std::int64_t> asked_at;
    const auto ended = sim_test::run_in_sim(world, [&] {
      auto busy = coir::on<ask_number>([&](const ask_number&) {
        asked_at.push_back(sim_test::now_ns());
        return asked_at.size() < 8 ? dispatched<int>::would_block() : dispatched<int>::done(1);
      });
      coir::handle_effects(
          [&] {
            CHECK(coir::perform(coir::retry{ask_number{}, policy}).value() == 1);
          },
          busy);
    });
    REQUIRE(ended.has_value());
    REQUIRE(asked_at.size() == 8);
    constexpr std::array<int, 7> blocks{1, 2, 2, 3, 3, 3, 4};
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const std::int64_t pause = asked_at[i + 1] - asked_at[i];
      const std::int64_t exact =
          std::min(blocks[i] * policy.pause.count(), policy.pause_max.count());
      CHECK(std::abs(pause - exact) <= exact / 8);
    }
  }
}
