// splice_test.cpp: bytes from one descriptor to another that pass no memory of ours.
//
// Always true:
//   - After each case nothing is with the kernel.
//
// Comes from: coir/io.hpp.   Goes to: runtime/perform.cpp, runtime/attempt_splice.cpp.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <string_view>

#include "on_fiber.hpp"
#include "runtime/worker.hpp"

using namespace std::chrono_literals;
using test::on_fiber;

namespace {

using coir::io::unique_fd;

struct both_ends {
  unique_fd out;  // to read from
  unique_fd in;
  void put(std::string_view text) const {
    REQUIRE(::write(in.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  std::string take() const {
    pollfd one{out.get(), POLLIN, 0};
    if (::poll(&one, 1, 0) == 0) return {};
    std::array<char, 4096> some{};
    const auto n = ::read(out.get(), some.data(), some.size());
    REQUIRE(n >= 0);
    return {some.data(), static_cast<std::size_t>(n)};
  }
};

both_ends a_pipe(int flags = 0) {
  std::array<int, 2> made{};
  REQUIRE(::pipe2(made.data(), O_CLOEXEC | flags) == 0);
  return {unique_fd(made[0]), unique_fd(made[1])};
}

both_ends sockets(int flags = 0) {
  std::array<int, 2> made{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0, made.data()) == 0);
  return {unique_fd(made[0]), unique_fd(made[1])};
}

/// Until nothing more is taken.
void fill_up(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  REQUIRE(::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
  const std::array<char, 4096> block{};
  while (::write(fd, block.data(), block.size()) > 0) continue;
  REQUIRE(::fcntl(fd, F_SETFL, flags) == 0);
}

coir::detail::flight& operations() { return coir::detail::worker::current()->operations(); }

std::size_t moved(const both_ends& from, const both_ends& to, std::size_t bytes = 100) {
  return coir::io::splice(from.out.get(), to.in.get(), bytes).value();
}

/// tee(2), which waits inside of the kernel.
struct blocking_tee {
  using value_type = std::int32_t;
  static constexpr std::string_view name = "test.blocking_tee";
  int from, to;
  void fill(io_uring_sqe& sqe) const noexcept {
    sqe.opcode = IORING_OP_TEE;
    sqe.fd = to;
    sqe.splice_fd_in = from;
    sqe.len = 100;
  }
  std::int32_t complete(std::int32_t res) const noexcept { return res; }
};

}  // namespace

TEST_CASE("splice: from a pipe or a socket to another, when there is something, until the end") {
  on_fiber([] {
    for (const int flags : {0, O_NONBLOCK})
      for (const bool from_socket : {false, true})
        for (const bool to_socket : {false, true}) {
          if (from_socket && to_socket) continue;
          CAPTURE(flags);
          CAPTURE(from_socket);
          CAPTURE(to_socket);
          both_ends from = from_socket ? sockets(flags) : a_pipe(flags);
          const both_ends to = to_socket ? sockets(flags) : a_pipe(flags);
          auto mover = coir::spawn([&] { return moved(from, to); });
          test::settle();
          CHECK_FALSE(mover.done());
          from.put("abcd");
          CHECK(mover.join().value() == 4);
          CHECK(to.take() == "abcd");
          from.put("efgh");
          CHECK(moved(from, to, 3) == 3);
          CHECK(moved(from, to) == 1);
          CHECK(to.take() == "efgh");
          from.in.reset();
          CHECK(moved(from, to) == 0);
        }
    CHECK(operations().open_count() == 0);
  });
}

TEST_CASE("splice: while it waits the kernel has a look at the source to do, and nothing else") {
  if (!test::on_a_ring("what a ring does beside itself")) return;
  on_fiber([] {
    for (const bool socket : {false, true}) {
      CAPTURE(socket);
      const both_ends from = socket ? sockets() : a_pipe();
      const both_ends to = a_pipe();
      const auto handed_over = [] { return coir::snapshot().total().sqes; };
      auto mover = coir::spawn([&] { return moved(from, to); });
      test::settle();
      constexpr unsigned turns = 16;
      const std::uint64_t before = handed_over();
      for (unsigned i = 0; i < turns; ++i) CHECK(coir::perform(coir::nop{}).has_value());
      // Of a pipe it has asked by trying.
      CHECK(handed_over() - before <= turns + 1);
      CHECK(operations().open_count() == 1);
      from.put("abcd");
      CHECK(mover.join().value() == 4);
    }
  });
}

TEST_CASE("splice: a file gives from where it stands, or from where it was told to") {
  on_fiber([] {
    const unique_fd file(::memfd_create("splice", MFD_CLOEXEC));
    REQUIRE(::pwrite(file.get(), "0123456789", 10, 0) == 10);
    const both_ends to = a_pipe();
    CHECK(coir::io::splice(file.get(), to.in.get(), 4).value() == 4);
    CHECK(to.take() == "0123");
    CHECK(::lseek(file.get(), 0, SEEK_CUR) == 4);
    CHECK(coir::perform(coir::splice_operation(file.get(), to.in.get(), 100, 7)).value() == 3);
    CHECK(to.take() == "789");
    CHECK(::lseek(file.get(), 0, SEEK_CUR) == 4);
    to.put("xy");
    CHECK(
        coir::perform(coir::splice_operation(to.out.get(), file.get(), 100, coir::own_position, 20))
            .value() == 2);
    std::array<char, 2> there{};
    CHECK(::pread(file.get(), there.data(), 2, 20) == 2);
    CHECK(std::string_view(there.data(), 2) == "xy");
    CHECK(coir::perform(coir::splice_operation(file.get(), to.in.get(), 100, 22)).value() == 0);
  });
}

TEST_CASE("splice: a target without room is waited for") {
  on_fiber([] {
    for (const bool socket : {false, true}) {
      const both_ends from = a_pipe();
      const both_ends to = socket ? sockets() : a_pipe();
      fill_up(to.in.get());
      from.put("abcd");
      auto mover = coir::spawn([&] { return moved(from, to); });
      test::settle();
      CHECK_FALSE(mover.done());
      std::string got;
      while (!mover.done()) {
        got += to.take();
        CHECK(coir::perform(coir::nop{}).has_value());
      }
      CHECK(mover.join().value() == 4);
      for (std::string more = to.take(); !more.empty(); more = to.take()) got += more;
      CHECK(got.ends_with("abcd"));
    }
    CHECK(operations().open_count() == 0);
  });
}

TEST_CASE("splice: deadline, cancel, and a close of either descriptor end one that waits") {
  on_fiber([] {
    for (const bool full : {false, true}) {
      both_ends from = a_pipe();
      both_ends to = a_pipe();
      if (full) {
        fill_up(to.in.get());
        from.put("abcd");
      }
      CHECK(coir::io::splice(from.out.get(), to.in.get(), 100, coir::in(1ms)).error() ==
            std::errc::timed_out);
      const auto stuck = [&] {
        auto mover = coir::spawn([one = from.out.get(), other = to.in.get()] {
          return coir::io::splice(one, other, 100, coir::in(5s)).error();
        });
        test::settle();
        // By now it has been tried, and is waited for beside itself.
        for (int i = 0; i < 16; ++i) CHECK(coir::perform(coir::nop{}).has_value());
        CHECK_FALSE(mover.done());
        return mover;
      };
      auto cancelled = stuck();
      cancelled.cancel();
      CHECK(cancelled.join().value() == std::errc::operation_canceled);
      auto closed = stuck();
      from.out.reset();
      CHECK(closed.join().value() == std::errc::operation_canceled);
      from = a_pipe();
      if (full) from.put("abcd");
      auto other = stuck();
      to.in.reset();
      CHECK(other.join().value() == std::errc::operation_canceled);
      CHECK(operations().open_count() == 0);
    }
  });
}

TEST_CASE("splice: a close of the source reaches an operation that a thread of the kernel is in") {
  on_fiber([] {
    both_ends from = a_pipe();
    const both_ends to = a_pipe();
    auto stuck = coir::spawn([&] {
      return coir::perform(blocking_tee{from.out.get(), to.in.get()}, coir::in(5s)).error();
    });
    test::settle();
    for (int i = 0; i < 8; ++i) CHECK(coir::perform(coir::nop{}).has_value());
    from.out.reset();
    CHECK(stuck.join().value() == std::errc::operation_canceled);
    from = a_pipe();
    auto begun = coir::start(blocking_tee{from.out.get(), to.in.get()});
    from.out.reset();
    CHECK(begun.get().error() == std::errc::operation_canceled);
    from = a_pipe();
    from.put("abcd");
    CHECK(coir::perform(blocking_tee{from.out.get(), to.in.get()}).value() == 4);
    CHECK(from.take() == "abcd");
    CHECK(to.take() == "abcd");
    CHECK(operations().open_count() == 0);
  });
}

TEST_CASE("splice: what cannot be moved says so at once, and no signal is raised") {
  on_fiber([] {
    const both_ends from = a_pipe();
    both_ends to = a_pipe();
    const unique_fd file(::memfd_create("splice", MFD_CLOEXEC));
    const auto error = [](int one, int other) { return coir::io::splice(one, other, 10).error(); };
    CHECK(error(file.get(), file.get()) == std::errc::invalid_argument);
    CHECK(error(from.in.get(), to.in.get()) == std::errc::bad_file_descriptor);
    CHECK(error(from.out.get(), to.out.get()) == std::errc::bad_file_descriptor);
    CHECK(error(-1, to.in.get()) == std::errc::bad_file_descriptor);
    CHECK(error(from.out.get(), -1) == std::errc::bad_file_descriptor);
    const auto not_now =
        coir::perform(coir::splice_operation(from.out.get(), to.in.get(), 10, coir::own_position,
                                             coir::own_position, SPLICE_F_NONBLOCK));
    CHECK(not_now.error() == std::errc::resource_unavailable_try_again);
    from.put("abcd");
    to.out.reset();
    CHECK(error(from.out.get(), to.in.get()) == std::errc::broken_pipe);
    CHECK(from.take() == "abcd");
    CHECK(operations().open_count() == 0);
  });
}
