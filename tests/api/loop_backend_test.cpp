// loop_backend_test.cpp: bodies in a loop over the kernel's ring.
#include <doctest/doctest.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <memory_resource>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using namespace std::chrono_literals;

namespace {

/// Memory for so many allocations.
struct scarce : std::pmr::memory_resource {
  explicit scarce(unsigned n) : left(n) {}
  unsigned left;

 private:
  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    if (left == 0) throw std::bad_alloc();
    --left;
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* at, std::size_t bytes, std::size_t alignment) override {
    std::pmr::new_delete_resource()->deallocate(at, bytes, alignment);
  }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

/// A poll that goes on; the last completion is its answer.
struct poll_again {
  using value_type = int;
  static constexpr std::string_view name = "test.poll_again";
  void fill(io_uring_sqe& e) const noexcept {
    e.opcode = IORING_OP_POLL_ADD;
    e.fd = fd;
    e.len = IORING_POLL_ADD_MULTI;
    e.poll32_events = POLLIN;
  }
  int complete(std::int32_t res) const noexcept { return res; }
  int fd;
};

}  // namespace

TEST_CASE("loop: without memory for its completion an operation is refused, and all go on") {
  scarce memory(0);
  auto outside = coir::make_backend(test::tested({}), &memory);
  REQUIRE(outside);
  auto in = coir::loop::make(**outside).value();
  const auto ask = [] {
    const auto done = coir::perform(coir::nop{});
    return done ? std::error_code() : done.error();
  };
  CHECK(in.submit(ask).get().value() == std::errc::not_enough_memory);
  memory.left = 1;
  auto first = in.submit(ask);
  CHECK(in.run());
  CHECK_FALSE(first.get().value());
  // There are two places now: the second of two at once needs more.
  auto second = in.submit(ask), third = in.submit(ask);
  CHECK(in.run());
  CHECK_FALSE(second.get().value());
  CHECK(third.get().value() == std::errc::not_enough_memory);
  memory.left = 2;
  std::vector<coir::submitted<std::error_code>> many;
  for (int i = 0; i < 3; ++i) many.push_back(in.submit(ask));
  CHECK(in.run());
  for (auto& each : many) CHECK_FALSE(each.get().value());
}

TEST_CASE("loop: what comes again and again is told, or told to be lost for want of memory") {
  scarce memory(1);
  auto outside = coir::make_backend(test::tested({}), &memory);
  REQUIRE(outside);
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  io_uring_sqe entry{};
  entry.opcode = IORING_OP_POLL_ADD;
  entry.fd = ends[0];
  entry.len = IORING_POLL_ADD_MULTI;
  entry.poll32_events = POLLIN;
  REQUIRE((*outside)->submit(entry, {0x101}));
  std::array<coir::completion, 8> came{};
  unsigned told = 0;
  bool lost = false, over = false;
  // Nobody reaps between them, so they need a place each: here two, with the last.
  const auto reap = [&] {
    const auto n = (*outside)->reap(came);
    if (!n) lost = lost || n.error() == std::errc::not_enough_memory;
    for (std::size_t i = 0; n && i < *n; ++i) {
      ++told;
      over = over || !came[i].more();
    }
  };
  for (int i = 0; i < 5; ++i) {
    CHECK(::write(ends[1], "x", 1) == 1);
    (*outside)->hand_over();
  }
  for (int i = 0; i < 3; ++i) reap();
  if (!over) {  // a backend that knows no multishot refuses it, once
    CHECK(lost);
    CHECK(told == 1);
    REQUIRE((*outside)->cancel({0x101}));
    while (!over) {
      REQUIRE((*outside)->wait(coir::never));
      reap();
    }
  }
  for (const int one : ends) ::close(one);
}

TEST_CASE(
    "loop: completions that were lost for want of memory end no body, and what was lent stays "
    "lent") {
  scarce memory(1);
  auto outside = coir::make_backend(test::tested({}), &memory);
  REQUIRE(outside);
  auto in = coir::loop::make(**outside).value();
  std::array<int, 2> ends{}, quiet{};
  REQUIRE(::pipe(ends.data()) == 0);
  REQUIRE(::pipe(quiet.data()) == 0);
  auto again = in.submit([&] { return coir::perform(poll_again{ends[0]}).has_value(); });
  for (int i = 0; i < 8; ++i) {
    CHECK(::write(ends[1], "x", 1) == 1);
    (*outside)->hand_over();
  }
  for (int i = 0; i < 3; ++i) CHECK(in.poll());
  CHECK_FALSE(in.failed());
  memory.left = 1'000;
  std::array<std::byte, 4> lent{};
  auto reads = in.submit([&] { return coir::io::read(quiet[0], lent).value_or(0); });
  CHECK(::write(quiet[1], "abc", 3) == 3);
  again.cancel();
  CHECK(in.run(coir::in(60s)));
  CHECK(again.done());
  CHECK(reads.get().value() == 3);
  for (const int one : {ends[0], ends[1], quiet[0], quiet[1]}) ::close(one);
}

TEST_CASE("loop: over the kernel's ring, inside of somebody else's poll(2)") {
  COIR_NOT_IN_SIM(kernel);
  auto outside = coir::make_backend(test::tested({}));
  REQUIRE(outside);
  auto in = coir::loop::make(**outside).value();
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  std::string got;
  auto reader = in.submit([&] {
    const coir::io::unique_fd mine(ends[0]);
    std::array<std::byte, 16> some{};
    for (;;) {
      const auto n = coir::io::read(mine.get(), some);
      if (!n || *n == 0) return got.size();
      got.append(reinterpret_cast<const char*>(some.data()), *n);
    }
  });
  auto sleeper = in.submit([] { return coir::this_fiber::sleep_for(1ms).has_value(); });
  REQUIRE(in.poll());
  std::thread writer([fd = ends[1]] {
    for (int i = 0; i < 3; ++i) CHECK(::write(fd, "abc", 3) == 3);
    ::close(fd);
  });
  REQUIRE(in.native_fd() >= 0);
  while (!reader.done()) {
    pollfd one{in.native_fd(), POLLIN, 0};
    REQUIRE(::poll(&one, 1, 60'000) == 1);
    REQUIRE(in.poll());
  }
  writer.join();
  CHECK(reader.get().value() == 9);
  CHECK(got == "abcabcabc");
  CHECK(in.run());
  CHECK(sleeper.get().value());
}

TEST_CASE("loop: what is under way when it ends is ended by the kernel first, and closed") {
  auto outside = coir::make_backend(test::tested({}));
  REQUIRE(outside);
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  {
    auto in = coir::loop::make(**outside).value();
    auto stuck = in.submit([&] {
      const coir::io::unique_fd mine(ends[0]);
      std::array<std::byte, 16> some{};
      return coir::io::read(mine.get(), some).error();
    });
    REQUIRE(in.poll());
    CHECK(in.drain() == 1);
    CHECK(stuck.get().value() == std::errc::operation_canceled);
  }
  ::signal(SIGPIPE, SIG_IGN);
  CHECK(::write(ends[1], "x", 1) == -1);  // nobody reads any more
  CHECK(errno == EPIPE);
  ::close(ends[1]);
}
