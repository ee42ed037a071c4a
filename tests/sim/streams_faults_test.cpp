// streams_faults_test.cpp: a kernel that stops, refuses and starves, at every moment: streams and
// started operations lose nothing, and nothing of theirs is touched too long.
//
// Always true:
//   - The bytes that come out are those that went in, in their order.
#include <array>
#include <cerrno>
#include <climits>
#include <string>
#include <vector>

#include "stream_sim.hpp"

using namespace stream_sim;
using namespace std::chrono_literals;

namespace {

struct recv_op {
  using value_type = std::size_t;
  static constexpr std::string_view name = "recv";
  int fd;
  std::span<std::byte> into;
  void fill(io_uring_sqe& e) const noexcept {
    e.opcode = IORING_OP_RECV;
    e.fd = fd;
    e.addr = reinterpret_cast<std::uintptr_t>(into.data());
    e.len = static_cast<std::uint32_t>(into.size());
  }
  std::size_t complete(std::int32_t res) const noexcept { return static_cast<std::size_t>(res); }
};

}  // namespace

TEST_CASE("streams: where the kernel stops for want of buffers, or for nothing, nobody sees it") {
  for (const std::int32_t why : {-ENOBUFS, -EINTR, 0}) {
    CAPTURE(why);
    in_both([&](sim_world& world) {
      const auto [a, b] = world.connection();
      sim_rule stops{.opcode = IORING_OP_RECV, .times = 5, .bytes_max = {}, .items_max = 1};
      if (why != 0) stops.result = why;
      world.rule(stops);
      const auto ended = run_in_sim(world, [&, a = a, b = b] {
        auto bytes = coir::perform(coir::recv_stream{a});
        for (int i = 0; i < 10; ++i) {
          const std::string sent = "message " + std::to_string(i);
          CHECK(coir::io::send(b, bytes_of(sent)).has_value());
          CHECK(pulled(bytes, sent.size()) == sent);
        }
        CHECK(bytes.alive());
        if (why != -EINTR)
          CHECK(bytes.rearmed() == (here().buffers()->picked_by_backend() ? 5 : 0));
        CHECK(here().buffers()->out() == 0);
      });
      CHECK(ended.has_value());
    });
  }
}

TEST_CASE("streams: told that there is no buffer while there is one, they ask again") {
  in_both([](sim_world& world) {
    const auto [a, b] = world.connection();
    world.rule({.opcode = IORING_OP_RECV, .times = 3, .result = -ENOBUFS, .items_max = 0});
    const auto ended = run_in_sim(world, [&, a = a, b = b] {
      auto bytes = coir::perform(coir::recv_stream{a});
      CHECK(coir::io::send(b, bytes_of("here")).has_value());
      CHECK(pulled(bytes, 4) == "here");
      CHECK(bytes.rearmed() == 3);
    });
    CHECK(ended.has_value());
  });
}

TEST_CASE("streams: one that is not to be re-armed ends where the kernel stops") {
  sim_world world;
  peers p{world, {}};
  world.rule({.opcode = IORING_OP_ACCEPT, .items_max = 2});
  const auto ended = run_in_sim(world, [&] {
    auto incoming = coir::perform(coir::accept_stream{p.listening}, {.auto_rearm = false});
    p.connect(4);
    CHECK(take_all(incoming) == 2);
    CHECK_FALSE(incoming.alive());
    CHECK_FALSE(incoming.next()->has_value());
  });
  CHECK(ended.has_value());
}

TEST_CASE("streams: a kernel that does not know the operation is asked for each item") {
  sim_world world;
  peers p{world, {}};
  world.rule({.opcode = IORING_OP_ACCEPT, .result = -EINVAL, .items_max = 0});
  const auto ended = run_in_sim(world, [&] {
    auto incoming = coir::perform(coir::accept_stream{p.listening});
    p.connect(6);
    CHECK(take_all(incoming) == 6);
    CHECK(incoming.alive());
  });
  CHECK(ended.has_value());
}

TEST_CASE("streams: without buffers nobody receives, and each goes on when one comes back") {
  in_both([](sim_world& world) {
    const auto [a, b] = world.connection();
    const auto [c, d] = world.connection();
    auto o = small();
    o.stream_buffers = 2;
    o.stream_buffer_bytes = 64;
    const auto ended = run_in_sim(
        world,
        [&, a = a, b = b, c = c, d = d] {
          auto idle = coir::perform(coir::recv_stream{c});
          auto bytes = coir::perform(coir::recv_stream{a});
          CHECK(coir::io::send(b, bytes_of(std::string(64 * 4, 'x'))).has_value());
          std::vector<coir::leased_bytes> held;
          while (held.size() < 2) held.push_back(std::move(**bytes.next()));
          CHECK(bytes.next(coir::in(1ms)).error() == std::errc::timed_out);
          CHECK(idle.alive());
          // The idle one is fed as well, and must not keep the buffer from who has data.
          held.pop_back();
          CHECK(pulled(bytes, 128).size() == 128);
          held.clear();
          CHECK(coir::io::send(d, bytes_of("at last")).has_value());
          CHECK(pulled(idle, 7) == "at last");
          CHECK(here().buffers()->out() == 0);
        },
        o);
    CHECK(ended.has_value());
  });
}

TEST_CASE("streams: whatever goes wrong, the bytes come once and in order") {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    in_both(
        [&](sim_world& world) {
          const auto [a, b] = world.connection(seed % 2 == 0 ? 64 : 4096);
          for (int i = 0; i < 6; ++i) {
            sim_rule rule{.opcode = IORING_OP_RECV, .skip = static_cast<unsigned>(seed + i) % 3};
            rule.items_max = static_cast<unsigned>(seed + i) % 4;
            if (i % 3 == 0 || rule.items_max == 0u) rule.result = i % 2 == 0 ? -ENOBUFS : -EINTR;
            rule.hold_ns = static_cast<std::int64_t>(seed * i % 7);
            if (i % 4 == 3) rule.cancel_answer = -EALREADY;
            world.rule(rule);
          }
          std::string sent, got;
          for (unsigned i = 0; i < 300; ++i) sent += static_cast<char>('a' + (seed + i * 7) % 26);
          auto o = small();
          o.stream_buffers = 4;
          o.stream_buffer_bytes = 64;
          const auto ended = run_in_sim(
              world,
              [&, a = a, b = b] {
                auto sender = coir::spawn([&] {
                  std::size_t at = 0;
                  for (unsigned n = 1; at < sent.size(); n = n * 5 % 31 + 1) {
                    const std::size_t part = std::min<std::size_t>(n, sent.size() - at);
                    CHECK(coir::io::write_all(b, bytes_of(sent.substr(at, part))).has_value());
                    at += part;
                    if (n % 3 == 0) CHECK(coir::this_fiber::sleep_for(20ns).has_value());
                  }
                  CHECK(coir::io::shutdown(b, 1).has_value());
                });
                auto bytes = coir::perform(coir::recv_stream{a}, {.capacity = 2, .low_water = 1});
                std::vector<coir::leased_bytes> held;
                for (auto part : bytes) {
                  REQUIRE_MESSAGE(part.has_value(), world.describe());
                  got += part->text();
                  held.push_back(std::move(*part));
                  if (held.size() > seed % 3) held.erase(held.begin());
                }
                held.clear();
                CHECK(sender.join().has_value());
                CHECK(here().buffers()->out() == 0);
                CHECK(open_now() == 0);
              },
              o);
          REQUIRE_MESSAGE(ended.has_value(), world.describe());
          REQUIRE_MESSAGE(got == sent, world.describe());
        },
        {.seed = seed, .shuffle = true, .delay_max_ns = 30});
  }
}

TEST_CASE(
    "started: memory is lent until the last completion, whoever cancels and however late it is") {
  for (const std::int32_t answer : {0, -EALREADY, -ENOENT}) {
    sim_world world;
    world.rule(
        {.opcode = IORING_OP_RECV, .times = UINT_MAX, .delay_ns = 5'000, .cancel_answer = answer});
    const auto [a, b] = world.connection();
    const auto ended = run_in_sim(world, [&, a = a, b = b] {
      for (const bool throws : {false, true}) {
        try {
          std::array<std::byte, 64> buffer{};
          auto reading = coir::start(recv_op{a, buffer});
          CHECK(reading.get(coir::in(1us)).error() == std::errc::timed_out);
          if (throws) throw 1;
        } catch (int) {
        }
        // The same part of the stack, with other bytes: the oracle would see them in the buffer.
        std::array<std::byte, 256> other;
        other.fill(std::byte{0x5a});
        CHECK(coir::this_fiber::sleep_for(10us).has_value());
        CHECK(other[100] == std::byte{0x5a});
      }
      std::array<std::byte, 64> buffer{};
      auto reading = coir::start(recv_op{a, buffer});
      CHECK(coir::io::send(b, bytes_of("kept")).has_value());
      CHECK(reading.get() == std::size_t{4});
      CHECK(open_now() == 0);
    });
    CHECK(ended.has_value());
    CHECK_MESSAGE(world.memory.violations() == 0, world.describe());
  }
}
