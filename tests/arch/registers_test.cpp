// registers_test.cpp: what a switch keeps in registers and frames, against an oracle that is not
// ours.
//
// Always true:
//   - No doctest check stands inside a fiber: bodies note what they saw, the thread judges it.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "tests/arch/loose_fiber.hpp"

namespace {

using namespace coir;
using namespace coir::test;

constexpr bool sanitized = COIR_ASAN || COIR_TSAN;

// ---- registers ---------------------------------------------------------------------------------

using patterns = std::array<std::uint64_t, 6>;

// Fills rbx, rbp and r12-r15, calls act(argument), and answers with one bit for each register that
// came back with something else.
extern "C" COIR_HIDDEN std::uint64_t coir_test_registers_lost(void (*act)(void*), void* argument,
                                                              const std::uint64_t* wanted);
asm(R"(
        .text
        .type   coir_test_registers_lost, @function
        .globl  coir_test_registers_lost
        .hidden coir_test_registers_lost
coir_test_registers_lost:
        .cfi_startproc
        endbr64
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushq   %rdx
        .cfi_adjust_cfa_offset 56
        movq    %rdi, %rax
        movq    %rsi, %rdi
        movq    0(%rdx), %rbx
        movq    8(%rdx), %rbp
        movq    16(%rdx), %r12
        movq    24(%rdx), %r13
        movq    32(%rdx), %r14
        movq    40(%rdx), %r15
        callq   *%rax
        popq    %rdx
        xorl    %eax, %eax
        xorl    %ecx, %ecx
        cmpq    40(%rdx), %r15
        setne   %cl
        leaq    (%rcx, %rax, 2), %rax
        cmpq    32(%rdx), %r14
        setne   %cl
        leaq    (%rcx, %rax, 2), %rax
        cmpq    24(%rdx), %r13
        setne   %cl
        leaq    (%rcx, %rax, 2), %rax
        cmpq    16(%rdx), %r12
        setne   %cl
        leaq    (%rcx, %rax, 2), %rax
        cmpq    8(%rdx), %rbp
        setne   %cl
        leaq    (%rcx, %rax, 2), %rax
        cmpq    0(%rdx), %rbx
        setne   %cl
        leaq    (%rcx, %rax, 2), %rax
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        .cfi_adjust_cfa_offset -56
        retq
        .cfi_endproc
        .size   coir_test_registers_lost, . - coir_test_registers_lost
)");

patterns patterns_of(std::uint64_t owner) {
  patterns made{};
  for (std::uint64_t i = 0; i < made.size(); ++i) {
    made[i] = (owner * made.size() + i + 1) * 0x9E3779B97F4A7C15u;
  }
  return made;
}

struct seen {
  std::uint64_t owner;
  std::uint64_t turn;
  std::uint64_t registers_lost;
  bool operator==(const seen&) const = default;
};

/// Eight fibers, resumed in an order that only depends on `turns`; each fills the registers with
/// its own patterns before it parks, and so does the thread before it resumes.
template <class Switch>
std::vector<seen> fill_and_switch(unsigned turns) {
  using fiber = loose_fiber<Switch>;
  constexpr std::uint64_t fibers = 8;
  std::vector<seen> log;
  bool stop = false;
  std::vector<std::unique_ptr<fiber>> all;
  for (std::uint64_t id = 0; id < fibers; ++id) {
    all.push_back(std::make_unique<fiber>([&log, &stop, id](fiber& self) {
      const patterns mine = patterns_of(id);
      std::uint64_t turn = 0;
      while (!stop) {
        const auto lost = coir_test_registers_lost(
            [](void* own) { static_cast<fiber*>(own)->park(); }, &self, mine.data());
        log.push_back({id, turn++, lost});
      }
    }));
  }
  const patterns of_thread = patterns_of(fibers);
  const auto resume = [&](std::uint64_t id) {
    const auto lost = coir_test_registers_lost(
        [](void* its) { static_cast<fiber*>(its)->resume(); }, all[id].get(), of_thread.data());
    log.push_back({fibers, id, lost});
  };
  std::uint32_t random = 7;
  for (unsigned turn = 0; turn < turns; ++turn) {
    random = random * 1664525u + 1013904223u;
    resume(random >> 16 & (fibers - 1));
  }
  stop = true;
  for (std::uint64_t id = 0; id < fibers; ++id) resume(id);
  return log;
}

std::size_t turns_with_losses(const std::vector<seen>& log) {
  std::size_t count = 0;
  for (const seen& each : log) count += each.registers_lost != 0;
  return count;
}

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

TEST_CASE_TEMPLATE("context: A7 callee-saved registers belong to each side of a switch", Switch,
                   EACH_SWITCH) {
  const auto log = fill_and_switch<Switch>(sanitized ? 1'000 : 20'000);
  CHECK(log.size() > 1'000);
  CHECK(turns_with_losses(log) == 0);
}

TEST_CASE("context: a schedule runs exactly as it does on Boost.Context") {
  CHECK(fill_and_switch<build_switch>(2'000) == fill_and_switch<boost_switch>(2'000));
}

TEST_CASE("context: the register probe reports each register that was lost") {
  const patterns wanted = patterns_of(3);
  const auto flip = [](void*) {
#define COIR_TEST_FLIP(name) asm volatile("notq %%" name : : : "cc")
    COIR_TEST_FLIP("r13");
    COIR_TEST_FLIP("r15");
#undef COIR_TEST_FLIP
  };
  CHECK(coir_test_registers_lost(flip, nullptr, wanted.data()) == 0b101000);
}

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
