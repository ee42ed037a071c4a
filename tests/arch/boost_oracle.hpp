// boost_oracle.hpp: the same switch by Boost.Context, used directly: what ours must agree with.
//
// Always true:
//   - It shares no switch with arch/, also not in a build whose switch is Boost.Context.
#pragma once

#include <boost/context/detail/fcontext.hpp>

#include "arch/sanitizers.hpp"

namespace coir::test {

struct boost_switch {
  using entry_point = void (*)(void*) noexcept;

  struct place {
    boost::context::detail::fcontext_t stopped = nullptr;
    entry_point entry = nullptr;
    void* argument = nullptr;
  };

  static void prepare(place& self, void* top, entry_point entry, void* argument) {
    self = {boost::context::detail::make_fcontext(top, 0, &begin), entry, argument};
  }

  [[gnu::always_inline]] COIR_UNINSTRUMENTED static void go(place& from, place& to) {
    ends passed{&from, &to};
    const auto back = boost::context::detail::jump_fcontext(to.stopped, &passed);
    static_cast<ends*>(back.data)->from->stopped = back.fctx;
  }

 private:
  struct ends {
    place* from;
    place* to;
  };

  COIR_UNINSTRUMENTED static void begin(boost::context::detail::transfer_t back) {
    const auto& passed = *static_cast<ends*>(back.data);
    passed.from->stopped = back.fctx;
    passed.to->entry(passed.to->argument);
  }
};

}  // namespace coir::test
