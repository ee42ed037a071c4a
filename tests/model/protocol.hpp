// protocol.hpp: how the tests of protocols say what must hold and what must be noticed.
//
// Always true:
//   - A protocol holds only if every execution within the bounds was looked at; how many is
//     printed.
//   - A broken twin fails for the reason that the test names, and not for another one.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/model/checker.hpp"

namespace coir::check {

// Without optimisation a search takes ten times as long: what holds has one preemption less there.
#ifdef __OPTIMIZE__
inline constexpr unsigned spared_preemptions = 0;
#else
inline constexpr unsigned spared_preemptions = 1;
#endif

inline void must_hold(const std::string& what, unsigned threads, const maker& make,
                      bounds limits = {}) {
  limits.preemptions -= std::min(limits.preemptions, spared_preemptions);
  const verdict v = explore(threads, make, limits);
  MESSAGE(what << ": " << v.executions << " executions, " << v.steps << " steps");
  CHECK_MESSAGE(v.sound(), what << ": " << v.text());
}

inline void must_fail(const std::string& what, unsigned threads, const maker& make,
                      const std::string& why, const bounds& limits = {}) {
  const verdict v = explore(threads, make, limits);
  MESSAGE(what << ": noticed in execution " << v.executions << ", schedule \"" << v.schedule
               << "\": " << v.why);
  CHECK_MESSAGE(v.failed, what << ": not noticed: " << v.text());
  CHECK_MESSAGE(v.why.find(why) != std::string::npos, what << ": " << v.text());
}

/// The broken twin that has only `weaker` where the sources say `order`, as unneeded_orders names
/// it.
inline void must_need(const std::string& order, std::memory_order weaker, unsigned threads,
                      const maker& make, const bounds& limits = {}) {
  const verdict v = explore_weakened(order, weaker, threads, make, limits);
  MESSAGE(order << ": its lack is noticed in execution " << v.executions << ", schedule \""
                << v.schedule << "\": " << v.why);
  CHECK_MESSAGE(v.failed, order << ": its lack is not noticed: " << v.text());
}

/// Every order that these threads use is needed by them, but those listed: each with its reason.
inline void needs_every_order(unsigned threads, const maker& make,
                              std::vector<std::string> but = {}, const bounds& limits = {}) {
  auto unneeded = unneeded_orders(threads, make, limits);
  std::sort(unneeded.begin(), unneeded.end());
  std::sort(but.begin(), but.end());
  CHECK_MESSAGE(unneeded == but, [&] {
    std::string text = "nothing fails without:";
    for (const auto& each : unneeded) text += "\n  " + each;
    return text;
  }());
}

}  // namespace coir::check
