// raw_sleep.cpp: sleepers by hand. As all sleep equally long, the one who falls asleep first wakes
// first: a queue is all the timer there is.
//
// Always true:
//   - A sleep looks at the clock once, as coir's does, and goes straight to the next who is due.
//   - When nobody is due the thread sleeps in the kernel until the first deadline.
//
// Comes from: rows_sleep.cpp.   Goes to: raw_switch.hpp.
#include <ctime>
#include <stdexcept>
#include <vector>

#include "bench/lateness.hpp"
#include "bench/peers.hpp"
#include "bench/raw_switch.hpp"

namespace bench {

#if defined(__x86_64__)

namespace {

using raw::context;

struct alignas(64) sleeper {
  context me;
  sleeper* next = nullptr;
  std::int64_t due_ns = 0;
};

class dormitory {
 public:
  explicit dormitory(const sleep_plan& plan)
      : plan_(plan), stacks_(plan.fibers, 16 << 10), all_(plan.fibers) {}

  void pass(lateness* late) {
    late_ = late;
    here = this;
    left_ = plan_.fibers;
    for (std::size_t i = 0; i < all_.size(); ++i) {
      raw::prepare(all_[i].me, stacks_.top(i), &live);
      push(all_[i], 0);
    }
    while (left_ != 0) {
      wait_for_first();
      running_ = pop();
      raw::switch_inlined(loop_, running_->me);
    }
  }

 private:
  static void live(context*, context*) {
    dormitory& d = *here;
    sleeper& me = *d.running_;
    for (unsigned n = 0; n < d.plan_.times; ++n) {
      const std::int64_t began = d.late_ != nullptr ? now_ns() : 0;
      d.sleep(me);
      if (d.late_ != nullptr) d.late_->add(now_ns() - began - d.plan_.each_ns);
    }
    --d.left_;
    d.leave(me);
    __builtin_unreachable();
  }

  [[gnu::noinline]] void sleep(sleeper& me) {
    push(me, now_ns() + plan_.each_ns);
    leave(me);
  }

  [[gnu::always_inline]] void leave(sleeper& me) {
    if (first_ == nullptr || first_->due_ns > seen_ns_) return raw::switch_inlined(me.me, loop_);
    running_ = pop();
    raw::switch_inlined(me.me, running_->me);
  }

  void wait_for_first() {
    seen_ns_ = now_ns();
    if (first_->due_ns <= seen_ns_) return;
    const timespec until{first_->due_ns / 1'000'000'000, first_->due_ns % 1'000'000'000};
    ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
    seen_ns_ = now_ns();
  }

  void push(sleeper& one, std::int64_t due_ns) {
    one.due_ns = due_ns;
    one.next = nullptr;
    *last_ = &one;
    last_ = &one.next;
  }
  sleeper* pop() {
    sleeper* const one = first_;
    first_ = one->next;
    if (first_ == nullptr)
      last_ = &first_;
    else
      __builtin_prefetch(first_->next);
    return one;
  }

  static dormitory* here;
  const sleep_plan& plan_;
  const raw::stacks stacks_;
  std::vector<sleeper> all_;
  context loop_;
  sleeper* running_ = nullptr;
  sleeper* first_ = nullptr;
  sleeper** last_ = &first_;
  std::int64_t seen_ns_ = 0;
  std::size_t left_ = 0;
  lateness* late_ = nullptr;
};
dormitory* dormitory::here = nullptr;

}  // namespace

sample raw_sleep(const sleep_plan& plan) {
  dormitory all(plan);
  return measure_sleepers(plan, [&](lateness* late) { all.pass(late); });
}

#else

sample raw_sleep(const sleep_plan&) { throw std::logic_error("no raw switch for this CPU"); }

#endif

}  // namespace bench
