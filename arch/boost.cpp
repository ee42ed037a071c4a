// boost.cpp: the switch of CPUs that have none of their own here, by Boost.Context.
//
// Always true:
//   - A suspended stack is an fcontext_t, and only the side that is resumed learns it. It writes it
//     into the context of the one that switched, so switch_to() keeps the promise of context.hpp.
//   - What travels through a jump is the pair {from, to}. It lies on the stack that is left, which
//     stays as it is until someone resumes it.
//   - Boost.Context switches the floating-point control words too; that is more than we promise.
//
// Comes from: context.hpp, built with COIR_BOOST_CONTEXT=1.   Goes to: libboost_context.
#include <boost/context/detail/fcontext.hpp>
#include <cstdint>

#include "arch/context.hpp"

#if !COIR_BOOST_CONTEXT
#error "boost.cpp belongs to builds with COIR_BOOST_CONTEXT=1 only"
#endif

namespace coir::arch {
namespace {

namespace fcontext = boost::context::detail;

struct jump {
  context* from;
  context* to;
};

/// Both ends of a jump: whoever is running now notes where the other one stopped.
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline jump& arrive(
    fcontext::transfer_t arrival) noexcept {
  auto& taken = *static_cast<jump*>(arrival.data);
  taken.from->rsp = arrival.fctx;
  return taken;
}

/// Boost.Context leaves the address of its own exit behind us, which is no end for an unwinder and
/// garbage as a frame pointer. Here both ends are marked as coir_fiber_entry does it.
COIR_UNINSTRUMENTED void first_arrival(fcontext::transfer_t arrival) {
  const context self = *arrive(arrival).to;
#if defined(__x86_64__)
  asm volatile(
      ".cfi_undefined %%rip\n\t"
      "andq $-16, %%rsp\n\t"
      "xorl %%ebp, %%ebp\n\t"
      "callq *%%rax\n\t"
      "ud2"
      :
      : "a"(self.rbp), "D"(self.rbx)
      : "memory");
  __builtin_unreachable();
#else
  reinterpret_cast<entry_point>(self.rbp)(self.rbx);
  COIR_ASSERT(!"the entry of a fiber returned");
#endif
}

}  // namespace

void prepare(context& self, void* stack_top, entry_point entry, void* argument) noexcept {
  const auto top = reinterpret_cast<std::uintptr_t>(stack_top) & ~std::uintptr_t{15};
  // The size only says where the other end of the stack is, which x86-64 and aarch64 never ask.
  self.rsp = fcontext::make_fcontext(reinterpret_cast<void*>(top), 0, &first_arrival);
  self.rbp = reinterpret_cast<void*>(entry);
  self.rbx = argument;
}

COIR_UNINSTRUMENTED void switch_to(context& from, context& to) noexcept {
  jump taken{&from, &to};
  arrive(fcontext::jump_fcontext(to.rsp, &taken));
}

}  // namespace coir::arch
