// started_test.cpp: operations that go on while their fiber does, and waiting for several.
//
// Always true:
//   - Whatever a test does with a started operation, nothing is with the kernel when it ends.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "on_fiber.hpp"
#include "runtime/worker.hpp"

using namespace std::chrono_literals;
using coir::started;

namespace {

/// read(2) as an operation that tests describe themselves.
struct read_op {
  using value_type = std::size_t;
  static constexpr std::string_view name = "read";
  int fd;
  std::span<std::byte> into;
  void fill(io_uring_sqe& e) const noexcept {
    e.opcode = IORING_OP_READ;
    e.fd = fd;
    e.addr = reinterpret_cast<std::uintptr_t>(into.data());
    e.len = static_cast<std::uint32_t>(into.size());
    e.off = ~std::uint64_t{0};
  }
  std::size_t complete(std::int32_t res) const noexcept { return static_cast<std::size_t>(res); }
};

struct ends {
  int out, in;
  ends() {
    int both[2];
    REQUIRE(::pipe(both) == 0);
    out = both[0];
    in = both[1];
  }
  ~ends() {
    (void)coir::io::close(out);
    (void)coir::io::close(in);
  }
  void put(std::string_view text) const {
    REQUIRE(::write(in, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
};

std::uint64_t open_now() { return coir::detail::worker::current()->operations().open_count(); }
std::uint64_t cancels() { return coir::detail::worker::current()->operations().cancels(); }

}  // namespace

TEST_CASE("started: an operation is under way while its fiber does others, and get() gives it") {
  test::on_fiber([] {
    const ends pipe;
    std::array<std::byte, 16> buffer;
    auto reading = coir::start(read_op{pipe.out, buffer});
    REQUIRE(reading);
    CHECK_FALSE(reading.done());
    CHECK(coir::perform(coir::nop{}).has_value());  // another park: it is not ended by the read
    pipe.put("hello");
    while (!reading.done()) CHECK(coir::perform(coir::nop{}).has_value());
    CHECK(reading.get() == std::size_t{5});
    CHECK(std::memcmp(buffer.data(), "hello", 5) == 0);
    CHECK_FALSE(reading);
    CHECK(reading.get().error() == coir::errc::already_joined);
    CHECK(open_now() == 0);
  });
}

TEST_CASE("started: a read that completes while its fiber sleeps does not wake it") {
  test::on_fiber([] {
    const ends pipe;
    std::array<std::byte, 16> buffer;
    auto reading = coir::start(read_op{pipe.out, buffer});
    pipe.put("x");
    const auto until = coir::in(20ms);
    CHECK(coir::this_fiber::sleep_until(until).has_value());
    CHECK(coir::clock::now() >= until);
    CHECK(reading.done());
    CHECK(reading.get() == std::size_t{1});
  });
}

TEST_CASE("started: a deadline of get() leaves the operation started, and get() may come again") {
  test::on_fiber([] {
    const ends pipe;
    std::array<std::byte, 16> buffer;
    auto reading = coir::start(read_op{pipe.out, buffer});
    CHECK(reading.get(coir::in(1ms)).error() == std::errc::timed_out);
    CHECK(reading.get(coir::no_wait).error() == std::errc::timed_out);
    CHECK(open_now() == 1);
    CHECK(cancels() == 0);
    pipe.put("late");
    CHECK(reading.get() == std::size_t{4});
  });
}

TEST_CASE("started: a cancel ends it, once, and get() says so") {
  test::on_fiber([] {
    const ends pipe;
    std::array<std::byte, 16> buffer;
    auto reading = coir::start(read_op{pipe.out, buffer});
    reading.cancel();
    reading.cancel();
    CHECK(reading.get().error() == std::errc::operation_canceled);
    CHECK(cancels() == 1);
    CHECK(open_now() == 0);
  });
}

TEST_CASE("started: the destructor waits for the kernel, so that a buffer may end after it") {
  test::on_fiber([] {
    const ends pipe;
    {
      std::array<std::byte, 4096> buffer{};
      const auto reading = coir::start(read_op{pipe.out, buffer});
      CHECK(open_now() == 1);
    }
    CHECK(open_now() == 0);
    CHECK(cancels() == 1);
  });
}

TEST_CASE("started: the destructor waits while an exception unwinds") {
  test::on_fiber([] {
    const ends pipe;
    std::uint64_t open_in_between = 9;
    struct looks {
      std::uint64_t& at;
      ~looks() { at = open_now(); }
    };
    try {
      std::array<std::byte, 64> buffer;
      const looks afterwards{open_in_between};
      const auto reading = coir::start(read_op{pipe.out, buffer});
      throw std::runtime_error("out");
    } catch (const std::runtime_error& e) {
      CHECK(std::string_view(e.what()) == "out");
    }
    CHECK(open_in_between == 0);
  });
}

TEST_CASE("started: close of the descriptor ends it, and waits for its last completion") {
  test::on_fiber([] {
    int both[2];
    REQUIRE(::pipe(both) == 0);
    std::array<std::byte, 16> buffer;
    auto reading = coir::start(read_op{both[0], buffer});
    CHECK(coir::io::close(both[0]).has_value());
    CHECK(reading.done());
    CHECK(open_now() == 0);
    CHECK(reading.get().error() == std::errc::operation_canceled);
    auto refused = coir::start(read_op{both[0], buffer});
    CHECK(refused.get().error() == std::errc::bad_file_descriptor);
    CHECK(coir::io::close(both[1]).has_value());
  });
}

TEST_CASE("started: a cancelled fiber gets what succeeded, and starts nothing new") {
  test::on_fiber([] {
    const ends pipe, other;
    pipe.put("won");
    auto fiber = coir::spawn([&] {
      std::array<std::byte, 16> buffer, second;
      auto reading = coir::start(read_op{pipe.out, buffer});
      auto waiting = coir::start(read_op{other.out, second});
      while (!coir::this_fiber::cancelled()) coir::this_fiber::yield();
      CHECK(reading.get() == std::size_t{3});
      CHECK(waiting.get().error() == std::errc::operation_canceled);
      auto late = coir::start(read_op{other.out, second});
      CHECK(late.get().error() == std::errc::operation_canceled);
    });
    test::settle();
    fiber.cancel();
    CHECK(fiber.join().has_value());
    CHECK(open_now() == 0);
  });
}

TEST_CASE("started: it is bound to its fiber, which cannot move away with it") {
  test::on_fiber(
      [] {
        const ends pipe;
        std::array<std::byte, 16> buffer;
        auto reading = coir::start(read_op{pipe.out, buffer});
        const unsigned here = coir::this_fiber::worker();
        auto other = coir::spawn(
            [&] { CHECK(reading.get().error() == coir::errc::wrong_operation); }, {.worker = here});
        CHECK(other.join().has_value());
        auto mover = coir::spawn(
            [&] {
              std::array<std::byte, 16> mine;
              const unsigned away = 1 - coir::this_fiber::worker();
              {
                auto held = coir::start(read_op{pipe.out, mine});
                CHECK(coir::this_fiber::move_to(away).error() == coir::errc::wrong_operation);
              }
              CHECK(coir::this_fiber::move_to(away).has_value());
            },
            {.sw = coir::switcher::cross_thread_no_float, .worker = here});
        CHECK(mover.join().has_value());
      },
      2);
}

TEST_CASE("started: one allocation, counted, and one submission") {
  test::on_fiber([] {
    const ends pipe;
    std::array<std::byte, 16> buffer;
    auto& here = *coir::detail::worker::current();
    CHECK(coir::perform(coir::nop{}).has_value());
    const auto boxes = here.counts().boxes.get();
    const auto sqes = here.outside().counts().sqes.get();
    auto reading = coir::start(read_op{pipe.out, buffer});
    CHECK(here.counts().boxes.get() == boxes + 1);
    CHECK(here.outside().counts().sqes.get() == sqes + 1);
    pipe.put("1");
    CHECK(reading.get().has_value());
    CHECK(here.counts().boxes.get() == boxes + 1);
  });
}

TEST_CASE("started: a descriptor that get() gave is the caller's, and no other one is closed") {
  test::on_fiber([] {
    struct stat before {
    }, after{};
    const bool had_input = ::fstat(0, &before) == 0;
    {
      auto opening = coir::start(coir::open_operation("/dev/null", O_RDONLY, 0));
      const auto fd = opening.get();
      REQUIRE(fd.has_value());
      coir::io::unique_fd mine(*fd);
      auto none = coir::start(coir::open_operation("/nowhere/at/all", O_RDONLY, 0));
      CHECK(none.get().error() == std::errc::no_such_file_or_directory);
    }
    CHECK((::fstat(0, &after) == 0) == had_input);
    CHECK(before.st_ino == after.st_ino);
  });
}

TEST_CASE("started: on a plain thread it is refused") {
  std::array<std::byte, 16> buffer;
  auto reading = coir::start(read_op{0, buffer});
  CHECK_FALSE(reading);
  CHECK(reading.get().error() == coir::errc::not_in_fiber);
}

TEST_CASE(
    "C-T14: await_all gives all answers; the first error has the others cancelled and waited for") {
  test::on_fiber([] {
    const ends a, b;
    std::array<std::byte, 16> one, two;
    auto first = coir::start(read_op{a.out, one});
    auto second = coir::start(read_op{b.out, two});
    auto fiber = coir::spawn([&] {
      a.put("aa");
      b.put("b");
      return std::string("done");
    });
    auto [x, y, z] = coir::await_all(first, second, fiber);
    CHECK(x == std::size_t{2});
    CHECK(y == std::size_t{1});
    CHECK(z == std::string("done"));

    auto waiting = coir::start(read_op{a.out, one});
    auto sleeping = coir::spawn([] { return coir::this_fiber::sleep_for(1h); });
    auto failing = coir::spawn([]() -> coir::result<> { return coir::fail(std::errc::io_error); });
    auto [p, q, r] = coir::await_all(waiting, sleeping, failing);
    CHECK(p.error() == std::errc::operation_canceled);
    CHECK(q.error() == std::errc::operation_canceled);
    CHECK(r.error() == std::errc::io_error);
    CHECK(open_now() == 0);
  });
}

TEST_CASE("C-T14: await_any cancels and awaits the losers, and one that finished is not lost") {
  test::on_fiber([] {
    const ends a, b;
    std::array<std::byte, 16> one, two;
    {
      auto quick = coir::start(read_op{a.out, one});
      auto slow = coir::start(read_op{b.out, two});
      a.put("win");
      auto found = coir::await_any(slow, quick);
      CHECK(found.index == 1);
      CHECK(std::get<1>(found.answers)->value() == 3);
      CHECK_FALSE(std::get<0>(found.answers).has_value());
      CHECK(open_now() == 0);
    }
    {
      auto x = coir::start(read_op{a.out, one});
      auto y = coir::start(read_op{b.out, two});
      a.put("xx");
      b.put("y");
      while (!x.done() || !y.done()) CHECK(coir::perform(coir::nop{}).has_value());
      auto found = coir::await_any(x, y);
      CHECK(found.index == 0);
      CHECK(std::get<0>(found.answers)->value() == 2);
      REQUIRE(std::get<1>(found.answers).has_value());
      CHECK(std::get<1>(found.answers)->value() == 1);
    }
    {
      auto never_comes = coir::start(read_op{a.out, one});
      auto fiber = coir::spawn([] { return 7; });
      auto found = coir::await_any(never_comes, fiber);
      CHECK(found.index == 1);
      CHECK(std::get<1>(found.answers)->value() == 7);
    }
    {
      auto never_comes = coir::start(read_op{a.out, one});
      auto sleeping = coir::spawn([] { return coir::this_fiber::sleep_for(1h); });
      auto found = coir::await_any(coir::in(1ms), never_comes, sleeping);
      CHECK(found.index == found.none);
      CHECK(open_now() == 0);
    }
  });
}

TEST_CASE("C-T14: await_any over fibers of other workers, again and again") {
  test::on_fiber(
      [] {
        const ends a;
        std::array<std::byte, 16> one;
        for (int round = 0; round < 200; ++round) {
          auto reading = coir::start(read_op{a.out, one});
          auto far = coir::spawn([round] { return round; }, {.worker = 1u});
          auto also = coir::spawn([round] { return -round; }, {.worker = 1u});
          auto found = coir::await_any(reading, far, also);
          REQUIRE(found.index != found.none);
          REQUIRE(found.index != 0);
        }
        CHECK(open_now() == 0);
      },
      2);
}

TEST_CASE("C-T14: a cancel of the fiber that awaits cancels all, and they are awaited") {
  test::on_fiber([] {
    const ends a;
    auto waiter = coir::spawn([&] {
      std::array<std::byte, 16> one;
      auto reading = coir::start(read_op{a.out, one});
      auto sleeping = coir::spawn([] { return coir::this_fiber::sleep_for(1h); });
      auto [x, y] = coir::await_all(reading, sleeping);
      CHECK(x.error() == std::errc::operation_canceled);
      CHECK(y.error() == std::errc::operation_canceled);
    });
    test::settle();
    waiter.cancel();
    CHECK(waiter.join().has_value());
    CHECK(open_now() == 0);
  });
}

TEST_CASE("C-T14: an exception of a fiber comes out after all have been awaited") {
  test::on_fiber([] {
    const ends a;
    std::array<std::byte, 16> one;
    auto reading = coir::start(read_op{a.out, one});
    auto throwing = coir::spawn([]() -> int { throw std::runtime_error("thrown"); });
    CHECK_THROWS_AS((void)coir::await_all(reading, throwing), std::runtime_error);
    CHECK(open_now() == 0);
  });
}

TEST_CASE("C-T14: where a fiber throws, who did not fail keeps its answer") {
  test::on_fiber([] {
    for (const bool any : {false, true}) {
      auto opening = coir::start(coir::open_operation("/dev/null", O_RDONLY, 0));
      auto counting = coir::spawn([] { return 5; });
      auto throwing = coir::spawn([]() -> int { throw std::runtime_error("thrown"); });
      while (!opening.done() || !counting.done() || !throwing.done()) coir::this_fiber::yield();
      if (any) CHECK_THROWS((void)coir::await_any(opening, counting, throwing));
      if (!any) CHECK_THROWS((void)coir::await_all(opening, counting, throwing));
      const auto fd = opening.get();
      REQUIRE(fd.has_value());
      CHECK(coir::io::close(*fd).has_value());
      CHECK(counting.join() == 5);
    }
  });
}

namespace {
/// What a program of its own may write into an entry.
struct raw_op {
  using value_type = std::int32_t;
  static constexpr std::string_view name = "test.raw";
  unsigned opcode;
  int fd;
  std::uint16_t ioprio = 0;
  std::uint32_t len = 0, timeout_flags = 0;
  std::uint8_t flags = 0;
  void fill(io_uring_sqe& e) const noexcept {
    e.opcode = static_cast<std::uint8_t>(opcode);
    e.fd = fd;
    e.ioprio = ioprio;
    e.len = len;
    e.timeout_flags = timeout_flags;
    e.flags = flags;
  }
  std::int32_t complete(std::int32_t res) const noexcept { return res; }
};
}  // namespace

TEST_CASE("started: one that would have many answers, or a buffer of the ring's, is refused") {
  const ends pipe;
  const std::vector<raw_op> all = {
      {.opcode = IORING_OP_ACCEPT, .fd = pipe.out, .ioprio = IORING_ACCEPT_MULTISHOT},
      {.opcode = IORING_OP_RECV, .fd = pipe.out, .ioprio = IORING_RECV_MULTISHOT},
      {.opcode = IORING_OP_POLL_ADD, .fd = pipe.out, .len = IORING_POLL_ADD_MULTI},
      {.opcode = IORING_OP_TIMEOUT, .fd = -1, .timeout_flags = 1 << 6},  // IORING_TIMEOUT_MULTISHOT
      {.opcode = IORING_OP_READ, .fd = pipe.out, .flags = IOSQE_BUFFER_SELECT},
      {.opcode = 49, .fd = pipe.out},  // IORING_OP_READ_MULTISHOT
  };
  const auto is_refused = [](const coir::result<std::int32_t>& answer) {
    return !answer && answer.error() == std::errc::invalid_argument;
  };
  test::on_fiber([&] {
    for (const raw_op& each : all) {
      CAPTURE(each.opcode);
      CHECK(is_refused(coir::perform(each)));
      CHECK(is_refused(coir::start(each).get()));
    }
    CHECK(open_now() == 0);
  });
  auto outside = coir::make_backend(test::tested({}));
  REQUIRE(outside);
  auto in = coir::loop::make(**outside);
  REQUIRE(in);
  for (const raw_op& each : all) {
    CAPTURE(each.opcode);
    auto asked = in->submit([&each] { return coir::perform(each); });
    CHECK(is_refused(asked.get().value()));
  }
}
