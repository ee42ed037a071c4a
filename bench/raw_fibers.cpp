// raw_fibers.cpp: yields and spawns by hand: the least that a ring of stacks and a queue of
// closures need when nothing else can ever happen.
//
// Always true:
//   - A yield is one function that goes to the next context of a fixed ring: no queue, no state, no
//     assertion, errno and exceptions left alone.
//   - A spawned closure runs on one stack that all share, one after the other, as no switch is
//     needed for a body that does not wait.
//
// Comes from: rows_yield.cpp, rows_spawn.cpp.   Goes to: raw_switch.hpp.
#include <deque>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <vector>

#include "bench/peers.hpp"
#include "bench/raw_switch.hpp"
#include "bench/yield_ring.hpp"

namespace bench {

#if defined(__x86_64__)

namespace {

using raw::context;

/// Starts on the line after its neighbour's.
struct alignas(64) ring_fiber {
  context me;
  ring_fiber* next = nullptr;
  const std::function<void()>* body = nullptr;
};

ring_fiber* running = nullptr;
context home;
std::size_t living = 0;

[[gnu::noinline]] void yield_by_hand() {
  ring_fiber* const left = running;
  ring_fiber* const next = left->next;
  running = next;
  __builtin_prefetch(next->next);
  raw::switch_inlined(left->me, next->me);
}

void run_ring_fiber(context*, context* self) {
  auto* const fiber = reinterpret_cast<ring_fiber*>(self);
  static_assert(offsetof(ring_fiber, me) == 0);
  (*fiber->body)();
  // All end in the same lap, in the order of the ring.
  if (--living == 0) raw::switch_inlined(fiber->me, home);
  running = fiber->next;
  raw::switch_inlined(fiber->me, running->me);
  __builtin_unreachable();
}

}  // namespace

double raw_yield_ns(const ring_plan& plan, std::size_t stack_bytes) {
  const raw::stacks memory(plan.fibers, stack_bytes);
  std::vector<ring_fiber> all(plan.fibers);
  std::vector<std::function<void()>> bodies(plan.fibers);
  yield_ring ring(plan);
  std::size_t made = 0;
  start_ring(
      ring, plan, [] { yield_by_hand(); },
      [&](auto body) {
        ring_fiber& fiber = all[made];
        bodies[made] = body;
        fiber.body = &bodies[made];
        raw::prepare(fiber.me, memory.top(made), &run_ring_fiber);
        fiber.next = &all[++made % plan.fibers];
      });
  living = plan.fibers;
  running = &all[0];
  raw::switch_inlined(home, running->me);
  return ring.per_switch_ns();
}

namespace {

/// What a spawned closure is until its join: 64 bytes inside, larger ones in a box from a pool.
struct alignas(64) task {
  void (*run)(task&) = nullptr;
  task* next = nullptr;  // in the queue, then in the free list
  bool done = false;
  alignas(16) std::byte inside[64];
};

class spawner {
 public:
  spawner() { raw::prepare(loop_, memory_.top(0), &spawner::serve); }

  template <class F>
  task* spawn(F&& closure) {
    task* const t = take();
    using kind = std::decay_t<F>;
    if constexpr (sizeof(kind) <= sizeof t->inside) {
      ::new (t->inside) kind(std::forward<F>(closure));
      t->run = [](task& self) { (*std::launder(reinterpret_cast<kind*>(self.inside)))(); };
    } else {
      ::new (t->inside) kind*(new kind(std::forward<F>(closure)));
      t->run = [](task& self) {
        kind* const box = *std::launder(reinterpret_cast<kind**>(self.inside));
        (*box)();
        delete box;
      };
    }
    t->done = false;
    t->next = nullptr;
    *last_ = t;
    last_ = &t->next;
    return t;
  }

  /// One switch to the stack of the closures and back, when `t` has not run yet.
  [[gnu::noinline]] void join(task* t) {
    if (!t->done) {
      serving = this;
      raw::switch_inlined(caller_, loop_);
    }
    t->next = free_;
    free_ = t;
  }

 private:
  task* take() {
    if (free_ == nullptr) return &all_.emplace_back();
    return std::exchange(free_, free_->next);
  }

  static void serve(context*, context*) {
    for (;;) {
      spawner& s = *serving;
      while (task* const t = s.first_) {
        s.first_ = t->next;
        if (s.first_ != nullptr) __builtin_prefetch(s.first_->next);
        t->run(*t);
        t->done = true;
      }
      s.last_ = &s.first_;
      raw::switch_inlined(s.loop_, s.caller_);
    }
  }

  static spawner* serving;
  const raw::stacks memory_{1, 64 << 10};
  context loop_;
  context caller_;
  task* first_ = nullptr;
  task** last_ = &first_;
  task* free_ = nullptr;
  std::deque<task> all_;
};
spawner* spawner::serving = nullptr;

template <class Make>
double spawn_ns(const spawn_plan& plan, Make make) {
  spawner all;
  std::vector<task*> tasks;
  tasks.reserve(plan.batch);
  return fastest_ns(static_cast<double>(plan.timed()), [&] {
    for (std::size_t n = 0; n < plan.batches; ++n) {
      for (std::size_t i = 0; i < plan.batch; ++i) tasks.push_back(all.spawn(make()));
      for (task* const one : tasks) all.join(one);
      tasks.clear();
    }
  });
}

}  // namespace

double raw_spawn_ns(const spawn_plan& plan) {
  std::size_t ran = 0;
  double ns = 0;
  if (plan.closure_bytes == 0)
    ns = spawn_ns(plan, [&ran] { return [&ran] { ++ran; }; });
  else
    ns = spawn_ns(plan, [&ran] { return cargo<256>{&ran, {1}}; });
  if (ran == 0 || ran % plan.timed() != 0) throw std::logic_error("a closure did not run");
  return ns;
}

#else

double raw_yield_ns(const ring_plan&, std::size_t) {
  throw std::logic_error("no raw switch for this CPU");
}
double raw_spawn_ns(const spawn_plan&) { throw std::logic_error("no raw switch for this CPU"); }

#endif

}  // namespace bench
