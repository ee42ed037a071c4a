// flight_test.cpp: operations from start to last completion, over a backend that the test plays.
//
// Always true:
//   - No fiber runs here: a record is only what complete() gives back.
//
// Comes from: runtime/flight.hpp.   Goes to: ctest.
#include "runtime/flight.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "flight_bench.hpp"

using namespace coir::detail;
using flight_test::asked;
using flight_test::bench;
using flight_test::fds_max;

namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

}  // namespace

TEST_CASE("flight: the completion of an operation names its fiber, once") {
  bench b;
  asked a(IORING_OP_NOP);
  REQUIRE(b.f.start(a.p) == 0);
  CHECK(b.f.open_count() == 1);
  REQUIRE(b.s.submitted.size() == 1);
  const token name = b.s.submitted[0].name;
  CHECK(b.f.complete({name, 42, 0}) == &a.fiber);
  CHECK(a.p.ended);
  CHECK(a.p.res == 42);
  CHECK(b.f.open_count() == 0);
  CHECK(b.f.complete({name, 42, 0}) == nullptr);
  CHECK(b.f.stale() == 1);
}

TEST_CASE("flight: while completions say `more` the operation goes on, and its result is kept") {
  bench b;
  asked a(IORING_OP_SEND_ZC, 3);
  REQUIRE(b.f.start(a.p) == 0);
  const token name = b.s.submitted[0].name;
  CHECK(b.f.complete({name, 100, IORING_CQE_F_MORE}) == nullptr);
  CHECK_FALSE(a.p.ended);
  CHECK(b.f.open_count() == 1);
  CHECK(b.f.count(3) == 1);
  // The notification carries no result of its own.
  CHECK(b.f.complete({name, 0, IORING_CQE_F_NOTIF}) == &a.fiber);
  CHECK(a.p.res == 100);
  CHECK(b.f.count(3) == 0);
}

TEST_CASE("flight: without room operations wait in line and go in the order of their start") {
  bench b;
  b.s.room = 1;
  b.s.room_per_wait = 0;
  std::array<asked, 4> all{asked(IORING_OP_NOP), asked(IORING_OP_NOP), asked(IORING_OP_NOP),
                           asked(IORING_OP_NOP)};
  for (unsigned i = 0; i < 3; ++i) {
    all[i].entry->len = i;
    REQUIRE(b.f.start(all[i].p) == 0);
  }
  CHECK(b.s.submitted.size() == 1);
  CHECK(b.f.waiting_for_room());
  CHECK(b.f.open_count() == 3);
  // There is room again, but the fourth stands behind the two in line.
  b.s.room = 1;
  all[3].entry->len = 3;
  REQUIRE(b.f.start(all[3].p) == 0);
  CHECK(b.s.submitted.size() == 1);
  b.s.room_per_wait = 1;
  for (unsigned turn = 0; turn < 8 && b.f.waiting_for_room(); ++turn) b.turn();
  CHECK_FALSE(b.f.waiting_for_room());
  REQUIRE(b.s.submitted.size() == 4);
  for (unsigned i = 0; i < 4; ++i) {
    CHECK(b.s.submitted[i].len == i);
    CHECK(b.f.complete({b.s.submitted[i].name, 0, 0}) == &all[i].fiber);
  }
  CHECK(b.ready.empty());
}

TEST_CASE("flight: a full queue is handed over at once, not with the next turn") {
  bench b;
  b.s.room = 0;
  b.s.room_per_wait = 1;
  asked one(IORING_OP_NOP);
  REQUIRE(b.f.start(one.p) == 0);
  CHECK(b.s.waits == 1);
  CHECK(b.s.submitted.size() == 1);
  CHECK_FALSE(b.f.waiting_for_room());
  CHECK(b.f.complete({b.s.submitted[0].name, 0, 0}) == &one.fiber);
}

TEST_CASE(
    "flight: an operation cancelled in line never reaches the kernel, and its fiber goes on") {
  bench b;
  b.s.room = 0;
  b.s.room_per_wait = 0;
  asked first(IORING_OP_READ, 5);
  asked second(IORING_OP_READ, 5);
  REQUIRE(b.f.start(first.p) == 0);
  REQUIRE(b.f.start(second.p) == 0);
  b.f.cancel(first.p);
  b.f.cancel(first.p);
  b.turn();
  CHECK(b.ready == std::vector<record*>{&first.fiber});
  CHECK(first.p.res == -ECANCELED);
  CHECK(b.s.submitted.empty());
  CHECK(b.s.cancelled.empty());
  CHECK(b.f.count(5) == 1);
  CHECK(b.f.open_count() == 1);
  b.f.cancel(second.p);
  b.turn();
  CHECK(b.f.open_count() == 0);
}

TEST_CASE("flight: a cancel that found no entry is tried again until it is sent, once") {
  bench b;
  b.s.cancel_room = 0;
  asked a(IORING_OP_NOP);
  asked c(IORING_OP_NOP);
  REQUIRE(b.f.start(a.p) == 0);
  REQUIRE(b.f.start(c.p) == 0);
  b.f.cancel(a.p);
  b.f.cancel(c.p);
  b.f.cancel(c.p);
  b.turn();
  CHECK(b.s.cancelled.empty());
  CHECK(b.f.waiting_for_room());
  // c ends by itself meanwhile: nothing is left to be cancelled of it.
  CHECK(b.f.complete({b.s.submitted[1].name, 7, 0}) == &c.fiber);
  b.s.cancel_room = 10;
  b.turn();
  CHECK(b.s.cancelled == std::vector<token>{b.s.submitted[0].name});
  CHECK_FALSE(b.f.waiting_for_room());
  // The answer to the cancel itself ends nothing.
  const token answer = token::make(b.s.submitted[0].name.slot(), b.s.submitted[0].name.generation(),
                                   token_kind::cancel);
  CHECK(b.f.complete({answer, 0, 0}) == nullptr);
  CHECK_FALSE(a.p.ended);
  CHECK(b.f.complete({b.s.submitted[0].name, -ECANCELED, 0}) == &a.fiber);
}

TEST_CASE("flight: a number that is being closed takes nothing new, and tells when it is drained") {
  bench b;
  int drained_fd = -1;
  b.f.drained_context = &drained_fd;
  b.f.on_drained = [](void* at, int fd) noexcept { *static_cast<int*>(at) = fd; };
  asked a(IORING_OP_READ, 6);
  asked other(IORING_OP_READ, 7);
  REQUIRE(b.f.start(a.p) == 0);
  CHECK(b.f.close_begin(6) == 1);
  CHECK(b.s.cancelled_fds == std::vector<int>{6});
  asked late(IORING_OP_READ, 6);
  CHECK(b.f.start(late.p) == -EBADF);
  CHECK(b.f.start(other.p) == 0);
  CHECK(drained_fd == -1);
  CHECK(b.f.complete({b.s.submitted[0].name, -ECANCELED, 0}) == &a.fiber);
  CHECK(drained_fd == 6);
  b.f.close_end(6);
  asked anew(IORING_OP_READ, 6);
  CHECK(b.f.start(anew.p) == 0);
  CHECK(b.f.complete({b.s.submitted[1].name, 0, 0}) == &other.fiber);
  CHECK(b.f.complete({b.s.submitted[2].name, 0, 0}) == &anew.fiber);
}

TEST_CASE("flight: closing without room for the cancel asks for each operation's end by name") {
  bench b;
  asked a(IORING_OP_READ, 6);
  asked c(IORING_OP_READ, 8);
  REQUIRE(b.f.start(a.p) == 0);
  REQUIRE(b.f.start(c.p) == 0);
  b.s.cancel_room = 0;
  CHECK(b.f.close_begin(6) == 1);
  b.s.cancel_room = 10;
  b.turn();
  CHECK(b.s.cancelled == std::vector<token>{b.s.submitted[0].name});
  b.f.on_drained = [](void*, int) noexcept {};
  CHECK(b.f.complete({b.s.submitted[0].name, -ECANCELED, 0}) == &a.fiber);
  CHECK(b.f.complete({b.s.submitted[1].name, 0, 0}) == &c.fiber);
}

TEST_CASE("flight: an operation in line on a number that is closed ends instead of starting") {
  bench b;
  b.s.room = 0;
  b.s.room_per_wait = 0;
  b.f.on_drained = [](void*, int) noexcept {};
  asked a(IORING_OP_READ, 6);
  REQUIRE(b.f.start(a.p) == 0);
  CHECK(b.f.close_begin(6) == 1);
  b.s.room_per_wait = 5;
  b.turn();
  CHECK(b.ready == std::vector<record*>{&a.fiber});
  CHECK(a.p.res == -ECANCELED);
  CHECK(b.s.submitted.empty());
}

TEST_CASE("flight: a number that no process can have is refused before anything is counted") {
  bench b;
  asked a(IORING_OP_READ, static_cast<int>(fds_max));
  CHECK(b.f.start(a.p) == -EBADF);
  CHECK(b.f.open_count() == 0);
  CHECK(b.s.submitted.empty());
}

TEST_CASE("flight: a descriptor that comes for nobody is closed, a count or an error is not") {
  bench b;
  const int spare = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  REQUIRE(spare >= 0);
  const token unknown = token::make(77, 5, token_kind::descriptor);
  const token plain = token::make(77, 5, token_kind::operation);
  CHECK(b.f.complete({plain, spare, 0}) == nullptr);
  CHECK(is_open(spare));
  CHECK(b.f.complete({unknown, -EMFILE, 0}) == nullptr);
  CHECK(b.f.complete({unknown, spare, 0}) == nullptr);
  CHECK_FALSE(is_open(spare));
  CHECK(b.f.stale() == 3);
}

TEST_CASE("flight: an operation that makes a descriptor says so in its name") {
  bench b;
  asked open(IORING_OP_OPENAT, -1);
  asked read(IORING_OP_READ, 3);
  REQUIRE(b.f.start(open.p) == 0);
  REQUIRE(b.f.start(read.p) == 0);
  CHECK(b.s.submitted[0].name.kind() == token_kind::descriptor);
  CHECK(b.s.submitted[1].name.kind() == token_kind::operation);
  CHECK(b.f.complete({b.s.submitted[0].name, -ENOENT, 0}) == &open.fiber);
  CHECK(b.f.complete({b.s.submitted[1].name, 0, 0}) == &read.fiber);
}

// -- what lasts

namespace {

/// One that notes what it is told, and ends with its last completion.
struct noted : lasting {
  explicit noted(bench& with, std::uint8_t opcode, int fd = -1) : b(with) {
    sqe->opcode = opcode;
    sqe->fd = fd;
    entry = sqe.get();
    pending::fiber = &owner;
    arrived = [](lasting& self, const completion& c) noexcept -> record* {
      auto& me = static_cast<noted&>(self);
      ++me.told;
      me.last = c;
      if (c.more()) return nullptr;
      me.b.f.retire(me);
      me.b.f.stand_down(me);
      return &me.owner;
    };
  }
  bench& b;
  record owner;
  std::unique_ptr<io_uring_sqe> sqe = std::make_unique<io_uring_sqe>();
  unsigned told = 0;
  completion last;
};

}  // namespace

TEST_CASE(
    "flight: T60 a lasting operation is told of each completion, and is open until the last") {
  bench b;
  noted one(b, IORING_OP_ACCEPT, 7);
  REQUIRE(b.f.stand(one) == 0);
  b.f.set_off(one, false);
  const token name = b.s.submitted.at(0).name;
  CHECK(name.kind() == token_kind::lasting_descriptor);
  CHECK(b.f.complete({name, 20, IORING_CQE_F_MORE}) == nullptr);
  CHECK(b.f.complete({name, 21, IORING_CQE_F_MORE}) == nullptr);
  CHECK(b.f.count(7) == 1);
  CHECK(b.f.complete({name, -ECANCELED, 0}) == &one.owner);
  CHECK(one.told == 3);
  CHECK(b.f.count(7) == 0);
  CHECK(b.f.open_count() == 0);
}

TEST_CASE(
    "flight: T64 T72 after its last completion its name is nobody's, nor is one of another kind") {
  bench b;
  noted one(b, IORING_OP_RECV, 7);
  REQUIRE(b.f.stand(one) == 0);
  b.f.set_off(one, false);
  const token name = b.s.submitted.at(0).name;
  asked plain(IORING_OP_NOP);
  REQUIRE(b.f.start(plain.p) == 0);
  const token other = b.s.submitted.at(1).name;
  // Of an operation that a parked fiber waits for, under the name of one that lasts.
  CHECK(b.f.complete({token::make(other.slot(), other.generation(), token_kind::lasting), 1, 0}) ==
        nullptr);
  CHECK(b.f.stale() == 1);
  CHECK_FALSE(plain.p.ended);
  CHECK(b.f.complete({name, 0, 0}) == &one.owner);
  CHECK(b.f.complete({name, 5, 0}) == nullptr);
  CHECK(b.f.stale() == 2);
  CHECK(one.told == 1);
}

TEST_CASE("flight: a buffer that comes for nobody is given back") {
  bench b;
  unsigned given = 99;
  b.f.stray_context = &given;
  b.f.on_stray_buffer = [](void* to, unsigned buffer) noexcept {
    *static_cast<unsigned*>(to) = buffer;
  };
  const token nobody = token::make(3, 7, token_kind::lasting);
  CHECK(b.f.complete({nobody, 10, 5u << IORING_CQE_BUFFER_SHIFT | IORING_CQE_F_BUFFER}) == nullptr);
  CHECK(given == 5);
  CHECK(b.f.stale() == 1);
}

TEST_CASE(
    "flight: a lasting operation at rest is ended by a close of its descriptor, and not before") {
  bench b;
  int drained = -1;
  b.f.drained_context = &drained;
  b.f.on_drained = [](void* at, int fd) noexcept { *static_cast<int*>(at) = fd; };
  noted one(b, IORING_OP_ACCEPT, 7), other(b, IORING_OP_ACCEPT, 8);
  for (noted* each : {&one, &other}) {
    REQUIRE(b.f.stand(*each) == 0);
    CHECK(b.f.rest(*each));
  }
  b.turn();
  CHECK(one.told == 0);
  CHECK(b.f.close_begin(7) == 1);
  b.turn();
  CHECK(one.last.res == -ECANCELED);
  CHECK(b.ready == std::vector<record*>{&one.owner});
  CHECK(other.told == 0);
  CHECK(drained == 7);
  CHECK(b.f.count(7) == 0);
  noted late(b, IORING_OP_ACCEPT, 7);
  CHECK(b.f.stand(late) == -EBADF);
  b.f.leave_rest(other);
  b.f.stand_down(other);
}
