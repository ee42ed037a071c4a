// perform_test.cpp: one effect from the fiber to the backend and back, with a backend that the test
// plays: retries, readiness, deadlines, cancels, and never an early return.
//
// Comes from: runtime/perform.hpp.   Goes to: ctest.
#include "runtime/perform.hpp"

#include <doctest/doctest.h>
#include <poll.h>

#include <cerrno>
#include <vector>

#include "coir/effects.hpp"
#include "coir/io.hpp"
#include "scripted_backend.hpp"

using namespace coir::detail;
using scripted::script;
using scripted::sent;

namespace {

io_uring_sqe entry_of(std::uint8_t opcode, int fd = 20) {
  io_uring_sqe e{};
  e.opcode = opcode;
  e.fd = fd;
  return e;
}

/// Performs one read on a fiber of its own and returns what it got.
std::int32_t perform_read(script& s, std::int64_t until_ns = never_ns, bool cancel_first = false) {
  std::int32_t res = 12345;
  const std::error_code ended = scripted::run(s, [&] {
    if (cancel_first) cancel(*current_fiber());
    res = perform_entry(entry_of(IORING_OP_READ), until_ns);
    CHECK(scripted::here().operations().open_count() == 0);
  });
  CHECK_FALSE(ended);
  return res;
}

}  // namespace

TEST_CASE("perform: EINTR is never shown: the operation is tried again") {
  script s;
  unsigned asked = 0;
  s.on_submit = [&](const sent& x) { s.complete(x.name, ++asked < 4 ? -EINTR : 9); };
  CHECK(perform_read(s) == 9);
  CHECK(s.count(IORING_OP_READ) == 4);
}

TEST_CASE("perform: a descriptor that is not ready is polled for, then tried again") {
  script s;
  unsigned reads = 0;
  s.on_submit = [&](const sent& x) {
    if (x.opcode == IORING_OP_POLL_ADD) {
      CHECK(x.fd == 20);
      CHECK(x.events == POLLIN);
      return s.complete(x.name, POLLIN);
    }
    s.complete(x.name, ++reads == 1 ? -EAGAIN : 3);
  };
  CHECK(perform_read(s) == 3);
  CHECK(s.count(IORING_OP_POLL_ADD) == 1);
}

TEST_CASE("perform: C3 an interrupted connect is waited for, and another one says how it ended") {
  struct course {
    std::int32_t first, second, meant;
  };
  for (const course c :
       {course{-EINTR, -EISCONN, 0}, course{-EINTR, 0, 0}, course{-EINPROGRESS, 0, 0},
        course{-EINTR, -ECONNREFUSED, -ECONNREFUSED}}) {
    script s;
    unsigned connects = 0;
    s.on_submit = [&](const sent& x) {
      if (x.opcode != IORING_OP_POLL_ADD)
        return s.complete(x.name, ++connects == 1 ? c.first : c.second);
      CHECK(x.events == POLLOUT);
      s.complete(x.name, POLLOUT);
    };
    std::int32_t res = 1;
    CHECK_FALSE(
        scripted::run(s, [&] { res = perform_entry(entry_of(IORING_OP_CONNECT), never_ns); }));
    CHECK(res == c.meant);
    CHECK(connects == 2);
    CHECK(s.count(IORING_OP_POLL_ADD) == 1);
  }
  script s;
  s.answer_all(-EISCONN);
  std::int32_t res = 0;
  CHECK_FALSE(
      scripted::run(s, [&] { res = perform_entry(entry_of(IORING_OP_CONNECT), never_ns); }));
  CHECK(res == -EISCONN);
}

TEST_CASE("perform: C3 a close that was interrupted has closed") {
  script s;
  s.answer_all(-EINTR);
  std::int32_t res = 1;
  CHECK_FALSE(scripted::run(s, [&] { res = perform_entry(entry_of(IORING_OP_CLOSE), never_ns); }));
  CHECK(res == 0);
  CHECK(s.count(IORING_OP_CLOSE) == 1);
}

TEST_CASE("perform: a number that its owner has no longer is asked for nothing") {
  script s;
  s.answer_all(1);
  std::int32_t res = 0;
  CHECK_FALSE(scripted::run(s, [&] {
    const coir::io::unique_fd closed_meanwhile;  // after the entry was filled
    res = perform_entry(entry_of(IORING_OP_READ), never_ns, &closed_meanwhile);
    CHECK(scripted::here().operations().count(20) == 0);
  }));
  CHECK(res == -EBADF);
  CHECK(s.submitted.empty());
}

TEST_CASE("perform: EAGAIN of what cannot be polled for is the answer") {
  script s;
  s.answer_all(-EAGAIN);
  std::int32_t res = 0;
  CHECK_FALSE(
      scripted::run(s, [&] { res = perform_entry(entry_of(IORING_OP_OPENAT, -100), never_ns); }));
  CHECK(res == -EAGAIN);
}

TEST_CASE("perform: every other errno is delivered as it is") {
  for (const int e : {EIO, ENOSPC, EBADF, EPIPE, ECANCELED}) {
    script s;
    s.answer_all(-e);
    CHECK(perform_read(s) == -e);
  }
}

TEST_CASE("perform: after a deadline the fiber still waits for the last completion") {
  script s;
  unsigned waits_left = 3;
  bool completed = false;
  s.on_wait = [&](std::int64_t) {
    if (s.cancelled.empty() || completed || --waits_left != 0) return;
    completed = true;
    s.complete(s.cancelled[0], -ECANCELED);
  };
  // The wait for the completion has no end of its own; a ring keeps the worker turning.
  s.on_ready = [&] { s.rung = !s.cancelled.empty() && !completed; };
  bool too_early = false;
  std::int32_t res = 0;
  CHECK_FALSE(scripted::run(s, [&] {
    res = perform_entry(entry_of(IORING_OP_READ), 5'000);
    too_early = !completed;
  }));
  CHECK_FALSE(too_early);
  CHECK(res == -ETIMEDOUT);
  CHECK(s.now_ns >= 5'000);
}

TEST_CASE("perform: after a cancel the fiber still waits for the last completion") {
  script s;
  bool completed = false;
  bool too_early = false;
  std::int32_t res = 0;
  CHECK_FALSE(scripted::run(s, [&] {
    auto reader = coir::spawn([&] {
      res = perform_entry(entry_of(IORING_OP_READ), never_ns);
      too_early = !completed;
    });
    while (s.submitted.empty()) coir::this_fiber::yield();
    reader.cancel();
    for (int i = 0; i < 10; ++i) coir::this_fiber::yield();
    completed = true;
    if (!s.submitted.empty()) s.complete(s.submitted[0].name, -ECANCELED);
    CHECK(reader.join().has_value());
  }));
  CHECK_FALSE(too_early);
  CHECK(res == -ECANCELED);
  CHECK(s.cancelled.size() == 1);
}

TEST_CASE("perform: a cancel that misses the operation is asked for again, and sleeps in between") {
  script s;
  unsigned times = 0;
  s.on_cancel = [&](token target) {
    if (++times == 8) return s.complete(target, -ECANCELED);
    s.complete(token::make(target.slot(), target.generation(), token_kind::cancel), -ENOENT);
  };
  CHECK(perform_read(s, 1'000) == -ETIMEDOUT);
  CHECK(times == 8);
  CHECK(s.slept_for_ever == 0);
  CHECK(s.waits < 40);
  CHECK(s.now_ns >= 1'000 + 63 * flight::miss_pause_ns);
}

TEST_CASE("perform: success wins over a deadline and over a cancel: no byte is lost") {
  script late;
  late.on_cancel = [&](token target) { late.complete(target, 5); };
  CHECK(perform_read(late, 1'000) == 5);
  script stopped;
  stopped.on_cancel = [&](token target) { stopped.complete(target, 6); };
  std::int32_t res = 0;
  CHECK_FALSE(scripted::run(stopped, [&] {
    auto reader = coir::spawn([&] { res = perform_entry(entry_of(IORING_OP_READ), never_ns); });
    while (stopped.submitted.empty()) coir::this_fiber::yield();
    reader.cancel();
    CHECK(reader.join().has_value());
  }));
  CHECK(res == 6);
}

TEST_CASE("perform: a cancelled fiber asks the kernel for nothing, but for what it must finish") {
  script s;
  s.answer_all(7);
  CHECK(perform_read(s, never_ns, true) == -ECANCELED);
  CHECK(s.submitted.empty());
  std::int32_t res = 0;
  CHECK_FALSE(scripted::run(s, [&] {
    cancel(*current_fiber());
    res = perform_to_the_end(entry_of(IORING_OP_CLOSE));
  }));
  CHECK(res == 7);
}

TEST_CASE("perform: on a plain thread it is refused by name") {
  const std::int32_t res = perform_entry(entry_of(IORING_OP_NOP, -1), never_ns);
  CHECK(io_error(res) == coir::errc::not_in_fiber);
}

TEST_CASE("perform: without room in the queue fibers wait in line, and none sees an error") {
  script s;
  s.room = 0;
  s.room_per_wait = 2;
  s.answer_all(1);
  unsigned good = 0;
  CHECK_FALSE(scripted::run(s, [&] {
    std::vector<coir::handle<void>> all;
    for (int i = 0; i < 50; ++i)
      all.push_back(coir::spawn([&] {
        if (perform_entry(entry_of(IORING_OP_READ), never_ns) == 1) ++good;
      }));
    for (auto& h : all) CHECK(h.join().has_value());
  }));
  CHECK(good == 50);
}
