// fds_test.cpp: closing reaches every worker that uses the number, and waits for it.
//
// Comes from: runtime/fds.hpp.   Goes to: ctest.
#include "runtime/fds.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "coir/coir.hpp"
#include "runtime/perform.hpp"
#include "scripted_backend.hpp"

using namespace coir::detail;
using namespace std::chrono_literals;

TEST_CASE("fds: the closer sees every worker that came before, a worker that comes later sees it") {
  fd_users users(16);
  CHECK(users.enter(3, users.era(3), 0) == entrance::open);
  CHECK(users.enter(3, users.era(3), 5) == entrance::open);
  CHECK(users.enter(4, users.era(4), 1) == entrance::open);
  const auto begun = users.close_begin(3, users.era(3));
  CHECK(begun.at == entrance::open);
  CHECK(begun.users == (fd_users::bit(0) | fd_users::bit(5)));
  CHECK(users.enter(3, users.era(3), 2) == entrance::closing);
  CHECK(users.close_begin(3, users.era(3)).at == entrance::closing);
  CHECK(users.enter(4, users.era(4), 2) == entrance::open);
}

TEST_CASE("fds: while the kernel closes a number who comes asks later, and then is let in") {
  fd_users users(16);
  CHECK(users.enter(3, users.era(3), 0) == entrance::open);
  (void)users.close_begin(3, users.era(3));
  users.release(3);
  CHECK(users.enter(3, users.era(3), 2) == entrance::later);
  users.close_end(3);
  CHECK(users.enter(3, users.era(3), 2) == entrance::open);
  // The number's next closer hears of who came meanwhile, and not of who was there before.
  CHECK(users.close_begin(3, users.era(3)).users == fd_users::bit(2));
}

TEST_CASE("fds: who was called before a close is refused after it, and meets no later owner") {
  fd_users users(16);
  const std::uint64_t early = users.era(3);
  const auto close = [&users] {
    CHECK(users.close_begin(3, users.era(3)).at == entrance::open);
    users.release(3);
  };
  close();
  CHECK(users.enter(3, early, 0) == entrance::closing);
  CHECK(users.close_begin(3, early).at == entrance::closing);
  const std::uint64_t next = users.era(3);
  CHECK(users.enter(3, next, 0) == entrance::later);
  CHECK(users.close_begin(3, next).at == entrance::later);
  users.close_end(3);
  CHECK(users.enter(3, early, 0) == entrance::closing);
  CHECK(users.close_begin(3, early).at == entrance::closing);
  // The number can be used all the same by who has it now, however often it has been closed.
  CHECK(users.enter(3, next, 0) == entrance::open);
  for (int i = 0; i < 70'000; ++i) {
    close();
    users.close_end(3);
  }
  CHECK(users.enter(3, users.era(3), 7) == entrance::open);
  CHECK(users.close_begin(3, users.era(3)).users == fd_users::bit(7));
}

TEST_CASE("fds: only numbers that the process can have are known") {
  fd_users users(16);
  CHECK(users.knows(0));
  CHECK(users.knows(15));
  CHECK_FALSE(users.knows(16));
  CHECK_FALSE(users.knows(-1));
  CHECK(fds_max_of_process() >= 1024);
  CHECK(fds_max_of_process() <= 1u << 20);
}

TEST_CASE("fds: every worker has a bit, never the closing one, and only far ones share") {
  for (unsigned w = 0; w < 256; ++w) {
    const std::uint64_t b = fd_users::bit(w);
    CHECK(b != 0);
    CHECK((b & (b - 1)) == 0);
    CHECK((b & (fd_users::closing | fd_users::released | fd_users::awaited)) == 0);
    CHECK((b & fd_users::era_bits) == 0);
    CHECK(b == fd_users::bit(w % fd_users::bits));
  }
}
