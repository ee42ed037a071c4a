// handlers_streams_test.cpp: streams are effects like others: whoever handles them is asked first,
// by every driver.
//
// Always true:
//   - `told` is one body, which knows nothing of who answers it.
//
// Comes from: ctest.   Goes to: coir/multishot.hpp, coir/handlers.hpp, coir/stepping.hpp.
#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "coir/coir.hpp"
#include "tests/api/stream_world.hpp"

namespace {

using coir::dispatched;
using coir::errc;
using coir::multishot;
using coir::recv_stream;
using coir::tick_stream;
using stream_test::sockets;
using bytes_of_stream = multishot<coir::leased_bytes>;

/// What comes in on `fd`, until its end; an error in place of its item.
std::string told(int fd) {
  std::string all;
  for (auto item : coir::perform(recv_stream{fd}))
    all += item ? std::string(item->text()) : "(" + item.error().message() + ")";
  return all;
}

/// Gives these texts, and then the end.
bytes_of_stream stream_of_texts(std::vector<std::string_view> texts) {
  return bytes_of_stream::from(
      [texts = std::move(texts), at = std::size_t{0}](
          coir::deadline) mutable -> coir::result<std::optional<coir::leased_bytes>> {
        if (at == texts.size()) return std::optional<coir::leased_bytes>();
        const std::string_view text = texts[at++];
        return coir::leased_bytes(nullptr, 0, std::as_bytes(std::span(text)));
      });
}

struct gives_texts {
  using handles = coir::operations<recv_stream>;
  int asked_for = -1;
  dispatched<bytes_of_stream> dispatch(const recv_stream& op,
                                       coir::dispatch_context<recv_stream>&) {
    asked_for = op.fd;
    return dispatched<bytes_of_stream>::done(stream_of_texts({"one ", "two"}));
  }
};

struct forwards {
  using handles = coir::operations<recv_stream>;
  unsigned asked = 0;
  dispatched<bytes_of_stream> dispatch(const recv_stream&, coir::dispatch_context<recv_stream>&) {
    ++asked;
    return dispatched<bytes_of_stream>::forward();
  }
};

void close_other(sockets& pair) { ::close(std::exchange(pair.other, -1)); }

}  // namespace

TEST_CASE("streams: a handler answers with items of its own, on a thread without a runtime") {
  gives_texts by;
  CHECK(coir::exec(by, [] { return told(77); }) == "one two");
  CHECK(by.asked_for == 77);
  CHECK(coir::handle_effects([] { return told(78); }, by) == "one two");
  CHECK(by.asked_for == 78);
}

TEST_CASE("streams: who steps a body answers its streams") {
  gives_texts by;
  auto s = coir::step([] { return told(5); });
  REQUIRE(s.is_suspended());
  CHECK(s.waiting().op().name() == "recv_stream");
  CHECK(s.waiting().op().as<recv_stream>()->fd == 5);
  auto at = coir::advance(by, std::move(s.waiting()));
  CHECK(at.state.value() == "one two");
  auto by_hand = coir::step([] { return told(6); });
  auto ended = by_hand.waiting().resume<recv_stream>(stream_of_texts({"by hand"}));
  REQUIRE(ended.has_value());
  CHECK(ended->value() == "by hand");
  auto given_up = coir::step([] { return told(7); });
  CHECK(given_up.is_suspended());
}

TEST_CASE("streams: a handler that forwards leaves them to the backend, as they were asked for") {
  test::on_fiber([] {
    sockets pair;
    pair.send("came");
    forwards by;
    const std::uint64_t before = stream_test::open_now();
    coir::handle_effects(
        [&] {
          auto bytes = coir::perform(recv_stream{pair.one}, {.capacity = 1, .low_water = 0});
          CHECK(stream_test::open_now() == before + 1);
          CHECK((*bytes.next())->text() == "came");
          auto refused = coir::perform(recv_stream{pair.one}, {.capacity = 0});
          CHECK(refused.next().error() == std::errc::invalid_argument);
        },
        by);
    CHECK(by.asked == 2);
    CHECK(stream_test::open_now() == before);
    close_other(pair);
    CHECK(coir::handle_effects([&] { return told(pair.one); }, by).empty());
  });
}

TEST_CASE("streams: in a loop on a fiber the ring of its worker gives them") {
  test::on_fiber([] {
    sockets pair;
    pair.send("from the ring");
    close_other(pair);
    auto outside = coir::make_backend();
    REQUIRE(outside.has_value());
    auto in = coir::loop::make(**outside).value();
    auto all = in.submit([&] { return told(pair.one); });
    CHECK(in.run().has_value());
    CHECK(all.get().value() == "from the ring");
  });
}

TEST_CASE("streams: what nobody gives, and what a handler refuses, is told by next, once") {
  auto nobody = coir::on<tick_stream>(
      [](const tick_stream&) { return dispatched<multishot<unsigned>>::forward(); });
  coir::exec(nobody, [] {
    auto bytes = coir::perform(recv_stream{1});
    CHECK_FALSE(bytes);
    CHECK_FALSE(bytes.alive());
    CHECK_FALSE(bytes.try_next().has_value());
    CHECK(bytes.next().error() == errc::unhandled_effect);
    CHECK_FALSE(bytes.next()->has_value());
  });
  auto refuses = coir::on<tick_stream>([](const tick_stream&) {
    return dispatched<multishot<unsigned>>::failed(std::make_error_code(std::errc::io_error));
  });
  unsigned errors = 0;
  coir::handle_effects(
      [&] {
        for (auto tick : coir::perform(tick_stream(std::chrono::hours(1))))
          errors += !tick && tick.error() == std::errc::io_error;
      },
      refuses);
  CHECK(errors == 1);
  CHECK(coir::perform(recv_stream{1}).next().error() == errc::not_in_fiber);
}

TEST_CASE("streams: a handler that answers later, and one whose items take effects") {
  test::on_fiber([] {
    coir::resumption<multishot<unsigned>> kept;
    bool asked = false;
    auto later = coir::on<tick_stream>(
        [&](const tick_stream&, coir::dispatch_context<tick_stream>& context) {
          kept = context.keep();
          asked = true;
          return dispatched<multishot<unsigned>>::later();
        });
    auto asks = coir::spawn([&] {
      return coir::handle_effects(
          [] {
            unsigned sum = 0;
            for (auto tick : coir::perform(tick_stream(std::chrono::hours(1)))) sum += tick.value();
            return sum;
          },
          later);
    });
    while (!asked) coir::this_fiber::yield();
    unsigned left = 3;
    auto ticks = multishot<unsigned>::from(
        [left](coir::deadline) mutable -> coir::result<std::optional<unsigned>> {
          (void)coir::this_fiber::sleep_for(std::chrono::nanoseconds(1));
          if (left == 0) return std::optional<unsigned>();
          return left--;
        });
    CHECK(kept.resume(std::move(ticks)).has_value());
    CHECK(asks.join().value() == 3 + 2 + 1);
  });
}

TEST_CASE("streams: of a source of items errors are of one item, and a cancel is the end") {
  int n = 0;
  auto pull = [&n](coir::deadline) -> coir::result<std::optional<int>> {
    ++n;
    if (n == 2) return coir::fail(std::errc::io_error);
    if (n == 5) return coir::fail(std::errc::operation_canceled);
    return n;
  };
  auto some = multishot<int>::from(pull);
  std::vector<int> got;
  for (auto item : some) got.push_back(item.value_or(-1));
  CHECK(got == std::vector{1, -1, 3, 4, -1});
  CHECK(some.alive());  // it has not said that it has ended
  CHECK_FALSE(some.try_next().has_value());
  CHECK(some.buffered() == 0);
  auto moved = std::move(some);
  CHECK(moved.next()->value() == 6);
  moved.cancel();
  CHECK(moved.alive());
  CHECK_FALSE(moved.next()->has_value());
  CHECK_FALSE(moved.alive());
  CHECK(n == 6);
}
