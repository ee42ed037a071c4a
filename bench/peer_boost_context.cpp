// peer_boost_context.cpp: the switch of Boost.Context at its barest, without the class around it.
//
// Always true:
//   - A context that was jumped from is new each time, so both sides keep what the jump returns.
//
// Comes from: rows_switch.cpp.   Goes to: nothing.
#include <boost/context/detail/fcontext.hpp>
#include <memory>

#include "bench/measure.hpp"
#include "bench/peers.hpp"

namespace bench {

namespace {

namespace raw = boost::context::detail;

constexpr std::size_t stack_bytes = 64 << 10;

struct plan {
  unsigned laps;
  raw::fcontext_t home;
};

/// Both sides run this loop. The first is started by the caller, the second by the first.
void walk(raw::transfer_t from) {
  auto& p = *static_cast<plan*>(from.data);
  for (unsigned lap = 0; lap < p.laps; ++lap) from = raw::jump_fcontext(from.fctx, &p);
  raw::jump_fcontext(p.home, &p);
}

/// Stands between the caller and the first side: remembers the way home, starts the second.
struct start {
  plan p;
  raw::fcontext_t second;
};

void walk_first(raw::transfer_t from) {
  auto& s = *static_cast<start*>(from.data);
  s.p.home = from.fctx;
  walk({s.second, &s.p});
}

}  // namespace

double boost_context_switch_ns(unsigned laps) {
  const auto stacks = std::make_unique<std::byte[]>(2 * stack_bytes);
  return fastest_ns(2.0 * laps, [&] {
    const raw::fcontext_t first =
        raw::make_fcontext(stacks.get() + stack_bytes, stack_bytes, &walk_first);
    start s{{laps, nullptr},
            raw::make_fcontext(stacks.get() + 2 * stack_bytes, stack_bytes, &walk)};
    raw::jump_fcontext(first, &s);
  });
}

}  // namespace bench
