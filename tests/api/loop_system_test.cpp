// loop_system_test.cpp: the same numbers over the backend that COIR_BACKEND names, where the system
// answers instead of a script.
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

namespace {

using coir::errc;

/// A backend of the system's, and what it was asked.
struct counted final : coir::backend {
  std::unique_ptr<coir::backend> inner;
  unsigned submits = 0, cancels = 0;

  coir::result<> submit(const io_uring_sqe& entry, coir::token name) override {
    const auto taken = inner->submit(entry, name);
    submits += taken ? 1 : 0;
    return taken;
  }
  coir::result<> cancel(coir::token name) override {
    ++cancels;
    return inner->cancel(name);
  }
  void hand_over() override { inner->hand_over(); }
  coir::result<std::size_t> reap(std::span<coir::completion> into) override {
    return inner->reap(into);
  }
  coir::result<> wait(coir::deadline until) override { return inner->wait(until); }
  void wake() noexcept override { inner->wake(); }
  coir::clock::time_point now() const override { return inner->now(); }
  int native_fd() const noexcept override { return inner->native_fd(); }
  void dispose(const coir::completion& c) noexcept override { inner->dispose(c); }
};

struct system_world {
  counted outside;
  std::optional<coir::loop> in;
  coir::progress did;  // in all

  system_world() {
    auto made = coir::make_backend(test::tested({}));
    REQUIRE(made);
    outside.inner = *std::move(made);
    in.emplace(coir::loop::make(outside).value());
  }
  void poll() {
    const auto now = in->poll(coir::never);
    REQUIRE(now);
    did.finished += now->finished;
    did.resumed += now->resumed;
    did.resubmitted += now->resubmitted;
    did.stale += now->stale;
  }
};

struct pipe_of_two {
  std::array<int, 2> ends{};
  pipe_of_two() { REQUIRE(::pipe(ends.data()) == 0); }
  ~pipe_of_two() {
    for (const int one : ends) ::close(one);
  }
  pipe_of_two(const pipe_of_two&) = delete;
  pipe_of_two& operator=(const pipe_of_two&) = delete;
  void put(char what) const { CHECK(::write(ends[1], &what, 1) == 1); }
  /// In a body: the next byte of it, or why there is none.
  coir::result<char> next() const {
    std::array<std::byte, 1> one{};
    const auto n = coir::io::read(ends[0], one);
    return n ? coir::result<char>(static_cast<char>(one[0])) : coir::fail(n.error());
  }
};

}  // namespace

TEST_CASE("T38 T40 loop, the system's: three at once, each answered when its own has come") {
  system_world w;
  const pipe_of_two a, b;
  auto number = w.in->submit([&] { return a.next().value() - '0'; });
  auto text = w.in->submit([&] { return std::string(3, b.next().value()); });
  auto nothing = w.in->submit([] { (void)coir::perform(coir::nop{}); });
  CHECK(w.in->pending() == 3);
  while (!nothing.done()) w.poll();
  b.put('x');
  while (!text.done()) w.poll();
  CHECK_FALSE(number.done());
  CHECK(number.get().error() == errc::not_parked);
  a.put('7');
  CHECK(w.in->run());
  CHECK(number.get().value() == 7);
  CHECK(text.get().value() == "xxx");
  CHECK(nothing.get());
  CHECK(w.outside.submits == 3);
}

TEST_CASE(
    "T39 T54 loop, the system's: a chain of sixty operations in one run, each asked for once") {
  system_world w;
  auto s = w.in->submit([] {
    int done = 0;
    for (int i = 0; i < 60; ++i) done += coir::perform(coir::nop{}) ? 1 : 0;
    return done;
  });
  CHECK(w.in->run());
  CHECK(s.get().value() == 60);
  CHECK(w.outside.submits == 60);
  CHECK(w.in->stale() == 0);
}

TEST_CASE("T41 loop, the system's: a completion that failed reaches the body with its error") {
  system_world w;
  const pipe_of_two p;
  std::array<std::byte, 1> one{};
  auto wrong = w.in->submit([&] { return coir::io::recv(p.ends[0], one).error(); });
  auto right = w.in->submit([&] { return p.next().value_or('-'); });
  p.put('r');
  CHECK(w.in->run());
  CHECK(wrong.get().value() == std::errc::not_a_socket);
  CHECK(right.get().value() == 'r');
  CHECK_FALSE(w.in->failed());
}

TEST_CASE("T43 loop, the system's: what was not ready is offered again, and no byte is lost") {
  system_world w;
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends.data()) == 0);
  std::array<std::byte, 8> some{};
  auto s = w.in->submit([&] { return coir::io::recv(ends[0], some).value_or(77); });
  for (int i = 0; i < 3; ++i) CHECK(w.in->poll());
  CHECK_FALSE(s.done());
  CHECK(::write(ends[1], "four", 4) == 4);
  while (!s.done()) w.poll();
  CHECK(s.get().value() == 4);
  // Once for a look, if it was refused at first, and once for the thing itself.
  CHECK(w.outside.submits <= 3);
  CHECK(w.in->pending() == 0);
  for (const int one : ends) ::close(one);
}

TEST_CASE("T52 loop, the system's: drain asks for the end, waits for it, and loses no byte") {
  system_world w;
  const pipe_of_two silent, speaks;
  int ended = 0;
  auto stuck = w.in->submit([&] {
    const auto got = silent.next();
    CHECK(silent.next().error() == std::errc::operation_canceled);
    ++ended;
    return got.error();
  });
  speaks.put('s');
  auto may_win = w.in->submit([&] {
    const auto got = speaks.next();
    CHECK(speaks.next().error() == std::errc::operation_canceled);
    ++ended;
    return got;
  });
  CHECK(w.in->drain() == 2);
  CHECK(ended == 2);
  CHECK(w.in->pending() == 0);
  CHECK(stuck.get().value() == std::errc::operation_canceled);
  const auto won = may_win.get().value();
  if (!won) {
    CHECK(won.error() == std::errc::operation_canceled);
    char left = 0;
    CHECK(::read(speaks.ends[0], &left, 1) == 1);
  } else {
    CHECK(*won == 's');
  }
  CHECK(w.outside.cancels <= 2);
  CHECK(w.in->drain() == 0);
  CHECK(w.in->submit([] { return 1; }).get().error() == errc::shutting_down);
}

TEST_CASE("T56 loop, the system's: dozens answered in any order, each resumed exactly once") {
  for (unsigned seed = 1; seed <= 5; ++seed) {
    system_world w;
    std::mt19937 dice(seed);
    const std::size_t count = 1 + dice() % 60;
    const std::vector<pipe_of_two> pipes(count);
    std::vector<coir::submitted<std::string>> all;
    for (const auto& p : pipes)
      all.push_back(w.in->submit([&p] { return std::string{*p.next(), *p.next()}; }));
    std::vector<std::size_t> order(2 * count);
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i % count;
    std::ranges::shuffle(order, dice);
    std::vector<int> sent(count);
    for (const std::size_t to : order) {
      pipes[to].put(static_cast<char>('a' + sent[to]++));
      const auto before = w.did.resumed;
      while (w.did.resumed == before) w.poll();
    }
    for (auto& s : all) {
      REQUIRE(s.done());
      CHECK(s.get().value() == "ab");
    }
    CHECK(w.did.resumed == 2 * count);
    CHECK(w.did.finished == count);
    CHECK(w.in->pending() == 0);
    CHECK(w.in->stale() == 0);
  }
}
