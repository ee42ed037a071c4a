// base.hpp: the ground every room stands on: assertions, mutants, sizes, and arithmetic that
// refuses to wrap.
//
// Always true:
//   - COIR_ASSERT stays on in every build: it is for our own mistakes and stops the process at the
//     place it happened.
//   - Mutants exist only in a build that asks for them, so elsewhere `if (COIR_MUTANT(x))` costs
//     nothing and a shipped library has none.
//
// Comes from: every room.   Goes to: nothing above it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define COIR_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define COIR_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define COIR_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define COIR_TSAN 1
#endif
#if !defined(COIR_ASAN)
#define COIR_ASAN 0
#endif
#if !defined(COIR_TSAN)
#define COIR_TSAN 0
#endif

#define COIR_HIDDEN __attribute__((visibility("hidden")))

/// Stops the process when `condition` is false: a fact of ours that the following lines rely on
/// does not hold.
#define COIR_ASSERT(condition)                                          \
  do {                                                                  \
    if (!(condition)) [[unlikely]]                                      \
      ::coir::detail::assertion_failed(#condition, __FILE__, __LINE__); \
  } while (false)

// A mutant is a sentence of the design broken on purpose. The build with COIR_MUTANTS holds all of
// them and the environment variable COIR_MUTANT says which one is on, so one build serves the whole
// bank. A mutant inside what is evaluated at compile time does not compile there, rather than being
// off unnoticed. tools/mutants.txt names the test that must fail.
#if defined(COIR_MUTANTS)
#define COIR_MUTANT(name)       \
  (::coir::detail::mutant_on == \
   std::integral_constant<std::uint64_t, ::coir::detail::mutant_number(#name)>::value)
#else
#define COIR_MUTANT(name) false
#endif

namespace coir::detail {

[[noreturn]] void assertion_failed(const char* condition, const char* file, int line) noexcept;

/// A moment of the clock that does not come.
inline constexpr std::int64_t never_ns = INT64_MAX;

/// A number for each name (FNV-1a), never 0: comparing two numbers disturbs the code around a
/// mutant less than comparing texts.
constexpr std::uint64_t mutant_number(const char* name) noexcept {
  std::uint64_t number = 14695981039346656037u;
  for (; *name != '\0'; ++name)
    number = (number ^ static_cast<unsigned char>(*name)) * 1099511628211u;
  return number | 1;
}

#if defined(COIR_MUTANTS)
/// The mutant that is on; 0: none. Written once, before any constructor of ours runs.
extern std::uint64_t mutant_on;
#endif

inline constexpr std::size_t cache_line_bytes = 64;

/// `value` rounded up to a multiple of `unit`, a power of two. The caller knows that it cannot
/// wrap.
constexpr std::size_t round_up(std::size_t value, std::size_t unit) noexcept {
  return (value + unit - 1) & ~(unit - 1);
}

/// True when a * b does not fit; otherwise the product is in `out`.
[[nodiscard]] inline bool multiply_overflows(std::size_t a, std::size_t b,
                                             std::size_t& out) noexcept {
  return __builtin_mul_overflow(a, b, &out);
}

#if defined(COIR_CHECK)
void pause() noexcept;  // the checker lets other threads go on
#else
/// Tells the core that this thread only waits for another one.
inline void pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}
#endif

}  // namespace coir::detail
