// d_cancel_test.cpp: a request to stop, in every state of a fiber, and against every completion.
//
// Always true:
//   - A race has three outcomes at most and each is counted; their sum is what was started.
//
// Comes from: entries D1, D2 and D3 of the failure catalogue.   Goes to: runtime/flight.cpp,
// runtime/waits.hpp, runtime/switching.cpp.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "tests/catalogue/process_facts.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::open_fds;
using test::tested;

namespace {

constexpr auto canceled = std::errc::operation_canceled;

/// A listening socket that needs no port: connecting to it leaves nothing behind.
struct local_listener {
  sockaddr_un address{};
  socklen_t address_bytes = sizeof(sa_family_t);
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

  local_listener() {
    address.sun_family = AF_UNIX;
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), address_bytes) == 0);  // picks a name
    address_bytes = sizeof address;
    REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &address_bytes) == 0);
    REQUIRE(::listen(fd, 128) == 0);
  }
  int connect() const {
    const int s = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(::connect(s, reinterpret_cast<const sockaddr*>(&address), address_bytes) == 0);
    return s;
  }
  /// How many connections nobody has accepted.
  unsigned drain() const {
    REQUIRE(::fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    unsigned count = 0;
    for (int s; (s = ::accept(fd, nullptr, nullptr)) >= 0; ++count) ::close(s);
    REQUIRE(::fcntl(fd, F_SETFL, 0) == 0);
    return count;
  }
};

struct tally {
  unsigned done = 0, stopped = 0, other = 0;

  template <class T>
  void count(const coir::result<T>& r) {
    ++(r ? done : r.error() == canceled ? stopped : other);
  }
};

/// Counts how often it was destroyed, moved-from ones left out.
class witness {
 public:
  explicit witness(std::atomic<int>& count) : count_(&count) {}
  witness(witness&& from) noexcept : count_(std::exchange(from.count_, nullptr)) {}
  ~witness() {
    if (count_ != nullptr) count_->fetch_add(1);
  }

 private:
  std::atomic<int>* count_;
};

}  // namespace

TEST_CASE("D1: an accept that races with its cancel loses no connection") {
  constexpr unsigned rounds = at_full_speed(20'000u, 1'000u);
  const std::size_t before = open_fds();
  tally t;
  unsigned left = 0;
  {
    const local_listener listener;
    const auto done = coir::run(
        [&] {
          for (unsigned i = 0; i < rounds; ++i) {
            coir::event about_to;
            auto acceptor = coir::spawn(
                [&] {
                  about_to.set();
                  return coir::io::accept(listener.fd);
                },
                {.worker = i % 2});
            REQUIRE(about_to.wait().has_value());
            if (i % 3 == 0) coir::this_fiber::yield();
            const int client = listener.connect();
            acceptor.cancel();
            const auto got = acceptor.join();
            t.count(got);
            if (got) ::close(*got);
            ::close(client);
            if (i % 64 == 0) left += listener.drain();  // there is room for 128
          }
        },
        tested({.workers = 2}));
    CHECK(done.has_value());
    left += listener.drain();
    ::close(listener.fd);
  }
  CHECK(t.other == 0);
  CHECK(t.done + t.stopped == rounds);
  CHECK(t.done + left == rounds);
  CHECK(test::comes_down_to(before, &open_fds));
}

TEST_CASE("D1: an open that races with its cancel leaves no descriptor behind") {
  constexpr unsigned rounds = at_full_speed(20'000u, 1'000u);
  const std::size_t before = open_fds();
  tally t;
  const auto done = coir::run(
      [&] {
        for (unsigned i = 0; i < rounds; ++i) {
          coir::event about_to;
          auto opener = coir::spawn(
              [&] {
                about_to.set();
                return coir::io::open("/dev/null", O_RDONLY);
              },
              {.worker = i % 2});
          REQUIRE(about_to.wait().has_value());
          if (i % 3 == 0) coir::this_fiber::yield();
          opener.cancel();
          const auto got = opener.join();
          t.count(got);
          if (got) ::close(*got);
        }
      },
      tested({.workers = 2}));
  CHECK(done.has_value());
  CHECK(t.other == 0);
  CHECK(t.done + t.stopped == rounds);
  CHECK(test::comes_down_to(before, &open_fds));
}

TEST_CASE("D2: a stop in the same turn as a hundred cancels leaves nothing in flight") {
  constexpr unsigned rounds = at_full_speed(50u, 5u);
  for (unsigned round = 0; round < rounds; ++round) {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    std::atomic<unsigned> stopped{0};
    const coir::options o = tested({.workers = 1 + round % 2, .ring_entries = 16});
    const unsigned fibers = std::min(100u, o.fibers_max - 2);
    auto made = coir::runtime::create(o);
    REQUIRE(made.has_value());
    coir::runtime& rt = **made;
    const auto done = rt.run([&] {
      std::vector<coir::handle<void>> all;
      std::atomic<unsigned> reading{0};
      for (unsigned i = 0; i < fibers; ++i)
        all.push_back(coir::spawn([&] {
          std::byte one{};
          reading.fetch_add(1);
          const auto n = coir::io::read(ends[0], {&one, 1});
          if (!n && n.error() == canceled) stopped.fetch_add(1);
        }));
      while (reading < fibers) coir::this_fiber::yield();
      for (auto& h : all) h.cancel();
      rt.request_stop();
    });
    CHECK(done.has_value());
    CHECK(rt.shutdown().has_value());
    CHECK(stopped == fibers);
    CHECK(rt.snapshot().total().operations_open == 0);
    ::close(ends[0]);
    ::close(ends[1]);
  }
}

TEST_CASE("D3: a fiber cancelled before it starts never runs, and its closure ends once") {
  for (const bool elsewhere : {false, true}) {
    std::atomic<int> destroyed{0};
    std::atomic<bool> ran{false};
    const auto done = coir::run(
        [&] {
          std::optional<unsigned> where;
          if (elsewhere) where = 1 - coir::this_fiber::worker();
          std::atomic<bool> busy{false}, over{false};
          coir::handle<void> hog;  // so that a fiber over there does not start at once
          if (where) {
            hog = coir::spawn(
                [&] {
                  busy = true;
                  while (!over) std::this_thread::yield();
                },
                {.worker = where});
            while (!busy) std::this_thread::yield();
          }
          auto never_runs =
              coir::spawn([w = witness(destroyed), &ran] { ran = true; }, {.worker = where});
          never_runs.cancel();
          never_runs.cancel();
          over = true;
          CHECK(never_runs.join().error() == canceled);
          if (hog) CHECK(hog.join().has_value());
        },
        tested({.workers = 2}));
    CHECK(done.has_value());
    CHECK(destroyed == 1);
    CHECK(!ran);
  }
}

TEST_CASE("D3: a fiber that cancels itself goes on until its next park, and every park answers") {
  const auto done = coir::run(
      [] {
        coir::handle<int> self;
        coir::event ready;
        self = coir::spawn([&] {
          if (!ready.wait()) return -1;
          self.cancel();
          self.cancel();
          if (!coir::this_fiber::cancelled()) return -2;
          int answers = 0;
          std::byte one{};
          coir::event never_set;
          if (coir::this_fiber::sleep_until(coir::never).error() == canceled) ++answers;
          if (never_set.wait().error() == canceled) ++answers;
          if (coir::io::read(0, {&one, 1}).error() == canceled) ++answers;
          if (coir::blocking([] {}).error() == canceled) ++answers;
          auto child = coir::spawn([] { return 1; });
          while (!child.done()) coir::this_fiber::yield();  // a yield is no park
          if (child.join().value() == 1) ++answers;
          return answers;
        });
        ready.set();
        coir::handle<int>& same = self;
        while (!same.done()) coir::this_fiber::yield();
        return same.join();
      },
      tested({.workers = 1}));
  CHECK(done.value() == 5);
}

TEST_CASE("D3: a cancel of a finished fiber changes nothing, also from a foreign thread") {
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  auto finished = (*made)->spawn([] { return 7; });
  while (!finished.done()) coir::this_fiber::yield();
  finished.cancel();
  CHECK(finished.join().value() == 7);
  // The record is used again: the old cancel is not the new fiber's.
  auto next = (*made)->spawn([] { return coir::this_fiber::cancelled(); });
  CHECK(next.join().value() == false);
  auto parked = (*made)->spawn([] { return coir::this_fiber::sleep_until(coir::never); });
  parked.cancel();
  parked.cancel();
  CHECK(parked.join().error() == canceled);
  CHECK((*made)->shutdown().has_value());
}

TEST_CASE("D3: a cancel that comes while a destructor parks during unwinding answers there") {
  const auto done = coir::run(
      [] {
        coir::event unwinding;
        bool answered = false;
        struct slow_end {
          coir::event& unwinding;
          bool& answered;
          ~slow_end() {
            unwinding.set();
            const auto slept = coir::this_fiber::sleep_until(coir::never);
            answered = !slept && slept.error() == canceled && std::uncaught_exceptions() == 1;
          }
        };
        auto fiber = coir::spawn([&] {
          const slow_end last{unwinding, answered};
          throw std::runtime_error("mine");
        });
        CHECK(unwinding.wait().has_value());
        fiber.cancel();
        CHECK_THROWS_AS((void)fiber.join(), std::runtime_error);
        CHECK(answered);
      },
      tested({.workers = 1}));
  CHECK(done.has_value());
}
