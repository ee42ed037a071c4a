// cancel_test.cpp: whatever a cancel is told, the fiber gets the answer of its own operation, once,
// and nothing that the kernel gave is lost.
//
// Always true:
//   - Bytes sent are bytes received plus bytes still waiting, whoever was cancelled.
#include <fcntl.h>

#include <array>
#include <cerrno>
#include <climits>

#include "in_sim.hpp"

using namespace sim_test;
using namespace std::chrono_literals;

namespace {

struct told {
  coir::result<std::size_t> answer = std::size_t{0};
  std::string text;
};

/// A recv that is cancelled 1 us after it began, when the data comes `data_ns` after it began.
told cancelled_recv(const sim_rule& rule, std::int64_t data_ns) {
  sim_world world;
  world.rule(rule);
  const auto [here, there] = world.connection();
  told t;
  const auto ended = run_in_sim(world, [&, a = here, b = there] {
    auto reading = coir::spawn([&] {
      std::array<std::byte, 16> buffer{};
      t.answer = coir::io::recv(a, buffer);
      if (t.answer) t.text = text_of(std::span(buffer).first(*t.answer));
    });
    auto sending = coir::spawn([&] {
      REQUIRE(coir::this_fiber::sleep_for(std::chrono::nanoseconds(data_ns)).has_value());
      REQUIRE(coir::io::send(b, bytes_of("data")).has_value());
    });
    REQUIRE(coir::this_fiber::sleep_for(1us).has_value());
    reading.cancel();
    CHECK(reading.join().has_value());
    CHECK(sending.join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK_MESSAGE(world.memory.violations() == 0, world.describe());
  return t;
}

}  // namespace

TEST_CASE("C9: told 0, the fiber gets operation_canceled, whichever completion comes first") {
  for (const bool cancel_first : {false, true}) {
    const told t =
        cancelled_recv({.opcode = IORING_OP_RECV, .cancel_first = cancel_first}, 1'000'000);
    CHECK(t.answer.error() == std::errc::operation_canceled);
  }
}

TEST_CASE("C9: told ENOENT, the fiber gets what had been received already") {
  // Received at once, seen 1 ms later; the cancel comes in between.
  const told t = cancelled_recv({.opcode = IORING_OP_RECV, .hold_ns = 1'000'000}, 10);
  CHECK(t.answer.value() == 4);
  CHECK(t.text == "data");
}

TEST_CASE("C9: told EALREADY, the fiber gets what is received later") {
  const told t = cancelled_recv(
      {.opcode = IORING_OP_RECV, .delay_ns = 2'000'000, .cancel_answer = -EALREADY}, 10);
  CHECK(t.answer.value() == 4);
  CHECK(t.text == "data");
}

TEST_CASE("C9: told ENOENT by mistake, the fiber still waits for its own operation") {
  const told t = cancelled_recv(
      {.opcode = IORING_OP_RECV, .delay_ns = 5'000'000, .cancel_answer = -ENOENT}, 1'000'000);
  CHECK(t.answer.value() == 4);
}

TEST_CASE("C9: told ENOENT again and again, the worker asks again, and rests longer each time") {
  sim_world world;
  world.rule({.opcode = IORING_OP_RECV, .delay_ns = 60'000'000'000, .cancel_answer = -ENOENT});
  const auto [here, there] = world.connection();
  std::vector<std::int64_t> asked_at;
  world.on_event = [&](const sim_event& e) {
    if (e.what == sim_event::kind::cancel_asked) asked_at.push_back(e.at_ns);
  };
  const auto ended = run_in_sim(world, [&, a = here, b = there] {
    CHECK(coir::io::send(b, bytes_of("data")).has_value());
    std::array<std::byte, 16> buffer{};
    CHECK(coir::io::recv(a, buffer, 0, coir::in(1us)).value() == 4);
  });
  REQUIRE(ended.has_value());
  // For a minute: 13 pauses that double from 50 us on, and then ten in a second.
  REQUIRE(asked_at.size() > 100);
  CHECK(asked_at.size() < 620);
  for (std::size_t i = 2; i + 1 < asked_at.size(); ++i)
    CHECK(asked_at[i + 1] - asked_at[i] >= asked_at[i] - asked_at[i - 1]);
}

TEST_CASE("D1: success wins over a cancel that came first but was handled late") {
  for (const std::int64_t hold_ns : {std::int64_t{1}, std::int64_t{10'000}}) {
    sim_world world;
    world.rule({.opcode = IORING_OP_RECV, .hold_ns = hold_ns});
    const auto [here, there] = world.connection();
    const auto ended = run_in_sim(world, [&, a = here, b = there] {
      REQUIRE(coir::io::send(b, bytes_of("data")).has_value());
      coir::result<std::size_t> answer;
      auto reading = start([&] {
        std::array<std::byte, 16> buffer{};
        answer = coir::io::recv(a, buffer);
      });
      REQUIRE(coir::perform(coir::nop{}).has_value());
      reading.cancel();
      CHECK(reading.join().has_value());
      CHECK(answer.value() == 4);
    });
    REQUIRE(ended.has_value());
  }
}

TEST_CASE("D1: success wins over a deadline, and without it the deadline is told, not the cancel") {
  for (const bool in_time : {true, false}) {
    sim_world world;
    sim_rule slow{.opcode = IORING_OP_RECV};
    if (in_time) slow.hold_ns = 1'000'000;
    world.rule(slow);
    const auto [here, there] = world.connection();
    const auto ended = run_in_sim(world, [&, a = here, b = there] {
      if (in_time) REQUIRE(coir::io::send(b, bytes_of("data")).has_value());
      std::array<std::byte, 16> buffer{};
      const auto answer = coir::io::recv(a, buffer, 0, coir::in(1us));
      if (in_time) {
        CHECK(answer.value() == 4);
      } else {
        CHECK(answer.error() == std::errc::timed_out);
      }
    });
    REQUIRE(ended.has_value());
  }
}

TEST_CASE("D1: accept and open that race their cancel leave no descriptor and lose none") {
  unsigned won = 0, lost = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    sim_world world({.seed = seed, .shuffle = true, .delay_max_ns = 6});
    world.rule({.opcode = IORING_OP_ACCEPT, .hold_ns = static_cast<std::int64_t>(seed % 5)});
    world.rule({.opcode = IORING_OP_OPENAT, .hold_ns = static_cast<std::int64_t>(seed % 3)});
    const int listening = world.listener(80);
    const int peer = world.connect_to(listening);
    const auto ended = run_in_sim(world, [&] {
      const auto race = [&](auto make) {
        auto making = coir::spawn([&, make] {
          const coir::result<int> fd = make();
          ++(fd ? won : lost);
          if (fd) CHECK(coir::io::close(*fd).has_value());
        });
        REQUIRE(coir::this_fiber::sleep_for(std::chrono::nanoseconds(seed % 7)).has_value());
        making.cancel();
        CHECK(making.join().has_value());
      };
      race([&] { return coir::io::accept(listening); });
      race([&] { return coir::io::open("file", O_CREAT | O_RDWR, 0600); });
    });
    REQUIRE_MESSAGE(ended.has_value(), world.describe());
    world.close(listening);
    world.close(peer);
    CHECK_MESSAGE(world.open_fds() == 0, world.describe());
  }
  CHECK(won != 0);
  CHECK(lost != 0);
}

TEST_CASE("D1: no byte is lost when readers are cancelled at every moment") {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    sim_world world({.seed = seed, .shuffle = true, .delay_max_ns = 20});
    world.rule({.opcode = IORING_OP_RECV, .times = UINT_MAX, .hold_ns = 3});
    const auto [here, there] = world.connection(8);
    std::string received;
    const auto ended = run_in_sim(world, [&, a = here, b = there] {
      const std::string sent = "0123456789abcdefghijklmnopqrstuvwxyz";
      auto sending = coir::spawn([&] {
        CHECK(coir::io::write_all(b, bytes_of(sent)).has_value());
        CHECK(coir::io::close(b).has_value());
      });
      for (bool over = false; !over;) {
        auto reading = coir::spawn([&] {
          std::array<std::byte, 5> buffer{};
          const auto n = coir::io::recv(a, buffer);
          if (n) received += text_of(std::span(buffer).first(*n));
          over = n && *n == 0;
        });
        // At least 1 ns, or no time would pass and no byte ever come.
        const std::chrono::nanoseconds pause(1 + seed % 31);
        REQUIRE(coir::this_fiber::sleep_for(pause).has_value());
        reading.cancel();
        CHECK(reading.join().has_value());
      }
      CHECK(sending.join().has_value());
      CHECK_MESSAGE(received == sent, world.describe());
    });
    REQUIRE(ended.has_value());
  }
}

TEST_CASE("D3: what a cancelled fiber asks for is refused and never handed over") {
  sim_world world;
  unsigned handed_over = 0;
  world.on_event = [&](const sim_event& e) {
    handed_over += e.what == sim_event::kind::handed_over ? 1 : 0;
  };
  const auto ended = run_in_sim(world, [&] {
    auto busy = start([&] {
      while (!coir::this_fiber::cancelled()) coir::this_fiber::yield();
      CHECK(coir::perform(coir::nop{}).error() == std::errc::operation_canceled);
    });
    busy.cancel();
    CHECK(busy.join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(handed_over == 0);
}
