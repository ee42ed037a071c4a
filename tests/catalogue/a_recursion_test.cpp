// a_recursion_test.cpp: whoever wakes, starts, joins or completes however many in a row, the stack
// on which the loop's turns are served does not grow with them.
//
// Always true:
//   - Beside a crowd of parked fibers the loop runs on a stack of the test's own, which was painted
//     before; how deep it went is read off the paint. Without one it is served on the stack of the
//     fiber that parks, and says at each turn how far below that fiber it stands.
//   - A short chain says what the loop needs; a long one may need less than 256 bytes more.
//
// Comes from: entry A19 of the failure catalogue.   Goes to: runtime/switching.cpp.
#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "coir/coir.hpp"
#include "runtime/perform.hpp"
#include "tests/runtime/scripted_backend.hpp"

using namespace coir::detail;
using scripted::script;
using test::at_full_speed;

namespace {

constexpr std::size_t stack_bytes = 1 << 20;
constexpr std::byte paint{0xa5};
constexpr std::size_t grown_bytes_max = 256;

/// The paint is memory of a thread that has ended: nothing for a sanitizer to have an opinion on.
#if defined(__clang__) || defined(__GNUC__)
__attribute__((no_sanitize("address"), no_sanitize("thread")))
#endif
std::size_t
untouched(const std::byte* bottom) {
  std::size_t n = 0;
  while (n < stack_bytes && bottom[n] == paint) ++n;
  return n;
}

/// Runs `body` on a thread whose stack is ours; how much of it was used.
std::size_t stack_used_by(std::function<void()> body) {
  void* const place =
      ::mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(place != MAP_FAILED);
  std::memset(place, static_cast<int>(paint), stack_bytes);
  pthread_attr_t attributes;
  REQUIRE(::pthread_attr_init(&attributes) == 0);
  REQUIRE(::pthread_attr_setstack(&attributes, place, stack_bytes) == 0);
  pthread_t thread;
  const auto run = [](void* what) -> void* {
    (*static_cast<std::function<void()>*>(what))();
    return nullptr;
  };
  REQUIRE(::pthread_create(&thread, &attributes, run, &body) == 0);
  REQUIRE(::pthread_join(thread, nullptr) == 0);
  ::pthread_attr_destroy(&attributes);
  const std::size_t used = stack_bytes - untouched(static_cast<const std::byte*>(place));
  ::munmap(place, stack_bytes);
  return used;
}

constexpr unsigned crowd = 1'100;  // among so many the loop has its stack for itself

unsigned as_many_as_fit(unsigned wanted) {
  return std::min(wanted, (test::tested({.fibers_max = 4'096}).fibers_max - 2) / 2);
}

/// Where the fiber stands that parks next.
const std::byte* parks_at = nullptr;

[[gnu::always_inline]] inline const std::byte* here() {
  return static_cast<const std::byte*>(__builtin_frame_address(0));
}

struct used {
  std::size_t own = 0;   ///< bytes of the loop's own stack
  std::size_t host = 0;  ///< below a fiber on whose stack it was served
};

/// What the loop needs for a chain of `links`, with `beside` parked fibers beside it.
used used_by_chain(unsigned links, unsigned beside, void (*chain)(unsigned links)) {
  used all;
  all.own = stack_used_by([=, &all] {
    script s;
    s.answer_all(0);
    s.on_reap = [&] {
      if (parks_at == nullptr || here() >= parks_at) return;
      const auto below = static_cast<std::size_t>(parks_at - here());
      if (below < (64 << 10)) all.host = std::max(all.host, below);  // else it is another stack
    };
    const auto in_company = [=] {
      coir::event over;
      coir::scope others;
      for (unsigned i = 0; i < beside; ++i) others.spawn([&] { CHECK(over.wait().has_value()); });
      coir::this_fiber::yield();
      chain(links);
      over.set();
      CHECK(others.join().has_value());
    };
    CHECK_FALSE(scripted::run(s, in_company, {.fibers_max = 4'096}));
    parks_at = nullptr;
  });
  return all;
}

/// True when the loop was served on a fiber's stack where there is no crowd.
bool expect_flat(unsigned links, void (*chain)(unsigned links)) {
  bool served_on_host = false;
  for (const unsigned beside : {0u, as_many_as_fit(crowd)}) {
    // Twice, because the first run of all resolves symbols and opens the C++ runtime.
    (void)used_by_chain(10, beside, chain);
    const used few = used_by_chain(10, beside, chain);
    const used many = used_by_chain(links, beside, chain);
    CAPTURE(beside);
    CAPTURE(few.own);
    CAPTURE(few.host);
    CHECK(many.own < few.own + grown_bytes_max);
    CHECK(many.host < few.host + grown_bytes_max);
    if (beside == 0) served_on_host = few.host != 0;
    if (beside == crowd) CHECK(many.host == 0);
  }
  return served_on_host;
}

/// A ring of fibers in which each wakes the next, until `links` were woken.
void wake_in_turn(unsigned links) {
  const unsigned fibers = std::min(links, as_many_as_fit(1'000));
  const auto all = std::make_unique<coir::event[]>(fibers);
  unsigned woken = 0;
  coir::scope ring;
  for (unsigned i = 0; i < fibers; ++i)
    ring.spawn([&, i] {
      for (;;) {
        parks_at = here();
        if (!all[i].wait().has_value()) return;
        all[i].reset();
        const bool over = woken >= links;
        woken += over ? 0 : 1;
        all[(i + 1) % fibers].set();
        if (over) return;
      }
    });
  all[0].set();
  CHECK(ring.join().has_value());
  CHECK(woken == links);
}

/// Each fiber spawns its successor and ends.
void start_in_turn(unsigned links) {
  struct relay {
    unsigned left;
    coir::event& over;
    void operator()() const {
      if (left == 0) return over.set();
      coir::spawn(relay{left - 1, over}).detach();
    }
  };
  coir::event over;
  coir::spawn(relay{links, over}).detach();
  parks_at = here();
  CHECK(over.wait().has_value());
}

/// Each fiber starts the next one by joining it, so that all are there at once; then all end.
void join_in_turn(unsigned links) {
  struct link {
    unsigned left;
    unsigned operator()() const {
      return left == 0 ? 1 : coir::spawn(link{left - 1}).join().value() + 1;
    }
  };
  const unsigned length = as_many_as_fit(std::min(links, 2'000u));
  parks_at = here();
  for (unsigned done = 0; done < links; done += length) CHECK(link{length - 1}() == length);
}

/// One completion after the other of the same operation.
void complete_in_turn(unsigned links) {
  io_uring_sqe e{};
  e.opcode = IORING_OP_NOP;
  e.fd = -1;
  parks_at = here();
  for (unsigned i = 0; i < links; ++i)
    if (perform_entry(e, never_ns) != 0) FAIL("a NOP that failed");
}

constexpr unsigned many = at_full_speed(1'000'000u, 20'000u);

}  // namespace

TEST_CASE("A19: a million fibers that wake each other in turn need no more of the loop's stack") {
  expect_flat(many, &wake_in_turn);
}

TEST_CASE("A19: a million fibers that start each other in turn need no more of the loop's stack") {
  expect_flat(many, &start_in_turn);
}

TEST_CASE("A19: chains of fibers that join each other need no more of the loop's stack") {
  expect_flat(many / 10, &join_in_turn);
}

TEST_CASE("A19: a million completions of one operation need no more of the loop's stack") {
  CHECK(expect_flat(many, &complete_in_turn));
}
