// c_api_test.cpp: what happens where C and C++ meet, and the sentences of the C interface that a
// mutant breaks. The rest of it is tested from C, in tests/c.
//
// Comes from: ctest.   Goes to: coir.h.
#include <coir.h>
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <coir/coir.hpp>
#include <new>
#include <stdexcept>
#include <string>

#include "runtime/base.hpp"
#include "tests/catalogue/process_facts.hpp"
#include "tests/test_options.hpp"

using test::tested;
using test::tested_config;

namespace {

struct ending {
  int status = 0;
  std::string said;  // on stderr
};

/// Runs `body` in a child process, which must not return from it.
ending in_child(void (*body)()) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::signal(SIGABRT, SIG_DFL);  // doctest's handler would speak, too
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    body();
    ::_exit(0);
  }
  ::close(ends[1]);
  ending e;
  char text[256];
  for (ssize_t n; (n = ::read(ends[0], text, sizeof text)) > 0;)
    e.said.append(text, static_cast<std::size_t>(n));
  ::close(ends[0]);
  REQUIRE(::waitpid(child, &e.status, 0) == child);
  return e;
}

bool aborted(const ending& e) { return WIFSIGNALED(e.status) && WTERMSIG(e.status) == SIGABRT; }

intptr_t nothing(void*) { return 0; }
intptr_t throw_error(void*) { throw std::runtime_error("no more tea"); }
intptr_t throw_number(void*) { throw 42; }
void clean_throwing(void*) { throw std::runtime_error("no broom"); }

intptr_t spawn_thrower(void* body) {
  coir_spawn_options options{};
  options.size = sizeof options;
  options.name = "tea maker";
  coir_fiber fiber;
  if (coir_spawn(reinterpret_cast<coir_body>(body), nullptr, &options, &fiber) != 0) return 1;
  return coir_join(fiber, nullptr);
}

void run_thrower(coir_body thrower) {
  const coir_config config = tested_config(1);
  (void)coir_run(&config, &spawn_thrower, reinterpret_cast<void*>(thrower), nullptr);
}

}  // namespace

TEST_CASE("c_api: an exception that leaves a body ends the process with the fiber's name") {
  const ending e = in_child([] { run_thrower(&throw_error); });
  CHECK(aborted(e));
  CHECK(e.said ==
        "coir: fiber 'tea maker' (spawned by C): an exception left its body: no more tea\n");
}

TEST_CASE("c_api: an exception of any type ends the process") {
  const ending e = in_child([] { run_thrower(&throw_number); });
  CHECK(aborted(e));
  CHECK(e.said.find("fiber 'tea maker' (spawned by C): an exception left its body: ") !=
        std::string::npos);
}

TEST_CASE("c_api: an exception of the root's body names the root") {
  const ending e = in_child([] {
    const coir_config config = tested_config(1);
    (void)coir_run(&config, &throw_error, nullptr, nullptr);
  });
  CHECK(aborted(e));
  CHECK(e.said.find("fiber 'root' (spawned by C)") != std::string::npos);
}

TEST_CASE("c_api: an exception that leaves a cleanup ends the process with the fiber's name") {
  const ending e = in_child([] {
    (void)coir::run(
        [] {
          coir_spawn_options options{};
          options.size = sizeof options;
          options.name = "a name that is longer than a record keeps";
          options.cleanup = &clean_throwing;
          (void)coir_spawn(&nothing, nullptr, &options, nullptr);
        },
        tested({.workers = 1}));
  });
  CHECK(aborted(e));
  CHECK(e.said.find("fiber 'a name that is longer t' (spawned by C): an exception left its "
                    "cleanup: no broom") != std::string::npos);
}

TEST_CASE("c_api: exceptions inside a body are the body's own affair") {
  const auto catches = [](void*) -> intptr_t {
    try {
      coir_yield();
      throw std::runtime_error("caught");
    } catch (const std::runtime_error&) {
      coir_yield();
      return 6;
    }
  };
  const coir_config config = tested_config(2);
  intptr_t answer = 0;
  CHECK(coir_run(&config, catches, nullptr, &answer) == 0);
  CHECK(answer == 6);
}

TEST_CASE("c_api: what a handler throws is an errno to the C call that asked it") {
  const int answered = coir::handle_effects(
      [] {
        char byte = 0;
        return static_cast<int>(coir_read(0, &byte, 1));
      },
      coir::on<coir::read_operation>([](const coir::read_operation&) -> coir::result<std::size_t> {
        throw std::bad_alloc();
      }));
  CHECK(answered == -ENOMEM);
}

TEST_CASE("c_api: C code works on the fibers of a runtime that C++ made") {
  const auto answer = coir::run(
      []() -> coir::result<intptr_t> {
        const auto twice = [](void* argument) { return 2 * reinterpret_cast<intptr_t>(argument); };
        coir_fiber fiber;
        intptr_t value = 0;
        if (coir_spawn(twice, reinterpret_cast<void*>(4), nullptr, &fiber) != 0)
          return coir::fail(std::errc::io_error);
        if (coir_join(fiber, &value) != 0) return coir::fail(std::errc::io_error);
        return value;
      },
      tested({.workers = 2}));
  REQUIRE(answer);
  CHECK(*answer == 8);
}

// A deadlock is reported only while nobody outside could end it, and ThreadSanitizer's own thread
// might.
TEST_CASE("c_api: a deadlock of all fibers is an answer, not a hang" *
          doctest::skip(COIR_TSAN != 0)) {
  REQUIRE(test::comes_down_to(1, &test::live_threads));
  static coir::event never_set;
  const auto wait = [](void*) -> intptr_t { return never_set.wait() ? 0 : -1; };
  const coir_config config = tested_config(2);
  CHECK(coir_run(&config, wait, nullptr, nullptr) == -EDEADLK);
}

namespace {

/// A worker that is held up by a system call, so that its mailbox stays full.
struct full_house {
  int ends[2] = {-1, -1};
  unsigned other = 0;  // the worker that is held up
  std::atomic<bool> held_up{false};
  std::atomic<int> cleaned{0};
  int accepted = 0;
  int refused = 0;
  bool spawning = false;
  coir_fiber last{};

  static intptr_t hold_up(void* self) {
    auto& house = *static_cast<full_house*>(self);
    char byte;
    house.held_up = true;
    return ::read(house.ends[0], &byte, 1) == 1 ? 0 : 1;
  }
  static void clean(void* self) { ++static_cast<full_house*>(self)->cleaned; }

  coir_spawn_options there() const {
    coir_spawn_options options{};
    options.size = sizeof options;
    options.worker = static_cast<int>(other) + 1;
    return options;
  }

  /// Spawns to the held-up worker until a spawn is refused.
  static intptr_t fill(void* self) {
    auto& house = *static_cast<full_house*>(self);
    coir_spawn_options options = house.there();
    options.cleanup = &clean;
    house.spawning = true;
    while (house.refused == 0) {
      house.refused = coir_spawn(&nothing, self, &options, &house.last);
      if (house.refused == 0) ++house.accepted;
    }
    return 0;
  }

  static intptr_t root(void* self) {
    auto& house = *static_cast<full_house*>(self);
    house.other = 1 - coir::this_fiber::worker();
    const coir_spawn_options there = house.there();
    coir_spawn_options here{};
    here.size = sizeof here;
    here.worker = static_cast<int>(coir::this_fiber::worker()) + 1;
    coir_fiber filler;
    if (coir_spawn(&hold_up, self, &there, nullptr) != 0) return 1;
    while (!house.held_up) coir_yield();
    if (coir_spawn(&fill, self, &here, &filler) != 0) return 2;
    while (!house.spawning) coir_yield();  // and when this fiber runs again, it waits for room
    if (coir_cancel(filler) != 0 || coir_join(filler, nullptr) != 0) return 3;
    const int cleaned = house.cleaned;
    if (::write(house.ends[1], "x", 1) != 1) return 4;
    return cleaned == 0 ? 0 : 5;
  }
};

}  // namespace

TEST_CASE("c_api: a spawn that is cancelled while it waits for room leaves the argument alone") {
  COIR_NOT_IN_SIM(threads);
  full_house house;
  REQUIRE(::pipe(house.ends) == 0);
  coir_config config = tested_config(2);
  config.mailbox_slots = 1;
  intptr_t answer = -1;
  REQUIRE(coir_run(&config, &full_house::root, &house, &answer) == 0);
  CHECK(answer == 0);
  CHECK(house.refused == -ECANCELED);
  CHECK(coir_join(house.last, nullptr) == -EINVAL);
  CHECK(house.accepted > 0);
  CHECK(house.cleaned == house.accepted);
  ::close(house.ends[0]);
  ::close(house.ends[1]);
}

TEST_CASE("c_api: what is wrong with options as text is said in the log that comes with them") {
  std::string said;
  coir_config config = tested_config(1);
  config.options = "stak=1";
  config.log = [](const char* line, void* context) { *static_cast<std::string*>(context) = line; };
  config.log_context = &said;
  coir_runtime* runtime = nullptr;
  CHECK(coir_runtime_create(&config, &runtime) == -EINVAL);
  CHECK(said.find("'stak=1'") != said.npos);
}

TEST_CASE("c_api: a mutex is unlocked by who holds it only") {
  coir_mutex* mutex = nullptr;
  REQUIRE(coir_mutex_create(&mutex) == 0);
  CHECK(coir_mutex_unlock(mutex) == -EPERM);
  CHECK(coir_mutex_destroy(mutex) == 0);
}

TEST_CASE("c_api: a mutex that somebody holds is not destroyed") {
  coir_mutex* mutex = nullptr;
  REQUIRE(coir_mutex_create(&mutex) == 0);
  REQUIRE(coir_mutex_lock(mutex) == 0);
  REQUIRE(coir_mutex_destroy(mutex) == -EBUSY);
  CHECK(coir_mutex_unlock(mutex) == 0);
  CHECK(coir_mutex_destroy(mutex) == 0);
}

TEST_CASE("c_api: a wait that fails holds the mutex again") {
  coir_mutex* mutex = nullptr;
  coir_cond* cond = nullptr;
  REQUIRE(coir_mutex_create(&mutex) == 0);
  REQUIRE(coir_cond_create(&cond) == 0);
  REQUIRE(coir_mutex_lock(mutex) == 0);
  CHECK(coir_cond_wait_until(cond, mutex, INT64_MIN) == -ETIMEDOUT);
  CHECK(coir_mutex_unlock(mutex) == 0);
  CHECK(coir_mutex_destroy(mutex) == 0);
  CHECK(coir_cond_destroy(cond) == 0);
}
