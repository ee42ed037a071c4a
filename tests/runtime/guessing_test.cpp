// guessing_test.cpp: what a receive that stands in line by a guess can lose: nothing.
//
// Comes from: runtime/guessing.cpp.   Goes to: ctest.
#include <doctest/doctest.h>

#include <array>
#include <cerrno>

#include "tests/runtime/polled.hpp"

using namespace coir::detail;

TEST_CASE(
    "guessing: who emptied a stream is not tried before epoll tells, or before it is given up") {
  polled p;
  ends both(SOCK_STREAM);
  std::array<char, 64> room{};
  const int number = both.fd[0];
  const auto receive = entry_of(IORING_OP_RECV, number, room.data(), room.size(), 0);
  for (const std::uint32_t slot : {0u, 1u}) {  // one that nobody knows yet, one that is in vain
    REQUIRE(p.submit(receive, slot));
    both.say("a", 1);
    p.gather(slot + 1);
    REQUIRE(p.answer(slot) == 1);
  }
  both.say("bc", 2);
  REQUIRE(p.submit(receive, 2));
  CHECK(p.reap() == 0);  // it stands in line, by a guess
  p.look();
  CHECK(p.answer(2) == 2);
  both.say("d", 1);
  REQUIRE(p.submit(receive, 3));
  CHECK(p.cancel(3));
  CHECK(p.reap() == 1);
  CHECK(p.answer(3) == 1);  // nothing is lost by a wrong one
  CHECK(room[0] == 'd');
  // Another's stream under the number, of which nobody was told: his bytes are not ours.
  REQUIRE(p.submit(receive, 6));
  ends others(SOCK_STREAM);
  const int kept = ::dup(number);
  REQUIRE(::dup2(others.fd[0], number) == number);
  others.say("x", 1);
  CHECK(p.cancel(6));
  p.reap();
  CHECK(p.answer(6) == -ECANCELED);
  CHECK(::recv(others.fd[0], room.data(), room.size(), MSG_DONTWAIT) == 1);
  REQUIRE(::dup2(kept, number) == number);
  ::close(kept);
  both.say("g", 1);
  REQUIRE(p.answer_of(receive) == 1);
  // Another thing under the number.
  ends other;
  REQUIRE(::dup2(other.fd[0], number) == number);
  CHECK(p.answer_of(receive) == -ENOTSOCK);
  // Whoever fills the room may have left something.
  ends full(SOCK_STREAM);
  const auto one = entry_of(IORING_OP_RECV, full.fd[0], room.data(), 1, 0);
  REQUIRE(p.submit(one, 4));
  full.say("ef", 2);
  p.gather(p.seen.size() + 1);
  REQUIRE(p.submit(one, 5));
  CHECK(p.reap() == 1);
  CHECK(p.answer(5) == 1);
}
