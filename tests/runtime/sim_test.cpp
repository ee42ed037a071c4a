// sim_test.cpp: the simulated backend by itself, without a runtime: what it promises as a backend,
// and what a rule can make it do.
#include "runtime/sim.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <array>
#include <cerrno>
#include <climits>
#include <vector>

using namespace coir::detail;

namespace {

token op(std::uint32_t slot) { return token::make(slot, 1, token_kind::operation); }

io_uring_sqe entry(std::uint8_t opcode, int fd = -1, const void* place = nullptr,
                   std::size_t bytes = 0) {
  io_uring_sqe e{};
  e.opcode = opcode;
  e.fd = fd;
  e.addr = reinterpret_cast<std::uintptr_t>(place);
  e.len = static_cast<std::uint32_t>(bytes);
  return e;
}

std::vector<completion> reap(sim& s) {
  std::vector<completion> all;
  s.reap({[](void* to, const completion& c) noexcept {
            static_cast<std::vector<completion>*>(to)->push_back(c);
          },
          &all});
  return all;
}

/// Waits for one completion, and that is all there is.
completion next(sim& s) {
  s.wait(never_ns);
  const auto all = reap(s);
  REQUIRE(all.size() == 1);
  return all[0];
}

}  // namespace

TEST_CASE("sim: waiting moves the time to the completion or to the limit, whichever is first") {
  sim_world world({.start_ns = 1000});
  world.rule({.times = 2, .delay_ns = 50});
  sim s(world);
  CHECK(s.now_ns() == 1000);
  REQUIRE(s.submit(entry(IORING_OP_NOP), op(1), false));
  s.wait(no_wait_ns);
  CHECK(s.now_ns() == 1000);
  CHECK_FALSE(s.ready());
  s.wait(1020);
  CHECK(s.now_ns() == 1020);
  CHECK(reap(s).empty());
  s.wait(never_ns);
  CHECK(s.now_ns() == 1050);
  CHECK(reap(s).size() == 1);
  s.wait(1010);
  CHECK(s.now_ns() == 1050);  // never backwards
}

TEST_CASE("sim: a wake ends a wait without any time passing, also one that came before it") {
  sim_world world;
  sim s(world);
  const std::int64_t start = s.now_ns();
  s.wake();
  s.wait(never_ns);
  CHECK(s.now_ns() == start);
  CHECK_FALSE(s.exhausted());
  s.wait(never_ns);
  CHECK(s.exhausted());
}

TEST_CASE("sim: what is blocked keeps nobody waiting: the world is exhausted") {
  sim_world world;
  const auto [here, there] = world.connection();
  std::array<std::byte, 4> buffer{};
  sim s(world);
  REQUIRE(s.submit(entry(IORING_OP_RECV, here, buffer.data(), 4), op(1), false));
  s.wait(never_ns);
  CHECK(s.exhausted());
  const std::byte data{42};
  REQUIRE(s.submit(entry(IORING_OP_SEND, there, &data, 1), op(2), false));
  s.wait(never_ns);
  CHECK_FALSE(s.exhausted());
  CHECK(reap(s).size() == 2);
  CHECK(buffer[0] == data);
}

TEST_CASE("sim: a full queue refuses, keeps room for cancels, and has room after a wait") {
  sim_world world({.entries = 4});
  sim s(world);
  std::uint32_t taken = 0;
  while (s.submit(entry(IORING_OP_NOP), op(taken + 1), false)) ++taken;
  CHECK(taken == 3);
  CHECK(s.cancel(op(1)));
  CHECK_FALSE(s.cancel(op(2)));
  s.wait(no_wait_ns);
  CHECK(s.submit(entry(IORING_OP_NOP), op(9), false));
}

TEST_CASE("sim: a cancel of what is blocked is told 0, of what ended or never was ENOENT") {
  sim_world world;
  const int here = world.connection().first;
  std::array<std::byte, 4> buffer{};
  sim s(world);
  REQUIRE(s.submit(entry(IORING_OP_RECV, here, buffer.data(), 4), op(1), false));
  s.wait(no_wait_ns);
  for (const std::int32_t wanted : {0, -ENOENT}) {
    REQUIRE(s.cancel(op(1)));
    s.wait(never_ns);
    const auto all = reap(s);
    REQUIRE(all.size() == (wanted == 0 ? 2 : 1));
    CHECK(all.back().to.kind() == token_kind::cancel);
    CHECK(all.back().res == wanted);
    if (wanted == 0) CHECK(all[0].res == -ECANCELED);
  }
}

TEST_CASE("sim: a cancel by descriptor ends every operation on it, and no other") {
  sim_world world;
  const auto [here, there] = world.connection();
  std::array<std::byte, 4> buffer{};
  sim s(world);
  for (const std::uint32_t slot : {1u, 2u})
    REQUIRE(s.submit(entry(IORING_OP_RECV, here, buffer.data(), 0), op(slot + 10), false));
  s.wait(no_wait_ns);
  CHECK(reap(s).size() == 2);  // nothing wanted is nothing waited for
  std::array<std::array<std::byte, 4>, 3> buffers{};
  REQUIRE(s.submit(entry(IORING_OP_RECV, here, buffers[0].data(), 4), op(1), false));
  REQUIRE(s.submit(entry(IORING_OP_RECV, here, buffers[1].data(), 4), op(2), false));
  REQUIRE(s.submit(entry(IORING_OP_RECV, there, buffers[2].data(), 4), op(3), false));
  REQUIRE(s.cancel_fd(here));
  s.wait(never_ns);
  const auto all = reap(s);
  REQUIRE(all.size() == 3);
  CHECK(all[2].res == 2);
  s.wait(never_ns);
  CHECK(s.exhausted());
  CHECK(reap(s).empty());
}

TEST_CASE(
    "sim: rules are used in their order, skip and times count, and what is left is ordinary") {
  sim_world world;
  world.rule({.opcode = IORING_OP_NOP, .skip = 1, .times = 2, .result = 7});
  world.rule({.opcode = IORING_OP_NOP, .result = 8});
  sim s(world);
  std::vector<std::int32_t> seen;
  for (std::uint32_t i = 1; i <= 5; ++i) {
    REQUIRE(s.submit(entry(IORING_OP_NOP), op(i), false));
    seen.push_back(next(s).res);
  }
  CHECK(seen == std::vector<std::int32_t>{8, 7, 7, 0, 0});
}

TEST_CASE("sim: an operation keeps the file that its number named, when the number is used again") {
  sim_world world;
  const auto [here, there] = world.connection();
  std::array<std::byte, 4> buffer{};
  sim s(world);
  REQUIRE(s.submit(entry(IORING_OP_RECV, here, buffer.data(), 4), op(1), false));
  s.wait(no_wait_ns);
  world.close(here);
  CHECK(world.listener(80) == here);
  const std::byte data{5};
  REQUIRE(s.submit(entry(IORING_OP_SEND, there, &data, 1), op(2), false));
  s.wait(never_ns);
  CHECK(reap(s).size() == 2);
  CHECK(buffer[0] == data);
}

TEST_CASE("sim: open, write, read, cut, append and close a file, with the errors of the system") {
  sim_world world;
  sim s(world);
  std::uint32_t slot = 0;
  const auto run = [&](const io_uring_sqe& e) {
    REQUIRE(s.submit(e, op(++slot), false));
    return next(s).res;
  };
  const auto open = [&](const char* path, int flags) {
    io_uring_sqe e = entry(IORING_OP_OPENAT, AT_FDCWD, path, 0600);
    e.open_flags = static_cast<std::uint32_t>(flags);
    return run(e);
  };
  CHECK(open("none", O_RDONLY) == -ENOENT);
  const int fd = open("folder/file", O_RDWR | O_CREAT | O_EXCL);
  REQUIRE(fd >= 0);
  CHECK(open("folder/file", O_RDWR | O_CREAT | O_EXCL) == -EEXIST);
  CHECK(open("folder", O_RDWR) == -EISDIR);
  CHECK(open("folder/file", O_RDONLY | O_DIRECTORY) == -ENOTDIR);
  io_uring_sqe e = entry(IORING_OP_WRITE, fd, "hello", 5);
  e.off = 2;
  CHECK(run(e) == 5);
  std::array<char, 16> buffer{};
  e = entry(IORING_OP_READ, fd, buffer.data(), buffer.size());
  e.off = 4;
  CHECK(run(e) == 3);
  CHECK(std::string(buffer.data(), 3) == "llo");
  e = entry(sim_op_ftruncate, fd);
  e.off = 3;
  CHECK(run(e) == 0);
  const int appending = open("folder/file", O_WRONLY | O_APPEND);
  e = entry(IORING_OP_WRITE, appending, "end", 3);
  e.off = ~std::uint64_t{0};
  CHECK(run(e) == 3);
  CHECK(run(entry(IORING_OP_READ, appending, buffer.data(), 4)) == -EBADF);
  CHECK(run(entry(IORING_OP_RECV, fd, buffer.data(), 4)) == -ENOTSOCK);
  CHECK(run(entry(IORING_OP_CLOSE, appending)) == 0);
  CHECK(run(entry(IORING_OP_CLOSE, appending)) == -EBADF);
  CHECK(run(entry(IORING_OP_FSYNC, fd)) == 0);
  const auto bytes = world.disk.content().at("folder/file");
  CHECK(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) ==
        std::string("\0\0hend", 6));
  CHECK(open("folder/file", O_RDWR | O_TRUNC) >= 0);
  CHECK(world.disk.content().at("folder/file").empty());
}

TEST_CASE("sim: a sync that is answered EIO leaves it to chance what is durable") {
  bool lost = false, kept = false;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    sim_world world({.seed = seed}, {{"f", sim_file::bytes(512, std::byte{1})}});
    world.rule({.opcode = IORING_OP_FSYNC, .result = -EIO});
    sim s(world);
    io_uring_sqe e = entry(IORING_OP_OPENAT, AT_FDCWD, "f");
    e.open_flags = O_RDWR;
    REQUIRE(s.submit(e, op(1), false));
    const int fd = next(s).res;
    const sim_file::bytes news(512, std::byte{2});
    REQUIRE(s.submit(entry(IORING_OP_WRITE, fd, news.data(), news.size()), op(2), false));
    CHECK(next(s).res == 512);
    REQUIRE(s.submit(entry(IORING_OP_FSYNC, fd), op(3), false));
    CHECK(next(s).res == -EIO);
    REQUIRE(s.submit(entry(IORING_OP_FSYNC, fd), op(4), false));
    CHECK(next(s).res == 0);
    const bool there = world.disk.crash(seed).at("f") == news;
    (there ? kept : lost) = true;
  }
  CHECK(lost);
  CHECK(kept);
}
