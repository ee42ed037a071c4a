// peer_state_threads.cpp: the State Threads library.
//
// Always true:
//   - The library keeps its state in globals and is started once per process, which is why each
//     measurement has a process of its own.
//   - It has no yield. Sleeping for nothing would enter the kernel, so threads hand over by
//     condition variables: signal the next one, wait for one's own.
//
// Comes from: rows_yield.cpp, rows_spawn.cpp.   Goes to: nothing.
#include <stdexcept>

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
  if (st_init() != 0) throw std::runtime_error("st_init failed");
}

st_thread_t start_thread(void* (*body)(void*), void* argument) {
  const st_thread_t thread = st_thread_create(body, argument, joinable, stack_bytes);
  if (thread == nullptr) throw std::runtime_error("st_thread_create failed");
  return thread;
}

struct member {
  yield_ring* ring;
  unsigned index;
  st_cond_t mine;
  st_cond_t next;
};

void* walk(void* argument) {
  const member& me = *static_cast<member*>(argument);
  me.ring->walk<0>(me.index, [&me] {
    st_cond_signal(me.next);
    st_cond_wait(me.mine);
  });
  st_cond_signal(me.next);  // so that the last lap of the others ends too
  return nullptr;
}

void* count(void* argument) {
  ++*static_cast<std::size_t*>(argument);
  return nullptr;
}

}  // namespace

const char* const state_threads_package = "";

double state_threads_yield_ns(const ring_plan& plan) {
  start_library();
  yield_ring ring(plan);
  std::vector<member> members(plan.fibers);
  for (unsigned i = 0; i < plan.fibers; ++i) members[i] = {&ring, i, st_cond_new(), nullptr};
  for (unsigned i = 0; i < plan.fibers; ++i) members[i].next = members[(i + 1) % plan.fibers].mine;
  std::vector<st_thread_t> threads;
  for (member& one : members) threads.push_back(start_thread(&walk, &one));
  for (const st_thread_t thread : threads) st_thread_join(thread, nullptr);
  return ring.per_switch_ns();
}

double state_threads_spawn_ns(const spawn_plan& plan) {
  start_library();
  std::size_t ran = 0;
  std::vector<st_thread_t> threads;
  threads.reserve(plan.batch);
  const double ns = fastest_ns(plan.repeats, static_cast<double>(plan.timed()), [&] {
    for (std::size_t n = 0; n < plan.batches; ++n) {
      for (std::size_t i = 0; i < plan.batch; ++i) threads.push_back(start_thread(&count, &ran));
      for (const st_thread_t thread : threads) st_thread_join(thread, nullptr);
      threads.clear();
    }
  });
  if (ran != plan.all()) throw std::logic_error("a thread did not run");
  return ns;
}

}  // namespace bench

#else

namespace bench {

const char* const state_threads_package = "libst-dev";
double state_threads_yield_ns(const ring_plan&) { throw std::logic_error("not built"); }
double state_threads_spawn_ns(const spawn_plan&) { throw std::logic_error("not built"); }

}  // namespace bench

#endif
