// unix_socket_test.cpp: Unix sockets: names of both kinds, and whose file is removed by whom.
//
// Always true:
//   - Files lie in a folder of the test's own, which must be removable as an empty one at its end.
//
// Comes from: coir/unix_socket.hpp.   Goes to: runtime/unix_socket.cpp.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "on_fiber.hpp"
#include "runtime/runtime.hpp"
#include "tests/catalogue/child.hpp"
#include "tests/needs.hpp"

using coir::net::unix_listener;
using coir::net::unix_name_bytes_max;
using coir::net::unix_stream;
using test::on_fiber;
using test::settle;

namespace {

class folder {
 public:
  folder() { REQUIRE(::mkdtemp(path_) != nullptr); }
  ~folder() { CHECK(::rmdir(path_) == 0); }
  folder(const folder&) = delete;
  std::string operator/(const char* name) const { return std::string(path_) + "/" + name; }
  /// `name`, made so long that the whole path has `bytes`.
  std::string of(std::size_t bytes) const {
    std::string path = *this / "";
    path.resize(bytes, 'x');
    return path;
  }

 private:
  char path_[32] = "/tmp/coir-unix-XXXXXX";
};

bool exists(const std::string& path) {
  struct stat there {};
  return ::lstat(path.c_str(), &there) == 0;
}

/// An abstract name that no other run of this test has.
std::string abstract(const char* name) {
  return "@coir-" + std::to_string(::getpid()) + "-" + name;
}

void one_word_each_way(unix_listener& listener) {
  auto client = unix_stream::connect(listener.name());
  REQUIRE(client.has_value());
  auto server = listener.accept();
  REQUIRE(server.has_value());
  std::array<std::byte, 2> b{};
  CHECK(client->write_all("to").has_value());
  CHECK(server->read_exact(b).has_value());
  CHECK(server->write_all("fro").has_value());
  CHECK(client->read_exact(b).has_value());
  CHECK(b[1] == std::byte{'r'});
}

/// A socket's file that nobody listens on any more.
void leave_behind(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::strcpy(name.sun_path, path.c_str());
  REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0);
  ::close(fd);
}

}  // namespace

TEST_CASE("unix_socket: a path is a file while the listener lives, and is removed by its close") {
  const folder here;
  const std::string path = here / "door";
  on_fiber([&] {
    {
      auto listener = unix_listener::listen(path);
      REQUIRE(listener.has_value());
      CHECK(exists(path));
      one_word_each_way(*listener);
      CHECK(listener->close().has_value());
      CHECK_FALSE(exists(path));
      CHECK(listener->close().error() == std::errc::bad_file_descriptor);
      CHECK(listener->accept().error() == std::errc::bad_file_descriptor);
    }
    auto again = unix_listener::listen(path);
    REQUIRE(again.has_value());
    unix_listener held = std::move(*again);
    CHECK(exists(path));
    one_word_each_way(held);
    held = unix_listener();  // the one it held goes, with its file
    CHECK_FALSE(exists(path));
    CHECK(unix_stream::connect(path).error() == std::errc::no_such_file_or_directory);
  });
}

TEST_CASE("unix_socket: an abstract name is no file, and ends with its listener") {
  on_fiber([] {
    const std::string name = abstract("door");
    {
      auto listener = unix_listener::listen(name);
      REQUIRE(listener.has_value());
      CHECK_FALSE(exists(name));
      one_word_each_way(*listener);
      CHECK(unix_listener::listen(name).error() == std::errc::address_in_use);
    }
    CHECK(unix_stream::connect(name).error() == std::errc::connection_refused);
    CHECK(unix_listener::listen(name).has_value());
  });
}

TEST_CASE("unix_socket: a name of 107 bytes fits, one more is an error that says so") {
  const folder here;
  on_fiber([&] {
    for (const bool is_file : {true, false}) {
      CAPTURE(is_file);
      // The "@" of an abstract name is not one of its bytes.
      std::string fits = is_file ? here.of(unix_name_bytes_max) : abstract("long");
      if (!is_file) fits.resize(unix_name_bytes_max + 1, 'x');
      {
        auto listener = unix_listener::listen(fits);
        REQUIRE(listener.has_value());
        one_word_each_way(*listener);
      }
      const auto refused = unix_listener::listen(fits + "x").error();
      CHECK(refused == coir::errc::name_too_long);
      CHECK(refused.message().find(std::to_string(unix_name_bytes_max)) != std::string::npos);
      CHECK(unix_stream::connect(fits + "x").error() == coir::errc::name_too_long);
    }
    for (const std::string& none : {std::string(), std::string("@"), std::string("a\0b", 3)}) {
      CHECK(unix_listener::listen(none).error() == std::errc::invalid_argument);
      CHECK(unix_stream::connect(none).error() == std::errc::invalid_argument);
    }
  });
}

TEST_CASE("unix_socket: a name that is taken says by what, and what lies there is left alone") {
  const folder here;
  const std::string path = here / "door";
  on_fiber([&] {
    {
      auto listener = unix_listener::listen(path);
      REQUIRE(listener.has_value());
      CHECK(unix_listener::listen(path).error() == std::errc::address_in_use);
      // The question was not a connection.
      CHECK(listener->accept(coir::no_wait).error() == std::errc::timed_out);
      one_word_each_way(*listener);
    }
    leave_behind(path);
    const auto stale = unix_listener::listen(path).error();
    CHECK(stale == coir::errc::stale_socket);
    CHECK(stale.message().find("remove it") != std::string::npos);
    CHECK(exists(path));
    CHECK(unix_stream::connect(path).error() == std::errc::connection_refused);
    CHECK(::unlink(path.c_str()) == 0);

    const int file = ::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    REQUIRE(file >= 0);
    ::close(file);
    CHECK(unix_listener::listen(path).error() == std::errc::file_exists);
    CHECK(exists(path));
    CHECK(::unlink(path.c_str()) == 0);
    CHECK(unix_listener::listen(here / "none/door").error() ==
          std::errc::no_such_file_or_directory);
  });
}

TEST_CASE("unix_socket: a file that took the place of ours is somebody else's, and stays") {
  const folder here;
  const std::string path = here / "door";
  on_fiber([&] {
    auto first = unix_listener::listen(path);
    REQUIRE(first.has_value());
    CHECK(::unlink(path.c_str()) == 0);
    auto second = unix_listener::listen(path);  // as another process would
    REQUIRE(second.has_value());
    CHECK(first->close().has_value());
    CHECK(exists(path));
    one_word_each_way(*second);
    CHECK(second->close().has_value());
    CHECK_FALSE(exists(path));
  });
}

TEST_CASE("unix_socket: the child of a fork leaves the file to its parent") {
  const folder here;
  const std::string path = here / "door";
  auto listener = unix_listener::listen(path);
  REQUIRE(listener.has_value());
  const test::ending child = test::in_child([&] {
    const bool closed = listener->close().has_value();
    ::_exit(closed && exists(path) ? 0 : 1);
  });
  CHECK(child.code == 0);
  CHECK(exists(path));
  CHECK(listener->close().has_value());
  CHECK_FALSE(exists(path));
}

TEST_CASE("unix_socket: accept and connect end by deadline and cancel, and close ends accept") {
  on_fiber([] {
    auto listener = unix_listener::listen(abstract("waits"), 0);
    REQUIRE(listener.has_value());
    CHECK(listener->accept(coir::no_wait).error() == std::errc::timed_out);
    // A backlog of none holds one; who comes then waits for a place.
    auto first = unix_stream::connect(listener->name());
    REQUIRE(first.has_value());
    CHECK(unix_stream::connect(listener->name(), coir::in(std::chrono::milliseconds(1))).error() ==
          std::errc::timed_out);
    auto second = coir::spawn([&] { return unix_stream::connect(listener->name()); });
    settle();
    CHECK_FALSE(second.done());
    second.cancel();
    CHECK(second.join().error() == std::errc::operation_canceled);
    auto third = coir::spawn([&] { return unix_stream::connect(listener->name()); });
    settle();
    CHECK(listener->accept().has_value());
    CHECK(third.join().has_value());
    CHECK(listener->accept().has_value());
    auto waiting = coir::spawn([&] { return listener->accept(); });
    settle();
    CHECK(listener->close().has_value());
    CHECK(waiting.join().error() == std::errc::operation_canceled);
  });
}

/// A listener whose backlog is full, and a socket of ours that does not wait.
struct crowd {
  explicit crowd(const char* what) : listener(unix_listener::listen(abstract(what), 0)) {
    REQUIRE(listener.has_value());
    target.sun_family = AF_UNIX;
    const std::string name = listener->name();
    name.copy(target.sun_path, sizeof target.sun_path);
    target.sun_path[0] = '\0';
    bytes = static_cast<unsigned>(offsetof(sockaddr_un, sun_path) + name.size());
    REQUIRE(first.has_value());
  }
  const sockaddr* address() const { return reinterpret_cast<const sockaddr*>(&target); }
  mutable coir::result<unix_listener> listener;
  coir::result<unix_stream> first = unix_stream::connect(listener->name());
  sockaddr_un target{};
  unsigned bytes = 0;
  coir::io::unique_fd ours{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
};

TEST_CASE("unix_socket: a connect that does not wait asks a full backlog now and then") {
  on_fiber([] {
    const crowd full("crowded");
    const auto connect = [&](coir::deadline until) {
      return coir::io::connect(full.ours, full.address(), full.bytes, until);
    };
    const std::uint64_t before = coir::snapshot().total().sqes;
    CHECK(connect(coir::in(std::chrono::milliseconds(150))).error() == std::errc::timed_out);
    // Pauses from half a millisecond on; asked again and again it would be thousands.
    CHECK(coir::snapshot().total().sqes - before < 100);
    auto waits = coir::spawn([&] { return connect(coir::never); });
    settle();
    CHECK(full.listener->accept().has_value());
    CHECK(waits.join().has_value());
  });
}

TEST_CASE("unix_socket: a started connect asks a full backlog now and then, and rests in between") {
  on_fiber([] {
    const crowd full("crowd");
    const coir::connect_operation connect(full.ours.get(), full.address(), full.bytes);
    // A hundred turns of the ring: what was asked for before has met the full backlog.
    const auto answered = [] {
      for (int i = 0; i < 100; ++i) CHECK(coir::perform(coir::nop{}).has_value());
    };
    // Nothing of it is in flight when it ends, by a cancel and by a close.
    std::uint64_t before = coir::snapshot().total().sqes;
    {
      auto waits = coir::start(connect);
      CHECK(waits.get(coir::in(std::chrono::milliseconds(150))).error() == std::errc::timed_out);
      CHECK(coir::snapshot().total().sqes - before < 100);
      waits.cancel();
      CHECK(waits.get().error() == std::errc::operation_canceled);
    }
    // Whoever waits for it is heard, too. It rests nearly always; some of twenty times it does.
    for (int i = 0; i < 20; ++i) {
      auto waiting = coir::spawn([&] { return coir::start(connect).get().error(); });
      settle();
      answered();
      waiting.cancel();
      CHECK(waiting.join() == std::errc::operation_canceled);
    }
    {
      auto waits = coir::start(connect);
      settle();
      CHECK(full.listener->accept().has_value());
      CHECK(waits.get().has_value());
    }
    coir::io::unique_fd other(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    auto closed = coir::start(coir::connect_operation(other.get(), full.address(), full.bytes));
    answered();
    CHECK(coir::io::close(other.release()));
    CHECK(closed.get().error() == std::errc::operation_canceled);
  });
}

TEST_CASE("unix_socket: an accept costs no thread, also where there is no ring") {
  const auto ran = coir::run(
      [] {
        auto listener = unix_listener::listen(abstract("threadless"));
        REQUIRE(listener.has_value());
        for (int i = 0; i < 3; ++i) {
          auto waiting = coir::spawn([&] { return listener->accept().has_value(); });
          settle();
          CHECK(unix_stream::connect(listener->name()).has_value());
          CHECK(waiting.join().value());
        }
        CHECK(coir::detail::current_core()->offload().threads() == 0);
      },
      test::tested({.workers = 1, .backend = coir::backend_kind::poll}));
  CHECK(ran.has_value());
}

TEST_CASE("unix_socket: a connect that a ring waits in ends by deadline, by cancel and by close") {
  if (!test::on_a_ring("a connect that a thread of the kernel waits in")) return;
  on_fiber([] {
    auto listener = unix_listener::listen(abstract("full"), 0);
    REQUIRE(listener.has_value());
    const auto first = unix_stream::connect(listener->name());
    REQUIRE(first.has_value());
    sockaddr_un target{};
    socklen_t bytes = sizeof target;
    REQUIRE(::getsockname(listener->fd(), reinterpret_cast<sockaddr*>(&target), &bytes) == 0);
    for (int round = 0; round < 20; ++round) {
      const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const auto connect = [&](coir::deadline until) {
        return coir::io::connect(fd, reinterpret_cast<const sockaddr*>(&target), bytes, until);
      };
      CHECK(connect(coir::in(std::chrono::microseconds(1))).error() == std::errc::timed_out);
      auto cancelled = coir::spawn([&] { return connect(coir::never); });
      coir::this_fiber::yield();
      cancelled.cancel();
      CHECK(cancelled.join().error() == std::errc::operation_canceled);
      auto closed = coir::spawn([&] { return connect(coir::never); });
      coir::this_fiber::yield();
      CHECK(coir::io::close(fd).has_value());
      CHECK_FALSE(closed.join().has_value());
    }
  });
}

TEST_CASE("unix_socket: connections come as a stream, which ends when the listener closes") {
  on_fiber([] {
    auto listener = unix_listener::listen(abstract("incoming"));
    REQUIRE(listener.has_value());
    auto incoming = listener->incoming();
    for (int i = 0; i < 3; ++i) {
      auto client = unix_stream::connect(listener->name());
      REQUIRE(client.has_value());
      auto one = incoming.next();
      REQUIRE(one.has_value());
      REQUIRE(one->has_value());
      std::array<std::byte, 5> b{};
      CHECK(client->write_all("hello").has_value());
      CHECK((*one)->read_exact(b).has_value());
      CHECK(b[4] == std::byte{'o'});
    }
    CHECK(listener->close().has_value());
    CHECK(incoming.next().error() == std::errc::operation_canceled);
    CHECK_FALSE(incoming.next()->has_value());
  });
}

TEST_CASE("unix_socket: serve gives every connection a fiber, and ends when the listener closes") {
  on_fiber(
      [] {
        auto listener = unix_listener::listen(abstract("serve"));
        REQUIRE(listener.has_value());
        auto serving = coir::spawn([&] {
          return listener->serve([](unix_stream s) {
            std::array<std::byte, 16> b{};
            for (;;) {
              const auto n = s.read_some(b);
              if (!n || *n == 0 || !s.write_all(std::span(b).first(*n))) return;
            }
          });
        });
        std::vector<unix_stream> all;
        for (int i = 0; i < 8; ++i) {
          auto s = unix_stream::connect(listener->name());
          REQUIRE(s.has_value());
          REQUIRE(s->write_all("hello").has_value());
          std::array<std::byte, 5> back{};
          CHECK(s->read_exact(back).has_value());
          all.push_back(std::move(*s));
        }
        CHECK(listener->close().has_value());
        CHECK_FALSE(serving.done());
        all.clear();
        CHECK(serving.join().has_value());
      },
      2);
}
