// registers_test.cpp: what a compiler keeps in registers and frames across a switch.
//
// Always true:
//   - No doctest check stands inside a fiber: bodies note what they saw, the thread judges it.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <memory>

#include "tests/arch/loose_fiber.hpp"

namespace {

using namespace coir;
using namespace coir::test;

// ---- a crowded frame ---------------------------------------------------------------------------

[[gnu::noinline]] std::uint64_t opaque(std::uint64_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

/// Twelve values live across a switch in a frame that is over-aligned and has an alloca: no
/// register is left for the compiler to hide a mistake in. Answers how many of the values changed.
template <class Fiber>
[[gnu::noinline]] COIR_UNINSTRUMENTED unsigned crowded_frame(Fiber& self, std::uint64_t seed,
                                                             unsigned switches) {
  alignas(64) std::array<std::uint64_t, 24> aligned;
  const std::size_t extra = 64 + opaque(seed % 5) * 24;
  auto* grown = static_cast<unsigned char*>(__builtin_alloca(extra));
  for (std::size_t i = 0; i < aligned.size(); ++i) aligned[i] = seed * 31 + i;
  for (std::size_t i = 0; i < extra; ++i) grown[i] = static_cast<unsigned char>(seed + i);
  unsigned changed = reinterpret_cast<std::uintptr_t>(aligned.data()) % 64 != 0;

  for (unsigned round = 0; round < switches; ++round) {
    const std::uint64_t base = opaque(seed + round);
    const auto a = opaque(base + 1), b = opaque(base + 2), c = opaque(base + 3),
               d = opaque(base + 4), e = opaque(base + 5), f = opaque(base + 6),
               g = opaque(base + 7), h = opaque(base + 8), i = opaque(base + 9),
               j = opaque(base + 10), k = opaque(base + 11), l = opaque(base + 12);
    self.park_in_place();
    changed += a != base + 1 || b != base + 2 || c != base + 3 || d != base + 4;
    changed += e != base + 5 || f != base + 6 || g != base + 7 || h != base + 8;
    changed += i != base + 9 || j != base + 10 || k != base + 11 || l != base + 12;
  }
  for (std::size_t i = 0; i < aligned.size(); ++i) changed += aligned[i] != seed * 31 + i;
  for (std::size_t i = 0; i < extra; ++i) {
    changed += grown[i] != static_cast<unsigned char>(seed + i);
  }
  return changed;
}

/// Eight doubles in vector registers and two long doubles on the x87 stack live across a switch.
/// What they were is kept in memory that the compiler may not look through. Answers how many
/// changed.
template <class Fiber>
[[gnu::noinline]] COIR_UNINSTRUMENTED unsigned full_float_registers(Fiber& self, unsigned seed,
                                                                    unsigned switches) {
  unsigned changed = 0;
  for (unsigned round = 0; round < switches; ++round) {
    volatile double kept[8];
    volatile long double kept_wide[2];
    for (unsigned i = 0; i < 8; ++i) kept[i] = (seed + round + i) / 3.0;
    for (unsigned i = 0; i < 2; ++i) kept_wide[i] = (seed + round + i) / 7.0L;
    double a = kept[0], b = kept[1], c = kept[2], d = kept[3];
    double e = kept[4], f = kept[5], g = kept[6], h = kept[7];
    long double u = kept_wide[0], v = kept_wide[1];
#if defined(__x86_64__)
    asm volatile("" : "+x"(a), "+x"(b), "+x"(c), "+x"(d), "+x"(e), "+x"(f), "+x"(g), "+x"(h));
    asm volatile("" : "+t"(u), "+u"(v));
#elif defined(__aarch64__)
    asm volatile("" : "+w"(a), "+w"(b), "+w"(c), "+w"(d), "+w"(e), "+w"(f), "+w"(g), "+w"(h));
#elif defined(__powerpc64__)
    asm volatile("" : "+d"(a), "+d"(b), "+d"(c), "+d"(d), "+d"(e), "+d"(f), "+d"(g), "+d"(h));
#endif
    self.park_in_place();
    changed += a != kept[0] || b != kept[1] || c != kept[2] || d != kept[3];
    changed += e != kept[4] || f != kept[5] || g != kept[6] || h != kept[7];
    changed += u != kept_wide[0] || v != kept_wide[1];
  }
  return changed;
}

/// Three fibers and the thread, each in such a frame at once. Answers how many values changed.
template <class Switch, class Frame>
unsigned changed_in_turns(Frame frame) {
  constexpr unsigned switches = 50;
  unsigned changed = 0;
  const auto start = [&](unsigned seed) {
    auto made = std::make_unique<loose_fiber<Switch>>(
        [&, seed](auto& self) { changed += frame(self, seed, switches); });
    made->resume();
    return made;
  };
  std::array fibers{start(1'000), start(2'000'000), start(77)};
  struct resumer {
    decltype(fibers)& all;
    [[gnu::always_inline]] void park_in_place() {
      for (auto& each : all) each->resume_in_place();
    }
  };
  resumer thread{fibers};
  changed += frame(thread, 123'456, switches);
  for (const auto& each : fibers) COIR_ASSERT(each->done());
  return changed;
}

}  // namespace

TEST_CASE_TEMPLATE("context: an over-aligned frame with an alloca and 12 live values survives",
                   Switch, EACH_SWITCH) {
  const auto frame = [](auto& self, unsigned seed, unsigned switches) {
    return crowded_frame(self, seed, switches);
  };
  CHECK(changed_in_turns<Switch>(frame) == 0);
}

TEST_CASE_TEMPLATE("context: A7 values in floating-point registers survive a switch", Switch,
                   EACH_SWITCH) {
  const auto frame = [](auto& self, unsigned seed, unsigned switches) {
    return full_float_registers(self, seed, switches);
  };
  CHECK(changed_in_turns<Switch>(frame) == 0);
}
