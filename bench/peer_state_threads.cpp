// peer_state_threads.cpp: the State Threads library.
//
// Always true:
//   - The library keeps its state in globals and is started once per process, which is why each
//     measurement has a process of its own.
//   - It has no yield. Sleeping for nothing would enter the kernel, so threads hand over by
//     condition variables: signal the next one, wait for one's own.
//
// Comes from: rows_*.cpp.   Goes to: nothing.
#include <memory>
#include <stdexcept>

#include "bench/lateness.hpp"
#include "bench/measure.hpp"
#include "bench/peers.hpp"
#include "bench/yield_ring.hpp"

#if COIR_BENCH_STATE_THREADS

#include <st.h>

namespace bench {

namespace {

constexpr int joinable = 1;
constexpr int stack_bytes = 16 << 10;

void start_library() {
  st_set_eventsys(ST_EVENTSYS_ALT);  // epoll
  if (st_init() != 0) throw std::runtime_error("st_init failed");
}

st_thread_t start_thread(void* (*body)(void*), void* argument) {
  const st_thread_t thread = st_thread_create(body, argument, joinable, stack_bytes);
  if (thread == nullptr) throw std::runtime_error("st_thread_create failed");
  return thread;
}

/// Its threads take one pointer, so a closure is a box that its thread empties.
template <class F>
st_thread_t start_closure(F&& body) {
  using kind = std::decay_t<F>;
  return start_thread(
      [](void* argument) -> void* {
        const std::unique_ptr<kind> box(static_cast<kind*>(argument));
        (*box)();
        return nullptr;
      },
      new kind(std::forward<F>(body)));
}

struct member {
  st_cond_t mine = nullptr;
  st_cond_t next = nullptr;
};

void* count(void* argument) {
  ++*static_cast<std::size_t*>(argument);
  return nullptr;
}

template <class Start>
double spawn_ns(const spawn_plan& plan, Start start) {
  std::vector<st_thread_t> threads;
  threads.reserve(plan.batch);
  return fastest_ns(static_cast<double>(plan.timed()), [&] {
    for (std::size_t n = 0; n < plan.batches; ++n) {
      for (std::size_t i = 0; i < plan.batch; ++i) threads.push_back(start());
      for (const st_thread_t thread : threads) st_thread_join(thread, nullptr);
      threads.clear();
    }
  });
}

}  // namespace

const char* const state_threads_package = "";

double state_threads_yield_ns(const ring_plan& plan) {
  start_library();
  yield_ring ring(plan);
  std::vector<member> members(plan.fibers);
  for (member& one : members) one.mine = st_cond_new();
  for (unsigned i = 0; i < plan.fibers; ++i) members[i].next = members[(i + 1) % plan.fibers].mine;
  const member* running = nullptr;
  std::vector<st_thread_t> threads;
  unsigned made = 0;
  start_ring(
      ring, plan,
      [&running] {
        const member& me = *running;
        st_cond_signal(me.next);
        st_cond_wait(me.mine);
        running = &me;
      },
      [&](auto body) {
        threads.push_back(start_closure([&running, &members, body, i = made++]() mutable {
          running = &members[i];
          body();
          st_cond_signal(members[i].next);  // so that the last lap of the others ends too
        }));
      });
  for (const st_thread_t thread : threads) st_thread_join(thread, nullptr);
  return ring.per_switch_ns();
}

double state_threads_spawn_ns(const spawn_plan& plan) {
  start_library();
  std::size_t ran = 0;
  const double ns = plan.closure_bytes == 0
                        ? spawn_ns(plan, [&ran] { return start_thread(&count, &ran); })
                        : spawn_ns(plan, [&ran] {
                            return start_closure(cargo<256>{&ran, {1}});
                          });
  if (ran == 0 || ran % plan.timed() != 0) throw std::logic_error("a thread did not run");
  return ns;
}

sample state_threads_sleep(const sleep_plan& plan) {
  start_library();
  return measure_sleepers(plan, [&](lateness* late) {
    std::vector<st_thread_t> threads;
    threads.reserve(plan.fibers);
    for (std::size_t i = 0; i < plan.fibers; ++i)
      threads.push_back(start_closure([&plan, late] {
        for (unsigned n = 0; n < plan.times; ++n) {
          const std::int64_t began = late != nullptr ? now_ns() : 0;
          st_usleep(static_cast<st_utime_t>(plan.each_ns / 1000));
          if (late != nullptr) late->add(now_ns() - began - plan.each_ns);
        }
      }));
    for (const st_thread_t thread : threads) st_thread_join(thread, nullptr);
  });
}

}  // namespace bench

#else

namespace bench {

const char* const state_threads_package = "libst-dev";
double state_threads_yield_ns(const ring_plan&) { throw std::logic_error("not built"); }
double state_threads_spawn_ns(const spawn_plan&) { throw std::logic_error("not built"); }
sample state_threads_sleep(const sleep_plan&) { throw std::logic_error("not built"); }

}  // namespace bench

#endif
