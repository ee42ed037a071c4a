// offload.cpp: a queue under a mutex: cold, and a well-kept standard tool is enough.
//
// Always true:
//   - A call counts as busy until after its end was told: while the news is on its way the pool is
//     still what could end a wait.
//
// Comes from: offload.hpp.   Goes to: whoever made the call.
#include "runtime/offload.hpp"

#include <pthread.h>
#include <signal.h>

#include <new>
#include <system_error>

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

bool offload_pool::full() const {
  const std::lock_guard held(mutex_);
  return counted_ >= queue_max_;
}

refusal offload_pool::submit(offload_call& call) {
  const std::lock_guard held(mutex_);
  if (call.counted && counted_ >= queue_max_ && !COIR_MUTANT(offload_unbounded))
    return errc::offload_full;
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
  if (call.counted) ++counted_;
  busy_.fetch_add(1, std::memory_order_relaxed);
  more_.notify_one();
  return {};
}

bool offload_pool::withdraw(offload_call& call) noexcept {
  {
    const std::lock_guard held(mutex_);
    if (!call.linked()) return false;
    queue_.erase(call);
    --waiting_;
    if (call.counted) --counted_;
    busy_.fetch_sub(1, std::memory_order_relaxed);
  }
  if (call.counted) tell_of_room();
  return true;
}

void offload_pool::work() noexcept {
  ::pthread_setname_np(::pthread_self(), "coir/offload");
  if (first_ != nullptr) first_(with_);
  std::unique_lock held(mutex_);
  for (;;) {
    ++idle_;
    more_.wait(held, [this] { return waiting_ != 0 || ending_; });
    --idle_;
    offload_call* const call = queue_.pop_front();
    if (call == nullptr) return;
    --waiting_;
    if (call->counted) --counted_;
    held.unlock();
    if (call->counted && !COIR_MUTANT(offload_room_untold)) tell_of_room();
    call->run(call->argument);
    call->finished(*call);
    busy_.fetch_sub(1, std::memory_order_release);
    held.lock();
  }
}

}  // namespace coir::detail
