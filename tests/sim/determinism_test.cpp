// determinism_test.cpp: a seed is a whole run: the same seed again is the same run, and every seed
// keeps the promises.
//
// Always true:
//   - A failure prints the seed; the seed alone repeats it.
#include <array>
#include <cerrno>
#include <climits>
#include <set>

#include "in_sim.hpp"

using namespace sim_test;
using coir::detail::sim_dice;

namespace {

struct tally {
  std::size_t sent = 0, received = 0;
  unsigned cancelled = 0, timed_out = 0;
  bool operator==(const tally&) const = default;
};

/// Chatter, sleep, deadlines and cancels, as chance has it.
void talk(sim_world& world, std::uint64_t seed, tally& t) {
  const auto [one, other] = world.connection(32);
  auto sending = coir::spawn([&, fd = one, seed] {
    sim_dice dice(seed);
    for (int i = 0; i < 20; ++i) {
      std::array<std::byte, 24> data{};
      const auto part = std::span<const std::byte>(data).first(1 + dice.below(24));
      const auto n =
          coir::io::send(fd, part, 0, coir::in(std::chrono::nanoseconds(20 + dice.below(100))));
      if (n) t.sent += *n;
      if (!n) ++t.timed_out;
    }
    CHECK(coir::io::close(fd).has_value());
  });
  for (bool over = false; !over;) {
    auto reading = coir::spawn([&, fd = other] {
      std::array<std::byte, 16> buffer{};
      const auto n = coir::io::recv(fd, buffer);
      if (n) t.received += *n;
      if (!n) ++t.cancelled;
      over = n && *n == 0;
    });
    CHECK(coir::this_fiber::sleep_for(std::chrono::nanoseconds(1 + seed % 50)).has_value());
    reading.cancel();
    CHECK(reading.join().has_value());
  }
  CHECK(sending.join().has_value());
  CHECK(coir::io::close(other).has_value());
}

struct outcome {
  std::uint64_t hash;
  tally sums;
};

outcome run_once(std::uint64_t seed) {
  sim_world world({.seed = seed, .shuffle = true, .delay_max_ns = 60, .entries = 8});
  world.rule({.opcode = IORING_OP_RECV, .skip = 3, .times = 4, .result = -EINTR});
  world.rule({.opcode = IORING_OP_RECV, .skip = 9, .times = 5, .bytes_max = 1, .hold_ns = 30});
  world.rule({.opcode = IORING_OP_SEND,
              .skip = 2,
              .times = 6,
              .delay_ns = 40,
              .cancel_answer = -EALREADY,
              .duplicates = 1});
  tally sums;
  const auto ended = run_in_sim(world, [&] {
    coir::scope all;
    for (std::uint64_t i = 0; i < 6; ++i)
      (void)all.spawn([&, i] { talk(world, seed * 10 + i, sums); });
    CHECK(all.join().has_value());
  });
  REQUIRE_MESSAGE(ended.has_value(), world.describe());
  CHECK_MESSAGE(sums.sent == sums.received, world.describe());
  CHECK_MESSAGE(world.memory.violations() == 0, world.describe());
  CHECK_MESSAGE(world.memory.lent() == 0, world.describe());
  CHECK_MESSAGE(world.open_fds() == 0, world.describe());
  return {world.hash(), sums};
}

}  // namespace

TEST_CASE("determinism: the same seed is the same run, another seed is another one") {
  std::set<std::uint64_t> hashes;
  unsigned cancelled = 0;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    const outcome first = run_once(seed);
    const outcome second = run_once(seed);
    CHECK_MESSAGE(first.hash == second.hash, "seed " << seed);
    CHECK_MESSAGE(first.sums == second.sums, "seed " << seed);
    hashes.insert(first.hash);
    cancelled += first.sums.cancelled;
  }
  CHECK(hashes.size() == 150);
  CHECK(cancelled != 0);
}
