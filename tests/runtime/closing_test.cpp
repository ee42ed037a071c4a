// closing_test.cpp: closing reaches every worker that uses the number, and waits for it.
//
// Always true:
//   - With the scripted backend the test decides when the last completion comes.
//
// Comes from: coir/io.hpp.   Goes to: runtime/closing.cpp.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "runtime/perform.hpp"
#include "scripted_backend.hpp"

using namespace coir::detail;
using namespace std::chrono_literals;

namespace {

/// A close ends when the worker sleeps, one after the other; everything else at once, with 5.
struct slow_closes : scripted::script {
  slow_closes() {
    on_submit = [this](const scripted::sent& x) {
      if (x.opcode == IORING_OP_CLOSE) return closing.push_back(x.name);
      complete(x.name, 5);
    };
    on_wait = [this](std::int64_t until_ns) {
      if (until_ns != no_wait_ns && told < closing.size()) complete(closing[told++], 0);
    };
  }
  std::vector<token> closing;
  std::size_t told = 0;
};

}  // namespace

TEST_CASE("closing: the number goes back to the system after the last completion, not before") {
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

TEST_CASE("closing: while the kernel closes a number, who comes for it waits without a turn") {
  scripted::script s;
  token closing;
  s.on_submit = [&](const scripted::sent& x) {
    if (x.opcode == IORING_OP_CLOSE && s.count(IORING_OP_CLOSE) == 1) return void(closing = x.name);
    s.complete(x.name, x.opcode == IORING_OP_CLOSE ? -EBADF : 5);
  };
  unsigned sleeps = 0;
  // The worker sleeps once everybody waits, and never if somebody asks again and again.
  s.on_wait = [&](std::int64_t until_ns) {
    if (until_ns != no_wait_ns && ++sleeps == 1) s.complete(closing, 0);
  };
  std::int32_t closed = -1, read = -1, other = -1;
  CHECK_FALSE(scripted::run(s, [&] {
    auto first = coir::spawn([&] { closed = close_everywhere(*current_core(), 30); });
    while (s.count(IORING_OP_CLOSE) == 0) coir::this_fiber::yield();
    auto reader = coir::spawn([&] {
      io_uring_sqe e{};
      e.opcode = IORING_OP_READ;
      e.fd = 30;
      read = perform_entry(e, never_ns);
    });
    auto second = coir::spawn([&] { other = close_everywhere(*current_core(), 30); });
    for (auto* each : {&first, &reader, &second}) CHECK(each->join().has_value());
  }));
  CHECK(closed == 0);
  CHECK(sleeps >= 1);
  // The number has its next owner then: the reader's operation is one on that, or the second closer
  // was first.
  CHECK((read == 5 || read == -ECANCELED || read == -EBADF));
  CHECK(other == -EBADF);
}

TEST_CASE(
    "closing: who waits for a number that is closed again meanwhile never meets its next owner") {
  slow_closes s;
  std::int32_t closed = -1, read = -1, second = -1, third = -1;
  CHECK_FALSE(scripted::run(s, [&] {
    const auto close = [](std::int32_t& res) {
      return [&res] { res = close_everywhere(*current_core(), 30); };
    };
    auto first = coir::spawn(close(closed));
    while (s.count(IORING_OP_CLOSE) == 0) coir::this_fiber::yield();
    // All of these were called by the next owner, whose close comes before the others though it was
    // called last: what they would meet is the number's owner after that.
    auto reader = coir::spawn([&] {
      io_uring_sqe e{};
      e.opcode = IORING_OP_READ;
      e.fd = 30;
      read = perform_entry(e, never_ns);
    });
    auto late = coir::spawn(close(third));
    for (int turns = 0; turns < 100; ++turns) coir::this_fiber::yield();
    auto quick = coir::spawn(close(second), {.prio = coir::priority::high});
    for (auto* each : {&first, &reader, &late, &quick}) CHECK(each->join().has_value());
  }));
  CHECK(closed == 0);
  CHECK(second == 0);
  CHECK(read == -EBADF);
  CHECK(third == -EBADF);
  CHECK(s.count(IORING_OP_READ) == 0);
  CHECK(s.count(IORING_OP_CLOSE) == 2);
}

TEST_CASE("closing: a later part of a call is refused once the number has been closed") {
  scripted::script s;
  s.on_submit = [&](const scripted::sent& x) {
    s.complete(x.name, x.opcode == IORING_OP_CLOSE ? 0 : 5);
  };
  CHECK_FALSE(scripted::run(s, [&] {
    io_uring_sqe e{};
    e.opcode = IORING_OP_READ;
    e.fd = 30;
    const std::uint64_t era = era_of(scripted::here(), 30);
    CHECK(perform_part(e, never_ns, era) == 5);
    CHECK(perform_part(e, never_ns, era) == 5);
    CHECK(close_everywhere(*current_core(), 30) == 0);
    CHECK(perform_part(e, never_ns, era) == -EBADF);
    CHECK(perform_entry(e, never_ns) == 5);  // its next owner's, whom this worker knows by now
    CHECK(perform_part(e, never_ns, era) == -EBADF);
  }));
  CHECK(s.count(IORING_OP_READ) == 3);
}

TEST_CASE("closing: a splice meets no later owner of its source either") {
  slow_closes s;
  std::int32_t spliced = 0;
  CHECK_FALSE(scripted::run(s, [&] {
    auto first = coir::spawn([] { CHECK(close_everywhere(*current_core(), 30) == 0); });
    while (s.count(IORING_OP_CLOSE) == 0) coir::this_fiber::yield();
    auto moving = coir::spawn([&] {  // waits until its new number 30 is told to be closed
      io_uring_sqe e{};
      e.opcode = IORING_OP_SPLICE;
      e.fd = 30;
      e.splice_fd_in = 31;
      e.len = 5;
      e.splice_flags = SPLICE_F_NONBLOCK;
      spliced = perform_entry(e, never_ns);
    });
    for (int turns = 0; turns < 100; ++turns) coir::this_fiber::yield();
    auto source = coir::spawn([] { CHECK(close_everywhere(*current_core(), 31) == 0); });
    for (auto* each : {&source, &first, &moving}) CHECK(each->join().has_value());
  }));
  CHECK(spliced == -EBADF);
  CHECK(s.count(IORING_OP_SPLICE) == 0);
}

TEST_CASE("closing: a close on one worker ends the read that is parked on another") {
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

TEST_CASE("closing: a plain thread closes what a fiber reads, and waits for it") {
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

TEST_CASE("closing: while a thread closes, every runtime refuses the number until it is closed") {
  // The thread visits the older runtime first, and is held up in the younger one.
  auto older = coir::runtime::create(test::tested({.workers = 1}));
  auto younger = coir::runtime::create(test::tested({.workers = 1}));
  REQUIRE(older.has_value());
  REQUIRE(younger.has_value());
  REQUIRE((*older)->start().has_value());
  REQUIRE((*younger)->start().has_value());
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  std::byte byte{};
  auto reader = (*younger)->spawn([&] {
    return coir::io::read(ends[0], {&byte, 1}, coir::in(20s));
  });
  while ((*younger)->snapshot().workers[0].operations_open == 0) std::this_thread::yield();
  std::atomic<bool> stands{false};
  std::atomic<bool> held_up{false};
  std::atomic<bool> go_on{false};
  auto stander = (*younger)->spawn([&] {
    stands = true;
    // The reader's worker has the number already, so this changes nothing.
    fd_users& users = current_core()->descriptors();
    while (users.enter(ends[0], users.era(ends[0]), 0) == entrance::open) std::this_thread::yield();
    held_up = true;
    while (!go_on) std::this_thread::yield();
  });
  while (!stands) std::this_thread::yield();
  std::atomic<bool> closed{false};
  std::thread closer([&] {
    CHECK(close_from_thread(ends[0]) == 0);
    closed = true;
  });
  while (!held_up) std::this_thread::yield();
  auto other = (*older)->spawn([&] {
    std::byte mine{};
    for (int i = 0; i < 1'000'000; ++i) {
      const auto n = coir::io::read(ends[0], {&mine, 1}, coir::no_wait);
      if (n.error() == std::errc::bad_file_descriptor) return !closed;
    }
    return false;
  });
  CHECK(other.join().value());
  go_on = true;
  closer.join();
  CHECK(reader.join().error() == std::errc::operation_canceled);
  CHECK(stander.join().has_value());
  ::close(ends[1]);
  CHECK((*older)->shutdown().has_value());
  CHECK((*younger)->shutdown().has_value());
}

TEST_CASE("closing: a number that was never used, or that no process has, is the system's affair") {
  const auto done = coir::run(
      [] {
        const int fd = ::dup(0);
        REQUIRE(fd >= 0);
        CHECK(coir::io::close(fd).has_value());
        CHECK(::fcntl(fd, F_GETFD) < 0);
        CHECK(coir::io::close(fd).error() == std::errc::bad_file_descriptor);
        CHECK(coir::io::close(1 << 30).error() == std::errc::bad_file_descriptor);
        CHECK(coir::io::close(INT_MAX).error() == std::errc::bad_file_descriptor);
      },
      test::tested({.workers = 2}));
  CHECK(done.has_value());
  const int fd = ::dup(0);
  CHECK(close_from_thread(fd) == 0);
  CHECK(close_from_thread(fd) == -EBADF);
  CHECK(close_from_thread(1 << 30) == -EBADF);
}

TEST_CASE("closing: one close ends the reads of several fibers of every worker, each once") {
  const auto done = coir::run(
      [] {
        constexpr unsigned readers = 6;
        std::array<int, 2> ends{};
        REQUIRE(::pipe(ends.data()) == 0);
        const coir::io::unique_fd out(ends[1]);
        std::atomic<unsigned> canceled{0};
        coir::scope reading;
        for (unsigned i = 0; i < readers; ++i)
          reading.spawn(
              [&] {
                std::byte byte{};
                const auto n = coir::io::read(ends[0], {&byte, 1});
                if (!n && n.error() == std::errc::operation_canceled) canceled.fetch_add(1);
              },
              {.worker = i % 2});
        while (coir::snapshot().total().operations_open < readers) coir::this_fiber::yield();
        CHECK(coir::io::close(ends[0]).has_value());
        CHECK(::fcntl(ends[0], F_GETFD) < 0);
        CHECK(reading.join().has_value());
        CHECK(canceled == readers);
        CHECK(coir::snapshot().total().operations_open == 0);
      },
      test::tested({.workers = 2}));
  CHECK(done.has_value());
}
