// worker_stacks_test.cpp: what a worker does with a fiber for which there is no stack.
//
// Always true:
//   - The limit is that of the address space, set in a child of its own, under a backend of the
//     test: who waits for whom is exact.
//
// Comes from: runtime/worker.hpp.   Goes to: ctest.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coir/coir.hpp"
#include "scripted_backend.hpp"
#include "tests/catalogue/process_facts.hpp"

namespace {

using scripted::script;

constexpr std::size_t large = std::size_t{8} << 20;
constexpr bool no_limit_works = COIR_ASAN || COIR_TSAN;  // their shadow is larger than any

/// While it lives no further stack can be mapped.
struct no_address_space {
  no_address_space() {
    ::getrlimit(RLIMIT_AS, &before);
    const rlimit none{1, before.rlim_max};
    ::setrlimit(RLIMIT_AS, &none);
  }
  ~no_address_space() { ::setrlimit(RLIMIT_AS, &before); }
  rlimit before{};
};

/// What the body of a runtime found wrong, or 64 when it died of it.
template <class F>
int in_child(F body) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    script s;
    unsigned named = 0;
    coir::options o{.fibers_max = 64, .stack_bytes = 64 << 10};
    o.log = [&](const coir::log_record& l) {
      if (l.text.find("no further stack") != l.text.npos) ++named;
      if (l.text.find("RLIMIT_AS") == l.text.npos) named += 100;
    };
    int wrong = 0;
    if (scripted::run(
            s, [&] { wrong = body(); }, std::move(o)))
      wrong |= 16;
    ::_exit(named == 1 ? wrong : wrong | 32);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 64;
}

/// A worker for which there is one stack, its root's: all others are a neighbour's.
class one_stack {
 public:
  one_stack(script& s, unsigned fibers)
      : core(scripted::make_core(s, {.fibers_max = fibers})), neighbour_(*core->pool) {
    while (const coir::detail::stack one = neighbour_.take(core->stack_class))
      others_.push_back(one);
    REQUIRE(others_.size() > 1);
    give_one();
  }
  ~one_stack() {
    for (const coir::detail::stack& each : others_) neighbour_.give(each);
  }
  one_stack(const one_stack&) = delete;
  one_stack& operator=(const one_stack&) = delete;
  void give_one() {
    neighbour_.give(others_.back());
    neighbour_.flush();
    others_.pop_back();
  }

  const std::unique_ptr<coir::detail::runtime_core> core;

 private:
  coir::detail::stack_cache neighbour_;
  std::vector<coir::detail::stack> others_;
};

}  // namespace

TEST_CASE(
    "worker: a fiber without a stack stays unstarted until one is returned, and one line says so") {
  if (no_limit_works) return;
  CHECK(in_child([] {
          int wrong = 0;
          auto none = std::make_unique<no_address_space>();
          auto other = coir::spawn([] {}, {.stack_bytes = 64 << 10});
          auto waiting = coir::spawn([] { return 7; }, {.stack_bytes = large});
          // The worker has nothing else to do for three whole sleeps.
          for (int i = 0; i < 3; ++i)
            if (!coir::this_fiber::sleep_for(std::chrono::seconds(1))) wrong |= 1;
          if (waiting.done()) wrong |= 2;
          none.reset();
          if (!other.join()) wrong |= 4;
          if (const auto answer = waiting.join(); !answer || *answer != 7) wrong |= 8;
          return wrong;
        }) == 0);
}

TEST_CASE("worker: a stack that comes back while a worker goes to sleep keeps it awake") {
  script s;
  auto core = scripted::make_core(s, {.fibers_max = 1});
  REQUIRE(core != nullptr);
  coir::detail::stack_cache neighbour(*core->pool);
  std::vector<coir::detail::stack> all;
  while (const coir::detail::stack one = neighbour.take(core->stack_class)) all.push_back(one);
  REQUIRE(!all.empty());
  // Between the first look and the announcement: who gives sees a worker that is awake.
  s.on_ready = [&] {
    for (const coir::detail::stack& each : std::exchange(all, {})) neighbour.give(each);
    neighbour.flush();
  };
  bool ran = false;
  {
    auto root = scripted::spawn_on(*core, [&] { ran = true; });
    CHECK_FALSE(core->run_here());
  }
  CHECK(ran);
  CHECK(s.slept_for_ever == 0);
}

TEST_CASE("worker: a fiber that is cancelled before it got a stack ends without one") {
  script s;
  one_stack only(s, 2);
  std::error_code told;
  {
    auto root = scripted::spawn_on(*only.core, [&] {
      auto child = coir::spawn([] {});
      child.cancel();
      told = child.join().error();
    });
    CHECK_FALSE(only.core->run_here());
  }
  CHECK(told == std::errc::operation_canceled);
}

TEST_CASE("worker: who gets no stack may own a number that its neighbour waits on") {
  script s;
  one_stack only(s, 2);
  s.on_cancel_fd = [&s](int) { s.complete(s.submitted.front().name, -ECANCELED); };
  const int fd = ::dup(0);
  REQUIRE(fd >= 0);
  std::error_code told, ended;
  {
    auto root = scripted::spawn_on(*only.core, [&] {
      std::byte b{};
      auto reading = coir::start(coir::read_operation(fd, {&b, 1}));
      auto child = coir::spawn([owned = coir::io::unique_fd(fd)] { (void)owned; });
      child.cancel();
      // Its closure ends in the loop, and closes what the read is under way on.
      told = child.join().error();
      ended = reading.get().error();
    });
    CHECK_FALSE(only.core->run_here());
  }
  CHECK(told == std::errc::operation_canceled);
  CHECK(ended == std::errc::operation_canceled);
  CHECK(::fcntl(fd, F_GETFD) == -1);
}

// The sanitizer's own thread could give a stack back, as far as a worker can know.
TEST_CASE("worker: where all others only wait for one without a stack it ends with stack_limit" *
          doctest::skip(COIR_TSAN)) {
  REQUIRE(test::comes_down_to(1, &test::live_threads));
  script s;
  one_stack only(s, 3);
  std::error_code told, told_next;
  std::int64_t took_ns = 0;
  bool ran = false, next_ran = false;
  {
    auto root = scripted::spawn_on(*only.core, [&] {
      // Nobody joins them before both are gone, so that nobody runs in between.
      coir::event gone;
      std::shared_ptr<void> held(&gone, [](void* both) { static_cast<coir::event*>(both)->set(); });
      auto child = coir::spawn([&ran, held] { ran = true; });
      auto sibling = coir::spawn([&ran, held] { ran = true; });
      held.reset();
      took_ns = -s.now_ns;
      CHECK(gone.wait().has_value());
      took_ns += s.now_ns;
      told = child.join().error();
      told_next = sibling.join().error();
      // And a moment later, when there is one again, the next is not harmed.
      only.give_one();
      next_ran = coir::spawn([] {}).join().has_value();
    });
    (void)only.core->run_here();
  }
  CHECK(told == coir::errc::stack_limit);
  CHECK(told_next == coir::errc::stack_limit);
  CHECK(took_ns >= 2'000'000'000);  // a second each: one who goes on might give a stack back
  CHECK_FALSE(ran);
  CHECK(next_ran);
}

TEST_CASE("worker: where a thread might bring a stack whoever has none waits on") {
  script s;
  one_stack only(s, 2);
  std::atomic<bool> over = false;
  std::thread bystander([&] { over.wait(false); });
  unsigned looks = 0;
  s.on_wait = [&](std::int64_t until_ns) {
    if (until_ns == coir::detail::never_ns || ++looks != 300) return;
    only.give_one();
  };
  coir::result<int> answer = 0;
  {
    auto root =
        scripted::spawn_on(*only.core, [&] { answer = coir::spawn([] { return 7; }).join(); });
    (void)only.core->run_here();
  }
  over = true;
  over.notify_all();
  bystander.join();
  CHECK(answer == 7);
  CHECK(looks >= 300);
}

TEST_CASE("worker: where no stack can ever come back the oldest ends with stack_limit") {
  if (no_limit_works) return;
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    script s;
    coir::options o{.fibers_max = 64, .stack_bytes = large};
    o.log = [](const coir::log_record&) {};
    auto core = scripted::make_core(s, std::move(o));
    if (core == nullptr) ::_exit(1);
    auto first = scripted::spawn_on(*core, [] { return 1; });
    // Refused where a mailbox holds only one.
    auto second = spawn_at_once(
        core.get(), [] { return 2; }, {}, coir::site::here());
    const no_address_space none;
    (void)core->run_here();
    const bool told = first.join().error() == coir::errc::stack_limit &&
                      (!second || second->join().error() == coir::errc::stack_limit);
    if (!told) ::_exit(2);
    ::_exit(s.now_ns < 1'000'000 ? 0 : 3);  // at once, not after it has looked again
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
