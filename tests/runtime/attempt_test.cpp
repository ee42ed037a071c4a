// attempt_test.cpp: entries as system calls: files on the pool, what is left of a short read, what
// a cancel can still reach there, splice.
//
// Always true:
//   - A thread of the pool is held by a word of the test, never by time.
//
// Comes from: runtime/attempt.hpp.   Goes to: ctest.
#include "runtime/attempt.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <termios.h>

#include <cstdlib>
#include <string>

#include "tests/runtime/polled.hpp"

using namespace coir::detail;

namespace {

/// A file that has no name.
struct file {
  file() {
    std::string name = "/tmp/attempt-XXXXXX";
    fd = ::mkstemp(name.data());
    REQUIRE(fd >= 0);
    ::unlink(name.c_str());
  }
  ~file() { ::close(fd); }
  file(const file&) = delete;
  file& operator=(const file&) = delete;
  int fd = -1;
};

/// Keeps a thread of the pool until it is let go.
struct keeper : offload_call {
  keeper() {
    run = [](void* at) noexcept {
      auto& me = *static_cast<keeper*>(at);
      me.inside.store(1);
      futex_wake(me.inside, 1);
      while (me.open.load() == 0) futex_wait(me.open, 0, INT64_MAX);
    };
    argument = this;
    finished = [](offload_call& self) noexcept {
      auto& me = static_cast<keeper&>(self);
      me.over.store(1);
      futex_wake(me.over, 1);
    };
  }
  static void until(std::atomic<std::uint32_t>& word) {
    while (word.load() == 0) futex_wait(word, 0, INT64_MAX);
  }
  void let_go() {
    open.store(1);
    futex_wake(open, 1);
    until(over);
  }
  std::atomic<std::uint32_t> inside{0}, open{0}, over{0};
};

/// A terminal whose reader waits for five bytes once there is one, so poll(2) promises too much.
struct slow_terminal {
  slow_terminal() {
    if (master < 0) return;
    REQUIRE(::grantpt(master) == 0);
    REQUIRE(::unlockpt(master) == 0);
    slave = ::open(::ptsname(master), O_RDWR | O_NOCTTY);
    REQUIRE(slave >= 0);
    termios t{};
    REQUIRE(::tcgetattr(slave, &t) == 0);
    ::cfmakeraw(&t);
    t.c_cc[VMIN] = 5;
    t.c_cc[VTIME] = 255;
    REQUIRE(::tcsetattr(slave, TCSANOW, &t) == 0);
  }
  ~slow_terminal() {
    ::close(slave);
    ::close(master);
  }
  slow_terminal(const slow_terminal&) = delete;
  slow_terminal& operator=(const slow_terminal&) = delete;
  void say(const char* text, std::size_t bytes) {
    REQUIRE(::write(master, text, bytes) == static_cast<ssize_t>(bytes));
  }
  int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  int slave = -1;
};

}  // namespace

TEST_CASE("attempt: a file is written, synced, measured and read by the pool") {
  polled b;
  file f;
  CHECK(b.answer_of(entry_of(IORING_OP_WRITE, f.fd, "hello", 5, 0)) == 5);
  CHECK(b.pool.threads() > 0);
  CHECK(b.answer_of(entry_of(IORING_OP_FSYNC, f.fd)) == 0);
  std::array<char, 8> bytes{};
  CHECK(b.answer_of(entry_of(IORING_OP_READ, f.fd, bytes.data(), 8, 1)) == 4);
  CHECK(std::string(bytes.data()) == "ello");
  CHECK(b.answer_of(entry_of(IORING_OP_READ, f.fd, bytes.data(), 8, 5)) == 0);
  // At its own position, which the writes above have not moved.
  CHECK(b.answer_of(entry_of(IORING_OP_WRITE, f.fd, "HE", 2)) == 2);
  CHECK(b.answer_of(entry_of(IORING_OP_READ, f.fd, bytes.data(), 8)) == 3);
  std::array<iovec, 2> parts{{{bytes.data(), 2}, {bytes.data() + 2, 6}}};
  CHECK(b.answer_of(entry_of(IORING_OP_READV, f.fd, parts.data(), 2, 0)) == 5);
  CHECK(std::string(bytes.data(), 5) == "HEllo");
  struct ::statx about {};
  io_uring_sqe e =
      entry_of(IORING_OP_STATX, f.fd, "", STATX_SIZE, reinterpret_cast<std::uintptr_t>(&about));
  e.statx_flags = AT_EMPTY_PATH;
  CHECK(b.answer_of(e) == 0);
  CHECK(about.stx_size == 5);
  CHECK(b.answer_of(poll_entry(f.fd, POLLIN | POLLOUT)) == (POLLIN | POLLOUT));
}

TEST_CASE("attempt: a file is opened and closed, and errors are those of the kernel") {
  polled b;
  io_uring_sqe e = entry_of(IORING_OP_OPENAT, AT_FDCWD, "/proc/self/status", 0, 0);
  e.open_flags = O_RDONLY | O_CLOEXEC;
  const int fd = b.answer_of(e);
  REQUIRE(fd >= 0);
  CHECK(b.answer_of(entry_of(IORING_OP_CLOSE, fd)) == 0);
  CHECK(b.answer_of(entry_of(IORING_OP_CLOSE, fd)) == -EBADF);
  e.addr = reinterpret_cast<std::uintptr_t>("/nowhere/at/all");
  CHECK(b.answer_of(e) == -ENOENT);
  char byte = 0;
  const int folder = ::open("/", O_RDONLY | O_DIRECTORY);
  CHECK(b.answer_of(entry_of(IORING_OP_READ, folder, &byte, 1)) == -EISDIR);
  ::close(folder);
}

TEST_CASE("attempt: a cancel takes back what no thread has, and waits for what one has") {
  polled b(1);
  file f;
  keeper first;
  REQUIRE_FALSE(b.pool.submit(first));
  keeper::until(first.inside);
  REQUIRE(b.submit(entry_of(IORING_OP_WRITE, f.fd, "x", 1, 0), 1));
  REQUIRE(b.submit(entry_of(IORING_OP_WRITE, f.fd, "y", 1, 0), 2));
  REQUIRE(b.submit(entry_of(IORING_OP_FSYNC, f.fd), 3));
  b.look();
  CHECK(b.seen.empty());
  REQUIRE(b.cancel(1));
  b.look();
  CHECK(b.seen.size() == 1);
  CHECK(b.answer(1) == -ECANCELED);
  REQUIRE(b.outside->cancel_fd(f.fd));
  b.look();
  CHECK(b.answer(2) == -ECANCELED);
  CHECK(b.answer(3) == -ECANCELED);
  first.let_go();
  CHECK(b.answer_of(entry_of(IORING_OP_WRITE, f.fd, "z", 1, 0)) == 1);
  CHECK(b.seen.size() == 4);
}

TEST_CASE("attempt: more operations on files than the queue holds all end") {
  polled b(1);
  file f;
  keeper first;
  REQUIRE_FALSE(b.pool.submit(first));
  keeper::until(first.inside);
  for (std::uint32_t i = 0; i < 64; ++i)
    REQUIRE(b.submit(entry_of(IORING_OP_WRITE, f.fd, "abcdefgh", 8, 8 * i), i));
  first.let_go();
  b.gather(64);
  for (const completion& c : b.seen) CHECK(c.res == 8);
  CHECK(b.pool.threads() == 1);
  CHECK(::lseek(f.fd, 0, SEEK_END) == 512);
}

TEST_CASE("attempt: a cancel reaches a connect that a thread is in") {
  polled b(1);
  // A queue of none that is full: the next one waits for an answer that does not come.
  const int at = ::socket(AF_INET, SOCK_STREAM, 0);
  listener place(false);
  REQUIRE(::listen(place.fd, 0) == 0);
  std::vector<int> crowd;
  for (int i = 0; i < 4; ++i) {
    crowd.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    ::connect(crowd.back(), place.get(), sizeof place.place);
  }
  REQUIRE(b.submit(place.connect_entry(at), 1));
  b.look();
  REQUIRE(b.cancel(1));
  b.gather(1);
  CHECK(b.answer(1) == -ECANCELED);
  for (const int one : crowd) ::close(one);
  ::close(at);
}

TEST_CASE("attempt: a splice waits for the end that is not ready") {
  polled b;
  ends from;
  ends to;
  io_uring_sqe e = entry_of(IORING_OP_SPLICE, to.fd[1], nullptr, 4);
  e.splice_fd_in = from.fd[0];
  e.splice_off_in = ~std::uint64_t{0};
  REQUIRE(b.submit(e, 1));
  b.look();
  CHECK(b.seen.empty());
  from.say("abcd", 4);
  b.gather(1);
  CHECK(b.answer(1) == 4);
  std::array<char, 5> bytes{};
  CHECK(::read(to.fd[0], bytes.data(), 4) == 4);
  CHECK(std::string(bytes.data()) == "abcd");
  // A close of either number ends it.
  for (const int closed : {to.fd[1], from.fd[0]}) {
    b.seen.clear();
    REQUIRE(b.submit(e, 2));
    REQUIRE(b.outside->cancel_fd(closed));
    b.outside->forget(closed);
    b.look();
    REQUIRE(b.seen.size() == 1);
    CHECK((b.answer(2) == -ECANCELED || b.answer(2) == -EBADF));
  }
}

TEST_CASE(
    "attempt: a splice of a socket that would wait is made by a thread, when both are ready") {
  polled b(1);
  ends to;
  ends from(SOCK_STREAM);
  io_uring_sqe e = entry_of(IORING_OP_SPLICE, to.fd[1], nullptr, 4);
  e.splice_fd_in = from.fd[0];
  e.splice_off_in = ~std::uint64_t{0};
  REQUIRE(b.submit(e, 1));  // would not come back
  b.look();
  CHECK(b.seen.empty());
  CHECK(b.pool.threads() == 0);
  from.say("abcd", 4);
  b.gather(1);
  CHECK(b.answer(1) == 4);
  CHECK(b.pool.threads() == 1);
}

TEST_CASE("attempt: a tee copies, and leaves what it copied") {
  polled b;
  ends from;
  ends to;
  io_uring_sqe e = entry_of(IORING_OP_TEE, to.fd[1], nullptr, 4, 0);
  e.splice_fd_in = from.fd[0];
  from.say("abcd", 4);
  CHECK(b.answer_of(e) == 4);
  for (const int fd : {from.fd[0], to.fd[0]}) {
    std::array<char, 5> bytes{};
    CHECK(::read(fd, bytes.data(), 4) == 4);
    CHECK(std::string(bytes.data()) == "abcd");
  }
  e.splice_flags = SPLICE_F_NONBLOCK;
  CHECK(b.answer_of(e) == -EAGAIN);
}

TEST_CASE("attempt: a splice to nobody raises nothing, and leaves signals as they were") {
  polled b;
  ends from;
  ends to;
  from.say("abcd", 4);
  to.shut(0);
  io_uring_sqe e = entry_of(IORING_OP_SPLICE, to.fd[1], nullptr, 4);
  e.splice_fd_in = from.fd[0];
  e.splice_off_in = ~std::uint64_t{0};
  CHECK(b.answer_of(e) == -EPIPE);
  sigset_t now;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
  CHECK(::sigismember(&now, SIGPIPE) == 0);
  ::sigpending(&now);
  CHECK(::sigismember(&now, SIGPIPE) == 0);
}

TEST_CASE("attempt: a thread that waits to read one number holds up neither another nor a write") {
  polled b(2);
  slow_terminal held;
  slow_terminal other;
  if (held.master < 0 || other.master < 0) {
    MESSAGE("left out without terminals");
    return;
  }
  // As far apart as the places of a table would be.
  const int number = held.slave + 256;
  REQUIRE(::dup2(other.slave, number) == number);
  std::array<char, 5> one{}, two{};
  held.say("1", 1);
  REQUIRE(b.submit(entry_of(IORING_OP_READ, held.slave, one.data(), 5), 1));
  // From the byte on that it has taken a thread is in its read(2). That cannot be seen from here,
  // so the others are tried again and again.
  for (std::uint32_t slot = 2; slot < 200; slot += 2) {
    other.say("abcde", 5);
    REQUIRE(b.submit(entry_of(IORING_OP_READ, number, two.data(), 5), slot));
    REQUIRE(b.submit(entry_of(IORING_OP_WRITE, held.slave, "w", 1), slot + 1));
    b.gather(slot);
    CHECK(b.answer(slot) == 5);
    CHECK(b.answer(slot + 1) == 1);
  }
  CHECK(b.answer(1) == INT32_MIN);
  held.say("2345", 4);
  b.gather(199);
  CHECK(b.answer(1) == 5);
  ::close(number);
}
