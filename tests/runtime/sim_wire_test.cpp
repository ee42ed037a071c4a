// sim_wire_test.cpp: bytes in order, bounds, and who has left.
#include "runtime/sim_wire.hpp"

#include <doctest/doctest.h>

#include <array>

using namespace coir::detail;

TEST_CASE("sim_wire: bytes come out once, in their order, and no more go in than there is room") {
  sim_channel c(4);
  const std::array<std::byte, 6> sent{std::byte{1}, std::byte{2}, std::byte{3},
                                      std::byte{4}, std::byte{5}, std::byte{6}};
  CHECK(c.push(sent) == 4);
  CHECK(c.room() == 0);
  CHECK(c.push(sent) == 0);
  std::array<std::byte, 3> got{};
  CHECK(c.pull(got) == 3);
  CHECK(got == std::array<std::byte, 3>{std::byte{1}, std::byte{2}, std::byte{3}});
  CHECK(c.push(std::span(sent).subspan(4)) == 2);
  CHECK(c.pull(got) == 3);
  CHECK(got == std::array<std::byte, 3>{std::byte{4}, std::byte{5}, std::byte{6}});
  CHECK(c.pull(got) == 0);
}

TEST_CASE("sim_wire: what one end of a connection sends the other one receives") {
  const sim_pair both = make_connection(8);
  CHECK(both.one->out() == both.other->in());
  CHECK(both.other->out() == both.one->in());
  CHECK(both.one->in() != both.one->out());
}

TEST_CASE("sim_wire: an end that is gone ended what it sent and left what it received") {
  sim_pair both = make_connection(8);
  both.one.reset();
  CHECK(both.other->in()->ended());
  CHECK(both.other->out()->left());
  sim_pair through = make_pipe(8);
  CHECK(through.one->in() == nullptr);
  CHECK(through.other->out() == nullptr);
  through.other.reset();
  CHECK(through.one->out()->left());
  CHECK_FALSE(through.one->out()->ended());
}

TEST_CASE("sim_wire: a connection that breaks loses what was on its way, for both sides") {
  const sim_pair both = make_connection(8);
  std::array<std::byte, 4> some{};
  CHECK(both.one->out()->push(some) == 4);
  both.other->break_off();
  CHECK(both.one->in()->broken());
  CHECK(both.one->out()->broken());
  CHECK(both.other->in()->waiting() == 0);
}
