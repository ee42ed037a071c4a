// registry_test.cpp: runtimes are found by their serial while they are there, and a fork is
// noticed.
//
// Comes from: runtime/registry.hpp.   Goes to: ctest.
#include "runtime/registry.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "coir/runtime.hpp"
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
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(fork_generation() == before);
  CHECK((*made)->spawn([] { return 3; }).join().value() == 3);
  CHECK((*made)->shutdown().has_value());
}
