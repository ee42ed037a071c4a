// context_test.cpp: where a switch arrives, what a fiber starts with, and which form is used.
//
// Always true:
//   - No doctest check stands inside a fiber: bodies note what they saw, the thread judges it.
#include "arch/context.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <cstring>

#include "tests/arch/loose_fiber.hpp"
#include "tests/test_options.hpp"

namespace {

using namespace coir;
using namespace coir::test;

}  // namespace

TEST_CASE_TEMPLATE("context: every switch arrives where it was left, 100,000 times", Switch,
                   EACH_SWITCH) {
  constexpr unsigned rounds = ::test::at_full_speed(100'000u, 10'000u);
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

namespace {

struct first_arrival {
  void* sp = nullptr;
  bare_fiber<>* fiber = nullptr;
  bool aligned_local = false;
};

#if defined(__x86_64__)
constexpr std::uintptr_t sp_at_entry = 8;  // of 16: the call has pushed
#else
constexpr std::uintptr_t sp_at_entry = 0;
#endif

}  // namespace

extern "C" COIR_HIDDEN void coir_test_note_sp(void* arrival) noexcept;
extern "C" [[gnu::used]] COIR_HIDDEN void coir_test_noted_sp(void* arrival) noexcept;
#if defined(__x86_64__)
asm(R"(
        .text
        .type   coir_test_note_sp, @function
        .globl  coir_test_note_sp
        .hidden coir_test_note_sp
coir_test_note_sp:
        endbr64
        movq    %rsp, 0(%rdi)
        jmp     coir_test_noted_sp
        .size   coir_test_note_sp, . - coir_test_note_sp
)");
#elif defined(__aarch64__)
asm(R"(
        .text
        .type   coir_test_note_sp, %function
        .globl  coir_test_note_sp
        .hidden coir_test_note_sp
coir_test_note_sp:
        hint    #34
        mov     x9, sp
        str     x9, [x0]
        b       coir_test_noted_sp
        .size   coir_test_note_sp, . - coir_test_note_sp
)");
#else
COIR_UNINSTRUMENTED void coir_test_note_sp(void* argument) noexcept {
  static_cast<first_arrival*>(argument)->sp = __builtin_dwarf_cfa();
  coir_test_noted_sp(argument);
}
#endif

COIR_UNINSTRUMENTED void coir_test_noted_sp(void* argument) noexcept {
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
    fiber.enter(&coir_test_note_sp, &arrival);
    const auto sp = reinterpret_cast<std::uintptr_t>(arrival.sp);
    CHECK((sp & 15) == sp_at_entry);
    CHECK(sp <= reinterpret_cast<std::uintptr_t>(fiber.top));
    CHECK(arrival.aligned_local);
  }
}

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
  arch::prepare(made, stack.data() + stack.size(), &coir_test_note_sp, nullptr);
  CHECK(stack == std::array<std::byte, 256>{});
  CHECK(made.sp >= stack.data());
  CHECK(made.sp <= stack.data() + stack.size());
}

#endif

// ---- landing pads ------------------------------------------------------------------------------

#if !COIR_BOOST_CONTEXT

namespace {

/// endbr64, or `bti c`.
bool is_landing_pad(const void* at) {
#if defined(__x86_64__)
  constexpr std::uint32_t pad = 0xFA1E0FF3;
#else
  constexpr std::uint32_t pad = 0xD503245F;
#endif
  std::uint32_t found = 0;
  std::memcpy(&found, at, sizeof found);
  return found == pad;
}

/// Where a fiber and its thread were resumed, while the other one ran.
template <class Switch>
std::array<const void*, 2> places_resumed_at() {
  std::array<const void*, 2> at = {};
  loose_fiber<Switch> fiber([&](auto& self) {
    at[0] = self.bare().thread.place.pc;
    self.park();
  });
  fiber.resume();
  at[1] = fiber.bare().own.place.pc;
  fiber.resume();
  return at;
}

}  // namespace

TEST_CASE("context: A13 whatever is jumped to begins with a landing pad, in every form") {
  CHECK(is_landing_pad(reinterpret_cast<const void*>(&coir_switch)));
  arch::context fresh;
  alignas(16) std::array<std::byte, 64> top;
  arch::prepare(
      fresh, top.data() + top.size(), [](void*) noexcept {}, nullptr);
  CHECK(is_landing_pad(fresh.pc));
  for (const void* const at : places_resumed_at<inlined_switch>()) CHECK(is_landing_pad(at));
  for (const void* const at : places_resumed_at<called_switch>()) CHECK(is_landing_pad(at));
  // What stands before it is none: the look can tell.
  CHECK_FALSE(is_landing_pad(static_cast<const char*>(fresh.pc) - arch::bytes_before_entry));
}

#endif
