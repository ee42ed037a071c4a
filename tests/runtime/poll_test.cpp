// poll_test.cpp: the backend without io_uring: who waits for one descriptor, numbers that are
// closed and used again, connects, cancels, the bell.
//
// Always true:
//   - Nothing here is timed: an answer comes, or has come already.
//
// Comes from: runtime/poll.hpp.   Goes to: ctest.
#include <poll.h>

#include <set>
#include <thread>

#include "tests/runtime/polled.hpp"

using namespace coir::detail;

TEST_CASE("poll: each entry comes back once, under its own token") {
  polled b;
  for (std::uint32_t i = 0; i < 1000; ++i) REQUIRE(b.submit(entry_of(IORING_OP_NOP, -1), i));
  CHECK(b.outside->pending());
  CHECK(b.outside->ready());
  b.look();
  std::set<std::uint32_t> slots;
  for (const completion& c : b.seen) {
    CHECK(c.res == 0);
    CHECK_FALSE(c.more());
    slots.insert(c.to.slot());
  }
  CHECK(slots.size() == 1000);
  CHECK(b.reap() == 0);
  CHECK_FALSE(b.outside->pending());
  CHECK(b.outside->counts().sqes.get() == 1000);
  CHECK(b.outside->counts().cqes.get() == 1000);
  CHECK(b.outside->counts().enters.get() == 0);  // nobody waited for anything
}

TEST_CASE("poll: two readers of one descriptor get one byte each, in their order") {
  polled b;
  ends pipe;
  std::array<char, 2> bytes{};
  REQUIRE(b.submit(entry_of(IORING_OP_READ, pipe.fd[0], &bytes[0], 1), 1));
  REQUIRE(b.submit(entry_of(IORING_OP_READ, pipe.fd[0], &bytes[1], 1), 2));
  b.look();
  CHECK(b.seen.empty());
  pipe.say("a", 1);
  b.gather(1);
  CHECK(b.seen[0].to == polled::name(1));
  b.look();
  CHECK(b.seen.size() == 1);
  pipe.say("b", 1);
  b.gather(2);
  CHECK(b.seen[1].to == polled::name(2));
  CHECK(bytes == std::array<char, 2>{'a', 'b'});
}

TEST_CASE("poll: bytes for two readers that came at once wake both") {
  polled b;
  ends pipe;
  std::array<char, 2> bytes{};
  REQUIRE(b.submit(entry_of(IORING_OP_READ, pipe.fd[0], &bytes[0], 1), 1));
  REQUIRE(b.submit(entry_of(IORING_OP_READ, pipe.fd[0], &bytes[1], 1), 2));
  pipe.say("ab", 2);
  b.gather(2);
  CHECK(bytes == std::array<char, 2>{'a', 'b'});
}

TEST_CASE("poll: who reads and who writes wait for one socket at once") {
  polled b;
  ends pair(SOCK_STREAM);
  std::vector<char> much(1 << 20);
  // Full, so that another write has to wait.
  while (::send(pair.fd[0], much.data(), much.size(), MSG_DONTWAIT) > 0) continue;
  char byte = 0;
  REQUIRE(b.submit(entry_of(IORING_OP_RECV, pair.fd[0], &byte, 1, 0), 1));
  REQUIRE(b.submit(entry_of(IORING_OP_SEND, pair.fd[0], "x", 1, 0), 2));
  b.look();
  CHECK(b.seen.empty());
  pair.say("r", 1);
  b.gather(1);
  CHECK(b.answer(1) == 1);
  CHECK(byte == 'r');
  b.look();
  CHECK(b.answer(2) == INT32_MIN);
  while (::recv(pair.fd[1], much.data(), much.size(), MSG_DONTWAIT) > 0) continue;
  b.gather(2);
  CHECK(b.answer(2) == 1);
}

TEST_CASE("poll: a byte that is there is read without asking what is ready") {
  polled b;
  ends pipe;
  char byte = 0;
  pipe.say("abc", 3);
  for (int i = 0; i < 3; ++i)
    CHECK(b.answer_of(entry_of(IORING_OP_READ, pipe.fd[0], &byte, 1)) == 1);
  CHECK(byte == 'c');
  CHECK(b.outside->counts().enters.get() == 0);
}

TEST_CASE("poll: flags of descriptors are as before, whatever was done on them") {
  polled b;
  ends pipe;
  ends pair(SOCK_STREAM);
  listener at;
  const std::array<int, 4> all{pipe.fd[0], pipe.fd[1], pair.fd[0], at.fd};
  std::array<int, 4> before{};
  for (std::size_t i = 0; i < all.size(); ++i) before[i] = ::fcntl(all[i], F_GETFL);
  char byte = 0;
  REQUIRE(b.submit(entry_of(IORING_OP_READ, pipe.fd[0], &byte, 1), 1));
  REQUIRE(b.submit(entry_of(IORING_OP_RECV, pair.fd[0], &byte, 1, 0), 2));
  REQUIRE(b.submit(accept_entry(at.fd), 3));
  REQUIRE(b.submit(entry_of(IORING_OP_WRITE, pipe.fd[1], "p", 1), 4));
  pair.say("s", 1);
  const int one = at.connected();
  const auto as_before = [&] {
    for (std::size_t i = 0; i < all.size(); ++i)
      if (::fcntl(all[i], F_GETFL) != before[i]) return false;
    return true;
  };
  CHECK(as_before());
  b.gather(4);
  CHECK(as_before());
  CHECK(b.answer(3) >= 0);
  ::close(b.answer(3));
  ::close(one);
}

TEST_CASE("poll: a cancel ends who waits at once, with one completion") {
  polled b;
  ends pipe;
  char byte = 0;
  REQUIRE(b.submit(entry_of(IORING_OP_READ, pipe.fd[0], &byte, 1), 7));
  REQUIRE(b.outside->cancel(token::make(7, 2, token_kind::operation)));  // another life of the slot
  b.look();
  CHECK(b.seen.empty());
  REQUIRE(b.cancel(7));
  REQUIRE(b.cancel(7));
  b.look();
  REQUIRE(b.seen.size() == 1);
  CHECK(b.seen[0].res == -ECANCELED);
  pipe.say("x", 1);
  b.look();
  CHECK(b.seen.size() == 1);
  CHECK(byte == 0);
}

TEST_CASE("poll: an answer that is there wins against the cancel") {
  polled b;
  ends pipe;
  char byte = 0;
  pipe.say("x", 1);
  REQUIRE(b.submit(entry_of(IORING_OP_READ, pipe.fd[0], &byte, 1), 7));
  REQUIRE(b.cancel(7));
  b.look();
  REQUIRE(b.seen.size() == 1);
  CHECK(b.seen[0].res == 1);
  CHECK(byte == 'x');
}

TEST_CASE("poll: cancelling a descriptor ends all its operations and no other's") {
  polled b;
  ends one;
  ends two;
  std::array<char, 3> bytes{};
  REQUIRE(b.submit(entry_of(IORING_OP_READ, one.fd[0], &bytes[0], 1), 1));
  REQUIRE(b.submit(poll_entry(one.fd[0], POLLIN), 2));
  REQUIRE(b.submit(entry_of(IORING_OP_READ, two.fd[0], &bytes[1], 1), 3));
  REQUIRE(b.outside->cancel_fd(one.fd[0]));
  b.look();
  CHECK(b.seen.size() == 2);
  CHECK(b.answer(1) == -ECANCELED);
  CHECK(b.answer(2) == -ECANCELED);
  two.say("y", 1);
  b.gather(3);
  CHECK(b.answer(3) == 1);
}

TEST_CASE("poll: a number that was closed beside us and used again waits for what it names now") {
  polled b;
  std::array<char, 3> bytes{};
  int number = -1;
  {
    ends old;
    number = old.fd[0];
    old.say("o", 1);
    // Known here, and with a reader in its line.
    REQUIRE(b.submit(entry_of(IORING_OP_READ, number, &bytes[0], 1), 1));
    REQUIRE(b.submit(entry_of(IORING_OP_READ, number, &bytes[0], 1), 2));
    b.look();
    CHECK(b.seen.size() == 1);
    CHECK(bytes[0] == 'o');
  }
  ends fresh;
  REQUIRE(fresh.fd[0] == number);
  REQUIRE(b.submit(entry_of(IORING_OP_READ, number, &bytes[1], 1), 3));
  b.look();
  CHECK(b.answer(2) == -EBADF);  // what it waited for is gone, and it must not read here
  CHECK(b.answer(3) == INT32_MIN);
  fresh.say("f", 1);
  b.gather(3);
  CHECK(b.answer(3) == 1);
  CHECK(bytes == std::array<char, 3>{'o', 'f', 0});
}

TEST_CASE("poll: a number that named a pipe and names a file now is read as a file") {
  polled b;
  char byte = 0;
  int number = -1;
  {
    ends old;
    number = old.fd[0];
    REQUIRE(b.submit(entry_of(IORING_OP_READ, number, &byte, 1), 1));
    REQUIRE(b.cancel(1));
    b.gather(1);
  }
  const int file = ::open("/proc/self/exe", O_RDONLY);
  REQUIRE(file == number);
  std::array<char, 4> magic{};
  CHECK(b.answer_of(entry_of(IORING_OP_READ, file, magic.data(), 4, 0)) == 4);
  CHECK(magic == std::array<char, 4>{'\x7f', 'E', 'L', 'F'});
  ::close(file);
}

TEST_CASE("poll: a description that lives on under another number wakes nobody once forgotten") {
  polled b;
  ends pipe;
  char byte = 0;
  REQUIRE(b.submit(entry_of(IORING_OP_READ, pipe.fd[0], &byte, 1), 1));
  REQUIRE(b.cancel(1));
  b.gather(1);
  const int other = ::dup(pipe.fd[0]);
  b.outside->forget(pipe.fd[0]);
  pipe.shut(0);
  pipe.say("x", 1);
  b.outside->wait(monotonic_ns() + 1'000'000);
  CHECK_FALSE(b.outside->woke_early());
  // And under its other name it is as good as any.
  CHECK(b.answer_of(entry_of(IORING_OP_READ, other, &byte, 1)) == 1);
  ::close(other);
}

TEST_CASE("poll: the end of the peer wakes everybody who waits") {
  polled b;
  ends pair(SOCK_STREAM);
  std::array<char, 2> bytes{};
  REQUIRE(b.submit(entry_of(IORING_OP_RECV, pair.fd[0], &bytes[0], 1, 0), 1));
  REQUIRE(b.submit(entry_of(IORING_OP_READ, pair.fd[0], &bytes[1], 1), 2));
  REQUIRE(b.submit(poll_entry(pair.fd[0], POLLRDHUP), 3));
  REQUIRE(b.submit(poll_entry(pair.fd[0], POLLPRI), 4));
  pair.shut(1);
  b.gather(4);
  CHECK(b.answer(1) == 0);
  CHECK(b.answer(2) == 0);
  CHECK((b.answer(3) & POLLRDHUP) != 0);
  CHECK((b.answer(4) & POLLHUP) != 0);
}

TEST_CASE("poll: a pipe without a reader ends its writer, and no signal comes") {
  polled b;
  ends pair(SOCK_STREAM);
  pair.shut(1);
  CHECK(b.answer_of(entry_of(IORING_OP_SEND, pair.fd[0], "x", 1, 0)) == -EPIPE);
}

TEST_CASE("poll: a connect is told how it ended, from a blocking socket and from one that is not") {
  polled b;
  listener open;
  for (const int flags : {0, int{SOCK_NONBLOCK}}) {
    const int from = ::socket(AF_INET, SOCK_STREAM | flags, 0);
    CHECK(b.answer_of(open.connect_entry(from)) == 0);
    CHECK(b.answer_of(open.connect_entry(from)) == -EISCONN);
    ::close(from);
    const int again = ::socket(AF_INET, SOCK_STREAM | flags, 0);
    listener closed(false);
    CHECK(b.answer_of(closed.connect_entry(again)) == -ECONNREFUSED);
    ::close(again);
  }
}

TEST_CASE("poll: of two backends that wait for one connection one gets it and nobody is stuck") {
  polled one(1);
  polled two(1);
  for (const bool blocking : {true, false}) {
    listener at;
    if (!blocking) REQUIRE(::fcntl(at.fd, F_SETFL, O_NONBLOCK) == 0);
    one.seen.clear();
    two.seen.clear();
    REQUIRE(one.submit(accept_entry(at.fd), 1));
    REQUIRE(two.submit(accept_entry(at.fd), 1));
    const int client = at.connected();
    const std::int64_t limit = monotonic_ns() + 20'000'000'000;
    while (one.seen.empty() && two.seen.empty() && monotonic_ns() < limit) {
      one.outside->wait(monotonic_ns() + 1'000'000);
      one.reap();
      two.outside->wait(monotonic_ns() + 1'000'000);
      two.reap();
    }
    REQUIRE(one.seen.size() + two.seen.size() == 1);
    polled& winner = one.seen.empty() ? two : one;
    polled& loser = one.seen.empty() ? one : two;
    CHECK(winner.seen[0].res >= 0);
    ::close(winner.seen[0].res);
    REQUIRE(loser.cancel(1));
    loser.gather(1);
    CHECK(loser.seen[0].res == -ECANCELED);
    ::close(client);
  }
}

TEST_CASE("poll: a ring ends the wait that is under way, or the next one") {
  polled b;
  const std::int64_t limit = monotonic_ns() + 20'000'000'000;
  b.outside->wake();
  b.outside->wait(limit);
  std::thread other([&] { b.outside->wake(); });
  b.outside->wait(limit);
  other.join();
  for (int night = 0; night < 50; ++night) {
    for (int n = 0; n < 3; ++n) b.outside->wake();
    b.outside->wait(limit);
  }
  CHECK(monotonic_ns() < limit);
  CHECK(b.reap() == 0);
  // A ring is heard once.
  b.outside->wait(monotonic_ns() + 1'000'000);
  CHECK_FALSE(b.outside->woke_early());
}

TEST_CASE("poll: what has ended makes its descriptor readable, until it was taken") {
  polled b;
  pollfd one{b.outside->native_fd(), POLLIN, 0};
  CHECK(::poll(&one, 1, 0) == 0);
  REQUIRE(b.submit(entry_of(IORING_OP_NOP, -1), 1));
  CHECK(::poll(&one, 1, 0) == 1);
  b.look();
  CHECK(b.seen.size() == 1);
  b.look();
  CHECK(::poll(&one, 1, 0) == 0);
}

TEST_CASE("poll: a wait whose time has passed is no early one, whatever else has happened") {
  for (const bool late : {false, true}) {
    polled b;
    ends pipe;
    char byte = 0;
    REQUIRE(b.submit(entry_of(IORING_OP_READ, pipe.fd[0], &byte, 1), 1));
    b.look();
    pipe.say("x", 1);
    b.outside->wait(late ? b.outside->now_ns() : b.outside->now_ns() + 60'000'000'000);
    CHECK(b.outside->woke_early() == !late);
    b.gather(1);
    CHECK(byte == 'x');
  }
}

TEST_CASE("poll: a deadline that is over does not sleep, one that comes ends the wait") {
  polled b;
  b.outside->wait(0);
  const std::int64_t due = b.outside->now_ns() + 1'000'000;
  b.outside->wait(due);
  CHECK(b.outside->now_ns() >= due);
  CHECK_FALSE(b.outside->woke_early());
  CHECK(b.reap() == 0);
}

TEST_CASE("poll: what it cannot do is refused, not tried") {
  polled b;
  ends pair(SOCK_STREAM);
  CHECK(b.answer_of(entry_of(IORING_OP_MSG_RING, pair.fd[0])) == -EOPNOTSUPP);
  CHECK(b.answer_of(entry_of(250, pair.fd[0])) == -EINVAL);
  char byte = 0;
  io_uring_sqe e = entry_of(IORING_OP_RECV, pair.fd[0], &byte, 1, 0);
  e.ioprio = IORING_RECV_MULTISHOT;
  CHECK(b.answer_of(e) == -EINVAL);
  e.ioprio = 0;
  e.flags = IOSQE_BUFFER_SELECT;
  CHECK(b.answer_of(e) == -EOPNOTSUPP);
  e.flags = IOSQE_FIXED_FILE;
  CHECK(b.answer_of(e) == -EBADF);
  CHECK(b.answer_of(entry_of(IORING_OP_READ, 99'999, &byte, 1)) == -EBADF);
  CHECK(b.answer_of(poll_entry(99'999, POLLIN)) == -EBADF);
}

TEST_CASE("poll: who asked not to wait is told that it would") {
  polled b;
  ends pair(SOCK_STREAM);
  char byte = 0;
  io_uring_sqe e = entry_of(IORING_OP_RECV, pair.fd[0], &byte, 1, 0);
  e.msg_flags = MSG_DONTWAIT;
  CHECK(b.answer_of(e) == -EAGAIN);
}

TEST_CASE("poll: with MSG_WAITALL all bytes come, or those that came before the end") {
  polled b;
  ends pair(SOCK_STREAM);
  std::array<char, 6> bytes{};
  io_uring_sqe e = entry_of(IORING_OP_RECV, pair.fd[0], bytes.data(), 4, 0);
  e.msg_flags = MSG_WAITALL;
  REQUIRE(b.submit(e, 1));
  pair.say("ab", 2);
  b.outside->wait(monotonic_ns() + 20'000'000'000);
  CHECK(b.reap() == 0);
  pair.say("cd", 2);
  b.gather(1);
  CHECK(b.answer(1) == 4);
  REQUIRE(b.submit(e, 2));
  pair.say("ef", 2);
  b.outside->wait(monotonic_ns() + 20'000'000'000);
  REQUIRE(b.cancel(2));
  b.gather(2);
  CHECK(b.answer(2) == 2);
}

TEST_CASE("poll: errno is as before, whatever the kernel said") {
  polled b;
  ends pipe;
  char byte = 0;
  errno = 4711;
  REQUIRE(b.submit(entry_of(IORING_OP_READ, pipe.fd[0], &byte, 1), 1));
  REQUIRE(b.submit(entry_of(IORING_OP_READ, 99'999, &byte, 1), 2));
  b.outside->forget(pipe.fd[0]);
  b.outside->wake();
  b.look();
  CHECK(errno == 4711);
  CHECK(b.outside->send_now(entry_of(IORING_OP_SEND, 99'999, "x", 1, 0)) == -EBADF);
  CHECK(errno == 4711);
}
