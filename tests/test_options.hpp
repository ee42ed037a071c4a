// test_options.hpp: the options of a test's runtime, which COIR_TEST_OPTIONS makes smaller for
// the whole suite: "ring_entries=8,mailbox_slots=1,fibers_max=64".
//
// Always true:
//   - No number is larger than the environment says, also one that the test has chosen itself.
//   - Only the cases of needs.hpp keep the fibers that they need.
//   - A name or a number that is not understood ends the program: a typing error must not look like
//     a run of the small configuration.
//
// Comes from: every test that makes a runtime.   Goes to: coir::runtime::create, coir_run.
#pragma once

#include <coir.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "coir/options.hpp"
#include "needs.hpp"

namespace test {

namespace detail {

/// What COIR_TEST_OPTIONS says of `field`; nothing when it does not speak of it.
inline std::optional<unsigned long> told(std::string_view field) {
  static constexpr std::string_view known[] = {"ring_entries", "mailbox_slots", "fibers_max",
                                               "run_budget", "deflect_threshold"};
  const char* const set = std::getenv("COIR_TEST_OPTIONS");
  std::string rest = set == nullptr ? "" : set;
  std::optional<unsigned long> answer;
  while (!rest.empty()) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    const std::string pair = rest.substr(0, comma);
    const std::size_t equals = std::min(pair.find('='), pair.size());
    const std::string name = pair.substr(0, equals);
    char* end = nullptr;
    const unsigned long value =
        equals == pair.size() ? 0 : std::strtoul(pair.c_str() + equals + 1, &end, 10);
    if (value == 0 || *end != '\0' || std::ranges::count(known, name) == 0) {
      std::fprintf(stderr, "COIR_TEST_OPTIONS: '%s' is not understood\n", pair.c_str());
      std::exit(2);
    }
    if (name == field) answer = value;
    rest.erase(0, comma + 1);
  }
  return answer;
}

template <class Number>
void lower(Number& field, std::string_view name, std::uint32_t at_least = 0) {
  const auto value = told(name);
  if (!value || field <= *value) return;
  field = std::min(field, static_cast<Number>(std::max<unsigned long>(*value, at_least)));
}

/// The fibers that the running test case cannot do without.
inline std::uint32_t needed() {
  const auto* const running = doctest::getContextOptions()->currentTest;
  for (const need& n : needs)
    if (running != nullptr && n.test == running->m_name) return n.fibers;
  return 0;
}

}  // namespace detail

/// `o`, with no number larger than COIR_TEST_OPTIONS allows.
inline coir::options tested(coir::options o) {
  detail::lower(o.ring_entries, "ring_entries");
  detail::lower(o.mailbox_slots, "mailbox_slots");
  detail::lower(o.fibers_max, "fibers_max", detail::needed());
  detail::lower(o.run_budget, "run_budget");
  detail::lower(o.deflect_threshold, "deflect_threshold");
  return o;
}

/// The same for C.
inline coir_config tested_config(unsigned workers) {
  const coir::options o = tested({.workers = workers});
  coir_config c{};
  c.size = sizeof c;
  c.workers = o.workers;
  c.fibers_max = o.fibers_max;
  c.ring_entries = o.ring_entries;
  c.mailbox_slots = o.mailbox_slots;
  return c;
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
