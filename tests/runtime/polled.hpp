// polled.hpp: a poll backend by itself, with a pool of its own, and entries for it.
//
// Always true:
//   - Waits have a far deadline, so a completion that is lost fails a case instead of hanging it.
//   - The pool ends before the backend, as in a runtime.
//
// Comes from: runtime/poll.hpp.   Goes to: poll_test, poll_files_test.
#pragma once

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <vector>

#include "runtime/futex.hpp"
#include "runtime/poll.hpp"

namespace coir::detail {

struct polled {
  explicit polled(unsigned threads = 2) : pool(threads, 4) {
    auto made = make_poll(pool, [](const log_record&) {});
    REQUIRE(made.has_value());
    outside = std::move(*made);
    REQUIRE(outside->attach() == 0);
  }
  unsigned reap() {
    return outside->reap({[](void* at, const completion& c) noexcept {
                            static_cast<polled*>(at)->seen.push_back(c);
                          },
                          this});
  }
  /// Until `count` completions were seen.
  void gather(std::size_t count) {
    const std::int64_t limit = monotonic_ns() + 20'000'000'000;
    while (seen.size() < count && monotonic_ns() < limit) {
      outside->wait(limit);
      reap();
    }
    REQUIRE(seen.size() >= count);
  }
  /// What there is without waiting for anything.
  void look() {
    outside->wait(no_wait_ns);
    reap();
  }
  static token name(std::uint32_t slot) { return token::make(slot, 1, token_kind::operation); }
  bool submit(const io_uring_sqe& e, std::uint32_t slot) {
    return outside->submit(e, name(slot), false);
  }
  bool cancel(std::uint32_t slot) { return outside->cancel(name(slot)); }
  /// The answer of the one operation that is under way.
  std::int32_t answer_of(const io_uring_sqe& e) {
    const std::size_t before = seen.size();
    REQUIRE(submit(e, 900));
    gather(before + 1);
    return seen.back().res;
  }
  std::int32_t answer(std::uint32_t slot) const {
    for (const completion& c : seen)
      if (c.to == name(slot)) return c.res;
    return INT32_MIN;
  }
  std::unique_ptr<backend> outside;
  offload_pool pool;
  std::vector<completion> seen;
};

inline io_uring_sqe entry_of(std::uint8_t opcode, int fd, const void* address = nullptr,
                             std::uint32_t length = 0, std::uint64_t offset = ~std::uint64_t{0}) {
  io_uring_sqe e{};
  e.opcode = opcode;
  e.fd = fd;
  e.addr = reinterpret_cast<std::uintptr_t>(address);
  e.len = length;
  e.off = offset;
  return e;
}

inline io_uring_sqe accept_entry(int fd) { return entry_of(IORING_OP_ACCEPT, fd, nullptr, 0, 0); }

inline io_uring_sqe poll_entry(int fd, unsigned events) {
  io_uring_sqe e = entry_of(IORING_OP_POLL_ADD, fd, nullptr, 0, 0);
  e.poll32_events = events;
  return e;
}

/// Two descriptors that belong together: a pipe, or sockets.
struct ends {
  ends() { REQUIRE(::pipe(fd.data()) == 0); }
  explicit ends(int type) { REQUIRE(::socketpair(AF_UNIX, type, 0, fd.data()) == 0); }
  ~ends() {
    for (const int one : fd)
      if (one >= 0) ::close(one);
  }
  ends(const ends&) = delete;
  ends& operator=(const ends&) = delete;
  void shut(std::size_t which) { ::close(std::exchange(fd[which], -1)); }
  void say(const char* text, std::size_t bytes) {
    REQUIRE(::write(fd[1], text, bytes) == static_cast<ssize_t>(bytes));
  }
  std::array<int, 2> fd{-1, -1};
};

/// A TCP socket that listens on a port of its own on the loopback.
struct listener {
  explicit listener(bool listens = true) {
    fd = ::socket(AF_INET, SOCK_STREAM, 0);
    place.sin_family = AF_INET;
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(fd, get(), sizeof place) == 0);
    if (listens) REQUIRE(::listen(fd, 16) == 0);
    socklen_t bytes = sizeof place;
    REQUIRE(::getsockname(fd, get(), &bytes) == 0);
  }
  ~listener() { ::close(fd); }
  listener(const listener&) = delete;
  listener& operator=(const listener&) = delete;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&place); }
  int connected() {
    const int one = ::socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(::connect(one, get(), sizeof place) == 0);
    return one;
  }
  io_uring_sqe connect_entry(int from) {
    return entry_of(IORING_OP_CONNECT, from, get(), 0, sizeof place);
  }
  int fd = -1;
  sockaddr_in place{};
};

}  // namespace coir::detail
