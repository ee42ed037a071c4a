// c_short_io_test.cpp: results that are less than was asked for, descriptors of other people's
// making, peers that have gone.
//
// Always true:
//   - What write_all reported as written has arrived, byte for byte.
//   - The flags of a descriptor that coir did not open are as its owner left them.
//
// Comes from: catalogue C4, C21, E4.   Goes to: coir::io.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;

namespace {

/// The byte at `position` of the endless test pattern.
std::byte pattern(std::size_t position) {
  return static_cast<std::byte>((position * 2654435761u) >> 13);
}

}  // namespace

TEST_CASE("c_short_io: C4 eight mebibytes arrive whole through a send buffer of two kibibytes") {
  constexpr static std::size_t bytes = at_full_speed(8u << 20, 1u << 20);
  const auto wrong = coir::run(
      [] {
        std::array<int, 2> ends{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) ==
                0);
        const int small = 2048;
        REQUIRE(::setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
        auto sender = coir::spawn([&] {
          std::vector<std::byte> whole(bytes);
          for (std::size_t i = 0; i < bytes; ++i) whole[i] = pattern(i);
          const auto sent = coir::io::write_all(ends[0], whole);
          CHECK(coir::io::close(ends[0]).has_value());
          return sent;
        });
        std::vector<std::byte> buffer(64 << 10);
        std::size_t seen = 0;
        std::size_t differences = 0;
        for (;;) {
          const auto n = coir::io::read(ends[1], buffer);
          REQUIRE(n.has_value());
          if (*n == 0) break;
          for (std::size_t i = 0; i < *n; ++i) differences += buffer[i] != pattern(seen + i);
          seen += *n;
        }
        CHECK(sender.join().value() == bytes);
        CHECK(seen == bytes);
        CHECK((::fcntl(ends[1], F_GETFL) & O_NONBLOCK) != 0);
        ::close(ends[1]);
        return differences;
      },
      tested({.workers = 1}));
  CHECK(wrong.value() == 0);
}

TEST_CASE("c_short_io: C4 a descriptor that its owner made non-blocking parks all the same") {
  const auto done = coir::run(
      [] {
        const int counter = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        REQUIRE(counter >= 0);
        std::uint64_t value = 0;
        auto reader = coir::spawn(
            [&] { return coir::io::read(counter, std::as_writable_bytes(std::span(&value, 1))); });
        coir::this_fiber::yield();
        CHECK(coir::perform(coir::nop{}).has_value());
        CHECK_FALSE(reader.done());
        const std::uint64_t seven = 7;
        CHECK(coir::io::write(counter, std::as_bytes(std::span(&seven, 1))).value() == 8);
        CHECK(reader.join().value() == 8);
        CHECK(value == 7);
        CHECK((::fcntl(counter, F_GETFL) & O_NONBLOCK) != 0);
        ::close(counter);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("c_short_io: C4 a full file system answers with the count that fitted, then ENOSPC") {
  char place[] = "/tmp/coir_full_XXXXXX";
  REQUIRE(::mkdtemp(place) != nullptr);
  if (::mount("coir", place, "tmpfs", 0, "size=64k") != 0) {
    ::rmdir(place);
    MESSAGE("no right to mount a tmpfs here");
    return;
  }
  const auto done = coir::run(
      [&] {
        const std::string path = std::string(place) + "/file";
        coir::io::unique_fd file(coir::io::open(path.c_str(), O_CREAT | O_WRONLY, 0600).value());
        const std::vector<std::byte> much(256 << 10);
        const auto first = coir::io::pwrite(file.get(), much, 0);
        REQUIRE(first.has_value());
        CHECK(*first == 64 << 10);
        const auto second = coir::io::pwrite(file.get(), much, *first);
        REQUIRE(!second);
        CHECK(second.error() == std::errc::no_space_on_device);
        // Linux leaves the position where it was when the ring cuts a write short; a loop that
        // trusted it would write the same place for ever and call it success.
        const auto all = coir::io::write_all(file.get(), much);
        REQUIRE(!all);
        CHECK(all.error() == std::errc::no_space_on_device);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
  CHECK(::umount2(place, MNT_DETACH) == 0);
  ::rmdir(place);
}

TEST_CASE(
    "c_short_io: C21 five gibibytes are written whole although one write takes less than two") {
  constexpr std::size_t bytes = std::size_t{5} << 30;
  void* const zeros =
      ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(zeros != MAP_FAILED);
  const std::span<const std::byte> all(static_cast<const std::byte*>(zeros), bytes);
  const auto done = coir::run(
      [&] {
        coir::io::unique_fd sink(coir::io::open("/dev/null", O_WRONLY).value());
        CHECK(coir::io::write(sink.get(), all).value() == 0x7ffff000);
        CHECK(coir::io::write_all(sink.get(), all).value() == bytes);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
  ::munmap(zeros, bytes);
}

TEST_CASE("c_short_io: E4 a peer that has gone is an error, not the end of the process") {
  REQUIRE((::signal(SIGPIPE, SIG_DFL) != SIG_ERR));
  const auto done = coir::run(
      [] {
        std::array<int, 2> ends{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
        ::close(ends[1]);
        const std::array<std::byte, 4> some{};
        const auto sent = coir::io::send(ends[0], some);
        REQUIRE(!sent);
        CHECK(sent.error() == std::errc::broken_pipe);
        const auto written = coir::io::write(ends[0], some);
        REQUIRE(!written);
        CHECK(written.error() == std::errc::broken_pipe);
        ::close(ends[0]);
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
        ::close(ends[0]);
        const auto piped = coir::io::write(ends[1], some);
        REQUIRE(!piped);
        CHECK(piped.error() == std::errc::broken_pipe);
        ::close(ends[1]);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("c_short_io: C4 who asks not to wait is told that there is nothing") {
  const auto done = coir::run(
      [] {
        std::array<int, 2> ends{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
        std::array<std::byte, 4> some{};
        const auto got = coir::io::recv(ends[0], some, MSG_DONTWAIT);
        REQUIRE(!got);
        CHECK(got.error() == std::errc::resource_unavailable_try_again);
        for (const int fd : ends) ::close(fd);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}
