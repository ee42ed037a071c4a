// peer_boost_fiber.cpp: Boost.Fiber with its default round-robin scheduler and pooled stacks.
//
// Always true:
//   - Stacks come from one pool that is never given back, so only the first batch pays for pages.
//   - Fibers start by launch::post, as coir's do: made ready, not run at once.
//
// Comes from: rows_yield.cpp, rows_spawn.cpp, rows_memory.cpp.   Goes to: nothing.
#include <stdexcept>

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

}  // namespace

const char* const boost_fiber_package = "";

double boost_fiber_yield_ns(const ring_plan& plan, bool two_sites) {
  pool stacks;
  yield_ring ring(plan);
  const auto yield = [] { boost::this_fiber::yield(); };
  std::vector<fiber> fibers;
  for (unsigned i = 0; i < plan.fibers; ++i) {
    if (two_sites && i % 2 == 1)
      fibers.push_back(stacks.start([&ring, i, yield] { ring.walk<1>(i, yield); }));
    else
      fibers.push_back(stacks.start([&ring, i, yield] { ring.walk<0>(i, yield); }));
  }
  for (fiber& one : fibers) one.join();
  return ring.per_switch_ns();
}

double boost_fiber_spawn_ns(const spawn_plan& plan) {
  pool stacks;
  std::size_t ran = 0;
  std::vector<fiber> fibers;
  fibers.reserve(plan.batch);
  const double ns = fastest_ns(plan.repeats, static_cast<double>(plan.timed()), [&] {
    for (std::size_t n = 0; n < plan.batches; ++n) {
      for (std::size_t i = 0; i < plan.batch; ++i)
        fibers.push_back(stacks.start([&ran] { ++ran; }));
      for (fiber& one : fibers) one.join();
      fibers.clear();
    }
  });
  if (ran != plan.all()) throw std::logic_error("a fiber did not run");
  return ns;
}

double boost_fiber_parked_bytes(std::size_t count) {
  pool stacks;
  boost::fibers::mutex lock;
  boost::fibers::condition_variable_any open;
  bool is_open = false;
  std::size_t parked = 0;
  std::vector<fiber> fibers;
  fibers.reserve(count);
  const double before = resident_bytes();
  for (std::size_t i = 0; i < count; ++i)
    fibers.push_back(stacks.start([&] {
      std::unique_lock held(lock);
      ++parked;
      open.wait(held, [&] { return is_open; });
    }));
  while (parked < count) boost::this_fiber::yield();
  const double bytes = (resident_bytes() - before) / static_cast<double>(count);
  {
    const std::lock_guard held(lock);
    is_open = true;
  }
  open.notify_all();
  for (fiber& one : fibers) one.join();
  return bytes;
}

}  // namespace bench

#else

namespace bench {

const char* const boost_fiber_package = "libboost-fiber1.81-dev";
double boost_fiber_yield_ns(const ring_plan&, bool) { throw std::logic_error("not built"); }
double boost_fiber_spawn_ns(const spawn_plan&) { throw std::logic_error("not built"); }
double boost_fiber_parked_bytes(std::size_t) { throw std::logic_error("not built"); }

}  // namespace bench

#endif
