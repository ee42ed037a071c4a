// c_foreign_test.cpp: a plain thread calls what is there to be called: it works, or it is told
// that only a fiber can.
//
// Always true:
//   - No call of a plain thread enters a worker's ring.
//
// Comes from: catalogue C11.   Goes to: the public interface.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <string>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using test::tested;

namespace {

struct pair_of_sockets {
  std::array<int, 2> ends{};
  pair_of_sockets() {
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  }
};

template <class T>
bool refused(const coir::result<T>& answer) {
  return !answer && answer.error() == coir::errc::not_in_fiber;
}

}  // namespace

TEST_CASE("c_foreign: C11 on a plain thread every call that would park on the ring is refused") {
  auto made = coir::runtime::create(tested({.workers = 1}));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  const pair_of_sockets s;
  const int fd = s.ends[0];
  std::array<std::byte, 4> b{};
  std::array<iovec, 1> parts{{{b.data(), b.size()}}};
  CHECK(refused(coir::perform(coir::nop{})));
  CHECK(refused(coir::io::read(fd, b)));
  CHECK(refused(coir::io::write(fd, b)));
  CHECK(refused(coir::io::readv(fd, parts)));
  CHECK(refused(coir::io::writev(fd, parts)));
  CHECK(refused(coir::io::pread(fd, b, 0)));
  CHECK(refused(coir::io::pwrite(fd, b, 0)));
  CHECK(refused(coir::io::read_exact(fd, b)));
  CHECK(refused(coir::io::write_all(fd, b)));
  CHECK(refused(coir::io::fsync(fd)));
  CHECK(refused(coir::io::fdatasync(fd)));
  CHECK(refused(coir::io::open("/dev/null", O_RDONLY)));
  CHECK(refused(coir::io::accept(fd)));
  CHECK(refused(coir::io::recv(fd, b)));
  CHECK(refused(coir::io::send(fd, b)));
  CHECK(refused(coir::io::shutdown(fd, SHUT_WR)));
  CHECK(refused(coir::io::poll(fd, POLLOUT)));
  CHECK(refused(coir::net::tcp_stream::connect("127.0.0.1", 9)));
  auto listener = coir::net::tcp_listener::listen();
  REQUIRE(listener.has_value());
  CHECK(refused(listener->accept()));
  CHECK(refused(listener->serve([](coir::net::tcp_stream) {})));
  auto spawned = coir::spawn([] {});
  CHECK(refused(spawned.join()));
  CHECK(refused(coir::try_spawn([] {})));
  CHECK((*made)->snapshot().total().operations_open == 0);
  CHECK((*made)->shutdown().has_value());
  CHECK(coir::io::close(s.ends[0]).has_value());
  CHECK(coir::io::close(s.ends[1]).has_value());
  CHECK(listener->close().has_value());
}

TEST_CASE("c_foreign: C11 on a plain thread the calls that need no ring work") {
  auto made = coir::runtime::create(tested({.workers = 1}));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  CHECK(coir::this_fiber::worker() == UINT_MAX);
  CHECK_FALSE(coir::this_fiber::cancelled());
  CHECK(coir::this_fiber::id() == coir::fiber_id{});
  coir::this_fiber::yield();
  CHECK(coir::this_fiber::sleep_for(std::chrono::microseconds(1)).has_value());
  CHECK(coir::snapshot().workers.empty());
  CHECK(coir::blocking([] { return 3; }).value() == 3);
  coir::mutex m;
  m.lock();
  CHECK_FALSE(m.try_lock());
  CHECK((m.lock_until(coir::no_wait).error() == std::errc::timed_out));
  m.unlock();
  coir::event e;
  CHECK((e.wait(coir::no_wait).error() == std::errc::timed_out));
  auto opener = rt.spawn([&] { e.set(); });
  CHECK(e.wait().has_value());
  CHECK(opener.join().has_value());
  const auto parks = [&rt] { return rt.snapshot().total().parks; };
  const std::uint64_t parks_before = parks();
  auto lasting = rt.spawn([] { return coir::this_fiber::sleep_until(coir::never); });
  const coir::fiber_id id = lasting.id();
  CHECK((coir::wait(id, coir::no_wait).error() == std::errc::timed_out));
  // It waits, so the cancel is what wakes it: one still under way to a fiber that ends by itself
  // would keep the record, and with it the name, for a moment after the end.
  while (parks() == parks_before) coir::this_fiber::yield();
  lasting.cancel();
  const auto ended = lasting.join();
  REQUIRE(!ended);
  CHECK((ended.error() == std::errc::operation_canceled));
  const auto stale = coir::wait(id);
  REQUIRE(!stale);
  CHECK((stale.error() == coir::errc::stale_handle));
  const pair_of_sockets s;
  auto reader = rt.spawn([&] {
    std::byte b{};
    return coir::io::recv(s.ends[0], {&b, 1});
  });
  while (rt.snapshot().total().operations_open == 0) coir::this_fiber::yield();
  CHECK(coir::io::close(s.ends[0]).has_value());
  const auto met = reader.join();
  REQUIRE(!met);
  CHECK((met.error() == std::errc::operation_canceled));
  CHECK(coir::io::close(s.ends[1]).has_value());
  CHECK(rt.shutdown().has_value());
}
