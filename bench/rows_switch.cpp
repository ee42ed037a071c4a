// rows_switch.cpp: leaving one stack for another, with nothing around it.
//
// Always true:
//   - Two stacks hand over to each other from one loop, whose code both run.
//   - The bare switch is not public: this file includes arch/ and is compiled from the tree, with
//     what the installed archive holds of it.
//
// Comes from: coir_bench.cpp.   Goes to: arch/context.hpp, arch/float_control.hpp, raw_switch.hpp.

#include "arch/context.hpp"
#include "arch/float_control.hpp"
#include "bench/peers.hpp"
#include "bench/raw_switch.hpp"
#include "bench/rows.hpp"

namespace bench {

namespace {

constexpr std::size_t stack_bytes = 64 << 10;
constexpr unsigned laps = 50'000;

/// The sticky flags of what was computed before would make two equal fibers differ.
void forget_flags() {
#if defined(__x86_64__)
  const std::uint32_t fresh = 0x1F80;
  asm volatile("ldmxcsr %0" : : "m"(fresh));
#endif
}

/// The ways of coir. Each is one struct: a context, and how to leave one side for another.
namespace ours {
struct no_float {
  coir::arch::context context;
  [[gnu::always_inline]] static void before(no_float&, no_float&) {}
};
struct with_float {
  coir::arch::context context;
  coir::arch::float_state controls = {};
  [[gnu::always_inline]] static void before(with_float& from, with_float& to) {
    coir::arch::exchange_float(&from.controls, &to.controls);
  }
};
void round_up(coir::arch::float_state& controls) {
#if defined(__x86_64__)
  controls.mxcsr |= 0x4000;
#elif defined(__aarch64__)
  controls.fpcr |= 1u << 22;
#endif
}
struct in_place {
  [[gnu::always_inline]] static void go(coir::arch::context& from, coir::arch::context& to) {
    coir::arch::switch_to(from, to);
  }
};
struct called {
  [[gnu::always_inline]] static void go(coir::arch::context& from, coir::arch::context& to) {
    coir::arch::switch_called(from, to);
  }
};
}  // namespace ours

/// Both sides run this one loop, so that there is one call site, as in a runtime.
template <class Way, class Side>
void walk(Side& me, Side& other, Side& home, unsigned count) {
  for (unsigned lap = 0; lap < count; ++lap) {
    Side::before(me, other);
    Way::go(me.context, other.context);
  }
  Way::go(me.context, home.context);
}

template <class Side>
struct pair {
  Side a, b, home;
};

template <class Way, class Side>
struct started {
  pair<Side>* sides;
  Side* me;
  Side* other;
  unsigned count;
  static void run(void* argument) noexcept {
    auto& s = *static_cast<started*>(argument);
    walk<Way>(*s.me, *s.other, s.sides->home, s.count);
  }
};

/// The first side ends after `laps` switches of each; the second stays where it is.
template <class Way, class Side>
double coir_switch_ns(bool differ = false) {
  const raw::stacks stacks(2, stack_bytes);  // of a bare allocation both tops fall on one set
  return fastest_ns(2.0 * laps, [&] {
    pair<Side> sides;
    forget_flags();
    if constexpr (std::is_same_v<Side, ours::with_float>)
      if (differ) ours::round_up(sides.b.controls);
    started<Way, Side> a{&sides, &sides.a, &sides.b, laps};
    started<Way, Side> b{&sides, &sides.b, &sides.a, laps + 1};
    coir::arch::prepare(sides.a.context, stacks.top(0), &started<Way, Side>::run, &a);
    coir::arch::prepare(sides.b.context, stacks.top(1), &started<Way, Side>::run, &b);
    Way::go(sides.home.context, sides.a.context);
  });
}

#if defined(__x86_64__)

namespace by_hand {
struct no_float {
  raw::context context;
  [[gnu::always_inline]] static void before(no_float&, no_float&) {}
};
struct with_float {
  raw::context context;
  raw::float_words controls;
  [[gnu::always_inline]] static void before(with_float& from, with_float& to) {
    raw::exchange_float(from.controls, to.controls);
  }
};
struct in_place {
  [[gnu::always_inline]] static void go(raw::context& from, raw::context& to) {
    raw::switch_inlined(from, to);
  }
};
struct called {
  [[gnu::always_inline]] static void go(raw::context& from, raw::context& to) {
    raw::bench_raw_switch(&from, &to);
  }
};

template <class Side>
pair<Side>* all = nullptr;

template <class Way, class Side>
void run(raw::context*, raw::context* self) {
  pair<Side>& sides = *all<Side>;
  const bool first = self == &sides.a.context;
  walk<Way>(first ? sides.a : sides.b, first ? sides.b : sides.a, sides.home,
            first ? laps : laps + 1);
}
}  // namespace by_hand

template <class Way, class Side>
double raw_switch_ns() {
  const raw::stacks stacks(2, stack_bytes);
  return fastest_ns(2.0 * laps, [&] {
    pair<Side> sides;
    forget_flags();
    by_hand::all<Side> = &sides;
    raw::prepare(sides.a.context, stacks.top(0), &by_hand::run<Way, Side>);
    raw::prepare(sides.b.context, stacks.top(1), &by_hand::run<Way, Side>);
    Way::go(sides.home.context, sides.a.context);
  });
}

template <class Way, class Side>
entry raw_entry(const char* who) {
  return {who, role::raw, [] { return sample(raw_switch_ns<Way, Side>()); }};
}

entry raw_twin(bool inlined, bool floats) {
  using namespace by_hand;
  if (floats)
    return inlined ? raw_entry<in_place, with_float>("inlined by hand")
                   : raw_entry<called, with_float>("called by hand");
  return inlined ? raw_entry<in_place, no_float>("inlined by hand")
                 : raw_entry<called, no_float>("called by hand");
}

#else

entry raw_twin(bool, bool) {
  return {"by hand", role::raw, [] { return sample(); }, "a switch for this CPU"};
}

#endif

template <class Way, class Side>
entry coir_entry() {
  return {"coir", role::ours, [] { return sample(coir_switch_ns<Way, Side>()); }};
}

row switch_row(const char* name, const char* what, entry ours, entry by_hand, bool absolute) {
  row one{name, what, {{"switch", "ns"}}, {std::move(ours), std::move(by_hand)}, {}};
  one.entries.push_back(
      {"Boost.Context", role::peer, [] { return sample(boost_context_switch_ns(laps)); }});
  if (absolute) one.reaches.push_back({reach::kind::at_most, 1.2});
  one.reaches.push_back({reach::kind::of_raw, 1.1});
  one.note = "compiled from the tree: the bare switch is not public";
  return one;
}

}  // namespace

void add_switch(rows& to, const settings&) {
  to.push_back(switch_row("switch/no_float", "one-way switch, inlined",
                          coir_entry<ours::in_place, ours::no_float>(), raw_twin(true, false),
                          true));
  to.push_back(switch_row("switch/no_float/out_of_line", "one-way switch by a call",
                          coir_entry<ours::called, ours::no_float>(), raw_twin(false, false),
                          false));
  to.push_back(switch_row("switch/float", "one-way switch with control words, inlined",
                          coir_entry<ours::in_place, ours::with_float>(), raw_twin(true, true),
                          true));
  to.push_back(
      switch_row("switch/float/out_of_line", "one-way switch with control words, by a call",
                 coir_entry<ours::called, ours::with_float>(), raw_twin(false, true), false));
  to.back().entries.push_back(
      {"coir, the two sides round differently", role::variant,
       [] { return sample(coir_switch_ns<ours::called, ours::with_float>(true)); }});
}

}  // namespace bench
