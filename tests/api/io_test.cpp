// io_test.cpp: the calls on files and descriptors where they end, fail, or refuse.
//
// Always true:
//   - Files are in memory; what is asked of them is checked against what plain system calls see.
//
// Comes from: coir/io.hpp.   Goes to: runtime/io.cpp.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "on_fiber.hpp"

using test::on_fiber;
using test::settle;
using test::tested;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

int file_with(std::string_view text) {
  const int fd = ::memfd_create("io", MFD_CLOEXEC);
  REQUIRE(fd >= 0);
  REQUIRE(::pwrite(fd, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  return fd;
}

}  // namespace

TEST_CASE("io: what lies beyond the range of a call is refused before the kernel hears of it") {
  on_fiber([] {
    const coir::io::unique_fd file(file_with("0123456789"));
    std::array<std::byte, 4> b{};
    const std::uint64_t beyond = std::uint64_t{INT64_MAX} + 1;
    CHECK(coir::io::pread(file.get(), b, beyond).error() == std::errc::invalid_argument);
    CHECK(coir::io::pwrite(file.get(), b, UINT64_MAX).error() == std::errc::invalid_argument);
    CHECK(coir::io::pread(file.get(), b, INT64_MAX - 4).value() == 0);
    std::vector<iovec> parts(1025, iovec{b.data(), 0});
    CHECK(coir::io::readv(file.get(), parts).error() == std::errc::invalid_argument);
    CHECK(coir::io::writev(file.get(), parts).error() == std::errc::invalid_argument);
    parts.pop_back();
    CHECK(coir::io::readv(file.get(), parts).value() == 0);
    CHECK(coir::io::writev(file.get(), parts).value() == 0);
    for (const int none : {-1, -2, INT32_MIN}) {
      CHECK(coir::io::read(none, b).error() == std::errc::bad_file_descriptor);
      CHECK(coir::io::accept(none).error() == std::errc::bad_file_descriptor);
      CHECK(coir::io::fsync(none).error() == std::errc::bad_file_descriptor);
      CHECK(coir::io::close(none).error() == std::errc::bad_file_descriptor);
    }
  });
}

TEST_CASE("io: pread and pwrite leave the position alone, read and write move it") {
  on_fiber([] {
    const coir::io::unique_fd file(file_with("0123456789"));
    std::array<std::byte, 4> b{};
    CHECK(coir::io::pread(file.get(), b, 6).value() == 4);
    CHECK(text_of(b) == "6789");
    CHECK(coir::io::pwrite(file.get(), bytes_of("xy"), 8).value() == 2);
    CHECK(::lseek(file.get(), 0, SEEK_CUR) == 0);
    CHECK(coir::io::read(file.get(), b).value() == 4);
    CHECK(text_of(b) == "0123");
    CHECK(coir::io::write(file.get(), bytes_of("ab")).value() == 2);
    CHECK(::lseek(file.get(), 0, SEEK_CUR) == 6);
    CHECK(coir::io::pread(file.get(), b, 6).value() == 4);
    CHECK(text_of(b) == "67xy");
  });
}

TEST_CASE("io: read_exact stops short only at the end of the file, and write_all appends in turn") {
  on_fiber([] {
    const coir::io::unique_fd file(file_with("0123456789"));
    std::array<std::byte, 8> b{};
    CHECK(coir::io::read_exact(file.get(), b).value() == 8);
    CHECK(coir::io::read_exact(file.get(), b).value() == 2);
    CHECK(coir::io::read_exact(file.get(), b).value() == 0);
    CHECK(coir::io::read_exact(file.get(), {}).value() == 0);
    CHECK(coir::io::write_all(file.get(), bytes_of("end")).value() == 3);
    CHECK(coir::io::write_all(file.get(), {}).value() == 0);
    CHECK(::lseek(file.get(), 0, SEEK_CUR) == 13);
    // Pieces that come one after the other are one whole.
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const coir::io::unique_fd in(ends[0]), out(ends[1]);
    auto reader = coir::spawn([&] { return coir::io::read_exact(in.get(), b); });
    for (int i = 0; i < 4; ++i) {
      CHECK(coir::io::write_all(out.get(), bytes_of("ab")).value() == 2);
      coir::this_fiber::yield();
    }
    CHECK(reader.join().value() == 8);
    CHECK(text_of(b) == "abababab");
  });
}

TEST_CASE("io: an error in the middle of read_exact and write_all is the answer") {
  on_fiber([] {
    std::array<std::byte, 4> b{};
    const coir::io::unique_fd full(coir::io::open("/dev/full", O_WRONLY).value());
    CHECK(coir::io::write_all(full.get(), b).error() == std::errc::no_space_on_device);
    CHECK(coir::io::read_exact(full.get(), b).error() == std::errc::bad_file_descriptor);
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const coir::io::unique_fd in(ends[0]), out(ends[1]);
    auto reader = coir::spawn([&] { return coir::io::read_exact(in.get(), b); });
    CHECK(coir::io::write_all(out.get(), bytes_of("ab")).value() == 2);
    CHECK(coir::io::read_exact(in.get(), {}, coir::no_wait).value() == 0);
    settle();
    reader.cancel();
    CHECK(reader.join().error() == std::errc::operation_canceled);
  });
}

TEST_CASE("io: open says why it cannot, and what it opens is closed on exec") {
  on_fiber([] {
    CHECK(coir::io::open("/nonexistent", O_RDONLY).error() == std::errc::no_such_file_or_directory);
    CHECK(coir::io::open("/dev/null", O_RDONLY | O_DIRECTORY).error() ==
          std::errc::not_a_directory);
    CHECK(coir::io::open(nullptr, O_RDONLY).error() == std::errc::bad_address);
    const coir::io::unique_fd null(coir::io::open("/dev/null", O_WRONLY).value());
    CHECK((::fcntl(null.get(), F_GETFD) & FD_CLOEXEC) != 0);
  });
}

TEST_CASE("io: statx tells of a path, of a descriptor, and of what is not there") {
  on_fiber([] {
    const coir::io::unique_fd file(file_with("0123456789"));
    struct ::statx about {};
    CHECK(coir::io::statx(file.get(), "", AT_EMPTY_PATH, STATX_SIZE, about).has_value());
    CHECK(about.stx_size == 10);
    CHECK(coir::io::statx(AT_FDCWD, "/dev/null", 0, STATX_TYPE, about).has_value());
    CHECK(S_ISCHR(about.stx_mode));
    CHECK(coir::io::statx(AT_FDCWD, "/nonexistent", 0, STATX_TYPE, about).error() ==
          std::errc::no_such_file_or_directory);
  });
}

TEST_CASE("io: what cannot be synced says so, what can is synced") {
  on_fiber([] {
    char place[] = "/tmp/coir_io_XXXXXX";
    const coir::io::unique_fd file(::mkstemp(place));
    REQUIRE(file);
    ::unlink(place);
    CHECK(coir::io::write_all(file.get(), bytes_of("kept")).value() == 4);
    CHECK(coir::io::fdatasync(file.get()).has_value());
    CHECK(coir::io::fsync(file.get()).has_value());
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const coir::io::unique_fd in(ends[0]), out(ends[1]);
    CHECK(coir::io::fsync(out.get()).error() == std::errc::invalid_argument);
    CHECK(coir::io::fdatasync(in.get()).error() == std::errc::invalid_argument);
  });
}

TEST_CASE("io: poll tells what holds, and shutdown tells the peer that nothing more comes") {
  const auto done = coir::run(
      [] {
        std::array<int, 2> ends{};
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
        const coir::io::unique_fd one(ends[0]);
        const coir::io::unique_fd two(ends[1]);
        CHECK((coir::io::poll(one.get(), POLLOUT).value() & POLLOUT) != 0);
        auto reader = coir::spawn([&] { return coir::io::poll(two.get(), POLLIN); });
        settle();
        CHECK(coir::io::shutdown(one.get(), SHUT_WR).has_value());
        CHECK((reader.join().value() & POLLIN) != 0);
        std::array<std::byte, 1> none{};
        CHECK(coir::io::recv(two.get(), none).value() == 0);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}

TEST_CASE("io: a descriptor has one owner, who closes it once") {
  const auto is_open = [](int fd) { return ::fcntl(fd, F_GETFD) >= 0; };
  on_fiber([&] {
    coir::io::unique_fd first(file_with("a"));
    const int a = first.get();
    coir::io::unique_fd second(std::move(first));
    CHECK_FALSE(first);
    CHECK(second.get() == a);
    coir::io::unique_fd third(file_with("b"));
    const int b = third.get();
    third = std::move(second);
    CHECK_FALSE(is_open(b));
    CHECK(third.get() == a);
    auto& same = third;
    third = std::move(same);
    CHECK(is_open(a));
    const int released = third.release();
    CHECK(released == a);
    CHECK_FALSE(third);
    third.reset(released);
    third.reset();
    CHECK_FALSE(is_open(a));
    CHECK(coir::io::close(a).error() == std::errc::bad_file_descriptor);
  });
}

namespace {

/// A send as a user may describe it, with flags of his own.
struct own_send {
  using value_type = std::size_t;
  static constexpr std::string_view name = "test.own_send";
  int fd;
  std::span<const std::byte> from;
  unsigned flags;
  void fill(io_uring_sqe& e) const noexcept {
    e.opcode = IORING_OP_SEND;
    e.fd = fd;
    e.addr = reinterpret_cast<std::uintptr_t>(from.data());
    e.len = static_cast<std::uint32_t>(from.size());
    e.msg_flags = flags;
  }
  std::size_t complete(std::int32_t res) const noexcept { return static_cast<std::size_t>(res); }
};

}  // namespace

TEST_CASE("io: a send of a user's own with MSG_WAITALL sends everything, and its errors are told") {
  on_fiber([] {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    const coir::io::unique_fd here(ends[0]), there(ends[1]);
    const std::vector<std::byte> large(std::size_t{4} << 20, std::byte{7});
    std::size_t received = 0;
    auto reader = coir::spawn([&] {
      std::vector<std::byte> into(1 << 16);
      while (const std::size_t n = coir::io::recv(there.get(), into).value()) received += n;
    });
    CHECK(coir::perform(own_send{here.get(), large, MSG_WAITALL}).value() == large.size());
    CHECK(coir::io::shutdown(here.get(), SHUT_WR).has_value());
    CHECK(reader.join().has_value());
    CHECK(received == large.size());
    for (int i = 0; i < 2; ++i)  // once at once, once by the ring
      CHECK(coir::perform(own_send{here.get(), bytes_of("x"), 0}).error() ==
            std::errc::broken_pipe);
  });
}

TEST_CASE("io: a send goes at once while nobody else is ready, and not twice without a park") {
  on_fiber([] {
    std::array<int, 2> ends{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    const coir::io::unique_fd here(ends[0]), there(ends[1]);
    const auto parks_of_a_send = [&] {
      const std::uint64_t before = coir::snapshot().total().parks;
      CHECK(coir::io::send(here.get(), bytes_of("abcd")).value() == 4);
      return coir::snapshot().total().parks - before;
    };
    std::array<std::byte, 16> b{};
    CHECK(parks_of_a_send() == 0);
    CHECK(parks_of_a_send() == 1);  // nobody has parked since; this one parks
    CHECK(parks_of_a_send() == 0);
    CHECK(coir::io::recv(there.get(), b).value() == 12);
    CHECK(text_of(b).substr(0, 12) == "abcdabcdabcd");
    // Somebody is ready: its entries and ours are handed over together.
    bool over = false;
    auto other = coir::spawn([&] {
      while (!over) coir::this_fiber::yield();
    });
    test::settle();
    CHECK(parks_of_a_send() == 1);
    over = true;
    CHECK(other.join().has_value());
    CHECK(coir::io::recv(there.get(), b).value() == 4);
    // What the kernel does not take at once waits as ever, and nothing of it is lost.
    const std::vector<std::byte> large(std::size_t{4} << 20, std::byte{7});
    std::size_t sent = 0, received = 0;
    auto reader = coir::spawn([&] {
      std::vector<std::byte> into(1 << 16);
      while (received < large.size()) {
        const auto n = coir::io::recv(there.get(), into);
        REQUIRE(n.has_value());
        received += *n;
      }
    });
    while (sent < large.size()) {
      const auto n = coir::io::send(here.get(), std::span(large).subspan(sent));
      REQUIRE(n.has_value());
      sent += *n;
    }
    CHECK(reader.join().has_value());
    CHECK(received == large.size());
    // Its errors are those of the entry.
    CHECK(coir::io::shutdown(here.get(), SHUT_WR).has_value());
    errno = 0;
    for (int i = 0; i < 2; ++i)
      CHECK(coir::io::send(here.get(), bytes_of("x")).error() == std::errc::broken_pipe);
    CHECK(errno == 0);
    auto stopped = coir::spawn([&] { return coir::io::send(there.get(), bytes_of("x")); });
    stopped.cancel();
    CHECK(stopped.join().error() == std::errc::operation_canceled);
  });
}
