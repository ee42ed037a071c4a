// boost_oracle.hpp: the same switch by Boost.Context, used directly: what ours must agree with.
//
// Always true:
//   - It shares no switch with arch/, also not in a build whose switch is Boost.Context.
//   - What Boost.Context 1.81 forgets on ppc64le (f14-f31, v20-v31) is kept by the compiler around
//     it.
//   - The floating-point controls belong to each side: on x86-64 Boost.Context keeps them,
//     elsewhere libc does (on x86-64 it would leave out the precision of the x87). A first arrival
//     has those of its preparer, a thread that changes nothing. So every fiber is `float`.
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <cfenv>

#include "arch/sanitizers.hpp"

namespace coir::test {

struct boost_switch {
  /// Whoever uses this switch leaves the controls to it.
  static constexpr bool keeps_controls = true;

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
#if !defined(__x86_64__)
    std::fenv_t controls;
    std::fegetenv(&controls);
#endif
    const auto back = boost::context::detail::jump_fcontext(to.stopped, &passed);
    static_cast<ends*>(back.data)->from->stopped = back.fctx;
#if !defined(__x86_64__)
    std::fesetenv(&controls);
#endif
#if defined(__powerpc64__)
    asm volatile(""
                 :
                 :
                 : "fr14", "fr15", "fr16", "fr17", "fr18", "fr19", "fr20", "fr21", "fr22", "fr23",
                   "fr24", "fr25", "fr26", "fr27", "fr28", "fr29", "fr30", "fr31", "v20", "v21",
                   "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
#endif
  }

 private:
  struct ends {
    place* from;
    place* to;
  };

  COIR_UNINSTRUMENTED static void begin(boost::context::detail::transfer_t back) {
    const auto& passed = *static_cast<ends*>(back.data);
    passed.from->stopped = back.fctx;
#if !defined(__x86_64__)
    std::fesetenv(FE_DFL_ENV);
#endif
    passed.to->entry(passed.to->argument);
  }
};

}  // namespace coir::test
