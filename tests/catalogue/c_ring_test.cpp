// c_ring_test.cpp: the kernel's ring at its edges: tiny queues, entries that it refuses, results
// that overflow, interruptions, memory that is lent while an operation is cancelled.
//
// Always true:
//   - Every operation gets exactly one answer, whatever the size of the queues.
//   - Nothing is written into a buffer after the call that lent it has returned.
//
// Comes from: catalogue C1, C2, C3, C5, C9, C19.   Goes to: coir::perform, coir::io, coir::net.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "coir/coir.hpp"
#include "tests/catalogue/child.hpp"
#include "tests/played_kernel.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;

namespace {

struct answered {
  long good = 0, refused = 0, other = 0;
};

/// An entry that no kernel knows.
struct unknown_operation {
  using value_type = int;
  static constexpr std::string_view name = "unknown";
  void fill(io_uring_sqe& sqe) const noexcept { sqe.opcode = 0xfe; }
  int complete(std::int32_t res) const noexcept { return res; }
};

void count(answered& seen, bool bad) {
  if (!bad) {
    ++(coir::perform(coir::nop{}) ? seen.good : seen.other);
    return;
  }
  const auto n = coir::perform(unknown_operation{});
  ++(!n && n.error() == std::errc::invalid_argument ? seen.refused : seen.other);
}

/// `bursts` times `each` operations at once, every `bad_every`th of them refused by the kernel.
answered burst(int bursts, int each, int bad_every) {
  answered seen;
  for (int b = 0; b < bursts; ++b) {
    coir::scope together;
    for (int i = 0; i < each; ++i)
      together.spawn([&seen, i, bad_every] { count(seen, bad_every != 0 && i % bad_every == 3); });
    CHECK(together.join().has_value());
  }
  return seen;
}

}  // namespace

TEST_CASE("c_ring: C2 four entries carry bursts of a thousand, each with one answer") {
  const auto seen =
      coir::run([] { return burst(10, 1000, 0); }, tested({.workers = 1, .ring_entries = 4}));
  REQUIRE(seen.has_value());
  CHECK(seen->good == 10'000);
  CHECK(seen->other == 0);
}

TEST_CASE("c_ring: C2 an entry that the kernel refuses fails alone, not those behind it") {
  const auto seen = coir::run([] { return burst(100, 8, 8); }, tested({.workers = 1}));
  REQUIRE(seen.has_value());
  CHECK(seen->good == 700);
  CHECK(seen->refused == 100);
  CHECK(seen->other == 0);
}

TEST_CASE("c_ring: C5 no answer is lost when the completion queue overflows") {
  constexpr static int bursts = at_full_speed(100, 5);
  coir::stats counted;
  const auto seen = coir::run(
      [&] {
        const answered all = burst(bursts, 1000, 0);
        counted = coir::snapshot();
        return all;
      },
      tested({.workers = 1, .ring_entries = 2}));
  REQUIRE(seen.has_value());
  CHECK(seen->good == bursts * 1000);
  CHECK(seen->other == 0);
  if (test::on_a_ring("a completion queue that overflows")) CHECK(counted.total().overflows > 0);
}

namespace {

/// A sparse file: reading it costs time and no disk.
int large_file(std::size_t bytes) {
  const int fd = ::memfd_create("large", MFD_CLOEXEC);
  REQUIRE(fd >= 0);
  REQUIRE(::ftruncate(fd, static_cast<off_t>(bytes)) == 0);
  return fd;
}

/// The read that every entry of the catalogue fears: long, by a thread of the kernel, cancelled.
struct forced_read {
  using value_type = std::size_t;
  static constexpr std::string_view name = "forced_read";
  int fd;
  std::span<std::byte> into;
  void fill(io_uring_sqe& sqe) const noexcept {
    sqe.opcode = IORING_OP_READ;
    sqe.flags = IOSQE_ASYNC;
    sqe.fd = fd;
    sqe.addr = reinterpret_cast<std::uintptr_t>(into.data());
    sqe.len = static_cast<std::uint32_t>(into.size());
  }
  std::size_t complete(std::int32_t res) const noexcept { return static_cast<std::size_t>(res); }
};

struct races {
  int finished = 0, cancelled = 0, other = 0, scribbles = 0;
};

void race_one(int fd, std::span<std::byte> memory, std::int64_t after_us, races& seen) {
  coir::result<std::size_t> answer = coir::fail(std::errc::io_error);
  constexpr std::byte mark{0x5a};
  auto reader = coir::spawn([&] {
    answer = coir::perform(forced_read{fd, memory});
    // The frame is the fiber's own again: whatever the kernel wrote here from now on would show.
    std::memset(memory.data(), static_cast<int>(mark), memory.size());
  });
  CHECK(coir::this_fiber::sleep_for(std::chrono::microseconds(after_us)).has_value());
  reader.cancel();
  CHECK(reader.join().has_value());
  for (int turn = 0; turn < 50; ++turn) CHECK(coir::perform(coir::nop{}).has_value());
  for (const std::byte b : memory)
    if (b != mark) ++seen.scribbles;
  if (answer && *answer == memory.size()) {
    ++seen.finished;
  } else if (!answer && answer.error() == std::errc::operation_canceled) {
    ++seen.cancelled;
  } else {
    ++seen.other;
  }
}

}  // namespace

TEST_CASE(
    "c_ring: C1 a read that a kernel thread runs is waited for when it is cancelled, and its "
    "buffer "
    "is never written afterwards") {
  constexpr static std::size_t bytes = 16 << 20;
  const int fd = large_file(bytes);
  const auto seen = coir::run(
      [&] {
        races all;
        std::mt19937 draw(20261121);
        std::vector<std::byte> memory(bytes);
        for (int i = 0; i < at_full_speed(60, 12); ++i)
          race_one(fd, memory, static_cast<std::int64_t>(draw() % 4000), all);
        return all;
      },
      tested({.workers = 1}));
  ::close(fd);
  REQUIRE(seen.has_value());
  CHECK(seen->scribbles == 0);
  CHECK(seen->other == 0);
  CHECK(seen->finished + seen->cancelled == at_full_speed(60, 12));
}

namespace {

/// Always run by a thread of the kernel, which waits inside tee(2) until it is interrupted.
struct blocking_tee {
  using value_type = std::int32_t;
  static constexpr std::string_view name = "blocking_tee";
  int from, to;
  void fill(io_uring_sqe& sqe) const noexcept {
    sqe.opcode = IORING_OP_TEE;
    sqe.fd = to;
    sqe.splice_fd_in = from;
    sqe.len = 1;
  }
  std::int32_t complete(std::int32_t res) const noexcept { return res; }
};

}  // namespace

TEST_CASE("c_ring: C9 an operation that the kernel interrupts for its deadline answers timed_out") {
  const auto done = coir::run(
      [] {
        std::array<int, 2> from{}, to{};
        REQUIRE(::pipe2(from.data(), O_CLOEXEC) == 0);
        REQUIRE(::pipe2(to.data(), O_CLOEXEC) == 0);
        for (int i = 0; i < 20; ++i) {
          const auto moved =
              coir::perform(blocking_tee{from[0], to[1]}, coir::in(std::chrono::milliseconds(1)));
          REQUIRE(!moved);
          CHECK(moved.error() == std::errc::timed_out);
        }
        auto cancelled = coir::spawn([&] { return coir::perform(blocking_tee{from[0], to[1]}); });
        CHECK(coir::this_fiber::sleep_for(std::chrono::milliseconds(1)).has_value());
        cancelled.cancel();
        const auto answer = cancelled.join();
        REQUIRE(!answer);
        CHECK(answer.error() == std::errc::operation_canceled);
        for (const int fd : {from[0], from[1], to[0], to[1]}) ::close(fd);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("c_ring: C3 no user ever sees EINTR while a thousand signals a second arrive") {
  struct sigaction quiet {};
  struct sigaction before {};
  quiet.sa_handler = [](int) {};
  REQUIRE(::sigaction(SIGALRM, &quiet, &before) == 0);
  const itimerval often{{0, 1000}, {0, 1000}};
  REQUIRE(::setitimer(ITIMER_REAL, &often, nullptr) == 0);
  constexpr static int rounds = at_full_speed(10'000, 1'000);
  const auto wrong = coir::run(
      [] {
        // Workers block signals: one of them takes these on purpose.
        sigset_t alarm{};
        ::sigemptyset(&alarm);
        ::sigaddset(&alarm, SIGALRM);
        ::pthread_sigmask(SIG_UNBLOCK, &alarm, nullptr);
        std::array<int, 2> ping{}, pong{};
        REQUIRE(::pipe2(ping.data(), O_CLOEXEC) == 0);
        REQUIRE(::pipe2(pong.data(), O_CLOEXEC) == 0);
        int errors = 0;
        auto echo = coir::spawn([&] {
          std::byte b{};
          for (int i = 0; i < rounds; ++i) {
            if (coir::io::read(ping[0], {&b, 1}) != coir::result<std::size_t>(1)) ++errors;
            if (coir::io::write(pong[1], {&b, 1}) != coir::result<std::size_t>(1)) ++errors;
          }
        });
        std::byte b{};
        for (int i = 0; i < rounds; ++i) {
          if (coir::io::write(ping[1], {&b, 1}) != coir::result<std::size_t>(1)) ++errors;
          if (coir::io::read(pong[0], {&b, 1}) != coir::result<std::size_t>(1)) ++errors;
        }
        CHECK(echo.join().has_value());
        for (const int fd : {ping[0], ping[1], pong[0], pong[1]}) ::close(fd);
        return errors;
      },
      tested({.workers = 1}));
  const itimerval off{};
  ::setitimer(ITIMER_REAL, &off, nullptr);
  ::sigaction(SIGALRM, &before, nullptr);
  CHECK(wrong.value() == 0);
}

TEST_CASE(
    "c_ring: C19 vectors and the address of a peer are read and written while they are lent") {
  const auto done = coir::run(
      [] {
        auto listener = coir::net::tcp_listener::listen();
        REQUIRE(listener.has_value());
        auto client = coir::net::tcp_stream::connect("127.0.0.1", listener->port());
        REQUIRE(client.has_value());
        // On the heap, exactly as long as the kernel may write: one byte more is a report.
        const auto address = std::make_unique<sockaddr_in>();
        const auto length = std::make_unique<unsigned>(sizeof(sockaddr_in));
        const auto taken = coir::io::accept(
            listener->fd(), reinterpret_cast<sockaddr*>(address.get()), length.get());
        REQUIRE(taken.has_value());
        coir::io::unique_fd server(*taken);
        CHECK(*length == sizeof(sockaddr_in));
        CHECK(address->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
        std::array<char, 3> first{'a', 'b', 'c'};
        std::array<char, 2> second{'d', 'e'};
        const std::array<iovec, 2> out{{{first.data(), 3}, {second.data(), 2}}};
        CHECK(coir::io::writev(server.get(), out).value() == 5);
        std::string left(2, 0), right(3, 0);
        const std::array<iovec, 2> into{{{left.data(), 2}, {right.data(), 3}}};
        CHECK(coir::io::readv(client->fd(), into).value() == 5);
        CHECK(left + right == "abcde");
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

namespace {

/// From now on an io_uring_enter that would wait answers EAGAIN.
bool refuse_to_wait() {
  return test::play_kernel(
      {{SYS_io_uring_enter, {test::argument(2).is_not(0)}, test::answers(EAGAIN)}});
}

}  // namespace

TEST_CASE("C2: a worker whose sleeps the kernel refuses tries again after a moment, not at once") {
  const test::ending end = test::in_child([] {
    if (!refuse_to_wait()) ::_exit(1);
    const auto turns = coir::run(
        [] {
          const std::uint64_t before = coir::snapshot().total().turns;
          if (!coir::this_fiber::sleep_for(std::chrono::milliseconds(50))) ::_exit(2);
          return coir::snapshot().total().turns - before;
        },
        tested({.workers = 1}));
    if (!turns) ::_exit(3);
    // A moment is a millisecond; a turn that does not wait takes a microsecond.
    ::_exit(*turns <= 500 ? 0 : 4);
  });
  CAPTURE(end.text);
  CHECK(end.code == 0);
}
