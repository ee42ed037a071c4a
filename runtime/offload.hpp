// offload.hpp: the threads that run what would block a worker.
//
// Always true:
//   - At most `threads_max` threads, started when needed, and at most `queue_max` calls that wait;
//     one more is refused.
//   - A call that a thread has taken runs to its end, and its fiber waits for it; only a waiting
//     call can be withdrawn.
//   - Threads block every signal, and end in the destructor, after the queue is empty.
//
// Comes from: coir::blocking.   Goes to: the caller's function, then the fiber's waiter.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/list.hpp"
#include "runtime/waits.hpp"

namespace coir::detail {

/// One call. On the stack of the fiber that waits for it.
struct offload_call : list_node {
  void (*run)(void* argument) noexcept = nullptr;
  void* argument = nullptr;
  wait_queue done;  // its one waiter; its lock guards `ended`
  bool ended = false;
  waiter caller;
};

class offload_pool {
 public:
  offload_pool(unsigned threads_max, unsigned queue_max)
      : threads_max_(threads_max), queue_max_(queue_max) {}
  ~offload_pool();

  /// Empty: it was taken. errc::offload_full: the queue is full; else there is no thread and none
  /// could be started, and the error says why.
  refusal submit(offload_call& call);
  /// True the first time: whoever was refused a thread says so, once.
  bool tell_of_no_thread() noexcept { return !told_.exchange(true, std::memory_order_relaxed); }
  /// True when the call was still waiting and will never run.
  bool withdraw(offload_call& call) noexcept;
  unsigned busy() const noexcept { return busy_.load(std::memory_order_relaxed); }
  unsigned threads() const;

 private:
  void work() noexcept;

  const unsigned threads_max_;
  const unsigned queue_max_;
  mutable std::mutex mutex_;
  std::condition_variable more_;
  list<offload_call> queue_;
  unsigned waiting_ = 0;
  unsigned idle_ = 0;
  atomic<unsigned> busy_{0};
  atomic<bool> told_{false};
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace coir::detail
