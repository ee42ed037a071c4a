// fds_test.cpp: closing reaches every worker that uses the number, and waits for it.
//
// Comes from: runtime/fds.hpp.   Goes to: ctest.
#include "runtime/fds.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "coir/coir.hpp"
#include "runtime/perform.hpp"
#include "scripted_backend.hpp"

using namespace coir::detail;
using namespace std::chrono_literals;

TEST_CASE("fds: the closer sees every worker that came before, a worker that comes later sees it") {
  fd_users users(16);
  CHECK(users.enter(3, 0) == entrance::open);
  CHECK(users.enter(3, 5) == entrance::open);
  CHECK(users.enter(4, 1) == entrance::open);
  CHECK(users.close_begin(3) == (fd_users::bit(0) | fd_users::bit(5)));
  CHECK(users.enter(3, 2) == entrance::closing);
  CHECK((users.close_begin(3) & fd_users::closing) != 0);
  CHECK(users.enter(4, 2) == entrance::open);
}

TEST_CASE("fds: while the kernel closes a number who comes asks later, and then is let in") {
  fd_users users(16);
  CHECK(users.enter(3, 0) == entrance::open);
  (void)users.close_begin(3);
  users.release(3);
  CHECK(users.enter(3, 2) == entrance::later);
  users.close_end(3);
  CHECK(users.enter(3, 2) == entrance::open);
  // The number's next closer hears of who came meanwhile, and not of who was there before.
  CHECK(users.close_begin(3) == fd_users::bit(2));
}

TEST_CASE("fds: only numbers that the process can have are known") {
  fd_users users(16);
  CHECK(users.knows(0));
  CHECK(users.knows(15));
  CHECK_FALSE(users.knows(16));
  CHECK_FALSE(users.knows(-1));
  CHECK(fds_max_of_process() >= 1024);
  CHECK(fds_max_of_process() <= 1u << 20);
}

TEST_CASE("fds: every worker has a bit, never the closing one, and only far ones share") {
  for (unsigned w = 0; w < 256; ++w) {
    const std::uint64_t b = fd_users::bit(w);
    CHECK(b != 0);
    CHECK((b & (b - 1)) == 0);
    CHECK(b != fd_users::closing);
    CHECK(b != fd_users::released);
    CHECK(b == fd_users::bit(w % fd_users::bits));
  }
}

TEST_CASE("fds: the number goes back to the system after the last completion, not before") {
  scripted::script s;
  bool read_ended = false;
  bool closed_too_early = false;
  unsigned turns = 0;
  s.on_submit = [&](const scripted::sent& x) {
    if (x.opcode != IORING_OP_CLOSE) return;
    closed_too_early = !read_ended;
    s.complete(x.name, 0);
  };
  s.on_ready = [&] { s.rung = !s.cancelled_fds.empty() && !read_ended; };
  s.on_wait = [&](std::int64_t) {
    if (s.cancelled_fds.empty() || read_ended || ++turns < 3) return;
    read_ended = true;
    s.complete(s.submitted[0].name, -ECANCELED);
  };
  std::int32_t res = 0;
  int closed = -1;
  int again = 0;
  CHECK_FALSE(scripted::run(s, [&] {
    io_uring_sqe e{};
    e.opcode = IORING_OP_READ;
    e.fd = 30;
    auto reader = coir::spawn([&] { res = perform_entry(e, never_ns); });
    while (s.submitted.empty()) coir::this_fiber::yield();
    auto second = coir::spawn([&] { again = close_everywhere(*current_core(), 30); });
    auto first = coir::spawn([&] { closed = close_everywhere(*current_core(), 30); });
    CHECK(first.join().has_value());
    CHECK(second.join().has_value());
    CHECK(reader.join().has_value());
  }));
  CHECK_FALSE(closed_too_early);
  CHECK(res == -ECANCELED);
  // Of two closers one is refused; which of them is not promised.
  CHECK(closed + again == -EBADF);
  CHECK(s.count(IORING_OP_CLOSE) == 1);
}

TEST_CASE("fds: a close on one worker ends the read that is parked on another") {
  const auto done = coir::run(
      [] {
        for (int round = 0; round < 20; ++round) {
          std::array<int, 2> ends{};
          REQUIRE(::pipe(ends.data()) == 0);
          const coir::io::unique_fd out(ends[1]);
          auto reader = coir::spawn(
              [&] {
                std::array<std::byte, 1> byte{};
                return coir::io::read(ends[0], byte, coir::in(5s));
              },
              {.worker = 1});
          auto closer = coir::spawn(
              [&] {
                while (coir::snapshot().workers[1].operations_open == 0) coir::this_fiber::yield();
                return coir::io::close(ends[0]);
              },
              {.worker = 0});
          CHECK(closer.join().has_value());
          const auto read = reader.join();
          REQUIRE_FALSE(read.has_value());
          REQUIRE(read.error() == std::errc::operation_canceled);
          CHECK(::fcntl(ends[0], F_GETFD) < 0);
        }
      },
      test::tested({.workers = 2}));
  CHECK(done.has_value());
}

TEST_CASE("fds: a plain thread closes what a fiber reads, and waits for it") {
  auto made = coir::runtime::create(test::tested({.workers = 1}));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  auto reader = (*made)->spawn([&] {
    std::array<std::byte, 1> byte{};
    return coir::io::read(ends[0], byte, coir::in(20s));
  });
  while ((*made)->snapshot().workers[0].operations_open == 0) std::this_thread::yield();
  CHECK(close_from_thread(ends[0]) == 0);
  CHECK(reader.join().error() == std::errc::operation_canceled);
  CHECK(close_from_thread(ends[0]) == -EBADF);
  ::close(ends[1]);
  CHECK((*made)->shutdown().has_value());
}
