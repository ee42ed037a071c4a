// uring_test.cpp: the kernel's ring by itself: entries, completions, the bell, small queues.
//
// Always true:
//   - Waits have a far deadline, so a completion that is lost fails a case instead of hanging it.
//
// Comes from: runtime/uring.hpp.   Goes to: ctest.
#include "runtime/uring.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <set>
#include <thread>
#include <vector>

#include "runtime/futex.hpp"

using namespace coir::detail;

namespace {

struct bench {
  explicit bench(unsigned entries = 64, bool attach = true) {
    auto made = make_uring(entries, [](const coir::log_record&) {});
    REQUIRE(made.has_value());
    ring = std::move(*made);
    if (attach) REQUIRE(ring->attach() == 0);
  }
  unsigned reap() {
    return ring->reap(
        {[](void* at, const completion& c) noexcept { static_cast<bench*>(at)->seen.push_back(c); },
         this});
  }
  /// Until `count` completions were seen.
  void gather(std::size_t count) {
    const std::int64_t limit = monotonic_ns() + 20'000'000'000;
    while (seen.size() < count && monotonic_ns() < limit) {
      ring->wait(limit);
      reap();
    }
  }
  bool submit(const io_uring_sqe& e, std::uint32_t slot, bool urgent = false) {
    return ring->submit(e, token::make(slot, 1, token_kind::operation), urgent);
  }
  std::unique_ptr<backend> ring;
  std::vector<completion> seen;
};

io_uring_sqe nop_entry() {
  io_uring_sqe e{};
  e.opcode = IORING_OP_NOP;
  e.fd = -1;
  return e;
}

struct pipe_ends {
  pipe_ends() { REQUIRE(::pipe(ends.data()) == 0); }
  ~pipe_ends() {
    for (const int e : ends) ::close(e);
  }
  std::array<int, 2> ends{};
};

io_uring_sqe read_entry(int fd, char& into) {
  io_uring_sqe e{};
  e.opcode = IORING_OP_READ;
  e.fd = fd;
  e.addr = reinterpret_cast<std::uintptr_t>(&into);
  e.len = 1;
  e.off = ~std::uint64_t{0};
  return e;
}

}  // namespace

TEST_CASE("uring: each entry comes back once, under its own token") {
  bench b;
  for (std::uint32_t i = 0; i < 32; ++i) REQUIRE(b.submit(nop_entry(), i));
  CHECK(b.ring->pending());
  b.gather(32);
  REQUIRE(b.seen.size() == 32);
  std::set<std::uint32_t> slots;
  for (const completion& c : b.seen) {
    CHECK(c.res == 0);
    CHECK_FALSE(c.more());
    slots.insert(c.to.slot());
  }
  CHECK(slots.size() == 32);
  CHECK(b.reap() == 0);
}

TEST_CASE("uring: a thousand operations pass through a ring of eight, and none is lost") {
  bench b(8);
  std::uint32_t sent = 0;
  while (sent < 1000) {
    if (b.submit(nop_entry(), sent)) {
      ++sent;
      continue;
    }
    b.ring->wait(no_wait_ns);
    b.reap();
  }
  b.gather(1000);
  CHECK(b.seen.size() == 1000);
  CHECK(b.ring->counts().sqes.get() >= 1000);
}

TEST_CASE("uring: completions that overflow their queue are counted and all arrive") {
  constexpr unsigned bursts = COIR_TSAN || COIR_ASAN ? 20 : 100;
  bench b(8);
  for (unsigned burst = 0; burst < bursts; ++burst) {
    // Nothing is reaped within a burst, so its completion queue of 32 cannot hold it.
    for (std::uint32_t i = 0; i < 1000; ++i)
      while (!b.submit(nop_entry(), i)) b.ring->wait(no_wait_ns);
    b.gather((burst + 1) * std::size_t{1000});
    REQUIRE(b.seen.size() == (burst + 1) * std::size_t{1000});
  }
  CHECK(b.ring->counts().overflows.get() > 0);
}

TEST_CASE("uring: a full queue keeps entries for cancels, and a cancel reaches its target") {
  bench b(8);
  pipe_ends pipe;
  char byte = 0;
  REQUIRE(b.submit(read_entry(pipe.ends[0], byte), 900));
  b.ring->wait(no_wait_ns);
  unsigned taken = 0;
  while (taken < 8 && b.submit(nop_entry(), taken)) ++taken;
  CHECK(taken < 8);
  REQUIRE(b.ring->cancel(token::make(900, 1, token_kind::operation)));
  b.gather(taken + 2);
  unsigned ended = 0;
  for (const completion& c : b.seen) {
    if (c.to.kind() == token_kind::operation && c.to.slot() == 900) {
      CHECK(c.res == -ECANCELED);
      ++ended;
    }
  }
  CHECK(ended == 1);
}

TEST_CASE("uring: a cancel of another generation leaves the operation alone") {
  bench b;
  pipe_ends pipe;
  char byte = 0;
  REQUIRE(b.submit(read_entry(pipe.ends[0], byte), 5));
  REQUIRE(b.ring->cancel(token::make(5, 2, token_kind::operation)));
  b.gather(1);
  REQUIRE(b.seen.size() == 1);
  CHECK(b.seen[0].to.kind() == token_kind::cancel);
  CHECK(b.seen[0].res == -ENOENT);
  REQUIRE(::write(pipe.ends[1], "x", 1) == 1);
  b.gather(2);
  REQUIRE(b.seen.size() == 2);
  CHECK(b.seen[1].res == 1);
  CHECK(byte == 'x');
}

TEST_CASE("uring: cancelling a descriptor ends all its operations and no other's") {
  bench b;
  pipe_ends one;
  pipe_ends two;
  std::array<char, 3> bytes{};
  REQUIRE(b.submit(read_entry(one.ends[0], bytes[0]), 1));
  REQUIRE(b.submit(read_entry(one.ends[0], bytes[1]), 2));
  REQUIRE(b.submit(read_entry(two.ends[0], bytes[2]), 3));
  REQUIRE(b.ring->cancel_fd(one.ends[0]));
  b.gather(3);
  std::set<std::uint32_t> ended;
  for (const completion& c : b.seen)
    if (c.to.kind() == token_kind::operation && c.res == -ECANCELED) ended.insert(c.to.slot());
  CHECK(ended == std::set<std::uint32_t>{1, 2});
  REQUIRE(::write(two.ends[1], "y", 1) == 1);
  b.gather(4);
  CHECK(bytes[2] == 'y');
}

TEST_CASE("uring: a ring ends the wait that is under way, or the next one") {
  bench b;
  b.ring->wake();
  b.ring->wait(monotonic_ns() + 20'000'000'000);
  b.reap();
  const std::int64_t limit = monotonic_ns() + 20'000'000'000;
  std::thread other([&] { b.ring->wake(); });
  b.ring->wait(limit);
  b.reap();
  other.join();
  CHECK(monotonic_ns() < limit);
  CHECK(b.seen.empty());
  // Many rings are one, and the bell still works after them.
  for (int night = 0; night < 50; ++night) {
    for (int n = 0; n < 3; ++n) b.ring->wake();
    b.ring->wait(limit);
    b.reap();
  }
  CHECK(monotonic_ns() < limit);
}

TEST_CASE("uring: a deadline that is over does not sleep, one that comes ends the wait") {
  bench b;
  b.ring->wait(0);
  b.ring->wait(monotonic_ns() + 1'000'000);
  CHECK(b.reap() == 0);
}

TEST_CASE("uring: a completion that waits for the kernel to be entered is known without entering") {
  bench b;
  pipe_ends pipe;
  char byte = 0;
  REQUIRE(b.submit(read_entry(pipe.ends[0], byte), 1));
  b.ring->wait(no_wait_ns);
  CHECK_FALSE(b.ring->ready());
  REQUIRE(::write(pipe.ends[1], "z", 1) == 1);
  CHECK(b.ring->ready());
  CHECK(b.ring->pending());
  CHECK(b.reap() == 0);
  b.gather(1);
  CHECK(b.seen.size() == 1);
}

TEST_CASE("uring: links, skipped completions and personalities of a user's entry are not taken") {
  bench b;
  io_uring_sqe e = nop_entry();
  e.flags = IOSQE_CQE_SKIP_SUCCESS;
  e.personality = 77;
  e.user_data = 12345;
  REQUIRE(b.submit(e, 1));
  e.flags = IOSQE_IO_LINK;
  REQUIRE(b.submit(e, 2));
  b.ring->wait(no_wait_ns);
  b.reap();
  REQUIRE(b.seen.size() == 2);
  CHECK(b.seen[0].to == token::make(1, 1, token_kind::operation));
  CHECK(b.seen[0].res == 0);
  CHECK(b.seen[1].to == token::make(2, 1, token_kind::operation));
}

TEST_CASE("uring: a ring that no thread has attached yet takes a wake-up and keeps it") {
  bench b(8, false);
  b.ring->wake();
  std::thread owner([&] {
    CHECK(b.ring->attach() == 0);
    const std::int64_t limit = monotonic_ns() + 20'000'000'000;
    b.ring->wait(limit);
    CHECK(monotonic_ns() < limit);
    b.reap();
  });
  owner.join();
}

TEST_CASE("uring: a ring is entered by the thread that attached it and by nobody else") {
  // The kernel refuses, and what it says then is a mistake of ours: the process stops.
  const auto ends_by = [](auto enter) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      ::signal(SIGABRT, SIG_DFL);
      ::close(STDERR_FILENO);
      enter();
      ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  };
  CHECK(ends_by([] { bench(8, false).ring->wait(no_wait_ns); }) == SIGABRT);
  CHECK(ends_by([] {
          bench b(8, false);
          std::thread([&] {
            CHECK(b.ring->attach() == 0);
            b.ring->detach();  // or its descriptor would be known to that thread alone
          }).join();
          b.ring->wait(no_wait_ns);
        }) == SIGABRT);
  CHECK(ends_by([] {
          bench b(8, false);
          std::thread([&] {
            CHECK(b.ring->attach() == 0);
            b.ring->wait(no_wait_ns);
          }).join();
        }) == 0);
}
