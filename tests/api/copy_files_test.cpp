// copy_files_test.cpp: copies between descriptors and streams: what goes back, and what cannot.
//
// Always true:
//   - Files are in memory; streams are pairs of this process.
//
// Comes from: coir/copy.hpp.   Goes to: runtime/copy.cpp.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "on_fiber.hpp"
#include "scripted.hpp"
#include "tests/catalogue/child.hpp"

namespace io = coir::io;
using coir::outcome;
using coir::io::descriptor;
using coir::io::unique_fd;
using coir::net::unix_stream;
using test::on_fiber;
using test::tested;
using test::text_of;

namespace {

unique_fd file_with(std::string_view text) {
  unique_fd fd(::memfd_create("copy", MFD_CLOEXEC));
  REQUIRE(fd);
  REQUIRE(::pwrite(fd.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  return fd;
}

std::string content(const unique_fd& fd) {
  std::string text(static_cast<std::size_t>(::lseek(fd.get(), 0, SEEK_END)), ' ');
  REQUIRE(::pread(fd.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  return text;
}

std::string long_text(std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; text.size() < bytes; ++i) text += std::to_string(i) + ' ';
  text.resize(bytes);
  return text;
}

}  // namespace

TEST_CASE("copy: from a file to a file, through a buffer of any size") {
  on_fiber([] {
    const std::string text = long_text(200'000);
    const auto from = file_with(text);
    for (const std::size_t room : {1000u, 4096u, 300'000u}) {
      const auto to = file_with("");
      CHECK(::lseek(from.get(), 0, SEEK_SET) == 0);
      std::vector<std::byte> buffer(room);
      const auto r = io::copy(descriptor(from), descriptor(to), buffer);
      CHECK(r.written == text.size());
      CHECK(r.how == outcome::ok);
      CHECK((content(to) == text));
    }
    const auto to = file_with("");
    CHECK(::lseek(from.get(), 0, SEEK_SET) == 0);
    CHECK(io::copy_n(descriptor(from), descriptor(to), 70'001).written == 70'001);
    CHECK(::lseek(from.get(), 0, SEEK_CUR) == 70'001);
    CHECK((content(to) == text.substr(0, 70'001)));
    const auto rest = io::copy_n(descriptor(from), descriptor(to), text.size());
    CHECK(rest.written == text.size() - 70'001);
    CHECK(rest.error == coir::errc::unexpected_end);
    CHECK((content(to) == text));
  });
}

TEST_CASE("copy: a file goes back to what was not written, a stream gives it to the caller") {
  on_fiber([] {
    const auto from = file_with("abcdef");
    test::scripted_sink to{{{2, outcome::failure, test::broken}}};
    auto r = io::copy(descriptor(from), to);
    CHECK(r.written == 2);
    CHECK(r.leftover.empty());
    CHECK(::lseek(from.get(), 0, SEEK_CUR) == 2);
    CHECK(io::copy(descriptor(from), to).written == 4);
    CHECK(to.text == "abcdef");

    auto ends = unix_stream::pair();
    REQUIRE(ends.has_value());
    REQUIRE(ends->first.write_all("abcdef").has_value());
    test::scripted_sink other{{{2, outcome::failure, test::broken}}};
    r = io::copy(ends->second, other);
    CHECK(r.written == 2);
    CHECK(text_of(r.leftover) == "cdef");

    // So does a descriptor that has no position, and one that pretends to have one.
    int pipe[2];
    REQUIRE(::pipe2(pipe, O_CLOEXEC) == 0);
    const unique_fd out(pipe[0]), in(pipe[1]);
    CHECK(descriptor(out).seek_back(1).error() == std::errc::invalid_seek);
    const unique_fd zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    REQUIRE(zero);
    CHECK(::lseek(zero.get(), -1, SEEK_CUR) == 0);
    CHECK_FALSE(descriptor(zero).seek_back(1).has_value());
    CHECK(descriptor(from).seek_back(7).error() == std::errc::invalid_argument);
  });
}

TEST_CASE("copy: from a stream to a stream and on into a file, all of it, in order") {
  on_fiber([] {
    const std::string text = long_text(1'000'000);
    auto first = unix_stream::pair();
    auto second = unix_stream::pair();
    REQUIRE(first.has_value());
    REQUIRE(second.has_value());
    const auto file = file_with("");
    auto writer = coir::spawn([&]() -> coir::result<> {
      auto sent = first->first.write_all(text);
      if (!sent) return sent;
      return first->first.close();
    });
    auto middle = coir::spawn([&] {
      const auto r = io::copy(first->second, second->first);
      (void)second->first.close();
      return r.written;
    });
    const auto r = io::copy(second->second, descriptor(file));
    CHECK(r.written == text.size());
    CHECK(r.how == outcome::ok);
    CHECK(writer.join().has_value());
    CHECK(middle.join().value() == text.size());
    CHECK((content(file) == text));
  });
}

TEST_CASE("copy: a deadline ends it with the count, and what was read is not lost") {
  on_fiber([] {
    auto from = unix_stream::pair();
    auto to = unix_stream::pair();
    REQUIRE(from.has_value());
    REQUIRE(to.has_value());
    REQUIRE(from->first.write_all("abc").has_value());
    // The source has nothing more.
    auto r = io::copy(from->second, to->first, coir::in(std::chrono::milliseconds(1)));
    CHECK(r.written == 3);
    CHECK(r.how == outcome::failure);
    CHECK(r.error == std::errc::timed_out);
    CHECK(r.leftover.empty());
    // Nobody reads what the sink takes.
    const std::string text = long_text(3'000'000);
    auto writer = coir::spawn([&] { return from->first.write_all(text); });
    r = io::copy(from->second, to->first, coir::in(std::chrono::milliseconds(20)));
    CHECK(r.error == std::errc::timed_out);
    std::string got;
    std::vector<std::byte> b(1 << 16);
    while (got.size() < r.written + 3) {
      const auto n = to->second.read_some(b);
      REQUIRE(n.has_value());
      got += text_of(std::span(b).first(*n));
    }
    got += text_of(r.leftover);
    while (got.size() < text.size() + 3) {
      const auto n = from->second.read_some(b);
      REQUIRE(n.has_value());
      got += text_of(std::span(b).first(*n));
    }
    CHECK((got == "abc" + text));
    CHECK(writer.join().has_value());
  });
}

TEST_CASE("copy: after a short write to a file the next byte goes where it belongs") {
  const test::ending end = test::in_child([] {
    int code = 1;
    (void)coir::run(
        [&] {
          const auto to = file_with("");
          const auto eight_of_twelve = [&] {
            // The limit of a file's size cuts a write that begins below it.
            const rlimit few{8, RLIM_INFINITY};
            ::setrlimit(RLIMIT_FSIZE, &few);
            const auto text = std::as_bytes(std::span("0123456789ab", 12));
            const auto n = descriptor(to).write_some(text);
            const rlimit any{RLIM_INFINITY, RLIM_INFINITY};
            ::setrlimit(RLIMIT_FSIZE, &any);
            return n.value_or(0);
          };
          if (eight_of_twelve() != 8) return;
          code = 2;
          if (!descriptor(to).write_some(std::as_bytes(std::span("89ab", 4)))) return;
          code = content(to) == "0123456789ab" ? 0 : 3;
        },
        tested({.workers = 1}));
    ::_exit(code);
  });
  CAPTURE(end.text);
  CHECK(end.code == 0);
}
