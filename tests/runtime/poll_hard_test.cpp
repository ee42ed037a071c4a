// poll_hard_test.cpp: what keeps a backend of epoll awake, or would: errors that stand, numbers
// that take turns, a spinner, a kernel without epoll_pwait2.
//
// Always true:
//   - That nobody is kept awake is seen by a wait that is not ended early.
//
// Comes from: runtime/poll.hpp.   Goes to: ctest.
#include <poll.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdlib>
#include <thread>

#include "tests/played_kernel.hpp"
#include "tests/runtime/polled.hpp"

using namespace coir::detail;

namespace {

constexpr std::int64_t moment_ns = 1'000'000;

/// A datagram socket with an error in its queue that nobody reads, and the peer it listens to.
struct failed_once {
  failed_once() {
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    open_peer();
    const int on = 1;
    REQUIRE(::setsockopt(fd, IPPROTO_IP, IP_RECVERR, &on, sizeof on) == 0);
    REQUIRE(::connect(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    ::close(peer);
    REQUIRE(::send(fd, "x", 1, 0) == 1);  // nobody is there, which the loopback says at once
    pollfd one{fd, 0, 0};
    REQUIRE(::poll(&one, 1, 20'000) == 1);
    REQUIRE((one.revents & POLLERR) != 0);
    char byte = 0;
    REQUIRE(::recv(fd, &byte, 1, MSG_DONTWAIT) == -1);  // tells of it, and leaves the queue
    open_peer();
    sockaddr_in mine{};
    socklen_t bytes = sizeof mine;
    REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&mine), &bytes) == 0);
    REQUIRE(::connect(peer, reinterpret_cast<sockaddr*>(&mine), bytes) == 0);
  }
  ~failed_once() {
    ::close(fd);
    ::close(peer);
  }
  failed_once(const failed_once&) = delete;
  failed_once& operator=(const failed_once&) = delete;
  void open_peer() {
    peer = ::socket(AF_INET, SOCK_DGRAM, 0);
    REQUIRE(::bind(peer, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    socklen_t bytes = sizeof at;
    REQUIRE(::getsockname(peer, reinterpret_cast<sockaddr*>(&at), &bytes) == 0);
  }
  void say(const char* text) { REQUIRE(::send(peer, text, 1, 0) == 1); }
  int fd = ::socket(AF_INET, SOCK_DGRAM, 0);
  int peer = -1;
  sockaddr_in at{};
};

/// Of the calling thread and of no other.
bool refuse_here(unsigned number, int error) {
  return test::play_kernel({{number, {}, test::answers(error)}});
}

}  // namespace

TEST_CASE("poll: an error queue that nobody reads keeps no reader awake, and hides nothing") {
  polled b;
  failed_once socket;
  std::array<char, 2> bytes{};
  const auto read = [&](std::size_t which) {
    return entry_of(IORING_OP_RECV, socket.fd, &bytes[which], 1, 0);
  };
  for (std::uint32_t slot = 1; slot < 20; slot += 2) {
    REQUIRE(b.submit(read(0), slot));
    for (int vain = 0; vain < 3; ++vain) b.outside->wait(monotonic_ns() + moment_ns);
    const std::uint64_t events = b.outside->counts().enters.get();
    b.outside->wait(monotonic_ns() + moment_ns);
    CHECK_FALSE(b.outside->woke_early());
    CHECK(b.outside->counts().enters.get() == events + 1);
    // Another reader, and news for both of them.
    REQUIRE(b.submit(read(1), slot + 1));
    for (int vain = 0; vain < 3; ++vain) b.outside->wait(monotonic_ns() + moment_ns);
    b.outside->wait(monotonic_ns() + moment_ns);
    CHECK_FALSE(b.outside->woke_early());
    socket.say("a");
    b.gather(slot);
    CHECK(b.answer(slot) == 1);
    socket.say("b");
    b.gather(slot + 1);
    CHECK(b.answer(slot + 1) == 1);
    CHECK(bytes == std::array<char, 2>{'a', 'b'});
    // Nobody waits: nobody is told of what comes, but once.
    socket.say("c");
    b.outside->wait(monotonic_ns() + moment_ns);
    CHECK(b.answer_of(read(0)) == 1);
    CHECK(bytes[0] == 'c');
    b.seen.pop_back();
  }
}

TEST_CASE("poll: who waits for the error queue itself is told of it, beside a reader who is not") {
  polled b;
  failed_once socket;
  char byte = 0;
  REQUIRE(b.submit(entry_of(IORING_OP_RECV, socket.fd, &byte, 1, 0), 1));
  for (int vain = 0; vain < 3; ++vain) b.outside->wait(monotonic_ns() + moment_ns);
  std::array<std::byte, 512> control{};
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  io_uring_sqe e = entry_of(IORING_OP_RECVMSG, socket.fd, &message, 1, 0);
  e.msg_flags = MSG_ERRQUEUE;
  CHECK(b.answer_of(e) == 1);
  CHECK((message.msg_flags & MSG_ERRQUEUE) != 0);
  message.msg_controllen = control.size();
  REQUIRE(b.submit(e, 2));  // empty now
  b.outside->wait(monotonic_ns() + moment_ns);
  b.reap();
  CHECK(b.answer(2) == INT32_MIN);
  socket.say("d");
  b.gather(2);
  CHECK(b.answer(1) == 1);
  CHECK(byte == 'd');
  REQUIRE(b.cancel(2));
  b.gather(3);
}

TEST_CASE("poll: who spins sees what epoll has, and only that") {
  polled b;
  ends pipe;
  char byte = 0;
  REQUIRE(b.submit(entry_of(IORING_OP_READ, pipe.fd[0], &byte, 1), 1));
  b.look();
  const auto seen_by_spinning = [&] {
    for (int looks = 0; looks < 1'000; ++looks)
      if (b.outside->ready()) return true;
    return false;
  };
  CHECK_FALSE(seen_by_spinning());
  pipe.say("x", 1);
  CHECK(seen_by_spinning());
  CHECK(b.outside->ready());  // until it was taken
  CHECK(b.outside->pending());
  b.look();
  CHECK(b.answer(1) == 1);
  CHECK_FALSE(seen_by_spinning());
}

TEST_CASE("poll: where epoll_pwait2 is refused, waits end as they should, in whole milliseconds") {
  for (const int error : {ENOSYS, EPERM}) {
    std::thread([error] {
      if (!refuse_here(SYS_epoll_pwait2, error)) {
        MESSAGE("left out without seccomp");
        return;
      }
      polled b;
      ends pipe;
      char byte = 0;
      const std::int64_t due = b.outside->now_ns() + moment_ns / 2;
      b.outside->wait(due);
      CHECK(b.outside->now_ns() >= due);  // not before, though it is less than one
      CHECK_FALSE(b.outside->woke_early());
      REQUIRE(b.submit(entry_of(IORING_OP_READ, pipe.fd[0], &byte, 1), 1));
      b.look();
      CHECK(b.seen.empty());
      pipe.say("x", 1);
      b.outside->wait(never_ns);
      CHECK(b.reap() == 1);
      CHECK(byte == 'x');
      std::thread other([&] { b.outside->wake(); });
      b.outside->wait(never_ns);
      other.join();
    }).join();
  }
}
