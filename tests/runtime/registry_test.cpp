// registry_test.cpp: runtimes are found by their serial while they are there, and a fork is
// noticed: its child begins with none, and waits for nobody of the parent's.
//
// Comes from: runtime/registry.hpp.   Goes to: ctest.
#include "runtime/registry.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <thread>
#include <vector>

#include "coir/runtime.hpp"
#include "coir/scope.hpp"
#include "coir/sync.hpp"
#include "scripted_backend.hpp"
#include "tests/test_options.hpp"

using namespace coir::detail;

namespace {

std::vector<runtime_core*> listed() {
  std::vector<runtime_core*> all;
  for (std::uint32_t serial = 0;;) {
    const visit core = core_after(serial);
    if (!core) return all;
    serial = core->serial;
    all.push_back(&*core);
  }
}

runtime_core* found(std::uint32_t serial) { return &*find_core(serial); }

int exit_code_of(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/// A child that waits for ever is ended by this; a worker's thread blocks it.
void end_by_alarm() {
  sigset_t none{};
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  ::alarm(10);
}

std::atomic<coir::scope*> forked_while_told{nullptr};
std::atomic<pid_t> child_of_teller{0};

/// Called under the lock of the queue in which the thread stood that is told.
void fork_and_count() noexcept {
  coir::scope* const children = forked_while_told.exchange(nullptr);
  if (children == nullptr) return;
  const pid_t child = ::fork();
  if (child == 0) {
    end_by_alarm();
    ::_exit(children->live() == 0 && !children->join() ? 0 : 1);
  }
  child_of_teller = child;
}

}  // namespace

TEST_CASE("registry: a runtime is found by its serial from its creation to its end") {
  scripted::script s;
  auto one = scripted::make_core(s);
  auto two = scripted::make_core(s);
  REQUIRE(one != nullptr);
  REQUIRE(two != nullptr);
  const std::uint32_t gone = one->serial;
  CHECK(gone != two->serial);
  CHECK(found(gone) == one.get());
  CHECK(found(two->serial) == two.get());
  CHECK(std::ranges::count(listed(), one.get()) == 1);
  one.reset();
  CHECK_FALSE(find_core(gone));
  CHECK(found(two->serial) == two.get());
  one = scripted::make_core(s);
  CHECK(one->serial != gone);
}

TEST_CASE("registry: a runtime that somebody looks into is destroyed only when he has gone") {
  scripted::script s;
  auto core = scripted::make_core(s);
  REQUIRE(core != nullptr);
  const std::uint32_t serial = core->serial;
  std::atomic<bool> destroyed{false};
  std::thread destroyer;
  {
    const visit guest = find_core(serial);
    const visit visitor = core_after(serial - 1);
    REQUIRE(&*guest == &*visitor);
    REQUIRE(guest->guests.load() == 1);
    REQUIRE(guest->visitors.load() == 1);
    destroyer = std::thread([&] {
      core.reset();
      destroyed = true;
    });
    while (find_core(serial)) std::this_thread::yield();
    CHECK_FALSE(destroyed);
  }
  destroyer.join();
  CHECK(destroyed);
}

TEST_CASE("registry: workers spin as long as all of the process may have a processor each") {
  // A machine of four processors, whatever this one is.
  const machine four({{0}, {1}, {2}, {3}});
  const quota_files no_quota{"/dev/null", "/dev/null"};
  scripted::script s;
  const auto make = [&](unsigned workers) {
    const auto outside = [&s](unsigned, const coir::options&) {
      return coir::result<std::unique_ptr<backend>>(std::make_unique<scripted::outside>(s));
    };
    auto made = runtime_core::create(test::tested({.workers = workers}), outside, four, no_quota);
    REQUIRE(made.has_value());
    return std::move(*made);
  };
  const auto spins = [](const std::unique_ptr<runtime_core>& core) {
    return core->spin_pays.load();
  };
  const auto first = make(2), second = make(2), third = make(1), large = make(5);
  count_workers(*first, true);
  CHECK(spins(first));
  count_workers(*large, true);
  CHECK_FALSE(spins(large));  // for which alone there would be too few
  count_workers(*large, false);
  count_workers(*second, true);
  count_workers(*second, true);
  CHECK(spins(first));
  CHECK(spins(second));
  count_workers(*third, true);
  CHECK_FALSE(spins(first));
  CHECK_FALSE(spins(second));
  count_workers(*second, false);
  CHECK(spins(first));
  {
    const auto passing = make(2);
    count_workers(*passing, true);
    CHECK_FALSE(spins(first));
  }
  CHECK(spins(first));
  count_workers(*first, false);
  count_workers(*third, false);
}

TEST_CASE("registry: a runtime counts from its start to the end of its threads") {
  COIR_NOT_IN_SIM(threads);
  scripted::script s;
  auto watching = scripted::make_core(s, {}, 2);
  REQUIRE(watching != nullptr);
  count_workers(*watching, true);
  const bool alone = watching->spin_pays.load();
  CHECK(alone == (watching->processors() >= 2));
  // As many as there are processors, beside those two.
  auto other = coir::runtime::create(test::tested({.workers = watching->processors()}));
  REQUIRE(other.has_value());
  CHECK(watching->spin_pays.load() == alone);
  REQUIRE((*other)->start().has_value());
  CHECK_FALSE(watching->spin_pays.load());
  CHECK((*other)->shutdown().has_value());
  CHECK(watching->spin_pays.load() == alone);
  count_workers(*watching, false);
}

TEST_CASE("registry: the child of a fork knows that its runtimes are inherited") {
  auto made = coir::runtime::create(test::tested({.workers = 1}));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  const unsigned before = fork_generation();
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const auto refused = [](const auto& r) {
      return !r.has_value() && r.error() == coir::errc::foreign_runtime;
    };
    int wrong = 0;
    if (fork_generation() != before + 1) wrong |= 1;
    if (!refused((*made)->try_spawn([] {}))) wrong |= 2;
    if (!refused((*made)->shutdown(coir::no_wait))) wrong |= 4;
    if (!refused((*made)->start())) wrong |= 8;
    ::_exit(wrong);
  }
  CHECK(exit_code_of(child) == 0);
  CHECK(fork_generation() == before);
  CHECK((*made)->spawn([] { return 3; }).join().value() == 3);
  CHECK((*made)->shutdown().has_value());
}

TEST_CASE("registry: the child of a fork begins with no runtime, and serials go on") {
  scripted::script s;
  const auto core = scripted::make_core(s);
  REQUIRE(core != nullptr);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int wrong = 0;
    if (!listed().empty()) wrong |= 1;
    if (find_core(core->serial)) wrong |= 2;
    const auto own = scripted::make_core(s);
    if (own == nullptr || own->serial <= core->serial) ::_exit(4);
    if (listed() != std::vector{own.get()}) wrong |= 8;
    if (found(own->serial) != own.get()) wrong |= 16;
    ::_exit(wrong);
  }
  CHECK(exit_code_of(child) == 0);
  CHECK(found(core->serial) == core.get());
}

TEST_CASE("registry: the child of a fork waits for no lock that a thread of the parent held") {
  COIR_NOT_IN_SIM(threads);
  auto made = coir::runtime::create(test::tested({.workers = 1}));
  REQUIRE(made.has_value());
  REQUIRE((*made)->start().has_value());
  SUBCASE("of a scope, when a worker forks while it tells who waits for the children") {
    const auto told_usually = thread_was_woken.load();
    child_of_teller = 0;
    // A child that has ended before the thread stands there tells nobody.
    while (child_of_teller == 0) {
      coir::event may_end;
      coir::scope children;
      REQUIRE((*made)->spawn([&] { children.spawn([&] { return may_end.wait(); }); }).join());
      thread_was_woken = &fork_and_count;
      forked_while_told = &children;
      std::atomic<bool> there{false};
      std::thread waiting([&] {
        there = true;
        CHECK(children.join().has_value());
      });
      while (!there) std::this_thread::yield();
      for (int i = 0; i < 100; ++i) std::this_thread::yield();
      may_end.set();
      waiting.join();
      forked_while_told = nullptr;
      thread_was_woken = told_usually;
    }
    CHECK(exit_code_of(child_of_teller) == 0);
  }
  SUBCASE("of the room where they wait for a record, when an ended fiber is let go of") {
    auto ended = (*made)->spawn([] { return 3; });
    while (!ended.done()) std::this_thread::yield();
    runtime_core& core = *find_core(ended.id().runtime);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      end_by_alarm();
      // As those who were there would have left it.
      core.starving = 1;
      core.room.lock = 1;
      ended.detach();
      ::_exit(0);
    }
    CHECK(exit_code_of(child) == 0);
    CHECK(ended.join().value() == 3);
  }
  CHECK((*made)->shutdown().has_value());
}
