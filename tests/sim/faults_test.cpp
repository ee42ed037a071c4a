// faults_test.cpp: no room, interruptions, readiness, short counts: what a fiber must never notice.
//
// Always true:
//   - Each case counts that its fault really happened.
#include <fcntl.h>

#include <array>
#include <cerrno>
#include <climits>

#include "in_sim.hpp"

using namespace sim_test;
using namespace std::chrono_literals;

namespace {

/// Counts the events of one kind.
struct count_of {
  count_of(sim_world& world, sim_event::kind what) {
    world.on_event = [this, what](const sim_event& e) { seen += e.what == what ? 1 : 0; };
  }
  unsigned seen = 0;
};

std::string pattern(std::size_t bytes) {
  std::string text(bytes, ' ');
  for (std::size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>('a' + i * 7 % 26);
  return text;
}

}  // namespace

TEST_CASE("C2: with four entries and refused submissions every operation gets its one answer") {
  sim_world world({.entries = 4});
  count_of refused(world, sim_event::kind::refused);
  world.refuse_submissions(37);
  int answers = 0;
  const auto ended = run_in_sim(world, [&] {
    coir::scope all;
    for (int i = 0; i < 200; ++i)
      all.spawn([&] {
        REQUIRE(coir::perform(coir::nop{}).has_value());
        ++answers;
      });
    REQUIRE(all.join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(answers == 200);
  CHECK(refused.seen >= 37);
}

TEST_CASE("C2: operations that found no room start in the order in which they were asked for") {
  sim_world world({.entries = 4});
  std::vector<int> order;
  const auto ended = run_in_sim(world, [&] {
    std::vector<coir::handle<void>> all;
    world.refuse_submissions(3);  // the first finds no room, the second could have had some
    for (int i = 0; i < 10; ++i)
      all.push_back(coir::spawn([&, i] {
        REQUIRE(coir::perform(coir::nop{}).has_value());
        order.push_back(i);
      }));
    for (auto& h : all) REQUIRE(h.join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(order == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
}

TEST_CASE("C2: an operation that waits for room can be cancelled, and was never submitted") {
  sim_world world;
  const auto ended = run_in_sim(world, [&] {
    coir::result<> answer;
    world.refuse_submissions(1000);
    auto waiting = start([&] { answer = coir::perform(coir::nop{}); });
    waiting.cancel();
    (void)waiting.join();
    world.refuse_submissions(0);
    CHECK(answer.error() == std::errc::operation_canceled);
  });
  REQUIRE(ended.has_value());
  CHECK(world.events() != 0);
}

TEST_CASE("C2: a cancel that found no room is sent again until the operation has ended") {
  sim_world world;
  count_of refused(world, sim_event::kind::refused);
  const int end = world.connection().first;
  const auto ended = run_in_sim(world, [&] {
    auto reading = coir::spawn([&] {
      std::array<std::byte, 8> buffer{};
      const auto n = coir::io::recv(end, buffer);
      CHECK(n.error() == std::errc::operation_canceled);
    });
    REQUIRE(coir::this_fiber::sleep_for(1us).has_value());
    world.refuse_cancels(5);
    reading.cancel();
    CHECK(reading.join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(refused.seen == 5);
}

TEST_CASE("C3: EINTR is never seen by a fiber") {
  sim_world world({}, {{"file", coir::detail::sim_file::bytes(100, std::byte{7})}});
  world.rule({.opcode = IORING_OP_OPENAT, .times = 3, .result = -EINTR});
  world.rule({.opcode = IORING_OP_READ, .times = 50, .result = -EINTR});
  world.rule({.opcode = IORING_OP_FSYNC, .times = 2, .result = -EINTR});
  const auto ended = run_in_sim(world, [&] {
    std::array<std::byte, 100> buffer{};
    const int fd = coir::io::open("file", O_RDWR).value();
    CHECK(coir::io::pread(fd, buffer, 0).value() == 100);
    CHECK(buffer[99] == std::byte{7});
    CHECK(coir::io::fsync(fd).has_value());
    CHECK(coir::io::close(fd).has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(world.open_fds() == 0);
}

TEST_CASE("C3: close is not repeated after EINTR: the number may be another's by then") {
  sim_world world;
  unsigned closes = 0;
  world.rule({.opcode = IORING_OP_CLOSE, .times = UINT_MAX, .result = -EINTR});
  world.on_event = [&](const sim_event& e) {
    closes += e.what == sim_event::kind::done && e.opcode == IORING_OP_CLOSE ? 1 : 0;
  };
  const int end = world.connection().first;
  const auto ended = run_in_sim(world, [&] { CHECK(coir::io::close(end).has_value()); });
  REQUIRE(ended.has_value());
  CHECK(closes == 1);
}

TEST_CASE("C4: one byte at a time, everything arrives, in order, once") {
  sim_world world({.seed = 4, .shuffle = true, .delay_max_ns = 50});
  world.rule({.opcode = IORING_OP_WRITE, .times = UINT_MAX, .bytes_max = 1});
  world.rule({.opcode = IORING_OP_READ, .times = UINT_MAX, .bytes_max = 1});
  const auto [reader, writer] = world.pipe(16);
  const std::string sent = pattern(1000);
  std::string received(1000, '\0');
  const auto ended = run_in_sim(world, [&, in = reader, out = writer] {
    auto writing = coir::spawn([&, out] {
      CHECK(coir::io::write_all(out, bytes_of(sent)).value() == 1000);
      CHECK(coir::io::close(out).has_value());
    });
    CHECK(coir::io::read_exact(in, std::as_writable_bytes(std::span(received))).value() == 1000);
    std::array<std::byte, 1> more{};
    CHECK(coir::io::read(in, more).value() == 0);
    REQUIRE(writing.join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(received == sent);
  CHECK_MESSAGE(world.memory.violations() == 0, world.describe());
}

TEST_CASE("C4: a descriptor that does not block is waited for, and EAGAIN is not seen") {
  sim_world world;
  unsigned again = 0;
  world.on_event = [&](const sim_event& e) {
    again += e.what == sim_event::kind::done && e.res == -EAGAIN ? 1 : 0;
  };
  const auto [one, other] = world.connection(8);
  world.set_unblocking(one);
  world.set_unblocking(other);
  const std::string sent = pattern(500);
  std::string received(500, '\0');
  const auto ended = run_in_sim(world, [&, a = one, b = other] {
    auto writing = coir::spawn([&, a] {
      coir::net::tcp_stream stream(a);
      CHECK(stream.write_all(sent).has_value());
    });
    coir::net::tcp_stream stream(b);
    CHECK(stream.read_exact(std::as_writable_bytes(std::span(received))).has_value());
    REQUIRE(writing.join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(received == sent);
  CHECK(again != 0);
  CHECK(world.open_fds() == 0);
}

TEST_CASE("C4: a full disk is told after what still fitted was written") {
  sim_world world;
  world.rule({.opcode = IORING_OP_WRITE, .bytes_max = 300});
  world.rule({.opcode = IORING_OP_WRITE, .result = -ENOSPC});
  const auto ended = run_in_sim(world, [&] {
    const int fd = coir::io::open("file", O_CREAT | O_WRONLY, 0600).value();
    const auto text = pattern(1000);
    CHECK(coir::io::write(fd, bytes_of(text)).value() == 300);
    CHECK(coir::io::write(fd, bytes_of(text)).error() == std::errc::no_space_on_device);
    CHECK(coir::io::close(fd).has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(world.disk.content().at("file").size() == 300);
}
