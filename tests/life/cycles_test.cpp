// cycles_test.cpp: a runtime that has ended has given back everything, however often.
//
// Always true:
//   - What the process holds is counted after some lives and again at the end: a library keeps a
//     little for the next time (the stacks of threads, heaps), but the same each time.
//
// Comes from: runtime/runtime.cpp, runtime/uring_setup.cpp.   Goes to: /proc/self.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "coir/coir.hpp"
#include "tests/catalogue/child.hpp"
#include "tests/catalogue/process_facts.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::tested;

namespace {

/// What a process has at one moment.
struct holdings {
  std::size_t threads, descriptors, mappings;

  /// Rings and threads end a moment after they were given up.
  bool come_back() const {
    return test::comes_down_to(threads, &test::live_threads) &&
           test::comes_down_to(descriptors, &test::open_fds) &&
           test::comes_down_to(mappings, &test::mappings);
  }
  // A sanitizer maps memory of its own as it goes.
  static holdings now() {
    return {test::live_threads(), test::open_fds(),
            at_full_speed(0u, 1u) == 0 ? test::mappings() : SIZE_MAX};
  }
};

/// One life, a little different each time; false: something in it was refused.
bool live(unsigned which, unsigned ring_entries) {
  auto made = coir::runtime::create(
      tested({.workers = 1 + which % 2, .fibers_max = 1'024, .ring_entries = ring_entries}));
  if (!made) return false;
  coir::runtime& rt = **made;
  if (which % 8 == 7) return rt.shutdown().has_value();  // never started
  if (!rt.start()) return false;
  if (which % 2 == 0) {
    auto parks = rt.spawn([] { return coir::perform(coir::nop{}); });
    if (!parks.join()) return false;
  }
  if (which % 16 == 3) {
    auto elsewhere = rt.spawn([] { return coir::blocking([] { return 1; }); });
    if (!elsewhere.join()) return false;
  }
  if (which % 16 == 5) {
    auto reads = rt.spawn([]() -> coir::result<> {
      const auto file = coir::io::open("/proc/self/status", O_RDONLY);
      if (!file) return coir::fail(file.error());
      std::array<std::byte, 64> some{};
      const auto n = coir::io::read(*file, some);
      const auto closed = coir::io::close(*file);
      return n ? closed : coir::fail(n.error());
    });
    if (!reads.join()) return false;
  }
  return which % 4 == 1 || rt.shutdown().has_value();  // or its destructor does it
}

/// How many of `cycles` lives were refused.
unsigned refused_lives(unsigned cycles, unsigned ring_entries) {
  unsigned refused = 0;
  for (unsigned i = 0; i < cycles && refused < 10; ++i)
    if (!live(i, ring_entries)) ++refused;
  return refused;
}

/// The C library gives each thread that allocates an arena, and keeps those of threads that ended
/// for the next ones: it shall have as many as ever lived at once, before anything is counted.
void have_arenas() {
  // Two workers, one that is just ending, and the pool: where a ring was refused for want of locked
  // memory, as many threads as poll has for files.
  std::array<std::thread, 24> all;
  std::atomic<unsigned> ready{0};
  for (std::thread& t : all)
    t = std::thread([&] {
      const auto some = std::make_unique<char[]>(64);
      ++ready;
      while (ready.load() < all.size()) std::this_thread::yield();
    });
  for (std::thread& t : all) t.join();
}

}  // namespace

TEST_CASE("life: thousands of lives with rings of 1,024 entries give everything back") {
  have_arenas();
  REQUIRE(refused_lives(at_full_speed(200u, 50u), 1'024) == 0);
  const holdings before = holdings::now();
  REQUIRE(refused_lives(at_full_speed(10'000u, 200u), 1'024) == 0);
  const bool all_back = before.come_back();
  const holdings after = holdings::now();
  CAPTURE(before.threads);
  CAPTURE(after.threads);
  CAPTURE(before.descriptors);
  CAPTURE(after.descriptors);
  CAPTURE(before.mappings);
  CAPTURE(after.mappings);
  CHECK(all_back);
}

TEST_CASE("life: thousands of lives as nobody, whose memory lock is small, give everything back") {
  // Most of the time is spent waiting for memory; `./dev soak` goes all the way.
  const unsigned cycles =
      std::getenv("COIR_TEST_SOAK") != nullptr ? 10'000u : at_full_speed(2'000u, 200u);
  const test::ending end = test::in_child(
      [cycles] {
        // Somebody without rights and without another process: what is locked counts per user.
        const auto nobody = 100'000u + static_cast<unsigned>(::getpid());
        if (::geteuid() == 0 &&
            (::setgroups(0, nullptr) != 0 || ::setgid(nobody) != 0 || ::setuid(nobody) != 0))
          ::_exit(1);
        ::prctl(PR_SET_DUMPABLE, 1);  // else its own /proc/self is not its own
        // Room for a few lives: rings are torn down a moment after they were closed, and the next
        // one has to wait for that.
        const rlimit few = {2 << 20, 2 << 20};
        if (::setrlimit(RLIMIT_MEMLOCK, &few) != 0) ::_exit(2);
        have_arenas();
        if (refused_lives(at_full_speed(50u, 20u), 1'024) != 0) ::_exit(3);
        const holdings before = holdings::now();
        if (const unsigned refused = refused_lives(cycles, 1'024); refused != 0) ::_exit(4);
        if (!before.come_back()) {
          const holdings after = holdings::now();
          std::fprintf(stderr, "threads %zu, %zu descriptors %zu, %zu mappings %zu, %zu\n",
                       before.threads, after.threads, before.descriptors, after.descriptors,
                       before.mappings, after.mappings);
          ::_exit(5);
        }
        ::_exit(0);
      },
      900);
  CHECK_MESSAGE(end.code == 0, end.text);
  CHECK(end.signal == 0);
}
