// float_control.hpp: how this thread rounds, traps and flushes, and whose wish that is.
//
// Always true:
//   - A fiber of a `float` switcher finds its controls (MXCSR and the x87 control word, FPCR) as it
//     left them, whoever ran in between. Every other fiber starts with those of a fresh program,
//     and never finds those of a float fiber.
//   - Between two fibers that are not `float` nothing is read and nothing written, so one that
//     changes its controls changes them for the others: who wants to know asks two flags, and calls
//     exchange_float() only when one of them is set.
//   - Sticky flags outside the controls (the x87 status word, FPSR) belong to nobody. Those of
//     MXCSR are part of it, and so a float fiber's own.
//   - All of it is uninstrumented, like those that switch, into which it is inlined
//     (sanitizers.hpp).
//
// Comes from: fiber.hpp, beside every switch of context.hpp.   Goes to: the processor.
#pragma once

#include <cstdint>

#include "arch/sanitizers.hpp"
#include "runtime/base.hpp"

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <cfenv>
#endif

namespace coir::arch {

#if defined(__x86_64__)

/// What the System V ABI promises a program at its start, and we a fiber: round to nearest, all
/// exceptions masked, x87 in extended precision, no sticky flags in MXCSR.
inline constexpr std::uint32_t mxcsr_at_start = 0x1F80;
inline constexpr std::uint16_t x87_control_at_start = 0x037F;

/// The controls of a float fiber that is not running; a new one is what a fresh program has.
struct float_state {
  std::uint32_t mxcsr = mxcsr_at_start;
  std::uint16_t x87_control = x87_control_at_start;
};

COIR_UNINSTRUMENTED inline void save_float(float_state& into) noexcept {
  asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(into.mxcsr), "=m"(into.x87_control));
}

/// MXCSR is loaded always: to compare would be to wait for what was stored a moment ago. The x87
/// word is loaded only where it differs from what the thread has `now`, because fnclex has to come
/// before it.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void change_float(
    const float_state& now, const float_state& to) noexcept {
  asm volatile("ldmxcsr %0" : : "m"(to.mxcsr));
  if (COIR_MUTANT(x87_left_alone)) return;
  if (now.x87_control != to.x87_control) [[unlikely]] {
    // Cleared first: with a flag of the past still raised, unmasking or loading would trap here.
    asm volatile("fnclex\n\tfldcw %0" : : "m"(to.x87_control));
  }
}

#elif defined(__aarch64__)

/// The controls of a float fiber that is not running; a new one is what a fresh program has.
struct float_state {
  std::uint64_t fpcr = 0;
};

COIR_UNINSTRUMENTED inline void save_float(float_state& into) noexcept {
  asm volatile("mrs %0, fpcr" : "=r"(into.fpcr));
}

/// Writing the register empties the pipeline on many cores, so it is written only when it differs
/// from what the thread has `now`.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void change_float(
    const float_state& now, const float_state& to) noexcept {
  if (now.fpcr != to.fpcr) [[unlikely]] {
    asm volatile("msr fpcr, %0" : : "r"(to.fpcr));
  }
}

#else

/// The controls of a float fiber that is not running; a new one is what a fresh program has.
struct float_state {
  std::fenv_t environment{};
  bool saved = false;
};

COIR_UNINSTRUMENTED inline void save_float(float_state& into) noexcept {
  into.saved = std::fegetenv(&into.environment) == 0;
}

inline void change_float(const float_state&, const float_state& to) noexcept {
  std::fesetenv(to.saved ? &to.environment : FE_DFL_ENV);
}

#endif

[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void restore_float(
    const float_state& from) noexcept {
  float_state now;
  save_float(now);
  change_float(now, from);
}

inline constexpr float_state float_at_start{};

/// Gives this thread the floating-point controls a fresh fiber may expect.
inline void reset_float_control() noexcept {
  if (COIR_MUTANT(inherit_float_control)) return;
  restore_float(float_at_start);
}

/// Right before a switch: null stands for a fiber (or a loop) that is not `float`. Keeps the
/// controls of the one that leaves and brings those of the one that comes, or the defaults.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void exchange_float(
    float_state* leaves, const float_state* comes) noexcept {
  if (leaves == nullptr) {
    if (comes != nullptr && !COIR_MUTANT(float_not_restored)) restore_float(*comes);
    return;
  }
  save_float(*leaves);
  if (comes == nullptr && COIR_MUTANT(float_leaks)) return;
  if (comes != nullptr && COIR_MUTANT(float_not_restored)) return;
  change_float(*leaves, comes != nullptr ? *comes : float_at_start);
}

}  // namespace coir::arch
