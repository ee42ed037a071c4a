// sim_outside_test.cpp: real descriptors in a simulated world: who is served by the kernel, what
// waits, and what the time does meanwhile.
//
// Always true:
//   - Whatever a read waits for is written by the case itself, before or after.
//
// Comes from: runtime/sim_outside.cpp.   Goes to: ctest.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "runtime/sim.hpp"

using namespace coir::detail;

namespace {

token op(std::uint32_t slot) { return token::make(slot, 1, token_kind::operation); }

io_uring_sqe entry(std::uint8_t opcode, int fd, const void* place = nullptr,
                   std::size_t bytes = 0) {
  io_uring_sqe e{};
  e.opcode = opcode;
  e.fd = fd;
  e.addr = reinterpret_cast<std::uintptr_t>(place);
  e.len = static_cast<std::uint32_t>(bytes);
  return e;
}

struct world_and_pipe {
  explicit world_and_pipe(bool real) : world({.goes_on = false, .real = real}), backend(world) {
    REQUIRE(::pipe(fd.data()) == 0);
  }
  ~world_and_pipe() {
    for (const int one : fd) ::close(one);
  }
  std::vector<completion> reap() {
    std::vector<completion> all;
    backend.reap({[](void* to, const completion& c) noexcept {
                    static_cast<std::vector<completion>*>(to)->push_back(c);
                  },
                  &all});
    return all;
  }
  std::vector<completion> look() {
    backend.wait(no_wait_ns);
    return reap();
  }
  void say(const std::string& text) {
    REQUIRE(::write(fd[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  sim_world world;
  sim backend;
  std::array<int, 2> fd{};
  std::array<char, 8> bytes{};
};

}  // namespace

TEST_CASE("sim_outside: a read of a real pipe waits without a thread and ends when bytes come") {
  for (const bool real : {false, true}) {
    world_and_pipe w(real);
    const int flags = ::fcntl(w.fd[0], F_GETFL);
    REQUIRE(w.backend.submit(entry(IORING_OP_READ, w.fd[0], w.bytes.data(), 8), op(1), false));
    CHECK(w.look().empty());
    CHECK(::fcntl(w.fd[0], F_GETFL) == flags);
    w.say("three");
    const auto all = w.look();
    REQUIRE(all.size() == 1);
    CHECK(all[0].res == 5);
    CHECK(std::string(w.bytes.data(), 5) == "three");
    CHECK(w.world.memory.violations() == 0);
    CHECK_FALSE(w.backend.exhausted());
  }
}

TEST_CASE(
    "sim_outside: a timer that is next moves the time, and real descriptors cost it nothing") {
  world_and_pipe w(true);
  const std::int64_t day = 86'400'000'000'000;
  const std::int64_t before = w.backend.now_ns();
  REQUIRE(w.backend.submit(entry(IORING_OP_READ, w.fd[0], w.bytes.data(), 8), op(1), false));
  w.backend.wait(before + day);
  CHECK(w.backend.now_ns() == before + day);
  CHECK(w.reap().empty());
  // What is there already comes first, and the time stands still.
  w.say("x");
  w.backend.wait(before + 2 * day);
  CHECK(w.backend.now_ns() == before + day);
  CHECK(w.reap().size() == 1);
}

TEST_CASE("sim_outside: what was cancelled took no byte, and what was done counts") {
  world_and_pipe w(true);
  REQUIRE(w.backend.submit(entry(IORING_OP_READ, w.fd[0], w.bytes.data(), 8), op(1), false));
  CHECK(w.look().empty());
  REQUIRE(w.backend.cancel(op(1)));
  bool ended = false;
  for (const completion& c : w.look())
    if (c.to == op(1)) ended = c.res == -ECANCELED;
  CHECK(ended);
  CHECK_FALSE(w.world.real.any());
  w.say("x");
  REQUIRE(w.backend.submit(entry(IORING_OP_READ, w.fd[0], w.bytes.data(), 8), op(2), false));
  const auto all = w.look();
  REQUIRE(all.size() == 1);
  CHECK(all[0].res == 1);
}

TEST_CASE("sim_outside: with nothing else left the world sleeps until bytes come, or a wake") {
  world_and_pipe w(true);
  REQUIRE(w.backend.submit(entry(IORING_OP_READ, w.fd[0], w.bytes.data(), 8), op(1), false));
  std::thread wakes([&] { w.backend.wake(); });
  w.backend.wait(never_ns);
  wakes.join();
  CHECK(w.reap().empty());
  std::thread writes([&] { w.say("x"); });
  std::size_t came = 0;
  for (; came == 0; came = w.reap().size()) w.backend.wait(never_ns);
  writes.join();
  CHECK(came == 1);
}

TEST_CASE("sim_outside: paths are of the real world only where the world says so") {
  const char* const path = "/dev/null";
  for (const bool real : {false, true}) {
    world_and_pipe w(real);
    io_uring_sqe opens = entry(IORING_OP_OPENAT, AT_FDCWD, path);
    opens.open_flags = O_RDONLY;
    REQUIRE(w.backend.submit(opens, op(1), false));
    const auto all = w.look();
    REQUIRE(all.size() == 1);
    CHECK((all[0].res >= 0) == real);
    if (all[0].res < 0) continue;
    CHECK(all[0].res < sim_world::first_fd);
    REQUIRE(w.backend.submit(entry(IORING_OP_CLOSE, all[0].res), op(2), false));
    CHECK(w.look().size() == 1);
    CHECK(::fcntl(all[0].res, F_GETFD) == -1);
  }
}

TEST_CASE("sim_outside: a descriptor of the world's own never meets the kernel") {
  world_and_pipe w(true);
  const auto [reader, writer] = w.world.pipe();
  REQUIRE(w.backend.submit(entry(IORING_OP_READ, reader, w.bytes.data(), 8), op(1), false));
  CHECK(w.look().empty());
  CHECK_FALSE(w.world.real.any());
  REQUIRE(w.backend.submit(entry(IORING_OP_WRITE, writer, "inside", 6), op(2), false));
  CHECK(w.look().size() == 2);
  CHECK(std::string(w.bytes.data(), 6) == "inside");
}
