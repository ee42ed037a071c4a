// peer_boost_mesh.cpp: Boost.Fiber with two threads: its work stealing where work is to spread, its
// round robin on either where two fibers stay and wake each other.
//
// Always true:
//   - Two who wake each other have a CPU each; who is to stay awake has a fiber beside it that
//     yields all the time, which is how round robin hears of the other thread without going to
//     sleep.
//   - A fiber may end on another thread than it began on, so stacks lie in one list per thread;
//     what ends on a thread serves what begins there.
//   - Fibers start by launch::post, as coir's do.
//   - The schedulers of work stealing can be made once in a process.
//
// Comes from: rows_mesh.cpp, rows_pingpong.cpp.   Goes to: nothing.
#include <atomic>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "bench/computing.hpp"
#include "bench/peers.hpp"

#if COIR_BENCH_BOOST_FIBER

#include <boost/fiber/algo/work_stealing.hpp>
#include <boost/fiber/all.hpp>

namespace bench {

namespace {

using boost::fibers::fiber;

/// An allocator in Boost's sense.
class stacks_of_thread {
 public:
  using traits_type = boost::context::stack_traits;

  boost::context::stack_context allocate() {
    boost::context::stack_context stack;
    stack.size = bytes;
    stack.sp = static_cast<char*>(take()) + bytes;
    return stack;
  }
  void deallocate(boost::context::stack_context& stack) noexcept {
    give(static_cast<char*>(stack.sp) - bytes);
  }

 private:
  static constexpr std::size_t bytes = 16 << 10;
  static std::vector<void*>& unused() {
    static thread_local std::vector<void*> all;
    return all;
  }
  // Not inlined: the fiber that calls may have come from another thread meanwhile.
  [[gnu::noinline]] static void* take() {
    std::vector<void*>& all = unused();
    if (all.empty()) return ::operator new(bytes, std::align_val_t(64));
    void* const last = all.back();
    all.pop_back();
    return last;
  }
  [[gnu::noinline]] static void give(void* stack) { unused().push_back(stack); }
};

template <class F>
fiber start(F&& body) {
  return fiber(boost::fibers::launch::post, std::allocator_arg, stacks_of_thread(),
               std::forward<F>(body));
}

/// Runs `root` on this thread while another one steals from it.
template <class Root>
void on_two_thieves(Root root) {
  static bool made = false;
  if (std::exchange(made, true)) throw std::logic_error("once in a process");
  using boost::fibers::algo::work_stealing;
  boost::fibers::mutex lock;
  boost::fibers::condition_variable over;
  bool is_over = false;
  std::thread second([&] {
    boost::fibers::use_scheduling_algorithm<work_stealing>(2u);
    std::unique_lock held(lock);
    over.wait(held, [&] { return is_over; });
  });
  boost::fibers::use_scheduling_algorithm<work_stealing>(2u);
  root();
  {
    const std::lock_guard held(lock);
    is_over = true;
  }
  over.notify_all();
  second.join();
}

std::uint64_t grow(std::uint64_t first, std::uint64_t leaves) {
  if (leaves == 1) return first;
  constexpr unsigned children_each = 10;
  const std::uint64_t each = leaves / children_each;
  std::uint64_t sums[children_each];
  fiber children[children_each];
  for (unsigned i = 0; i < children_each; ++i)
    children[i] = start([to = &sums[i], from = first + i * each, each] { *to = grow(from, each); });
  std::uint64_t sum = 0;
  for (unsigned i = 0; i < children_each; ++i) {
    children[i].join();
    sum += sums[i];
  }
  return sum;
}

/// To and fro between two fibers, timed by the first.
class table {
 public:
  explicit table(players where) : where_(where) {}
  double serve() {
    const auto struck = [this] {
      for (unsigned lap = 0; lap < laps_; ++lap) {
        ping_.push(lap);
        if (pong_.value_pop() != lap) throw std::logic_error("another ball came back");
      }
    };
    const double ns =
        where_ == players::asleep ? usual_ns(laps_, struck) : fastest_ns(laps_, struck);
    ping_.close();
    return ns;
  }
  void answer() {
    for (unsigned ball; ping_.pop(ball) == boost::fibers::channel_op_status::success;)
      pong_.push(ball);
  }

 private:
  const players where_;
  const unsigned laps_ = where_ == players::same_thread ? 10'000
                         : where_ == players::awake     ? 1'000
                                                        : 200;
  // Room for more than the one ball: nobody waits to push, which is cheaper than a rendezvous.
  boost::fibers::buffered_channel<unsigned> ping_{2}, pong_{2};
};

/// A fiber that keeps this thread from going to sleep.
fiber stay_awake(const std::atomic<bool>& over) {
  return start([&over] {
    while (!over.load(std::memory_order_relaxed)) boost::this_fiber::yield();
  });
}

}  // namespace

double boost_stealing_skynet_ns(std::uint64_t leaves) {
  double ns = 0;
  on_two_thieves([&] {
    ns = fastest_ns(static_cast<double>(leaves), [&] {
      if (grow(0, leaves) != leaves * (leaves - 1) / 2) throw std::logic_error("a leaf is missing");
    });
  });
  return ns;
}

sample boost_stealing_hot_root(unsigned count) {
  sample got;
  on_two_thieves([&] {
    const auto root = std::this_thread::get_id();
    std::vector<fiber> tasks;
    double shares = 0;
    unsigned runs = 0;
    const double ns = fastest_ns(count, [&] {
      std::atomic<unsigned> here{0}, there{0};
      for (unsigned i = 0; i < count; ++i)
        tasks.push_back(start([&] {
          compute(task_steps);
          // relaxed: a count; the joins publish it.
          (std::this_thread::get_id() == root ? here : there)
              .fetch_add(1, std::memory_order_relaxed);
        }));
      for (fiber& task : tasks) task.join();
      tasks.clear();
      if (here + there != count) throw std::logic_error("a task did not run");
      shares += 2.0 * std::max(here.load(), there.load()) / count;
      ++runs;
    });
    got = {ns, shares / runs};
  });
  return got;
}

double boost_fiber_pingpong_ns(players where, const settings& chosen) {
  const bool same = where == players::same_thread;
  table match(where);
  if (same) {
    fiber other = start([&] { match.answer(); });
    double ns = 0;
    start([&] { ns = match.serve(); }).join();
    other.join();
    return ns;
  }
  std::atomic<bool> over{false};
  const bool awake = where == players::awake;
  std::thread second([&] {
    pin_to(chosen.client_cpu);
    fiber restless = awake ? stay_awake(over) : fiber();
    start([&] { match.answer(); }).join();
    if (awake) restless.join();
  });
  pin_to(chosen.cpu);
  fiber restless = awake ? stay_awake(over) : fiber();
  double ns = 0;
  start([&] { ns = match.serve(); }).join();
  over.store(true, std::memory_order_relaxed);
  if (awake) restless.join();
  second.join();
  return ns;
}

}  // namespace bench

#else

namespace bench {

double boost_stealing_skynet_ns(std::uint64_t) { throw std::logic_error("not built"); }
sample boost_stealing_hot_root(unsigned) { throw std::logic_error("not built"); }
double boost_fiber_pingpong_ns(players, const settings&) { throw std::logic_error("not built"); }

}  // namespace bench

#endif
