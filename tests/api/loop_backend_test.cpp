// loop_backend_test.cpp: bodies in a loop over the kernel's ring.
#include <doctest/doctest.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <thread>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using namespace std::chrono_literals;

TEST_CASE("loop: over the kernel's ring, inside of somebody else's poll(2)") {
  COIR_NOT_IN_SIM(kernel);
  auto outside = coir::make_backend(test::tested({}));
  REQUIRE(outside);
  auto in = coir::loop::make(**outside).value();
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  std::string got;
  auto reader = in.submit([&] {
    const coir::io::unique_fd mine(ends[0]);
    std::array<std::byte, 16> some{};
    for (;;) {
      const auto n = coir::io::read(mine.get(), some);
      if (!n || *n == 0) return got.size();
      got.append(reinterpret_cast<const char*>(some.data()), *n);
    }
  });
  auto sleeper = in.submit([] { return coir::this_fiber::sleep_for(1ms).has_value(); });
  REQUIRE(in.poll());
  std::thread writer([fd = ends[1]] {
    for (int i = 0; i < 3; ++i) CHECK(::write(fd, "abc", 3) == 3);
    ::close(fd);
  });
  REQUIRE(in.native_fd() >= 0);
  while (!reader.done()) {
    pollfd one{in.native_fd(), POLLIN, 0};
    REQUIRE(::poll(&one, 1, 60'000) == 1);
    REQUIRE(in.poll());
  }
  writer.join();
  CHECK(reader.get().value() == 9);
  CHECK(got == "abcabcabc");
  CHECK(in.run());
  CHECK(sleeper.get().value());
}

TEST_CASE("loop: what is under way when it ends is ended by the kernel first, and closed") {
  auto outside = coir::make_backend(test::tested({}));
  REQUIRE(outside);
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  {
    auto in = coir::loop::make(**outside).value();
    auto stuck = in.submit([&] {
      const coir::io::unique_fd mine(ends[0]);
      std::array<std::byte, 16> some{};
      return coir::io::read(mine.get(), some).error();
    });
    REQUIRE(in.poll());
    CHECK(in.drain() == 1);
    CHECK(stuck.get().value() == std::errc::operation_canceled);
  }
  ::signal(SIGPIPE, SIG_IGN);
  CHECK(::write(ends[1], "x", 1) == -1);  // nobody reads any more
  CHECK(errno == EPIPE);
  ::close(ends[1]);
}
