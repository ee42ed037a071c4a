// peer_boost_context.cpp: the switch of Boost.Context at its barest, without the class around it.
//
// Always true:
//   - A context that was jumped from is new each time, so both sides keep what the jump returns.
//
// Comes from: rows_switch.cpp.   Goes to: nothing.
#include <boost/context/detail/fcontext.hpp>

#include "bench/measure.hpp"
#include "bench/peers.hpp"
#include "bench/raw_switch.hpp"

namespace bench {

namespace {

namespace fc = boost::context::detail;

constexpr std::size_t stack_bytes = 64 << 10;

struct plan {
  unsigned laps;
  fc::fcontext_t home;
};

/// Both sides run this loop. The first is started by the caller, the second by the first.
void walk(fc::transfer_t from) {
  auto& p = *static_cast<plan*>(from.data);
  for (unsigned lap = 0; lap < p.laps; ++lap) from = fc::jump_fcontext(from.fctx, &p);
  fc::jump_fcontext(p.home, &p);
}

/// Stands between the caller and the first side: remembers the way home, starts the second.
struct start {
  plan p;
  fc::fcontext_t second;
};

void walk_first(fc::transfer_t from) {
  auto& s = *static_cast<start*>(from.data);
  s.p.home = from.fctx;
  walk({s.second, &s.p});
}

}  // namespace

double boost_context_switch_ns(unsigned laps) {
  const raw::stacks stacks(2, stack_bytes);
  return fastest_ns(2.0 * laps, [&] {
    const fc::fcontext_t first = fc::make_fcontext(stacks.top(0), stack_bytes, &walk_first);
    start s{{laps, nullptr}, fc::make_fcontext(stacks.top(1), stack_bytes, &walk)};
    fc::jump_fcontext(first, &s);
  });
}

}  // namespace bench
