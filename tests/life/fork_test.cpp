// fork_test.cpp: what a fork leaves: an inherited runtime that answers, a parent that loses
// nothing, and a child that may have its own.
//
// Always true:
//   - A child says what was wrong by its exit code, and its own alarm ends it.
//   - The child of a process with threads starts threads of its own, which the thread sanitizer
//     does not allow: there those cases do not run. Nor does, with the address sanitizer, the one
//     that forks while another thread allocates: its allocator's locks stay held in the child.
//
// Comes from: runtime/registry.hpp.   Goes to: fork(2).
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "runtime/base.hpp"
#include "tests/catalogue/child.hpp"
#include "tests/catalogue/process_facts.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;

namespace {

template <class T>
bool refused(const coir::result<T>& answer, std::error_code why = coir::errc::foreign_runtime) {
  return !answer && answer.error() == why;
}

/// What the parent made, and what of it is wrong in the child; 0: nothing.
struct inheritance {
  coir::runtime& rt;
  coir::handle<int> ended;
  coir::handle<void> parked;
  coir::scope children;
  coir::event& never_set;

  int mistakes() {
    int wrong = 0;
    if (!refused(rt.start())) wrong |= 1;
    if (!refused(rt.shutdown())) wrong |= 1;
    if (!refused(rt.run([] {}))) wrong |= 2;
    if (!refused(rt.spawn([] {}).join())) wrong |= 2;
    if (!refused(rt.try_spawn([] {}))) wrong |= 2;
    if (!rt.snapshot().workers.empty()) wrong |= 4;
    if (rt.workers() != 2) wrong |= 4;
    if (!refused(parked.join())) wrong |= 8;
    if (!refused(coir::wait(parked.id()))) wrong |= 8;
    if (parked.done()) wrong |= 8;
    if (!refused(children.join())) wrong |= 16;
    if (children.live() != 0) wrong |= 16;
    children.cancel();
    parked.cancel();
    rt.request_stop();
    never_set.set();  // it lets only those go who are in this process
    if (!never_set.is_set()) wrong |= 32;
    if (!refused(ended.join())) wrong |= 32;
    parked.detach();
    ended.detach();
    return wrong;
  }
};

/// That the calls of a fiber find a plain thread.
int mistakes_as_fiber() {
  const std::error_code none = coir::errc::not_in_fiber;
  int wrong = 0;
  std::byte b{};
  coir::this_fiber::yield();
  if (coir::this_fiber::id() != coir::fiber_id{}) wrong |= 1;
  if (!refused(coir::perform(coir::nop{}), none)) wrong |= 2;
  if (!refused(coir::io::read(0, {&b, 1}), none)) wrong |= 2;
  if (!refused(coir::try_spawn([] {}), none)) wrong |= 4;
  if (!refused(coir::spawn([] {}).join(), none)) wrong |= 4;
  if (!refused(coir::this_fiber::move_to(0), none)) wrong |= 8;
  if (!coir::this_fiber::sleep_for(std::chrono::microseconds(1))) wrong |= 8;
  if (!coir::snapshot().workers.empty()) wrong |= 16;
  if (coir::blocking([] { return 3; }).value() != 3) wrong |= 16;
  coir::mutex m;
  m.lock();
  if (m.try_lock()) wrong |= 32;
  m.unlock();
  return wrong;
}

int exit_code_of(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/// fork(2) whose child ends by an alarm, if by nothing else.
pid_t forked() {
  const pid_t child = ::fork();
  if (child == 0) ::alarm(60);
  return child;
}

/// When everybody else sleeps. The child of another moment may wait for a lock of a sanitizer's
/// that a thread held which is not there.
pid_t forked_in_silence() {
  while (!test::others_sleep()) std::this_thread::yield();
  return forked();
}

}  // namespace

TEST_CASE(
    "life: after a fork every call of an inherited runtime answers, and the parent's goes on") {
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  coir::event never_set;
  inheritance all{rt, rt.spawn([] { return 4; }), {}, {}, never_set};
  while (!all.ended.done()) coir::this_fiber::yield();
  std::atomic<unsigned> ended{0};
  all.parked = rt.spawn([&] { ended.fetch_add(never_set.wait() ? 1 : 100); });
  auto inner =
      rt.spawn([&] { all.children.spawn([&] { ended.fetch_add(never_set.wait() ? 1 : 100); }); });
  REQUIRE(inner.join().has_value());
  const pid_t child = forked_in_silence();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(all.mistakes());
  CHECK(exit_code_of(child) == 0);
  // Nobody here was cancelled, stopped or woken by what the child did.
  CHECK(all.ended.join().value() == 4);
  CHECK(rt.spawn([] { return 5; }).join().value() == 5);
  CHECK(ended == 0);
  never_set.set();
  CHECK(all.parked.join().has_value());
  CHECK(all.children.join().has_value());
  CHECK(ended == 2);
  CHECK(rt.shutdown().has_value());
}

TEST_CASE("life: a fiber that forks is a plain thread in the child, and goes on in the parent") {
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  const auto done = rt.run([&rt] {
    coir::event never_set;
    inheritance all{rt, coir::spawn([] { return 4; }), {}, {}, never_set};
    while (!all.ended.done()) coir::this_fiber::yield();
    all.parked = coir::spawn([&] { return never_set.wait(); });
    all.children.spawn([&] { return never_set.wait(); });
    coir::this_fiber::yield();
    const pid_t child = forked_in_silence();
    if (child == 0) ::_exit(mistakes_as_fiber());
    const pid_t heir = forked_in_silence();
    if (heir == 0) ::_exit(all.mistakes());
    CHECK(coir::blocking([child] { return exit_code_of(child); }).value() == 0);
    CHECK(coir::blocking([heir] { return exit_code_of(heir); }).value() == 0);
    CHECK(all.ended.join().value() == 4);
    never_set.set();
    CHECK(all.parked.join().has_value());
    CHECK(all.children.join().has_value());
    return 6;
  });
  CHECK(done.value() == 6);
  CHECK(rt.shutdown().has_value());
}

TEST_CASE("life: the child of a fiber's fork hears the signals that a worker does not, anywhere") {
  const auto processors = [] {
    cpu_set_t mask;
    return ::sched_getaffinity(0, sizeof mask, &mask) == 0 ? CPU_COUNT(&mask) : 0;
  };
  const int before = processors();
  const int slack = ::prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
  auto made = coir::runtime::create(tested({.workers = 1, .pin_workers = true}));
  REQUIRE(made.has_value());
  const auto done = (*made)->run([&] {
    sigset_t mask;
    CHECK(::pthread_sigmask(SIG_SETMASK, nullptr, &mask) == 0);
    CHECK(::sigismember(&mask, SIGTERM) == 1);
    const auto fork_and_look = [&] {
      const pid_t child = forked();
      if (child != 0) return child;
      int wrong = ::pthread_sigmask(SIG_SETMASK, nullptr, &mask);
      if (::sigismember(&mask, SIGTERM) != 0 || ::sigismember(&mask, SIGALRM) != 0) wrong |= 2;
      if (processors() != before) wrong |= 4;
      if (::prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) != slack) wrong |= 8;
      ::_exit(wrong);
    };
    const pid_t by_fiber = fork_and_look();
    CHECK(coir::blocking([&] { return exit_code_of(by_fiber); }).value() == 0);
    CHECK(coir::blocking([&] { return exit_code_of(fork_and_look()); }).value() == 0);
  });
  CHECK(done.has_value());
}

namespace {

// In the child of a fork it is asked before the library is, which is loaded, or begun, later.
std::atomic<bool> raises_in_child{false};
void raise_in_child() {
  if (raises_in_child) ::raise(SIGUSR2);
}
[[gnu::constructor(101)]] void before_the_library() {
  (void)::pthread_atfork(nullptr, nullptr, &raise_in_child);
}

std::atomic<int> heard_by_program{0};
void hear(int) { ++heard_by_program; }

}  // namespace

// ThreadSanitizer holds a signal back until the thread that got it makes a call that it knows.
TEST_CASE("life: what the child of a fork is sent at once is its own, and not the parent's" *
          doctest::skip(COIR_TSAN)) {
  struct sigaction ours {
  }, before{};
  ours.sa_handler = &hear;
  REQUIRE(::sigaction(SIGUSR2, &ours, &before) == 0);
  const auto fork_and_look = [] {
    const pid_t child = forked();
    if (child == 0) ::_exit(heard_by_program == 1 ? 0 : 1);
    return child;
  };
  std::atomic<bool> go_on{false};
  int by_thread = -1;
  std::thread plain([&] {
    while (!go_on) std::this_thread::yield();
    by_thread = exit_code_of(fork_and_look());
  });
  auto made = coir::runtime::create(tested({.workers = 1}));
  REQUIRE(made.has_value());
  const auto done = (*made)->run([&] {
    auto listening = coir::signals::create({SIGUSR2});
    REQUIRE(listening.has_value());
    raises_in_child = true;
    const pid_t by_fiber = fork_and_look();
    CHECK(coir::blocking([&] { return exit_code_of(by_fiber); }).value() == 0);
    CHECK(coir::blocking([&] { return exit_code_of(fork_and_look()); }).value() == 0);
    go_on = true;
    CHECK(coir::blocking([&] { plain.join(); }).has_value());
    CHECK(by_thread == 0);
    raises_in_child = false;
    // All three children are gone, and what they wrote would be here.
    CHECK(listening->next(coir::no_wait).error() == std::errc::timed_out);
  });
  CHECK(done.has_value());
  CHECK(heard_by_program == 0);
  CHECK(::sigaction(SIGUSR2, &before, nullptr) == 0);
}

// ThreadSanitizer holds a signal back until the thread that got it makes a call that it knows.
TEST_CASE("life: signals that the parent listens to are the child's own again, and may be taken" *
          doctest::skip(COIR_TSAN)) {
  struct sigaction before {};
  REQUIRE(::sigaction(SIGUSR2, nullptr, &before) == 0);
  auto made = coir::runtime::create(tested({.workers = 1}));
  REQUIRE(made.has_value());
  const auto done = (*made)->run([&] {
    auto listening = coir::signals::create({SIGUSR2});
    REQUIRE(listening.has_value());
    const pid_t child = forked();
    if (child == 0) {
      struct sigaction now {};
      int wrong = ::sigaction(SIGUSR2, nullptr, &now);
      if (now.sa_handler != before.sa_handler) wrong |= 2;
      {
        auto own = coir::signals::create({SIGUSR2});
        if (!own) wrong |= 4;
        if (listening->next().error() != coir::errc::foreign_runtime) wrong |= 8;
        *listening = std::move(*own);  // the end of the parent's takes nothing away
      }
      if (::sigaction(SIGUSR2, nullptr, &now) != 0 || now.sa_handler == before.sa_handler)
        wrong |= 16;
      ::_exit(wrong);
    }
    CHECK(coir::blocking([child] { return exit_code_of(child); }).value() == 0);
    CHECK(::kill(::getpid(), SIGUSR2) == 0);
    CHECK(listening->next() == SIGUSR2);
  });
  CHECK(done.has_value());
}

TEST_CASE("life: a body that returns in the child of its fork ends the child and is named") {
  const test::ending end = test::in_child([] {
    (void)coir::run(
        [] {
          auto forking = coir::spawn(
              [] {
                const pid_t child = ::fork();
                if (child != 0) ::_exit(exit_code_of(child) == -SIGABRT ? 0 : 1);
              },
              {.name = "forking"});
          (void)forking.join();
        },
        tested({.workers = 1}));
  });
  CHECK(end.code == 0);
  CHECK(end.says("'forking' ("));
  CHECK(end.says("returned in the child of a fork"));
}

TEST_CASE("life: a child may have its own runtime, forked off by a thread, a fiber or a child" *
          doctest::skip(COIR_TSAN)) {
  const auto own = [] {
    const auto sum = coir::run(
        [] {
          coir::scope all;
          std::atomic<int> sum{0};
          for (int i = 0; i < 20; ++i)
            all.spawn([&sum, i] {
              if (coir::perform(coir::nop{})) sum.fetch_add(i);
            });
          (void)all.join();
          return sum.load();
        },
        tested({.workers = 2}));
    return sum && *sum == 190 ? 0 : 1;
  };
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  const pid_t of_thread = forked_in_silence();
  if (of_thread == 0) {
    if (own() != 0) ::_exit(1);
    auto second = coir::runtime::create(tested({.workers = 1}));  // alive while it forks again
    if (!second || !(*second)->start()) ::_exit(2);
    const pid_t grandchild = forked_in_silence();
    if (grandchild == 0) ::_exit(refused((*second)->try_spawn([] {})) ? own() : 3);
    ::_exit(exit_code_of(grandchild));
  }
  CHECK(exit_code_of(of_thread) == 0);
  auto of_fiber = (*made)->spawn([&] {
    const pid_t child = forked_in_silence();
    if (child == 0) ::_exit(own());
    return coir::blocking([child] { return exit_code_of(child); });
  });
  CHECK(of_fiber.join().value() == 0);
  CHECK((*made)->shutdown().has_value());
}

TEST_CASE("life: a process may be forked while another thread creates and destroys runtimes" *
          doctest::skip(COIR_TSAN || COIR_ASAN)) {
  std::atomic<bool> enough{false};
  std::atomic<unsigned> lives{0};
  std::thread living([&] {
    std::vector<std::unique_ptr<coir::runtime>> others;
    while (!enough) {
      // A list that grows is moved now and then; and one that ends is taken out of it.
      if (others.size() == 5) others.clear();
      auto made = coir::runtime::create(tested({.workers = 1, .fibers_max = 64}));
      if (made) others.push_back(std::move(*made));
      ++lives;
    }
  });
  while (lives == 0) std::this_thread::yield();
  for (unsigned i = 0; i < at_full_speed(40u, 10u); ++i) {
    const pid_t child = forked();
    REQUIRE(child >= 0);
    if (child == 0)
      ::_exit(coir::run([] { return 7; }, tested({.workers = 1})).value_or(0) == 7 ? 0 : 1);
    CHECK(exit_code_of(child) == 0);
  }
  enough = true;
  living.join();
}

TEST_CASE("life: a parent that forks again and again under load loses no byte and no message") {
  constexpr unsigned forks = at_full_speed(200u, 20u);
  auto made = coir::runtime::create(tested({.workers = 2}));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  REQUIRE(rt.start().has_value());
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  std::atomic<bool> enough{false};
  std::uint64_t sent = 0, got = 0, rounds = 0;
  auto writer = rt.spawn(
      [&] {
        std::array<std::byte, 100> some{};
        while (!enough && coir::io::write_all(ends[1], some)) sent += some.size();
        return coir::io::close(ends[1]);
      },
      {.worker = 0});
  auto reader = rt.spawn(
      [&] {
        std::array<std::byte, 256> some{};
        for (;;) {
          const auto n = coir::io::read(ends[0], some);
          if (!n || *n == 0) return n.has_value();
          got += *n;
        }
      },
      {.worker = 1});
  auto sender = rt.spawn(
      [&] {
        while (!enough) {
          const unsigned to = static_cast<unsigned>(rounds % 2);
          if (coir::spawn([to] { return to; }, {.worker = to}).join().value() != to) return false;
          ++rounds;
        }
        return true;
      },
      {.worker = 0});
  for (unsigned i = 0; i < forks; ++i) {
    const pid_t child = forked();
    REQUIRE(child >= 0);
    if (child == 0) {
      rt.request_stop();
      sender.cancel();
      ::_exit(0);
    }
    REQUIRE(exit_code_of(child) == 0);
  }
  enough = true;
  CHECK(sender.join().value());
  CHECK(writer.join().has_value());
  // A child that holds the writing end for a moment longer only delays the end of the file.
  CHECK(reader.join().value());
  CHECK(sent > 0);
  CHECK(got == sent);
  CHECK(rounds > 0);
  ::close(ends[0]);
  CHECK(rt.shutdown().has_value());
  const auto sums = rt.snapshot().total();
  CHECK(sums.spawned == sums.finished);
  CHECK(sums.stale_tokens == 0);
}
