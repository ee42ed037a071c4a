// hardened_ring_test.cpp: a runtime that takes coir's own operations and those that are listed.
//
// Always true:
//   - What is refused is refused to the fiber that asked, and says so in the same words on every
//     backend.
//
// Comes from: coir/options.hpp.   Goes to: runtime/hardened.cpp.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include "coir/coir.hpp"
#include "tests/needs.hpp"
#include "tests/test_options.hpp"

using namespace std::chrono_literals;
using coir::errc;

namespace {

using coir::io::unique_fd;

/// An operation of a user's own: advice about the whole of a file, or whatever `opcode` makes of
/// the same entry.
struct of_a_user {
  using value_type = std::int32_t;
  static constexpr std::string_view name = "test.of_a_user";
  int fd;
  std::uint8_t opcode = IORING_OP_FADVISE;
  void fill(io_uring_sqe& sqe) const noexcept {
    sqe.opcode = opcode;
    sqe.fd = fd;
  }
  std::int32_t complete(std::int32_t res) const noexcept { return res; }
};

struct stream_of_a_user : of_a_user {
  std::int32_t item(std::int32_t res, std::uint32_t) const noexcept { return res; }
  std::int32_t complete(std::int32_t) const = delete;
};

coir::options hardened(std::vector<std::uint8_t> listed = {}) {
  coir::options o = test::tested({.workers = 1});
  o.hardened_ring = true;
  o.ring_opcodes = std::move(listed);
  return o;
}

int a_file() {
  const int fd = ::memfd_create("hardened", MFD_CLOEXEC);
  REQUIRE(fd >= 0);
  return fd;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

TEST_CASE("hardened: an operation that is not listed is refused to its own fiber, by name") {
  const auto done = coir::run(
      [] {
        const unique_fd file(a_file());
        std::array<int, 2> ends{};
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
        const unique_fd out(ends[0]), in(ends[1]);
        std::array<std::byte, 4> got{};
        auto other = coir::spawn([&] { return coir::io::read(out.get(), got).value(); });
        const auto refused = coir::perform(of_a_user{file.get()});
        REQUIRE(!refused);
        CHECK(refused.error() == errc::opcode_refused);
        CHECK(refused.error().message().find("options::ring_opcodes") != std::string::npos);
        // The road to the kernel is another one for what goes on, and for streams.
        CHECK(coir::start(of_a_user{file.get()}).get().error() == errc::opcode_refused);
        auto stream = coir::perform(stream_of_a_user{{file.get()}});
        CHECK(stream.next().error() == errc::opcode_refused);
        // What only the runtime itself asks for.
        for (const std::uint8_t opcode : {IORING_OP_ASYNC_CANCEL, IORING_OP_CLOSE})
          CHECK(coir::perform(of_a_user{file.get(), opcode}).error() == errc::opcode_refused);
        // What nobody knows.
        CHECK(coir::perform(of_a_user{file.get(), 200}).error() == errc::opcode_refused);
        CHECK(::fcntl(file.get(), F_GETFD) >= 0);
        // Nobody else heard of it.
        CHECK(coir::perform(coir::nop{}).has_value());
        CHECK(coir::io::write(in.get(), bytes_of("abcd")).value() == 4);
        CHECK(other.join().value() == 4);
      },
      hardened());
  CHECK(done.has_value());
}

TEST_CASE("hardened: what is listed is done, and without the option everything is") {
  const auto advise = [] {
    const unique_fd file(a_file());
    return coir::perform(of_a_user{file.get()});
  };
  CHECK(coir::run(advise, hardened({IORING_OP_NOP, IORING_OP_FADVISE})).value() == 0);
  CHECK(coir::run(advise, hardened({IORING_OP_MADVISE})).error() == errc::opcode_refused);
  CHECK(coir::run(advise, test::tested({.workers = 1})).value() == 0);
  // The list alone refuses nobody.
  coir::options o = hardened({IORING_OP_MADVISE});
  o.hardened_ring = false;
  CHECK(coir::run(advise, o).value() == 0);
  // A number that this kernel does not know, or none could.
  CHECK(coir::run(advise, hardened({62})).error() == errc::opcode_refused);
  CHECK(coir::run(advise, hardened({63})).error() == std::errc::invalid_argument);
}

TEST_CASE("hardened: all calls of the library are served") {
  const auto done = coir::run(
      [] {
        const unique_fd file(coir::io::open("/tmp", O_TMPFILE | O_RDWR, 0600).value());
        CHECK(coir::io::write_all(file.get(), bytes_of("0123456789")).value() == 10);
        std::array<std::byte, 10> got{};
        CHECK(coir::io::pread(file.get(), got, 0).value() == 10);
        iovec part{got.data(), got.size()};
        CHECK(coir::io::writev(file.get(), {&part, 1}).value() == 10);
        CHECK(coir::io::readv(file.get(), {&part, 1}).value() == 0);
        CHECK(coir::io::fsync(file.get()).has_value());
        CHECK(coir::io::fdatasync(file.get()).has_value());
        struct ::statx about {};
        CHECK(coir::io::statx(file.get(), "", AT_EMPTY_PATH, STATX_SIZE, about).has_value());
        CHECK(about.stx_size == 20);
        std::array<int, 2> ends{};
        REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
        CHECK(coir::perform(coir::splice_operation(file.get(), ends[1], 4, 0)).value() == 4);
        CHECK(coir::io::poll(ends[0], 1).has_value());
        for (const int fd : ends) CHECK(coir::io::close(fd).has_value());

        auto listener = coir::net::tcp_listener::listen({.port = 0}).value();
        auto incoming = listener.incoming();
        auto client = coir::net::tcp_stream::connect("127.0.0.1", listener.port()).value();
        auto accepted = (*incoming.next()).value();
        const int server = accepted.fd();
        CHECK(coir::io::send(server, bytes_of("a")).value() == 1);
        CHECK(coir::io::send_zc(server, bytes_of("b")).value() == 1);
        iovec last{got.data(), 1};
        msghdr message{};
        message.msg_iov = &last;
        message.msg_iovlen = 1;
        CHECK(coir::io::sendmsg(server, message).value() == 1);
        CHECK(coir::io::recv(client.fd(), std::span(got).first(1)).value() == 1);
        CHECK(coir::io::recvmsg(client.fd(), message).value() == 1);
        {
          auto bytes = client.incoming_bytes();
          CHECK((*bytes.next()).value().text().size() == 1);
        }
        auto ticks = coir::perform(coir::tick_stream(1ms));
        CHECK((*ticks.next()).has_value());
        CHECK(coir::io::shutdown(server, SHUT_WR).has_value());
        CHECK(coir::io::recv(client.fd(), got).value() == 0);
        CHECK(coir::io::recv(server, got, 0, coir::in(1ms)).error() == std::errc::timed_out);
        CHECK(coir::blocking([] { return 7; }).value() == 7);
      },
      hardened());
  CHECK(done.has_value());
}

TEST_CASE("hardened: a loop over a backend of the runtime's refuses the same") {
  COIR_NOT_IN_SIM(kernel);
  auto outside = coir::make_backend(hardened({IORING_OP_MADVISE}));
  REQUIRE(outside);
  auto in = coir::loop::make(**outside).value();
  const int file = a_file();
  auto refused = in.submit([&] { return coir::perform(of_a_user{file}).error(); });
  auto served = in.submit([&] { return coir::perform(coir::nop{}).has_value(); });
  CHECK(in.native_fd() >= 0);
  CHECK(in.run());
  CHECK(refused.get().value() == errc::opcode_refused);
  CHECK(served.get().value());
  ::close(file);
}
