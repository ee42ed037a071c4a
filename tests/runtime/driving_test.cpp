// driving_test.cpp: runtimes without threads: who waits on a plain thread runs them.
//
// Always true:
//   - No case would end if nobody drove.
//
// Comes from: runtime/driving.hpp.   Goes to: ctest.
#include "runtime/driving.hpp"

#include <dirent.h>
#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cfenv>
#include <exception>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>

#include "coir/coir.hpp"
#include "tests/runtime/errno_here.hpp"
#include "tests/test_options.hpp"

using namespace std::chrono_literals;
using test::errno_here;
using test::set_errno_here;

namespace {

coir::options simulated(unsigned workers = 1) {
  return test::tested({.workers = workers, .backend = coir::backend_kind::sim});
}

std::size_t threads_of_process() {
  DIR* const tasks = ::opendir("/proc/self/task");
  REQUIRE(tasks != nullptr);
  std::size_t count = 0;
  while (const dirent* const entry = ::readdir(tasks)) count += entry->d_name[0] != '.';
  ::closedir(tasks);
  return count;
}

}  // namespace

TEST_CASE("driving: what is asked of a worker's thread is named in the log where there is none") {
  std::string said;
  coir::options o = simulated(2);
  o.pin_workers = true;
  o.stall_after = 1s;
  o.log = [&said](const coir::log_record& line) {
    CHECK(line.severity == coir::log_record::level::note);
    said += line.text;
  };
  auto made = coir::runtime::create(o);
  REQUIRE(made.has_value());
  CHECK((*made)->run([] { return 3; }).value() == 3);
  CHECK(said.find("options::pin_workers") != said.npos);
  CHECK(said.find("options::stall_after") != said.npos);
}

TEST_CASE("driving: a simulated runtime has no thread, and a join on a plain thread runs it") {
  const std::size_t before = threads_of_process();
  auto made = coir::runtime::create(simulated());
  REQUIRE(made.has_value());
  auto early = (*made)->spawn([] { return 6; });
  REQUIRE((*made)->start().has_value());
  CHECK(threads_of_process() == before);
  bool ran = false;
  auto late = (*made)->spawn([&] {
    ran = true;
    return std::this_thread::get_id();
  });
  CHECK_FALSE(ran);
  CHECK(late.join().value() == std::this_thread::get_id());
  CHECK(early.join().value() == 6);
  CHECK((*made)->snapshot().backend == "sim");
  CHECK((*made)->shutdown().has_value());
  CHECK(threads_of_process() == before);
}

TEST_CASE("driving: run waits for everybody; a sleep of days takes none, and threads know of it") {
  const auto before = coir::clock::now();
  bool slept = false;
  const auto done = coir::run(
      [&] {
        coir::spawn([&] {
          CHECK(coir::this_fiber::sleep_for(48h).has_value());
          slept = true;
        }).detach();
        return coir::this_fiber::worker();
      },
      simulated());
  CHECK(done.value() == 0);
  CHECK(slept);
  CHECK(coir::clock::now() - before >= 48h);
}

TEST_CASE("driving: what can never end is a deadlock, and everybody is ended afterwards") {
  coir::event never_set;
  std::error_code told;
  coir::options o = simulated();
  o.log = [](const coir::log_record&) {};
  const auto done = coir::run(
      [&] {
        if (auto waited = never_set.wait(); !waited) told = waited.error();
      },
      o);
  REQUIRE_FALSE(done.has_value());
  CHECK(done.error() == coir::errc::deadlock);
  CHECK(told == std::errc::operation_canceled);
}

TEST_CASE("driving: the deadline of a thread is kept in the time of the runtime") {
  auto made = coir::runtime::create(simulated());
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  auto sleeper = (*made)->spawn([] { return coir::this_fiber::sleep_for(2h); });
  CHECK(sleeper.join(coir::in(1h)).error() == std::errc::timed_out);
  CHECK(sleeper.join(coir::no_wait).error() == std::errc::timed_out);
  CHECK(sleeper.join().has_value());
}

TEST_CASE("driving: locks, events and scopes of a thread run whoever holds them") {
  auto made = coir::runtime::create(simulated());
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  coir::mutex m;
  coir::event locked;
  auto holder = (*made)->spawn([&] {
    m.lock();
    locked.set();
    CHECK(coir::this_fiber::sleep_for(1h).has_value());
    m.unlock();
  });
  errno = ELOOP;
  CHECK(locked.wait().has_value());
  m.lock();
  m.unlock();
  CHECK(errno == ELOOP);
  CHECK(holder.join().has_value());
}

TEST_CASE("driving: a second thread that waits gets what it waits for, whoever drives") {
  auto made = coir::runtime::create(simulated());
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  coir::event first, second;
  std::thread other([&] {
    CHECK(first.wait().has_value());
    second.set();  // ends the wait of the thread that may be driving
  });
  auto opens = (*made)->spawn([&] { first.set(); });
  CHECK(second.wait().has_value());
  other.join();
  CHECK(opens.join().has_value());
}

TEST_CASE("driving: a wait that another thread ends is seen by a driver that sleeps") {
  auto made = coir::runtime::create(simulated());
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  // As long as a descriptor is waited for the driver sleeps without end.
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  auto reads = (*made)->spawn([&] {
    std::byte one{};
    return coir::io::read(ends[0], std::span(&one, 1));
  });
  for (int i = 0; i < 50; ++i) {
    coir::event ended;
    std::atomic<bool> driven{false};
    std::thread other([&] {
      driven.wait(false);
      ended.set();
    });
    auto tells = (*made)->spawn([&] {
      driven = true;
      driven.notify_one();
    });
    CHECK(ended.wait().has_value());
    other.join();
    CHECK(tells.join().has_value());
  }
  CHECK(::write(ends[1], "x", 1) == 1);
  CHECK(reads.join() == 1u);
  for (const int end : ends) ::close(end);
}

TEST_CASE(
    "driving: a message of another thread ends the sleep of a runtime that has nothing to do") {
  auto made = coir::runtime::create(simulated());
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  coir::event over;
  std::thread other([&] { rt.spawn([&] { over.set(); }).detach(); });
  CHECK(over.wait().has_value());
  other.join();
}

TEST_CASE(
    "driving: bytes that a thread writes into a real pipe reach a fiber that waits for them") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  auto made = coir::runtime::create(simulated());
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  std::array<std::byte, 4> bytes{};
  auto reader = (*made)->spawn([&] { return coir::io::read(ends[0], bytes); });
  std::thread writer([&] { CHECK(::write(ends[1], "four", 4) == 4); });
  CHECK(reader.join().value() == 4);
  writer.join();
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("driving: fibers of two runtimes wake each other, and each keeps its own time") {
  auto a = coir::runtime::create(simulated());
  auto b = coir::runtime::create(simulated());
  REQUIRE(a.has_value());
  REQUIRE(b.has_value());
  REQUIRE((*a)->start().has_value());
  REQUIRE((*b)->start().has_value());
  coir::event there, back;
  auto asks = (*a)->spawn([&] {
    CHECK(coir::this_fiber::sleep_for(1h).has_value());
    there.set();
    return back.wait();
  });
  auto answers = (*b)->spawn([&] {
    CHECK(there.wait().has_value());
    CHECK(coir::this_fiber::sleep_for(1h).has_value());
    back.set();
  });
  CHECK(asks.join().has_value());
  CHECK(answers.join().has_value());
}

TEST_CASE("driving: a blocking call runs in place, and a thread's own sleep lets fibers go on") {
  auto made = coir::runtime::create(simulated());
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  bool over = false;
  auto h = (*made)->spawn([&] {
    CHECK(coir::blocking([] { return std::this_thread::get_id(); }).value() ==
          std::this_thread::get_id());
    CHECK(coir::this_fiber::sleep_for(1h).has_value());
    over = true;
  });
  CHECK(coir::this_fiber::sleep_for(2h).has_value());
  CHECK(over);
  CHECK(h.join().has_value());
}

TEST_CASE("driving: errno's value is the fiber's own, whichever thread drives") {
  auto made = coir::runtime::create(simulated());
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  coir::event open;
  std::array<int, 2> seen{};
  std::array<coir::handle<bool>, 2> fibers;
  for (unsigned i = 0; i < 2; ++i)
    fibers[i] = rt.spawn([&, i] {
      set_errno_here(i == 0 ? ELOOP : EXDEV);
      const bool waited = open.wait().has_value();
      seen[i] = errno_here();
      return waited;
    });
  // Each of them leaves its stack for the next one while this thread drives, and goes on on ours.
  auto last = rt.spawn([] {});
  std::thread([&] { CHECK(last.join().has_value()); }).join();
  CHECK(rt.snapshot().total().parks == 2);
  set_errno_here(ENODEV);
  open.set();
  for (auto& fiber : fibers) CHECK(fiber.join() == true);
  CHECK(seen == std::array{ELOOP, EXDEV});
}

TEST_CASE(
    "driving: a thread in a handler, with controls of its own, finds both after it has run "
    "others") {
  for (const unsigned workers : {1u, 2u}) {
    auto made = coir::runtime::create(simulated(workers));
    REQUIRE(made.has_value());
    REQUIRE((*made)->start().has_value());
    const int before = std::fegetround();
    std::string again;
    int rounds = -1, of_fiber = -1;
    bool clean = false;
    try {
      throw std::runtime_error("of the thread");
    } catch (const std::exception&) {
      std::fesetround(FE_UPWARD);
      auto other = (*made)->spawn([&] {
        of_fiber = std::fegetround();
        clean = std::current_exception() == nullptr;
        std::fesetround(FE_DOWNWARD);
        try {
          throw 1;
        } catch (int) {
          coir::this_fiber::yield();
        }
      });
      CHECK(other.join().has_value());
      rounds = std::fegetround();
      try {
        if (std::current_exception() != nullptr) throw;
      } catch (const std::exception& e) {
        again = e.what();
      }
    }
    std::fesetround(before);
    CHECK(clean);
    CHECK(of_fiber == FE_TONEAREST);
    CHECK(rounds == FE_UPWARD);
    CHECK(again == "of the thread");
    CHECK(std::uncaught_exceptions() == 0);
    CHECK((*made)->shutdown().has_value());
  }
}
