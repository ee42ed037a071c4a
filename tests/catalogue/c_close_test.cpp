// c_close_test.cpp: a descriptor is closed by one worker while another one has operations on it.
//
// Always true:
//   - A byte of one connection never reaches the reader of another one, although numbers are given
//     out again at once.
//   - The reader that was met by a close has its answer, and its peer sees the end of the stream.
//   - As many descriptors are open afterwards as before.
//
// Comes from: catalogue C10.   Goes to: coir::io, runtime/fds.hpp.
#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <random>
#include <span>

#include "coir/coir.hpp"
#include "runtime/runtime.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;

namespace {

long open_descriptors() {
  long count = 0;
  DIR* const all = ::opendir("/proc/self/fd");
  while (::readdir(all) != nullptr) ++count;
  ::closedir(all);
  return count;
}

struct tally {
  std::atomic<long> foreign_bytes{0}, lost_bytes{0}, cancelled{0}, other_ends{0}, silent_peers{0};
};

/// One reader on worker 0 and what the closer on worker 1 tells it.
struct lane {
  coir::event go, parked, ended;
  int fd = -1;
  std::uint64_t tag = 0;
  int tags_sent = 0;
  int receives = 0;  // of this reader; worker 0 only
};

/// Receives until the close; all it may see is its own tag, as often as it was sent.
void read_one(lane& mine, tally& seen) {
  for (int tags = 0;; ++tags) {
    std::uint64_t got = 0;
    ++mine.receives;
    const auto n = coir::io::recv(mine.fd, std::as_writable_bytes(std::span(&got, 1)));
    if (!n) {
      ++(n.error() == std::errc::operation_canceled ? seen.cancelled : seen.other_ends);
      if (tags != mine.tags_sent) ++seen.lost_bytes;
      return;
    }
    if (*n != sizeof got || got != mine.tag) ++seen.foreign_bytes;
  }
}

/// Runs on worker 0, like the readers it starts: what it sees of them is what they did before they
/// parked.
void serve_lane(lane& mine, long cycles, tally& seen) {
  for (long i = 0; i < cycles; ++i) {
    (void)mine.go.wait();
    mine.go.reset();
    mine.receives = 0;
    auto reader = coir::spawn([&] { read_one(mine, seen); }, {.worker = 0u});
    // Called is not parked: the number may still be on its way out of its last owner's close.
    auto& operations = coir::detail::current_core()->at(0).operations();
    while (mine.receives <= mine.tags_sent || operations.count(mine.fd) == 0)
      coir::this_fiber::yield();
    mine.parked.set();
    (void)reader.join();
    mine.ended.set();
  }
}

void close_lane(lane& mine, long cycles, unsigned seed, int kind, tally& seen) {
  std::mt19937 draw(seed);
  for (long i = 0; i < cycles; ++i) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | kind, 0, ends.data()) != 0) return;
    mine.fd = ends[0];
    mine.tag = std::uint64_t{seed} << 32 | static_cast<std::uint64_t>(i);
    mine.tags_sent = static_cast<int>(draw() % 2);
    if (mine.tags_sent != 0) (void)::send(ends[1], &mine.tag, sizeof mine.tag, 0);
    mine.go.set();
    (void)mine.parked.wait();
    mine.parked.reset();
    if (!coir::io::close(ends[0])) ++seen.other_ends;
    std::byte end{};
    if (::recv(ends[1], &end, 1, MSG_DONTWAIT) != 0) ++seen.silent_peers;
    // What comes too late reaches nobody.
    if (::send(ends[1], &mine.tag, sizeof mine.tag, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
      ++seen.silent_peers;
    ::close(ends[1]);
    (void)mine.ended.wait();
    mine.ended.reset();
  }
}

void close_across_workers(int kind, long cycles) {
  constexpr unsigned lanes = 8;
  const long before = open_descriptors();
  tally seen;
  const auto done = coir::run(
      [&] {
        std::array<lane, lanes> all;
        coir::scope both;
        for (unsigned i = 0; i < lanes; ++i) {
          both.spawn([&, i] { serve_lane(all[i], cycles / lanes, seen); }, {.worker = 0u});
          both.spawn([&, i] { close_lane(all[i], cycles / lanes, i + 1, kind, seen); },
                     {.worker = 1u});
        }
        CHECK(both.join().has_value());
      },
      tested({.workers = 2}));
  CHECK(done.has_value());
  CHECK(seen.foreign_bytes == 0);
  CHECK(seen.lost_bytes == 0);
  CHECK(seen.other_ends == 0);
  CHECK(seen.silent_peers == 0);
  CHECK(seen.cancelled == cycles / lanes * lanes);
  CHECK(open_descriptors() == before);
}

std::array<int, 2> stream_pair(int kind = 0) {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | kind, 0, ends.data()) == 0);
  return ends;
}

}  // namespace

TEST_CASE(
    "c_close: C10 a read parked on one worker ends when another worker closes, and its number is "
    "reused without a foreign byte") {
  close_across_workers(0, at_full_speed(100'000L, 2'000L));
}

TEST_CASE("c_close: C10 the same for descriptors that their user made non-blocking") {
  close_across_workers(SOCK_NONBLOCK, at_full_speed(20'000L, 2'000L));
}

TEST_CASE(
    "c_close: C10 a receive that begins while the close is under way ends, and the peer is told") {
  const auto done = coir::run(
      [] {
        const auto ends = stream_pair();
        std::atomic<bool> closing{false};
        std::atomic<bool> begun{false};
        coir::event go;
        std::error_code answer;
        auto reader = coir::spawn(
            [&] {
              CHECK(go.wait().has_value());
              begun = true;
              std::byte one{};
              const auto n = coir::io::recv(ends[0], {&one, 1});
              if (!n) answer = n.error();
            },
            {.worker = 0u});
        // Runs when the closer has parked: the close is with its ring, and not yet in the kernel.
        auto meanwhile = coir::spawn(
            [&] {
              while (!closing) coir::this_fiber::yield();
              const auto stops = [] {
                const auto there = coir::snapshot().workers[0];
                return there.parks + there.finished;
              };
              // The root waits for the closer, and the reader for a word.
              while (stops() < 2) continue;
              const auto before = stops();
              go.set();
              while (!begun) continue;
              while (stops() == before) continue;  // until it waits, or was refused
            },
            {.worker = 1u});
        auto closer = coir::spawn(
            [&] {
              coir::this_fiber::yield();
              closing = true;
              CHECK(coir::io::close(ends[0]).has_value());
            },
            {.worker = 1u});
        CHECK(closer.join().has_value());
        CHECK(meanwhile.join().has_value());
        const auto ended = reader.join(coir::in(std::chrono::seconds(5)));
        CHECK(ended.has_value());
        CHECK(
            (answer == std::errc::bad_file_descriptor || answer == std::errc::operation_canceled));
        std::byte end{};
        CHECK(::recv(ends[1], &end, 1, MSG_DONTWAIT) == 0);
        reader.cancel();
        ::close(ends[1]);
      },
      tested({.workers = 2}));
  CHECK(done.has_value());
}

TEST_CASE(
    "c_close: C10 an operation that waits for readiness does not go on with the next owner of its "
    "number") {
  const auto done = coir::run(
      [] {
        auto ends = stream_pair(SOCK_NONBLOCK);
        const auto other = stream_pair();
        std::atomic<bool> submitted{false};
        std::atomic<bool> reopened{false};
        std::array<std::byte, 8> stolen{};
        auto reader = coir::spawn(
            [&] { return coir::io::recv(ends[0], stolen, 0, coir::in(std::chrono::seconds(5))); },
            {.worker = 0u});
        // Keeps worker 0 busy between the completion (EAGAIN) and the moment the reader sees it.
        auto busy = coir::spawn(
            [&] {
              auto& here = coir::detail::current_core()->at(0);
              coir::this_fiber::yield();
              submitted = true;
              while (here.inbox_empty()) {
              }
              // Until the loop has taken the errand of the close.
              while (!here.inbox_empty()) coir::this_fiber::yield();
              while (!reopened) {
                if (here.operations().count(ends[0]) != 0) coir::this_fiber::yield();
              }
            },
            {.worker = 0u});
        auto closer = coir::spawn(
            [&] {
              while (!submitted) coir::this_fiber::yield();
              CHECK(coir::io::close(ends[0]).has_value());
              CHECK(::fcntl(other[0], F_DUPFD_CLOEXEC, ends[0]) == ends[0]);
              CHECK(::send(other[1], "foreign", 7, 0) == 7);
              reopened = true;
            },
            {.worker = 1u});
        CHECK(closer.join().has_value());
        CHECK(busy.join().has_value());
        const auto ended = reader.join();
        CHECK((!ended && ended.error() == std::errc::operation_canceled));
        std::array<std::byte, 8> whole{};
        CHECK(::recv(other[0], whole.data(), whole.size(), MSG_DONTWAIT) == 7);
        for (const int fd : {ends[0], ends[1], other[0], other[1]}) ::close(fd);
      },
      tested({.workers = 2}));
  CHECK(done.has_value());
}

TEST_CASE("c_close: C10 the next owner of a number closes it while the last close is being told") {
  const long before = open_descriptors();
  const auto done = coir::run(
      [] {
        const auto ends = stream_pair();
        bool reopened = false;
        // Ahead of the closer in the ready queue when the kernel has closed: sees the number free
        // before the closer has its answer.
        auto next_owner = coir::spawn([&] {
          while (::fcntl(ends[0], F_GETFD) >= 0) coir::this_fiber::yield();
          CHECK(::fcntl(ends[1], F_DUPFD_CLOEXEC, ends[0]) == ends[0]);
          reopened = true;
          return coir::io::close(ends[0]);
        });
        auto closer = coir::spawn([&] {
          const auto closed = coir::io::close(ends[0]);
          CHECK(closed.has_value());
          return reopened;
        });
        CHECK(closer.join().value());
        CHECK(next_owner.join().has_value());
        CHECK(coir::io::close(ends[1]).has_value());
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
  CHECK(open_descriptors() == before);
}

TEST_CASE(
    "c_close: C10 who reads a stream just as it is closed never reads the number's next owner") {
  const long cycles = at_full_speed(2'000L, 300L);
  std::atomic<long> foreign{0}, late{0};
  const auto done = coir::run(
      [&] {
        coir::net::tcp_stream shared;
        std::atomic<long> turn{0};  // i: both go, -i: the reader is done
        auto reader = coir::spawn(
            [&] {
              for (long i = 1; i <= cycles; ++i) {
                while (turn != i) coir::this_fiber::yield();
                std::byte one{};
                const auto n = shared.read_some({&one, 1});
                if (n && *n != 0) ++foreign;
                if (!n && n.error() == std::errc::bad_file_descriptor) ++late;
                turn = -i;
              }
            },
            {.worker = 0u});
        auto closer = coir::spawn(
            [&] {
              for (long i = 1; i <= cycles; ++i) {
                const auto silent = stream_pair(), other = stream_pair();
                CHECK(::send(other[1], "x", 1, 0) == 1);
                shared = coir::net::tcp_stream(silent[0]);
                turn = i;
                for (std::atomic<long> pause{0}; pause < i % 64;) ++pause;
                CHECK(shared.close().has_value());
                const int next = ::dup(other[0]);
                while (turn != -i) coir::this_fiber::yield();
                for (const int fd : {next, silent[1], other[0], other[1]}) ::close(fd);
              }
            },
            {.worker = 1u});
        CHECK(closer.join().has_value());
        CHECK(reader.join().has_value());
      },
      tested({.workers = 2}));
  CHECK(done.has_value());
  CHECK(foreign == 0);
  CHECK(late > 0);  // else nobody ever came late
}
