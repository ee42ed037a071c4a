// float_controls.hpp: the floating-point controls of this thread, read and written by a test.
//
// Always true:
//   - It shares no instruction with arch/float_control.hpp: what that one gets wrong shows here.
//   - The sticky flags of MXCSR are no control: now() leaves them out, exactly_now() does not.
//   - pattern(n) differs from at_start for every n, and masks every exception.
#pragma once

#include <cfenv>
#include <cstdint>

namespace coir::test {

struct float_controls {
  std::uint64_t main = 0;   ///< MXCSR, FPCR, or the rounding direction of <cfenv>
  std::uint64_t other = 0;  ///< the x87 control word, or nothing

  static float_controls now() {
    float_controls read = exactly_now();
#if defined(__x86_64__)
    read.main &= ~std::uint64_t{0x3F};
#endif
    return read;
  }

  static float_controls exactly_now() {
    float_controls read;
#if defined(__x86_64__)
    std::uint32_t mxcsr;
    std::uint16_t x87;
    asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(x87));
    read = {mxcsr, x87};
#elif defined(__aarch64__)
    asm volatile("mrs %0, fpcr" : "=r"(read.main));
#else
    read.main = static_cast<std::uint64_t>(std::fegetround());
#endif
    return read;
  }

  void load() const {
#if defined(__x86_64__)
    const auto mxcsr = static_cast<std::uint32_t>(main);
    const auto x87 = static_cast<std::uint16_t>(other);
    asm volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr), "m"(x87));
#elif defined(__aarch64__)
    asm volatile("msr fpcr, %0" : : "r"(main));
#else
    std::fesetround(static_cast<int>(main));
#endif
  }

  static float_controls at_start() {
#if defined(__x86_64__)
    return {0x1F80, 0x037F};
#elif defined(__aarch64__)
    return {0, 0};
#else
    return {FE_TONEAREST, 0};
#endif
  }

  /// Rounds up, with everything else as at the start.
  static float_controls rounding_up() {
#if defined(__x86_64__)
    return {0x5F80, 0x0B7F};
#elif defined(__aarch64__)
    return {std::uint64_t{1} << 22, 0};
#else
    return {FE_UPWARD, 0};
#endif
  }

  /// One of several, each different from the start: roundings, flushes, precisions.
  static float_controls pattern(unsigned n) {
#if defined(__x86_64__)
    const std::uint64_t mxcsr[] = {0x3F80, 0x5F80, 0x7F80, 0x9F80, 0x1FC0, 0xFFC0};
    const std::uint64_t x87[] = {0x077F, 0x0B7F, 0x0F7F, 0x027F, 0x007F};
    return {mxcsr[n % 6], x87[n % 5]};
#elif defined(__aarch64__)
    return {std::uint64_t{1 + n % 15} << 22, 0};
#else
    const int directions[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    return {static_cast<std::uint64_t>(directions[n % 3]), 0};
#endif
  }

  bool operator==(const float_controls&) const = default;
};

}  // namespace coir::test
