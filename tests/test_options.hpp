// test_options.hpp: the options of a test's runtime, which COIR_TEST_OPTIONS may make smaller for
// the whole suite: "ring_entries=8,mailbox_slots=1,fibers_max=64".
//
// Always true:
//   - A field that the test itself has chosen stays as the test chose it.
//   - fibers_max never goes below what the test says it keeps alive at once.
//   - A name or a number that is not understood ends the program: a typing error must not look like
//   a run of the small configuration.
//
// Comes from: the tests of the public interface.   Goes to: coir::runtime::create.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "coir/options.hpp"

namespace test {

/// What a test cannot do without. Handles that are still held count as alive.
struct needs {
  std::uint32_t fibers = 1;
};

namespace detail {

template <class Number>
void put(Number& field, Number untouched, unsigned long value) {
  if (field == untouched) field = static_cast<Number>(value);
}

inline bool put(coir::options& o, std::string_view name, unsigned long value, const needs& n) {
  const coir::options untouched;
  if (name == "workers") {
    put(o.workers, untouched.workers, value);
  } else if (name == "ring_entries") {
    put(o.ring_entries, untouched.ring_entries, value);
  } else if (name == "mailbox_slots") {
    put(o.mailbox_slots, untouched.mailbox_slots, value);
  } else if (name == "fibers_max") {
    put(o.fibers_max, untouched.fibers_max, std::max<unsigned long>(value, n.fibers));
  } else if (name == "run_budget") {
    put(o.run_budget, untouched.run_budget, value);
  } else if (name == "deflect_threshold") {
    put(o.deflect_threshold, untouched.deflect_threshold, value);
  } else {
    return false;
  }
  return true;
}

inline void put(coir::options& o, const std::string& pair, const needs& n) {
  const std::size_t equals = pair.find('=');
  char* end = nullptr;
  const unsigned long value =
      equals == std::string::npos ? 0 : std::strtoul(pair.c_str() + equals + 1, &end, 10);
  if (value != 0 && *end == '\0' && put(o, std::string_view(pair).substr(0, equals), value, n))
    return;
  std::fprintf(stderr, "COIR_TEST_OPTIONS: '%s' is not understood\n", pair.c_str());
  std::exit(2);
}

}  // namespace detail

/// `o`, made smaller where COIR_TEST_OPTIONS says so and the test has no wish of its own.
inline coir::options tested(coir::options o, const needs& n = {}) {
  const char* const set = std::getenv("COIR_TEST_OPTIONS");
  std::string rest = set == nullptr ? "" : set;
  while (!rest.empty()) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    detail::put(o, rest.substr(0, comma), n);
    rest.erase(0, comma + 1);
  }
  return o;
}

/// Whether an emulator runs this: its own memory lies among ours.
#if defined(COIR_TEST_EMULATED)
inline constexpr bool emulated = true;
#else
inline constexpr bool emulated = false;
#endif

/// `full`, or `reduced` under a sanitizer or on an emulated CPU, where each step costs many times
/// as much.
template <class Number>
constexpr Number at_full_speed([[maybe_unused]] Number full, [[maybe_unused]] Number reduced) {
#if defined(COIR_TEST_EMULATED)
  return reduced;
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return reduced;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
  return reduced;
#else
  return full;
#endif
#else
  return full;
#endif
}

}  // namespace test
