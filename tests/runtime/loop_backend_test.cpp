// loop_backend_test.cpp: cancels that the kernel did not find an operation for, in a loop.
//
// Always true:
//   - Time is that of the script: who waits is at its deadline at once.
//
// Comes from: runtime/loop_backend.hpp.   Goes to: ctest.
#include "runtime/loop_backend.hpp"

#include <doctest/doctest.h>
#include <linux/io_uring.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "coir/coir.hpp"
#include "runtime/flight.hpp"
#include "scripted_backend.hpp"

using namespace coir::detail;

namespace {

/// A loop whose cancels miss their operations so often before they find them.
struct missing {
  explicit missing(unsigned misses) : misses_left(misses) {
    s.on_cancel = [this](token target) {
      const bool misses_it = misses_left != 0;
      if (misses_it) --misses_left;
      asked_at.push_back(s.now_ns);
      s.complete(token::make(target.slot(), target.generation(), token_kind::cancel),
                 misses_it ? -ENOENT : 0);
      if (!misses_it) s.complete(target, -ECANCELED);
    };
    // What nobody would end: the test shall, and not hang.
    s.on_wait = [this](std::int64_t until) {
      if (until != never_ns || !s.due.empty()) return;
      ++hung;
      for (const scripted::sent& each : s.submitted) s.complete(each.name, -ECANCELED);
    };
  }
  auto receive(coir::deadline until = coir::never) {
    return in.submit([this, until] {
      const auto n = coir::io::recv(5, some, 0, until);
      return n ? std::error_code() : n.error();
    });
  }

  scripted::script s;
  unsigned misses_left, hung = 0;
  std::vector<std::int64_t> asked_at;
  std::array<std::byte, 4> some{};
  std::unique_ptr<coir::backend> outside =
      make_loop_backend(std::make_unique<scripted::outside>(s), nullptr, {}).value();
  coir::loop in = coir::loop::make(*outside).value();
};

}  // namespace

TEST_CASE("loop: a cancel that missed its operation is asked for again, less and less often") {
  missing w(19);
  auto one = w.receive();
  one.cancel();
  CHECK(w.in.run());
  CHECK(one.get().value() == std::errc::operation_canceled);
  REQUIRE(w.asked_at.size() == 20);
  CHECK(w.hung == 0);
  CHECK(w.asked_at[1] == w.asked_at[0]);
  std::int64_t pause = flight::miss_pause_ns;
  for (std::size_t i = 2; i < w.asked_at.size(); ++i) {
    CHECK(w.asked_at[i] - w.asked_at[i - 1] == pause);
    pause = std::min(2 * pause, flight::miss_pause_max_ns);
  }
  CHECK(std::ranges::all_of(w.s.cancelled, [&](token t) { return t == w.s.submitted[0].name; }));
}

TEST_CASE("loop: a deadline, a drain and its end come also where the cancel missed once") {
  missing by_deadline(1);
  auto late = by_deadline.receive(coir::deadline(std::chrono::milliseconds(7)));
  CHECK(by_deadline.in.run());
  CHECK(late.get().value() == std::errc::timed_out);
  CHECK(by_deadline.hung == 0);
  missing by_drain(1);
  auto drained = by_drain.receive();
  CHECK(by_drain.in.drain() == 1);
  CHECK(drained.get().value() == std::errc::operation_canceled);
  CHECK(by_drain.hung == 0);
  missing by_end(1);
  auto ended = by_end.receive();
  { const coir::loop dies = std::move(by_end.in); }
  CHECK(ended.get().value() == std::errc::operation_canceled);
  CHECK(by_end.hung == 0);
}

TEST_CASE("loop: who pauses before it cancels again says so to whoever polls by other means") {
  missing w(3);
  auto one = w.receive();
  one.cancel();
  for (int i = 0; i < 2; ++i) REQUIRE(w.in.poll());
  CHECK(w.asked_at.size() == 2);
  CHECK(w.in.next_deadline() == coir::deadline(coir::clock::duration(w.s.now_ns)) +
                                    coir::clock::duration(flight::miss_pause_ns));
  CHECK(w.in.run());
  CHECK(w.in.next_deadline() == coir::never);
}

TEST_CASE("loop: an operation whose end waits to be told is not asked for again") {
  missing w(1'000);
  auto one = w.receive();
  one.cancel();
  REQUIRE(w.in.poll());
  w.s.complete(w.s.submitted[0].name, -ECANCELED);
  CHECK(w.in.run());
  const std::size_t asked = w.asked_at.size();
  auto other = w.receive();
  w.s.now_ns += 10 * flight::miss_pause_max_ns;
  REQUIRE(w.in.poll());
  CHECK(w.asked_at.size() == asked);
  w.s.complete(w.s.submitted[1].name, 4);
  CHECK(w.in.run());
  CHECK_FALSE(other.get().value());
}
