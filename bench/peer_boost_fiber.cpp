// peer_boost_fiber.cpp: Boost.Fiber with its default round-robin scheduler and pooled stacks.
//
// Always true:
//   - Stacks come from one pool that is never given back, so only the first batch pays for pages.
//   - Fibers start by launch::post, as coir's do: made ready, not run at once.
//
// Comes from: rows_*.cpp.   Goes to: nothing.
#include <stdexcept>

#include "bench/lateness.hpp"
#include "bench/measure.hpp"
#include "bench/peers.hpp"
#include "bench/yield_ring.hpp"

#if COIR_BENCH_BOOST_FIBER

#include <boost/fiber/all.hpp>
#include <boost/fiber/pooled_fixedsize_stack.hpp>

namespace bench {

namespace {

using boost::fibers::fiber;

class pool {
 public:
  template <class F>
  fiber start(F&& body) {
    return fiber(boost::fibers::launch::post, std::allocator_arg, stacks_, std::forward<F>(body));
  }

 private:
  boost::fibers::pooled_fixedsize_stack stacks_{16 << 10};
};

template <class Make>
double spawn_ns(const spawn_plan& plan, Make make) {
  pool stacks;
  std::vector<fiber> fibers;
  fibers.reserve(plan.batch);
  return fastest_ns(static_cast<double>(plan.timed()), [&] {
    for (std::size_t n = 0; n < plan.batches; ++n) {
      for (std::size_t i = 0; i < plan.batch; ++i) fibers.push_back(stacks.start(make()));
      for (fiber& one : fibers) one.join();
      fibers.clear();
    }
  });
}

}  // namespace

const char* const boost_fiber_package = "";

double boost_fiber_yield_ns(const ring_plan& plan) {
  pool stacks;
  yield_ring ring(plan);
  std::vector<fiber> fibers;
  start_ring(
      ring, plan, [] { boost::this_fiber::yield(); },
      [&](auto body) { fibers.push_back(stacks.start(std::move(body))); });
  for (fiber& one : fibers) one.join();
  return ring.per_switch_ns();
}

double boost_fiber_spawn_ns(const spawn_plan& plan) {
  std::size_t ran = 0;
  double ns = 0;
  if (plan.closure_bytes == 0)
    ns = spawn_ns(plan, [&ran] { return [&ran] { ++ran; }; });
  else
    ns = spawn_ns(plan, [&ran] { return cargo<256>{&ran, {1}}; });
  if (ran == 0 || ran % plan.timed() != 0) throw std::logic_error("a fiber did not run");
  return ns;
}

sample boost_fiber_sleep(const sleep_plan& plan) {
  pool stacks;
  return measure_sleepers(plan, [&](lateness* late) {
    std::vector<fiber> fibers;
    fibers.reserve(plan.fibers);
    for (std::size_t i = 0; i < plan.fibers; ++i)
      fibers.push_back(stacks.start([&plan, late] {
        for (unsigned n = 0; n < plan.times; ++n) {
          const std::int64_t began = late != nullptr ? now_ns() : 0;
          boost::this_fiber::sleep_for(std::chrono::nanoseconds(plan.each_ns));
          if (late != nullptr) late->add(now_ns() - began - plan.each_ns);
        }
      }));
    for (fiber& one : fibers) one.join();
  });
}

sample boost_fiber_parked(std::size_t count) {
  pool stacks;
  boost::fibers::mutex lock;
  boost::fibers::condition_variable_any open;
  bool is_open = false;
  std::size_t parked = 0;
  std::vector<fiber> fibers;
  fibers.reserve(count);
  const std::int64_t began = now_ns();
  for (std::size_t i = 0; i < count; ++i)
    fibers.push_back(stacks.start([&] {
      std::unique_lock held(lock);
      ++parked;
      open.wait(held, [&] { return is_open; });
    }));
  while (parked < count) boost::this_fiber::yield();
  const std::int64_t created = now_ns() - began;
  const double bytes = resident_bytes() / static_cast<double>(count);
  const std::int64_t ending = now_ns();
  {
    const std::lock_guard held(lock);
    is_open = true;
  }
  open.notify_all();
  for (fiber& one : fibers) one.join();
  return {bytes, static_cast<double>(created + now_ns() - ending) / static_cast<double>(count)};
}

}  // namespace bench

#else

namespace bench {

const char* const boost_fiber_package = "libboost-fiber1.81-dev";
double boost_fiber_yield_ns(const ring_plan&) { throw std::logic_error("not built"); }
double boost_fiber_spawn_ns(const spawn_plan&) { throw std::logic_error("not built"); }
sample boost_fiber_sleep(const sleep_plan&) { throw std::logic_error("not built"); }
sample boost_fiber_parked(std::size_t) { throw std::logic_error("not built"); }

}  // namespace bench

#endif
