// context_test.cpp: where a switch arrives, what a fiber starts with, and which form is used.
//
// Always true:
//   - No doctest check stands inside a fiber: bodies note what they saw, the thread judges it.
#include "arch/context.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>

#include "tests/arch/loose_fiber.hpp"

namespace {

using namespace coir;
using namespace coir::test;

constexpr bool sanitized = COIR_ASAN || COIR_TSAN;

}  // namespace

TEST_CASE_TEMPLATE("context: every switch arrives where it was left, 100,000 times", Switch,
                   EACH_SWITCH) {
  constexpr unsigned rounds = sanitized ? 10'000 : 100'000;
  unsigned fiber_saw = 0;
  unsigned value = 0;
  loose_fiber<Switch> fiber([&](auto& self) {
    while (value != rounds) {
      fiber_saw += value % 2 == 1;
      ++value;
      self.park();
    }
  });
  unsigned thread_saw = 0;
  while (!fiber.done()) {
    thread_saw += value % 2 == 0;
    value += value != rounds;
    fiber.resume();
  }
  CHECK(value == rounds);
  CHECK(fiber_saw == rounds / 2);
  CHECK(thread_saw == rounds / 2 + 1);
}

// ---- the first arrival -------------------------------------------------------------------------

#if defined(__x86_64__)

namespace {

struct first_arrival {
  void* rsp = nullptr;
  bare_fiber<>* fiber = nullptr;
  bool aligned_local = false;
};

}  // namespace

extern "C" COIR_HIDDEN void coir_test_note_rsp(void* arrival) noexcept;
extern "C" [[gnu::used]] COIR_HIDDEN void coir_test_noted_rsp(void* arrival) noexcept;
asm(R"(
        .text
        .type   coir_test_note_rsp, @function
        .globl  coir_test_note_rsp
        .hidden coir_test_note_rsp
coir_test_note_rsp:
        endbr64
        movq    %rsp, 0(%rdi)
        jmp     coir_test_noted_rsp
        .size   coir_test_note_rsp, . - coir_test_note_rsp
)");

COIR_UNINSTRUMENTED void coir_test_noted_rsp(void* argument) noexcept {
  auto& arrival = *static_cast<first_arrival*>(argument);
  arch::note_arrive(arrival.fiber->own.notes);
  // The compiler trusts the stack for 16 bytes, so it does not align this itself.
  alignas(16) volatile std::uint64_t local[2] = {1, 2};
  auto place = reinterpret_cast<std::uintptr_t>(&local[0]);
  asm volatile("" : "+r"(place));
  arrival.aligned_local = place % 16 == 0;
  arrival.fiber->leave_for_good();
}

TEST_CASE("context: A8 an entry finds the stack as after a call, whatever top it was given") {
  for (std::size_t unaligned_by = 0; unaligned_by < 33; ++unaligned_by) {
    bare_fiber<> fiber(unaligned_by);
    first_arrival arrival{.fiber = &fiber};
    fiber.enter(&coir_test_note_rsp, &arrival);
    const auto rsp = reinterpret_cast<std::uintptr_t>(arrival.rsp);
    CHECK((rsp & 15) == 8);
    CHECK(rsp < reinterpret_cast<std::uintptr_t>(fiber.top));
    CHECK(arrival.aligned_local);
  }
}

// ---- floating point ----------------------------------------------------------------------------

namespace {

struct float_control {
  std::uint32_t mxcsr = 0;
  std::uint16_t x87 = 0;
  static float_control now() {
    float_control read;
    asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(read.mxcsr), "=m"(read.x87));
    return read;
  }
  void load() const { asm volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr), "m"(x87)); }
  bool operator==(const float_control&) const = default;
};

constexpr float_control at_start{0x1F80, 0x037F};

/// What reset_float_control() makes of `given`; the thread's own controls are as before.
float_control after_reset(float_control given) {
  const auto before = float_control::now();
  given.load();
  arch::reset_float_control();
  const auto left = float_control::now();
  before.load();
  return left;
}

}  // namespace

TEST_CASE("context: A7 a fiber starts with the floating-point controls of a fresh program") {
  CHECK(after_reset(at_start) == at_start);
  CHECK(after_reset({0x7F80, 0x037F}) == at_start);  // rounds towards zero
  CHECK(after_reset({0x9FC0, 0x037F}) == at_start);  // flushes denormals
  CHECK(after_reset({0x1FA0, 0x037F}) == at_start);  // a sticky flag of an inexact result
  CHECK(after_reset({0x1F80, 0x027F}) == at_start);  // x87 in double precision
  CHECK(after_reset({0x3F80, 0x0F7F}) == at_start);  // both round elsewhere
}

TEST_CASE("context: A7 after a reset an inexact division does not trap") {
  const auto before = float_control::now();
  float_control{0x0000, 0x0340}.load();  // what a zeroed image would leave: nothing masked
  arch::reset_float_control();
  volatile double one = 1, three = 3;
  volatile long double wide = 3;
  const double third = one / three;
  const long double wide_third = 1 / wide;
  before.load();
  CHECK(third == 1.0 / 3.0);
  CHECK(wide_third == 1.0L / 3.0L);
}

#endif

// ---- which form --------------------------------------------------------------------------------

TEST_CASE("context: the build inlines the switch exactly when it is optimised and unobserved") {
#if defined(__OPTIMIZE__) && !COIR_ASAN && !COIR_TSAN && !COIR_BOOST_CONTEXT
  CHECK(arch::switch_is_inlined);
#else
  CHECK_FALSE(arch::switch_is_inlined);
#endif
}

#if !COIR_BOOST_CONTEXT

TEST_CASE("context: preparing a context does not touch the stack") {
  std::array<std::byte, 256> stack{};
  arch::context made;
  arch::prepare(made, stack.data() + stack.size(), &coir_test_note_rsp, nullptr);
  CHECK(stack == std::array<std::byte, 256>{});
  CHECK(made.rsp >= stack.data());
  CHECK(made.rsp <= stack.data() + stack.size());
}

#endif
