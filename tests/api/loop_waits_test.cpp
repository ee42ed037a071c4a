// loop_waits_test.cpp: what handlers inside of a body wait for, in a loop and in a step.
#include <doctest/doctest.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <span>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using namespace std::chrono_literals;

namespace {

using coir::errc;

template <class T>
std::error_code error_of(const coir::result<T>& r) {
  return r ? std::error_code() : r.error();
}

struct ask {
  using value_type = int;
  static constexpr std::string_view name = "test.ask";
};

/// One body's handler waits for what another body does.
template <class Handle, class Fulfil>
void one_waits_for_the_other(Handle handle, Fulfil fulfil) {
  auto outside = coir::make_backend(test::tested({}));
  REQUIRE(outside);
  auto in = coir::loop::make(**outside).value();
  auto asks = in.submit([&] {
    auto answers = coir::on<ask>(handle);
    return coir::handle_effects([] { return coir::perform(ask{}).value_or(-1); }, answers);
  });
  CHECK_FALSE(asks.done());
  auto fulfils = in.submit([&] { fulfil(); });
  CHECK(in.run(coir::in(60s)));
  CHECK(fulfils.done());
  CHECK(asks.get().value() == 1);
}

using said = coir::dispatched<int>;
using context = coir::dispatch_context<ask>;

}  // namespace

TEST_CASE("loop: a handler that says not now leaves the others of the loop running") {
  bool fed = false;
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  one_waits_for_the_other(
      [&](const ask&) {
        return fed ? said::done(1) : said::would_block({.fd = ends[0], .events = POLLIN});
      },
      [&] {
        fed = true;
        CHECK(coir::io::write(ends[1], std::as_bytes(std::span("x", 1))) == 1);
      });
  for (const int one : ends) ::close(one);
  fed = false;
  one_waits_for_the_other([&](const ask&) { return fed ? said::done(1) : said::would_block(); },
                          [&] { fed = true; });
  fed = false;
  one_waits_for_the_other(
      [&](const ask&) {
        return fed ? said::done(1) : said::would_block({.until = coir::in(10us)});
      },
      [&] { fed = true; });
  coir::event open;
  one_waits_for_the_other(
      [&](const ask&) {
        return open.is_set() ? said::done(1) : said::would_block({.gate = &open});
      },
      [&] { open.set(); });
}

TEST_CASE("loop: a handler that answers later leaves the others of the loop running") {
  coir::resumption<int> kept;
  one_waits_for_the_other(
      [&](const ask&, context& c) {
        kept = c.keep();
        return said::later();
      },
      [&] { CHECK(kept.resume(1)); });
}

TEST_CASE(
    "loop: what a handler waits for ends by a cancel, by the effect's deadline, and by drain") {
  for (const int how : {0, 1, 2}) {
    for (const bool kept : {false, true}) {
      auto outside = coir::make_backend(test::tested({}));
      REQUIRE(outside);
      auto in = coir::loop::make(**outside).value();
      std::array<int, 2> ends{};
      REQUIRE(::pipe(ends.data()) == 0);
      coir::resumption<int> later;
      auto busy = coir::on<ask>([&](const ask&, context& c) {
        if (!kept) return said::would_block({.fd = ends[0], .events = POLLIN});
        later = c.keep();
        return said::later();
      });
      const auto until = how == 1 ? coir::in(1ms) : coir::never;
      auto asks = in.submit([&] {
        return coir::handle_effects([&] { return error_of(coir::perform(ask{}, until)); }, busy);
      });
      if (how == 0) asks.cancel();
      if (how == 2) CHECK(in.drain() == 1);
      CHECK(in.run(coir::in(60s)));
      CHECK(asks.get().value() ==
            (how == 1 ? std::errc::timed_out : std::errc::operation_canceled));
      for (const int one : ends) ::close(one);
    }
  }
}

TEST_CASE("loop: a close whose handler says not now is waited for in a body that is to end") {
  auto outside = coir::make_backend(test::tested({}));
  REQUIRE(outside);
  auto in = coir::loop::make(**outside).value();
  bool fed = false;
  int closed = 0;
  auto keeper = coir::on<coir::close_operation>([&](const coir::close_operation&) {
    if (!fed) return coir::dispatched<void>::would_block();
    ++closed;
    return coir::dispatched<void>::done();
  });
  auto holds =
      in.submit([&] { coir::handle_effects([&] { CHECK(coir::io::close(4'321)); }, keeper); });
  holds.cancel();
  auto feeds = in.submit([&] {
    CHECK(coir::this_fiber::sleep_for(1ms));
    fed = true;
  });
  CHECK(in.run(coir::in(60s)));
  CHECK(closed == 1);
}

TEST_CASE("step: what a handler waits for is asked of whoever steps, or waited for by the thread") {
  for (const bool knows : {true, false}) {
    int asked = 0;
    auto busy = coir::on<ask>(
        [&](const ask&) { return ++asked == 1 ? said::would_block() : said::done(1); });
    auto at = coir::step([&] {
      return coir::handle_effects([] { return coir::perform(ask{}).value_or(-1); }, busy);
    });
    REQUIRE(at.is_suspended());
    REQUIRE(at.waiting().op().is<coir::sleep_operation>());
    CHECK(asked == 1);
    if (knows) {
      at = at.waiting().resume<coir::sleep_operation>({}).value();
    } else {
      at = at.waiting().resume_failing(make_error_code(errc::unhandled_effect));
    }
    REQUIRE(at.has_value());
    CHECK(at.value() == 1);
    CHECK(asked == 2);
  }
}
