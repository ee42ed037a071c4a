// boost.cpp: the switch of CPUs that have none of their own here, by Boost.Context.
//
// Always true:
//   - A suspended stack is an fcontext_t, and only the side that is resumed learns it. It writes it
//     into the context of the one that switched, so switch_to() keeps the promise of context.hpp.
//   - What travels through a jump is the pair {from, to}. It lies on the stack that is left, which
//     stays as it is until someone resumes it.
//   - The floating-point controls travel with the thread, as they do with our own switches. On
//     x86-64 Boost.Context switches them, so there the one who arrives puts back what it found.
//   - What the ABI tells a callee to keep is kept. Boost.Context 1.81 forgets f14-f31 and v20-v31
//     on ppc64le, so there they are saved in the frame of switch_to().
//
// Comes from: context.hpp, built with COIR_BOOST_CONTEXT=1.   Goes to: libboost_context.
#include <boost/context/detail/fcontext.hpp>
#include <cstdint>

#include "arch/context.hpp"
#include "arch/float_control.hpp"

#if !COIR_BOOST_CONTEXT
#error "boost.cpp belongs to builds with COIR_BOOST_CONTEXT=1 only"
#endif

namespace coir::arch {
namespace {

namespace fcontext = boost::context::detail;

/// Whether jump_fcontext loads control words that the target had when it left.
#if defined(__x86_64__)
inline constexpr bool boost_switches_controls = true;
#else
inline constexpr bool boost_switches_controls = false;
#endif

struct jump {
  context* from;
  context* to;
  float_state controls{};
};

/// Both ends of a jump: whoever is running now notes where the other one stopped.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline jump& arrive(
    fcontext::transfer_t arrival) noexcept {
  auto& taken = *static_cast<jump*>(arrival.data);
  taken.from->sp = arrival.fctx;
  if constexpr (boost_switches_controls) {
    restore_float(taken.controls);
  }
  return taken;
}

/// The call of the entry function, behind which no unwinder finds a caller: Boost.Context leaves
/// the address of its own exit there, which is no end, and garbage as a frame pointer. So both ends
/// are marked as coir_fiber_entry does it. rip, x30 and lr (65) hold return addresses.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void call_entry(const context& self) {
#if defined(__x86_64__)
  asm volatile(
      ".cfi_undefined %%rip\n\t"
      "andq $-16, %%rsp\n\t"
      "xorl %%ebp, %%ebp\n\t"
      "callq *%%rax\n\t"
      "ud2"
      :
      : "a"(self.fp), "D"(self.bp)
      : "memory");
#elif defined(__aarch64__)
  asm volatile(
      ".cfi_undefined 30\n\t"
      "mov x9, %0\n\t"
      "mov x0, %1\n\t"
      "mov x29, xzr\n\t"
      "mov x30, xzr\n\t"
      "blr x9\n\t"
      "brk #0"
      :
      : "r"(self.fp), "r"(self.bp)
      : "memory", "x0", "x9");
#else
#if defined(__powerpc64__)
  asm volatile(".cfi_undefined 65");
#endif
  reinterpret_cast<entry_point>(self.fp)(self.bp);
#endif
}

COIR_UNINSTRUMENTED void first_arrival(fcontext::transfer_t arrival) {
  const context self = *arrive(arrival).to;
  call_entry(self);
  __builtin_unreachable();
}

}  // namespace

void prepare(context& self, void* stack_top, entry_point entry, void* argument) noexcept {
  const auto top = reinterpret_cast<std::uintptr_t>(stack_top) & ~std::uintptr_t{15};
  // The size only says where the other end of the stack is, which none of these CPUs ever ask.
  self.sp = fcontext::make_fcontext(reinterpret_cast<void*>(top), 0, &first_arrival);
  self.fp = reinterpret_cast<void*>(entry);
  self.bp = argument;
}

COIR_UNINSTRUMENTED void switch_to(context& from, context& to) noexcept {
  jump taken{&from, &to};
  if constexpr (boost_switches_controls) save_float(taken.controls);
  arrive(fcontext::jump_fcontext(to.sp, &taken));
#if defined(__powerpc64__) && defined(__ALTIVEC__)
  // Said to be clobbered, so that this function saves them on its way in and restores them on its
  // way out, each time on the stack of the fiber they belong to.
  asm volatile(""
               :
               :
               : "fr14", "fr15", "fr16", "fr17", "fr18", "fr19", "fr20", "fr21", "fr22", "fr23",
                 "fr24", "fr25", "fr26", "fr27", "fr28", "fr29", "fr30", "fr31", "v20", "v21",
                 "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
#endif
}

}  // namespace coir::arch
