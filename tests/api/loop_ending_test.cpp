// loop_ending_test.cpp: closes and full backlogs in a loop: what must end, and does.
//
// Comes from: coir/loop.hpp.   Goes to: ctest.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include "coir/coir.hpp"
#include "tests/api/scripted_outside.hpp"
#include "tests/test_options.hpp"

using namespace std::chrono_literals;

namespace {

using test::small_world;
using test::value;

/// A number that is open, and that nothing but this closes.
int some_number() {
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  return fd;
}
bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

template <class T>
std::error_code error_of(const coir::result<T>& r) {
  return r ? std::error_code() : r.error();
}

std::array<std::byte, 4> lent{};
auto receives(int fd) {
  return [fd] { return error_of(coir::io::recv(fd, lent)); };
}

}  // namespace

TEST_CASE("loop: a close ends the operations on its number, and waits for their last completions") {
  small_world w;
  w.outside.answers_cancels = false;
  const int fd = some_number(), other_fd = some_number();
  auto reads = w.in.submit(receives(fd));
  auto reads_too = w.in.submit(receives(fd));
  auto elsewhere = w.in.submit(receives(other_fd));
  auto closes = w.in.submit([&] { return coir::io::close(fd).has_value(); });
  CHECK(w.outside.cancelled.size() == 2);
  REQUIRE(w.in.poll());
  CHECK_FALSE(closes.done());
  CHECK(is_open(fd));
  // Meanwhile it takes nobody, and a second close is told so.
  CHECK(w.in.submit(receives(fd)).get().value() == std::errc::bad_file_descriptor);
  CHECK(w.in.submit([&] { return error_of(coir::io::close(fd)); }).get().value() ==
        std::errc::bad_file_descriptor);
  w.outside.answer_first(-ECANCELED);
  REQUIRE(w.in.poll());
  CHECK(reads.get().value() == std::errc::operation_canceled);
  CHECK_FALSE(closes.done());
  CHECK(is_open(fd));
  w.outside.answer_first(3);  // it won against its cancel
  REQUIRE(w.in.poll());
  CHECK_FALSE(reads_too.get().value());
  CHECK(closes.get().value());
  CHECK_FALSE(is_open(fd));
  CHECK_FALSE(elsewhere.done());
  w.outside.answer_first(3);
  CHECK(w.in.run());
  CHECK(w.outside.forgotten == std::vector{fd});
  auto unused = w.in.submit([&] { return coir::io::close(other_fd).has_value(); });
  CHECK(unused.get().value());
  CHECK(w.outside.forgotten == std::vector{fd, other_fd});
}

TEST_CASE("loop: who waits to be ready does not meet the next owner of its number") {
  small_world w;
  w.outside.answers_cancels = false;
  const int fd = some_number();
  auto reads = w.in.submit(receives(fd));
  w.outside.answer_first(-EAGAIN);
  REQUIRE(w.in.poll());
  REQUIRE(w.outside.flying.front().opcode == IORING_OP_POLL_ADD);
  auto closes = w.in.submit([&] { return coir::io::close(fd).has_value(); });
  CHECK_FALSE(closes.done());
  w.outside.answer_first(POLLIN);  // readable after all
  REQUIRE(w.in.poll());
  CHECK(w.outside.flying.empty());
  CHECK(reads.get().value() == std::errc::operation_canceled);
  CHECK(closes.get().value());
}

TEST_CASE("loop: a close ends those in the line, and those who hold both ends of a splice") {
  small_world w;
  w.outside.room = 1;
  w.outside.answers_cancels = false;
  const int fd = some_number();
  auto flies = w.in.submit([] { return value(1); });
  auto splices =
      w.in.submit([&] { return error_of(coir::perform(coir::splice_operation(fd, fd + 1, 1))); });
  auto waits = w.in.submit(receives(fd));
  CHECK(w.outside.flying.size() == 1);
  auto closes = w.in.submit([&] { return coir::io::close(fd).has_value(); });
  CHECK(closes.get().value());
  CHECK(waits.get().value() == std::errc::operation_canceled);
  CHECK(splices.get().value() == std::errc::operation_canceled);
  CHECK(w.outside.cancelled.empty());
  w.outside.answer_first(1);
  CHECK(w.in.run());
  CHECK(flies.get().value() == 1);
}

TEST_CASE("loop: a close that waits is not cancelled, by its loop's end neither") {
  small_world w;
  const int fd = some_number();
  w.outside.answers_cancels = false;
  auto reads = w.in.submit(receives(fd));
  auto closes = w.in.submit([&] { return coir::io::close(fd).has_value(); });
  closes.cancel();
  CHECK_FALSE(closes.done());
  w.outside.on_wait = [&] { w.outside.answer_first(-ECANCELED); };
  CHECK(w.in.drain() == 2);
  CHECK(closes.get().value());
  CHECK(reads.get().value() == std::errc::operation_canceled);
  CHECK_FALSE(is_open(fd));
}

TEST_CASE("loop: a backend that fails leaves no close behind") {
  small_world w;
  const int fd = some_number();
  w.outside.answers_cancels = false;
  auto closes_first = w.in.submit([&] {
    (void)value();
    return coir::io::close(fd).has_value();
  });
  auto reads = w.in.submit(receives(fd));
  auto closes = w.in.submit([&] { return coir::io::close(fd).has_value(); });
  w.outside.refuse_reap = make_error_code(std::errc::bad_file_descriptor);
  CHECK_FALSE(w.in.poll());
  CHECK(reads.get().value() == std::errc::bad_file_descriptor);
  CHECK(closes.get().value());
  CHECK_FALSE(closes_first.get().value());  // somebody else was closing it
  CHECK_FALSE(is_open(fd));
  CHECK(w.in.pending() == 0);
}

TEST_CASE("loop: over a backend of the system's a close ends a receive whose peer stays") {
  auto outside = coir::make_backend(test::tested({}));
  REQUIRE(outside);
  for (const int flags : {0, O_NONBLOCK}) {
    auto in = coir::loop::make(**outside).value();
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), flags | O_CLOEXEC) == 0);
    auto reads = in.submit([&] { return error_of(coir::io::read(ends[0], lent)); });
    for (int i = 0; i < 3; ++i) REQUIRE(in.poll());
    auto closes = in.submit([&] { return coir::io::close(ends[0]).has_value(); });
    CHECK(in.run(coir::in(60s)));
    CHECK(reads.get().value() == std::errc::operation_canceled);
    CHECK(closes.get().value());
    ::close(ends[1]);
  }
}

// -- connects to a full backlog

TEST_CASE(
    "loop: a connect that finds a full backlog is offered again after a pause, until it ends") {
  small_world w;
  const sockaddr somewhere{};
  const auto connects = [&](coir::deadline until = coir::never) {
    return w.in.submit(
        [&, until] { return error_of(coir::io::connect(5, &somewhere, sizeof somewhere, until)); });
  };
  auto one = connects();
  for (int i = 0; i < 5; ++i) {
    w.outside.answer_first(-EAGAIN);
    REQUIRE(w.in.poll());
    CHECK(w.outside.flying.empty());
    REQUIRE(w.in.next_deadline() > w.outside.at);
    CHECK(w.in.next_deadline() < w.outside.at + 5ms);
    w.outside.at = w.in.next_deadline();
    REQUIRE(w.in.poll());
    REQUIRE(w.outside.flying.size() == 1);
    CHECK(w.outside.flying.front().opcode == IORING_OP_CONNECT);
  }
  w.outside.answer_first(0);
  CHECK(w.in.run());
  CHECK_FALSE(one.get().value());
  // In the pause there is nothing in flight that a cancel, a deadline or a close would wait for.
  auto cancelled = connects();
  w.outside.answer_first(-EAGAIN);
  REQUIRE(w.in.poll());
  cancelled.cancel();
  CHECK(cancelled.get().value() == std::errc::operation_canceled);
  auto late = connects(w.outside.at + 10us);
  w.outside.answer_first(-EAGAIN);
  REQUIRE(w.in.poll());
  w.outside.at += 10us;
  REQUIRE(w.in.poll());
  CHECK(late.get().value() == std::errc::timed_out);
  // After a pause the deadline still counts.
  auto later = connects(w.outside.at + 1s);
  w.outside.answer_first(-EAGAIN);
  REQUIRE(w.in.poll());
  w.outside.at = w.in.next_deadline();
  REQUIRE(w.in.poll());
  w.outside.at += 1s;
  REQUIRE(w.in.poll());
  REQUIRE(w.in.poll());
  CHECK(later.get().value() == std::errc::timed_out);
}

TEST_CASE("loop: a Unix connect to a full backlog ends when there is room") {
  auto outside = coir::make_backend(test::tested({}));
  REQUIRE(outside);
  auto in = coir::loop::make(**outside).value();
  const std::string name = "@coir-loop-ending-" + std::to_string(::getpid());
  auto listener = coir::net::unix_listener::listen(name, 0);
  REQUIRE(listener);
  std::vector<int> taken;
  std::vector<coir::submitted<bool>> all;
  const auto connect = [&] { return coir::net::unix_stream::connect(name).has_value(); };
  for (int i = 0; i < 4; ++i) all.push_back(in.submit(connect));
  for (int i = 0; i < 10; ++i) REQUIRE(in.poll());
  CHECK_FALSE(all.back().done());
  auto accepts = in.submit([&] {
    for (int i = 0; i < 4; ++i) taken.push_back(coir::io::accept(listener->fd()).value_or(-1));
  });
  CHECK(in.run(coir::in(60s)));
  for (auto& each : all) CHECK(each.get().value());
  for (const int one : taken) ::close(one);
}
