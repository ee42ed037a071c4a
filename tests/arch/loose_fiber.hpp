// loose_fiber.hpp: a fiber without a worker, for tests of the ways to switch: one stack, one body,
// and a thread that resumes it.
//
// Always true:
//   - Everything a switch needs (notes, exception state, floating-point controls, the switch
//     itself) is done in hop(), as the runtime does it, so the tests pass or fail under the
//     sanitizers like the runtime.
//   - The one who resumes is the thread itself, never another loose fiber. It may be another thread
//     than before if adopt() says so first.
//   - A loose fiber that was started has ended before it is destroyed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "arch/context.hpp"
#include "arch/exceptions.hpp"
#include "arch/float_control.hpp"
#include "arch/sanitizers.hpp"
#include "runtime/base.hpp"
#include "tests/arch/boost_oracle.hpp"

namespace coir::test {

/// The switch this build uses.
struct build_switch {
  static constexpr bool keeps_controls = false;
  using place = arch::context;
  static void prepare(place& self, void* top, arch::entry_point entry, void* argument) {
    arch::prepare(self, top, entry, argument);
  }
  [[gnu::always_inline]] COIR_UNINSTRUMENTED static void go(place& from, place& to) {
    arch::switch_to(from, to);
  }
};

#if !COIR_BOOST_CONTEXT

struct inlined_switch : build_switch {
  [[gnu::always_inline]] COIR_UNINSTRUMENTED static void go(place& from, place& to) {
    arch::switch_inlined(from, to);
  }
};

struct called_switch : build_switch {
  [[gnu::always_inline]] COIR_UNINSTRUMENTED static void go(place& from, place& to) {
    arch::switch_called(from, to);
  }
};

/// Takes either form in an order without a pattern, so each meets what the other one parked.
struct mixed_switch : build_switch {
  static inline std::uint32_t state = 1;
  [[gnu::always_inline]] COIR_UNINSTRUMENTED static void go(place& from, place& to) {
    state = state * 1664525u + 1013904223u;
    if ((state >> 16 & 1) != 0) {
      arch::switch_inlined(from, to);
    } else {
      arch::switch_called(from, to);
    }
  }
};

#endif

#if COIR_BOOST_CONTEXT
#define EACH_SWITCH ::coir::test::build_switch, ::coir::test::boost_switch
#else
#define EACH_SWITCH                                                                      \
  ::coir::test::build_switch, ::coir::test::inlined_switch, ::coir::test::called_switch, \
      ::coir::test::mixed_switch, ::coir::test::boost_switch
#endif

/// One of the two that take turns. It knows where its thread keeps exceptions, so that no call
/// stands between its last instruction and the switch.
template <class Switch>
struct side {
  typename Switch::place place{};
  arch::switch_notes notes{};
  arch::exception_state saved{};
  arch::exception_state* live = arch::thread_exception_state();
  arch::float_state controls{};
  bool is_float = false;
};

/// Everything around a switch, in the frame of the caller.
template <class Switch>
[[gnu::always_inline]] COIR_UNINSTRUMENTED inline void hop_in_place(side<Switch>& from,
                                                                    side<Switch>& to,
                                                                    bool for_good = false) {
  arch::swap_exception_state(*from.live, from.saved, to.saved);
  if (!Switch::keeps_controls && (from.is_float || to.is_float)) {
    arch::exchange_float(from.is_float ? &from.controls : nullptr,
                         to.is_float ? &to.controls : nullptr);
  }
  arch::note_leave(from.notes, to.notes, for_good);
  Switch::go(from.place, to.place);
  arch::note_arrive(from.notes);
}

/// The same in a frame of its own, as the runtime parks.
template <class Switch>
[[gnu::noinline]] COIR_UNINSTRUMENTED void hop(side<Switch>& from, side<Switch>& to,
                                               bool for_good = false) noexcept {
  hop_in_place(from, to, for_good);
}

/// A stack with an entry of the test's own, and the thread's side beside it.
template <class Switch = build_switch>
struct bare_fiber {
  static constexpr std::size_t stack_bytes = COIR_ASAN || COIR_TSAN ? 512 << 10 : 128 << 10;

  explicit bare_fiber(std::size_t unaligned_by = 0)
      : stack(new std::byte[stack_bytes]), top(stack.get() + stack_bytes - unaligned_by) {
    arch::note_thread(thread.notes);
    arch::note_stack(own.notes, stack.get(), stack_bytes);
  }
  ~bare_fiber() { arch::note_gone(own.notes); }
  bare_fiber(const bare_fiber&) = delete;
  bare_fiber& operator=(const bare_fiber&) = delete;

  void enter(arch::entry_point entry, void* argument) {
    Switch::prepare(own.place, top, entry, argument);
    hop(thread, own);
  }
  void resume() { hop(thread, own); }
  void park() { hop(own, thread); }
  /// Before another thread than the last one resumes.
  void adopt() {
    thread.live = own.live = arch::thread_exception_state();
    arch::note_thread(thread.notes);
  }
  [[noreturn]] void leave_for_good() {
    hop(own, thread, true);
    COIR_ASSERT(!"a fiber ran on after its end");
    __builtin_unreachable();
  }

  std::unique_ptr<std::byte[]> stack;
  std::byte* top;
  side<Switch> thread;
  side<Switch> own;
};

/// A body on a stack. resume() runs it until it parks or ends.
template <class Switch = build_switch>
class loose_fiber {
 public:
  using body = std::function<void(loose_fiber&)>;

  explicit loose_fiber(body work) : body_(std::move(work)) {}
  ~loose_fiber() { COIR_ASSERT(!started_ || done_); }

  void resume() {
    COIR_ASSERT(!done_);
    if (started_) return bare_.resume();
    started_ = true;
    bare_.enter(&first, this);
  }
  void park() { bare_.park(); }

  /// The same two with the switch in the frame of the caller; not for the first resumption.
  [[gnu::always_inline]] void resume_in_place() { hop_in_place(bare_.thread, bare_.own); }
  [[gnu::always_inline]] void park_in_place() { hop_in_place(bare_.own, bare_.thread); }

  [[nodiscard]] bool done() const { return done_; }
  [[nodiscard]] bare_fiber<Switch>& bare() { return bare_; }

 private:
  COIR_UNINSTRUMENTED static void first(void* argument) noexcept {
    auto& self = *static_cast<loose_fiber*>(argument);
    arch::note_arrive(self.bare_.own.notes);
    self.body_(self);
    self.done_ = true;
    self.bare_.leave_for_good();
  }

  body body_;
  bare_fiber<Switch> bare_;
  bool started_ = false;
  bool done_ = false;
};

}  // namespace coir::test
