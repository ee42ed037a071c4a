// a_limits_test.cpp: stacks that run out: of one fiber, and of all of them.
//
// Always true:
//   - Each case runs a whole runtime in a child, because its end, its mappings or its limits are
//     what is looked at.
//   - The child's log goes to its stderr, which is what the parent reads.
//
// Comes from: entries A9, A10 and A11 of the failure catalogue.   Goes to: runtime/overflow.cpp,
// runtime/stacks.cpp.
#include <alloca.h>
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "runtime/base.hpp"
#include "tests/catalogue/child.hpp"
#include "tests/test_options.hpp"

using test::at_full_speed;
using test::in_child;
using test::tested;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kib = 1024;

__attribute__((noinline)) unsigned recurse(unsigned depth) {
  volatile char frame[512];
  frame[0] = static_cast<char>(depth);
  if (depth == 0) return 0;
  return recurse(depth - 1) + static_cast<unsigned>(frame[0]);
}

void recursion() { std::fprintf(stderr, "%u", recurse(1u << 30)); }

/// One frame of 1 MiB, touched from its high end down as code built for it does.
__attribute__((noinline, no_sanitize("address", "thread"))) void large_frame() {
  constexpr std::size_t bytes = 1024 * kib;
  auto* const low = static_cast<volatile char*>(alloca(bytes));
  for (std::size_t at = bytes; at >= 4 * kib; at -= 4 * kib) low[at - 1] = 1;
}

/// In a child: fibers of two workers go about their business while one of them runs `body`.
void overflow_among_others(void (*body)()) {
  (void)coir::run(
      [body] {
        coir::scope all;
        for (unsigned i = 0; i < 20; ++i)
          all.spawn(
              [] {
                while (!coir::this_fiber::cancelled()) coir::this_fiber::yield();
              },
              {.name = "bystander", .worker = i % 2});
        all.spawn(
            [body] {
              for (int i = 0; i < 100; ++i) coir::this_fiber::yield();
              body();
            },
            {.name = "deep", .stack_bytes = 64 * kib});
        (void)all.join();
      },
      tested({.workers = 2}));
}

std::size_t lines_of_maps() {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) ++count;
  return count;
}

struct crowd {
  std::atomic<unsigned> started{0};
  std::atomic<unsigned> ended{0};
  coir::event go;
};

/// Spawns `fibers` that park on `c.go`. Returns when all have parked, or when `limited` says that
/// there are no more stacks.
void gather(coir::scope& all, crowd& c, unsigned fibers, const std::atomic<bool>& limited) {
  for (unsigned i = 0; i < fibers; ++i) {
    all.spawn([&c] {
      c.started.fetch_add(1);
      (void)c.go.wait();
      c.ended.fetch_add(1);
    });
  }
  while (c.started.load() < fibers && !limited.load())
    if (!coir::this_fiber::sleep_for(1ms)) return;
}

constexpr unsigned many = at_full_speed(100'000u, 2'000u);

}  // namespace

TEST_CASE(
    "A9: a fiber that overflows among others is reported once, by name, and ends the process") {
  for (void (*body)() : {&recursion, &large_frame}) {
    const test::ending end = in_child([body] { overflow_among_others(body); });
    CAPTURE(body == &recursion);
    CAPTURE(end.text);
    CHECK(end.signal == SIGSEGV);
    CHECK(end.count("coir: fiber ") == 1);
    CHECK(end.says(" 'deep' (generation "));
    CHECK(end.says("a_limits_test.cpp:"));
    CHECK(end.says("overflowed its stack of 64 KiB"));
    CHECK(end.says("give it more with spawn_options::stack_bytes"));
  }
}

TEST_CASE("A11: fibers that overflow on three workers at once are each reported at most once") {
  const test::ending end = in_child([] {
    (void)coir::run(
        [] {
          static std::atomic<unsigned> ready{0};
          static const char* const names[] = {"first", "second", "third"};
          coir::scope all;
          for (unsigned i = 0; i < 3; ++i)
            all.spawn(
                [] {
                  ready.fetch_add(1);
                  while (ready.load() < 3) std::this_thread::yield();
                  recursion();
                },
                {.name = names[i], .stack_bytes = 32 * kib, .worker = i});
          (void)all.join();
        },
        tested({.workers = 3}));
  });
  CAPTURE(end.text);
  CHECK(end.signal == SIGSEGV);
  CHECK(end.count("coir: fiber ") >= 1);
  std::size_t named = 0;
  for (const char* name : {"'first'", "'second'", "'third'"}) {
    CHECK(end.count(name) <= 1);
    named += end.count(name);
  }
  CHECK(end.count("coir: fiber ") == named);
}

TEST_CASE("A10: a hundred thousand parked fibers with guards need no mapping each") {
  const test::ending end = in_child([] {
    ::setenv("COIR_GUARD", "madvise", 1);
    std::atomic<bool> limited{false};
    std::size_t mappings = 0;
    crowd c;
    const auto done = coir::run(
        [&] {
          coir::scope all;
          gather(all, c, many, limited);
          mappings = lines_of_maps();
          c.go.set();
          return all.join();
        },
        tested({.workers = 2,
                .fibers_max = many + 1,
                .stack_bytes = 16 * kib,
                .log = [&](const coir::log_record& line) {
                  std::fprintf(stderr, "%.*s\n", static_cast<int>(line.text.size()),
                               line.text.data());
                  if (line.severity != coir::log_record::level::note) limited = true;
                }}));
    if (limited) ::_exit(3);
    // Sanitizers map pieces of their own.
    if (!COIR_ASAN && !COIR_TSAN && mappings >= 200) ::_exit(4);
    ::_exit(done && c.ended == many ? 0 : 5);
  });
  CAPTURE(end.text);
  // A kernel before 6.13 cannot do it and says so, in one line.
  const bool too_old = end.code == 5 && end.says("COIR_GUARD");
  CHECK((end.code == 0 || too_old));
}

TEST_CASE(
    "A10: when mappings run out the log names the sysctl and everybody still gets their turn") {
  if (COIR_ASAN || COIR_TSAN) return;  // their own mappings are most of the limit
  const test::ending end = in_child([] {
    ::setenv("COIR_GUARD", "mprotect", 1);
    std::atomic<bool> limited{false};
    std::atomic<int> named{0};
    crowd c;
    bool served = false;
    const auto done = coir::run(
        [&] {
          coir::scope all;
          gather(all, c, many, limited);
          // The process goes on: other work is done while nobody gets a stack.
          auto call = coir::blocking([] { return 5; });
          served = call && *call == 5 && c.started.load() < many;
          c.go.set();
          return all.join();
        },
        tested({.workers = 2,
                .fibers_max = many + 1,
                .stack_bytes = 16 * kib,
                .log = [&](const coir::log_record& line) {
                  std::fprintf(stderr, "%.*s\n", static_cast<int>(line.text.size()),
                               line.text.data());
                  if (line.text.find("vm.max_map_count") == line.text.npos) return;
                  named.fetch_add(1);
                  limited = true;
                }}));
    if (!done) std::fprintf(stderr, "join: %s\n", done.error().message().c_str());
    if (!served) ::_exit(3);
    if (named == 0) ::_exit(4);
    ::_exit(done && c.ended == many ? 0 : 5);
  });
  CAPTURE(end.text);
  CHECK(end.code == 0);
}

TEST_CASE("A10: a fiber that can never get a stack answers stack_limit, and the next one runs") {
  if (COIR_ASAN || COIR_TSAN) return;  // their shadow is larger than any address space limit
  const test::ending end = in_child([] {
    auto made = coir::runtime::create(tested({.workers = 1}));
    if (!made || !(*made)->start()) ::_exit(3);
    rlimit before{};
    ::getrlimit(RLIMIT_AS, &before);
    const rlimit none = {1, before.rlim_max};
    ::setrlimit(RLIMIT_AS, &none);
    auto refused = (*made)->spawn([] { return 1; });
    const auto answer = refused.join();
    ::setrlimit(RLIMIT_AS, &before);
    if (answer || answer.error() != coir::errc::stack_limit) ::_exit(4);
    auto later = (*made)->spawn([] { return 2; });
    const auto second = later.join();
    ::_exit(second && *second == 2 && (*made)->shutdown() ? 0 : 5);
  });
  CAPTURE(end.text);
  CHECK(end.code == 0);
  CHECK(end.says("RLIMIT_AS"));
}
