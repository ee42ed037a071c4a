// backend_test.cpp: the classifier of kernel results, row by row, and what is known of opcodes.
//
// Comes from: runtime/backend.hpp.   Goes to: ctest.
#include "runtime/backend.hpp"

#include <doctest/doctest.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>

using namespace coir::detail;

namespace {

constexpr int errno_last = EHWPOISON;
constexpr std::uint8_t readers[] = {IORING_OP_READ, IORING_OP_READV, IORING_OP_RECV,
                                    IORING_OP_RECVMSG, IORING_OP_ACCEPT};
constexpr std::uint8_t writers[] = {IORING_OP_WRITE,     IORING_OP_WRITEV,  IORING_OP_SEND,
                                    IORING_OP_SENDMSG,   IORING_OP_CONNECT, IORING_OP_SEND_ZC,
                                    IORING_OP_SENDMSG_ZC};
constexpr std::uint8_t zero_copy[] = {IORING_OP_SEND_ZC, IORING_OP_SENDMSG_ZC};
constexpr std::uint8_t makers[] = {IORING_OP_ACCEPT, IORING_OP_OPENAT, IORING_OP_OPENAT2,
                                   IORING_OP_SOCKET};

template <std::size_t n>
bool is_in(const std::uint8_t (&set)[n], std::uint8_t opcode) {
  return std::find(set, set + n, opcode) != set + n;
}

}  // namespace

TEST_CASE("backend: a result of zero or more is delivered, whatever the operation") {
  for (unsigned opcode = 0; opcode < IORING_OP_LAST; ++opcode)
    for (const std::int32_t res : {0, 1, 4096, INT32_MAX})
      CHECK(classify(static_cast<std::uint8_t>(opcode), res) == verdict::deliver);
}

TEST_CASE("backend: an interrupted operation is tried again, except the two that must not be") {
  for (unsigned i = 0; i < IORING_OP_LAST; ++i) {
    const auto opcode = static_cast<std::uint8_t>(i);
    const verdict meant = opcode == IORING_OP_CLOSE     ? verdict::done
                          : opcode == IORING_OP_CONNECT ? verdict::wait_ready
                                                        : verdict::retry;
    CHECK(classify(opcode, -EINTR) == meant);
  }
}

TEST_CASE("backend: a descriptor that is not ready is waited for, if it can be") {
  for (unsigned i = 0; i < IORING_OP_LAST; ++i) {
    const auto opcode = static_cast<std::uint8_t>(i);
    const bool waits = is_in(readers, opcode) || is_in(writers, opcode);
    CHECK(classify(opcode, -EAGAIN) == (opcode == IORING_OP_CONNECT ? verdict::later
                                        : waits                     ? verdict::wait_ready
                                                                    : verdict::deliver));
    const unsigned events = is_in(readers, opcode) ? POLLIN : is_in(writers, opcode) ? POLLOUT : 0;
    CHECK(readiness_of(opcode) == events);
  }
}

TEST_CASE("backend: a completion that the kernel lost is fatal, every other errno is delivered") {
  for (unsigned opcode = 0; opcode < IORING_OP_LAST; ++opcode)
    for (int e = 1; e <= errno_last; ++e) {
      if (e == EINTR || e == EAGAIN || (e == EINPROGRESS && opcode == IORING_OP_CONNECT)) continue;
      const verdict v = classify(static_cast<std::uint8_t>(opcode), -e);
      const bool can_do_without = is_in(zero_copy, static_cast<std::uint8_t>(opcode)) &&
                                  (e == EOPNOTSUPP || e == EINVAL || e == ENOMEM);
      CHECK(v == (e == EBADR       ? verdict::fatal
                  : can_do_without ? verdict::plainly
                                   : verdict::deliver));
    }
}

TEST_CASE("backend: a send without zero copy is the same in all that a plain one knows") {
  io_uring_sqe e{};
  for (const std::uint8_t opcode : zero_copy) {
    e.opcode = opcode;
    e.fd = 3;
    e.len = 7;
    e.msg_flags = 5;
    e.ioprio = IORING_RECVSEND_POLL_FIRST | IORING_RECVSEND_FIXED_BUF;
    make_plain(e);
    CHECK(e.opcode == (opcode == IORING_OP_SEND_ZC ? IORING_OP_SEND : IORING_OP_SENDMSG));
    CHECK(e.ioprio == IORING_RECVSEND_POLL_FIRST);
    CHECK(e.fd == 3);
    CHECK(e.len == 7);
    CHECK(e.msg_flags == 5);
    // It has no other form, so nobody asks again and again.
    CHECK(classify(e.opcode, -EOPNOTSUPP) == verdict::deliver);
  }
}

TEST_CASE("backend: the second descriptor of an operation is known, if it is a number") {
  io_uring_sqe e{};
  e.splice_fd_in = 4;
  for (const std::uint8_t opcode : {IORING_OP_SPLICE, IORING_OP_TEE}) {
    e.opcode = opcode;
    e.splice_flags = 0;
    CHECK(source_of(e) == 4);
    e.splice_flags = SPLICE_F_FD_IN_FIXED;
    CHECK(source_of(e) == -1);
  }
  e.opcode = IORING_OP_READ;
  e.splice_flags = 0;
  CHECK(source_of(e) == -1);
}

TEST_CASE("backend: the operations whose result is a descriptor are known, so none is lost") {
  for (unsigned i = 0; i < IORING_OP_LAST; ++i) {
    const auto opcode = static_cast<std::uint8_t>(i);
    CHECK(makes_fd(opcode) == is_in(makers, opcode));
  }
}

TEST_CASE("backend: an operation is counted under its descriptor unless it has none") {
  io_uring_sqe entry{};
  entry.fd = 5;
  for (const std::uint8_t opcode : readers) {
    entry.opcode = opcode;
    CHECK(uses_fd(entry));
  }
  for (const std::uint8_t opcode : {IORING_OP_NOP, IORING_OP_CLOSE, IORING_OP_ASYNC_CANCEL}) {
    entry.opcode = opcode;
    CHECK_FALSE(uses_fd(entry));
  }
  entry.opcode = IORING_OP_READ;
  entry.flags = IOSQE_FIXED_FILE;
  CHECK_FALSE(uses_fd(entry));
  entry.flags = 0;
  entry.fd = -1;
  CHECK_FALSE(uses_fd(entry));
}

TEST_CASE("backend: only F_MORE says that a completion is not the last") {
  CHECK(completion{{}, 0, IORING_CQE_F_MORE}.more());
  CHECK(completion{{}, 0, IORING_CQE_F_MORE | IORING_CQE_F_NOTIF}.more());
  CHECK_FALSE(completion{{}, 0, IORING_CQE_F_NOTIF}.more());
  CHECK_FALSE(completion{{}, -ECANCELED, 0}.more());
}
