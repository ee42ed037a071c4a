// tokens_test.cpp: completions that nobody waits for are counted and thrown away, never believed.
//
// Always true:
//   - Every stray completion here is counted: the number is compared, so a lost one fails, too.
#include <cerrno>
#include <climits>

#include "in_sim.hpp"

using namespace sim_test;
using coir::detail::token;
using coir::detail::token_kind;

namespace {

/// What the worker has counted so far, after a turn of its loop.
std::uint64_t stale_tokens() {
  for (int i = 0; i < 3; ++i) REQUIRE(coir::perform(coir::nop{}).has_value());
  return coir::snapshot().total().stale_tokens;
}

}  // namespace

TEST_CASE("B10: a completion that comes twice resumes its fiber once") {
  sim_world world;
  world.rule({.opcode = IORING_OP_NOP, .times = 100, .duplicates = 2});
  int resumed = 0;
  std::uint64_t stale = 0;
  const auto ended = run_in_sim(world, [&] {
    coir::scope all;
    for (int i = 0; i < 100; ++i)
      all.spawn([&] {
        REQUIRE(coir::perform(coir::nop{}).has_value());
        ++resumed;
        coir::this_fiber::yield();
      });
    REQUIRE(all.join().has_value());
    stale = stale_tokens();
  });
  REQUIRE(ended.has_value());
  CHECK(resumed == 100);
  CHECK(stale == 200);
}

TEST_CASE("B10: a completion that comes when its slot has a new owner does not reach that owner") {
  sim_world world;
  world.rule({.opcode = IORING_OP_NOP, .result = 0, .late_ns = 1000});
  const int end = world.connection().first;
  std::uint64_t stale = 0;
  const auto ended = run_in_sim(world, [&] {
    REQUIRE(coir::perform(coir::nop{}).has_value());
    // The table gives the same slot out again at once: this recv has it when the late one comes.
    std::array<std::byte, 4> buffer{};
    const auto answer = coir::io::recv(end, buffer, 0, coir::in(std::chrono::microseconds(5)));
    CHECK(answer.error() == std::errc::timed_out);
    stale = stale_tokens();
  });
  REQUIRE(ended.has_value());
  CHECK(stale == 1);
  CHECK_MESSAGE(world.memory.violations() == 0, world.describe());
}

TEST_CASE("B10: forged tokens are counted, whatever they name") {
  sim_world world;
  std::uint64_t stale = 0;
  const std::vector<token> forged = {{},
                                     {~std::uint64_t{0}},
                                     token::make(0, 0, token_kind::operation),
                                     token::make(0, 77, token_kind::operation),
                                     token::make(4095, 1, token_kind::operation),
                                     token::make((1u << 24) - 1, 1, token_kind::operation)};
  const auto ended = run_in_sim(world, [&] {
    for (const token t : forged) world.inject({t, 0, 0});
    // A cancel's answer means nothing by itself, known or not.
    world.inject({token::make(3, 9, token_kind::cancel), -EALREADY, 0});
    stale = stale_tokens();
  });
  REQUIRE(ended.has_value());
  CHECK(stale == forged.size());
}

TEST_CASE("B10: a descriptor that comes for nobody is closed") {
  sim_world world;
  const auto [one, other] = world.connection();
  const auto ended = run_in_sim(world, [&, fd = one] {
    world.inject({token::make(9, 9, token_kind::descriptor), fd, 0});
    CHECK(stale_tokens() == 1);
  });
  REQUIRE(ended.has_value());
  CHECK(world.open_fds() == 1);
  world.close(other);
}
