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
#include <csignal>
#include <cstdio>
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

namespace {

/// 12 bytes into a file that may have 8: what is there must be their beginning.
constexpr std::string_view twelve = "0123456789ab";

template <class Write>
bool is_prefix_after(Write write) {
  const auto to = file_with("");
  const rlimit few{8, RLIM_INFINITY}, any{RLIM_INFINITY, RLIM_INFINITY};
  ::setrlimit(RLIMIT_FSIZE, &few);
  const std::error_code why = write(to.get());
  ::setrlimit(RLIMIT_FSIZE, &any);
  return why == std::errc::file_too_large && content(to) == twelve.substr(0, 8);
}

std::error_code write_twelve(int fd) {
  const auto n = io::write_all(fd, std::as_bytes(std::span(twelve)));
  return n ? std::error_code() : n.error();
}

/// And what is left goes back to where it came from.
std::error_code copy_twelve(const unique_fd& from, int fd) {
  const auto r = io::copy(descriptor(from), descriptor(fd));
  std::array<std::byte, 8> rest;
  const auto n = io::read(from.get(), rest);
  return r.written == 8 && r.leftover.empty() && n.value_or(0) == 4 ? r.error : std::error_code();
}

/// 0, or the line of what went wrong.
template <class Around>
int both_are_right(Around around) {
  if (!is_prefix_after([&](int fd) { return around([fd] { return write_twelve(fd); }); }))
    return __LINE__;
  const auto from = file_with(twelve);
  if (!is_prefix_after([&](int fd) { return around([&] { return copy_twelve(from, fd); }); }))
    return __LINE__;
  return 0;
}

coir::fiber_local<int> anything;

int right_inside_of_handlers() {
  auto other = coir::on<coir::nop>([](const coir::nop&) {});
  if (const int line = both_are_right([](auto body) { return body(); })) return line;
  if (const int line =
          both_are_right([](auto body) { return coir::with_binding(anything, 1, body); }))
    return 1'000 + line;
  if (const int line = both_are_right([&](auto body) { return coir::handle_effects(body, other); }))
    return 2'000 + line;
  return 0;
}

int right_in_a_loop() {
  auto outside = coir::make_backend();
  if (!outside) return 1;
  auto in = coir::loop::make(**outside).value();
  return both_are_right([&in](auto body) {
    auto all = in.submit(body);
    if (!in.run()) return std::make_error_code(std::errc::io_error);
    return all.get().value();
  });
}

template <class Body>
void is_right_in_a_child(Body body) {
  const test::ending end = test::in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    int line = -1;
    (void)coir::run([&] { line = body(); }, tested({.workers = 1}));
    std::printf("%d\n", line);
    std::fflush(stdout);
    ::_exit(line == 0 ? 0 : 1);
  });
  CAPTURE(end.text);
  CHECK(end.code == 0);
}

}  // namespace

TEST_CASE("copy: short writes to a file lose nothing inside of bindings and handlers") {
  is_right_in_a_child(&right_inside_of_handlers);
}

TEST_CASE("copy: short writes to a file lose nothing in a loop") {
  is_right_in_a_child(&right_in_a_loop);
}

TEST_CASE("copy: a handler that takes a part of a write leaves a file of that number alone") {
  on_fiber([] {
    const auto file = file_with("untouched");
    auto takes_four = coir::on<coir::write_operation>(
        [](const coir::write_operation& op) { return std::min<std::size_t>(op.from.size(), 4); });
    auto gives_two =
        coir::on<coir::read_operation>([](const coir::read_operation&) { return std::size_t{2}; });
    REQUIRE(::lseek(file.get(), 1, SEEK_SET) == 1);
    coir::handle_effects(
        [&] {
          CHECK(io::write_all(file.get(), std::as_bytes(std::span(twelve))).value() == 12);
          descriptor d(file);
          CHECK(d.write_some(std::as_bytes(std::span(twelve))).value() == 4);
          std::array<std::byte, 4> some;
          CHECK(d.read_some(some).value() == 2);
          CHECK(d.seek_back(1).error() == std::errc::invalid_seek);
        },
        takes_four, gives_two);
    CHECK(::lseek(file.get(), 0, SEEK_CUR) == 1);
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
