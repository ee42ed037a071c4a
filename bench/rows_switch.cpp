// rows_switch.cpp: leaving one stack for another, with nothing around it.
//
// Always true:
//   - Two stacks hand over to each other from one loop, whose code both run.
//   - This is the one file of the benchmark that looks inside coir: the bare switch is not public.
//
// Comes from: coir_bench.cpp.   Goes to: arch/context.hpp, peers.hpp.
#include <memory>

#include "arch/context.hpp"
#include "bench/peers.hpp"
#include "bench/rows.hpp"

namespace bench {

namespace {

using coir::arch::context;

constexpr std::size_t stack_bytes = 64 << 10;
constexpr unsigned repeats = 5;

struct side {
  context me;
  context* other;
  context* home;
  unsigned laps;
};

/// Both sides run this one loop, so that there is one call site, as in a runtime. `Leave` is the
/// way of switching.
template <class Leave>
void walk(void* argument) noexcept {
  auto& s = *static_cast<side*>(argument);
  for (unsigned lap = 0; lap < s.laps; ++lap) Leave::go(s.me, *s.other);
  Leave::go(s.me, *s.home);
}

/// The first side ends after `laps` switches of each; the second stays where it is.
template <class Leave>
double switch_ns(unsigned laps) {
  const auto stacks = std::make_unique<std::byte[]>(2 * stack_bytes);
  return fastest_ns(repeats, 2.0 * laps, [&] {
    context home;
    side a{{}, nullptr, &home, laps};
    side b{{}, &a.me, &home, laps + 1};
    a.other = &b.me;
    coir::arch::prepare(a.me, stacks.get() + stack_bytes, &walk<Leave>, &a);
    coir::arch::prepare(b.me, stacks.get() + 2 * stack_bytes, &walk<Leave>, &b);
    Leave::go(home, a.me);
  });
}

struct in_place {
  [[gnu::always_inline]] static void go(context& from, context& to) {
    coir::arch::switch_inlined(from, to);
  }
};
/// Every wait goes through one function, as the runtime does it.
struct through_one_function {
  [[gnu::noinline]] static void go(context& from, context& to) {
    coir::arch::switch_inlined(from, to);
  }
};
struct out_of_line {
  static void go(context& from, context& to) { coir_switch(&from, &to); }
};

}  // namespace

void add_switch(tables& to, const settings& chosen) {
  const unsigned count = chosen.quick ? 200'000 : 2'000'000;
  to.push_back({"the switch alone",
                "ns per switch",
                {{"coir, inlined", [=] { return sample{switch_ns<in_place>(count)}; }},
                 {"coir, inlined into one function that all waits call",
                  [=] { return sample{switch_ns<through_one_function>(count)}; }},
                 {"coir, out of line", [=] { return sample{switch_ns<out_of_line>(count)}; }},
                 {"Boost.Context", [=] { return sample{boost_context_switch_ns(count)}; }}}});
}

}  // namespace bench
