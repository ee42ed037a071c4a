// offload.cpp: a queue under a mutex: cold, and a well-kept standard tool is enough.
//
// Always true:
//   - The waiter of a call is woken under its queue's lock, after run() returned; the call is not
//     touched afterwards.
//
// Comes from: offload.hpp.   Goes to: commons (wake_waiter).
#include "runtime/offload.hpp"

#include <signal.h>

#include "runtime/commons.hpp"

namespace coir::detail {

offload_pool::~offload_pool() {
  {
    const std::lock_guard held(mutex_);
    ending_ = true;
  }
  more_.notify_all();
  for (std::thread& t : threads_) t.join();
}

unsigned offload_pool::threads() const {
  const std::lock_guard held(mutex_);
  return static_cast<unsigned>(threads_.size());
}

refusal offload_pool::submit(offload_call& call) {
  const std::lock_guard held(mutex_);
  if (waiting_ >= queue_max_ && !COIR_MUTANT(offload_unbounded)) return errc::offload_full;
  if (idle_ <= waiting_ && threads_.size() < threads_max_) {
    sigset_t all{};
    sigset_t before{};
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &before);
    // No thread or no memory for one now: those that exist will come to it. Without any the call is
    // refused.
    std::errc why{};
    try {
      threads_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      why = std::errc::resource_unavailable_try_again;
    } catch (const std::bad_alloc&) {
      why = std::errc::not_enough_memory;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (threads_.empty()) return why;
  }
  queue_.push_back(call);
  ++waiting_;
  busy_.fetch_add(1, std::memory_order_relaxed);
  more_.notify_one();
  return {};
}

bool offload_pool::withdraw(offload_call& call) noexcept {
  const std::lock_guard held(mutex_);
  if (!call.linked()) return false;
  queue_.erase(call);
  --waiting_;
  busy_.fetch_sub(1, std::memory_order_relaxed);
  return true;
}

void offload_pool::work() noexcept {
  std::unique_lock held(mutex_);
  for (;;) {
    ++idle_;
    more_.wait(held, [this] { return waiting_ != 0 || ending_; });
    --idle_;
    offload_call* const call = queue_.pop_front();
    if (call == nullptr) return;
    --waiting_;
    held.unlock();
    call->run(call->argument);
    {
      const word_lock waking(call->done.lock);
      call->ended = true;
      if (waiter* const w = dequeue(call->done)) (void)wake_waiter(*w);
    }
    // After the wake-up: while it is on its way the pool is still what could end a wait.
    busy_.fetch_sub(1, std::memory_order_release);
    held.lock();
  }
}

}  // namespace coir::detail
