// offload.hpp: the threads that run what would block a worker.
//
// Always true:
//   - At most `threads_max` threads, started when needed, and at most `queue_max` calls that wait;
//     one more is refused, and may wait in `room` for a place. Those of a backend are as many as
//     its operations and are not counted.
//   - A call that a thread has taken runs to its end, and whoever made it waits for it; only a
//     waiting call can be withdrawn.
//   - A call is not touched any more once its `finished` was called.
//   - Threads block every signal, and end in the destructor, after the queue is empty.
//   - They run where the process may, also where workers are pinned.
//
// Comes from: coir::blocking, poll.   Goes to: the caller's functions.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "coir/detail/atomic.hpp"
#include "coir/detail/wait_queue.hpp"
#include "coir/result.hpp"
#include "runtime/list.hpp"

namespace coir::detail {

/// One call. It belongs to whoever made it, until `finished` says that it is theirs again.
struct offload_call : list_node {
  void (*run)(void* argument) noexcept = nullptr;
  void* argument = nullptr;
  void (*finished)(offload_call& self) noexcept = nullptr;
  bool counted = true;  // among those that queue_max bounds
};

class offload_pool {
 public:
  offload_pool(unsigned threads_max, unsigned queue_max)
      : threads_max_(threads_max), queue_max_(queue_max) {}
  ~offload_pool();

  /// Each of its threads calls that first: they inherit the processors of whoever submits. Before
  /// the first call; `with` outlives the pool.
  void begin_by(void (*first)(const void* with) noexcept, const void* with) noexcept {
    first_ = first;
    with_ = with;
  }
  /// Empty: it was taken. errc::offload_full: the queue is full; else there is no thread and none
  /// could be started, and the error says why.
  refusal submit(offload_call& call);
  /// True the first time: whoever was refused a thread says so, once.
  bool tell_of_no_thread() noexcept { return !told_.exchange(true, std::memory_order_relaxed); }
  /// True when the call was still waiting and will never run.
  bool withdraw(offload_call& call) noexcept;
  unsigned busy() const noexcept { return busy_.load(std::memory_order_relaxed); }
  unsigned threads() const;
  bool full() const;

  wait_queue room;  // who waits for a place among the calls that wait
  void (*room_made)(wait_queue& room) noexcept = nullptr;  // lets one of them try again

 private:
  void work() noexcept;
  void tell_of_room() noexcept {
    if (room_made != nullptr) room_made(room);
  }

  const unsigned threads_max_;
  const unsigned queue_max_;
  void (*first_)(const void* with) noexcept = nullptr;
  const void* with_ = nullptr;
  mutable std::mutex mutex_;
  std::condition_variable more_;
  list<offload_call> queue_;
  unsigned waiting_ = 0;
  unsigned counted_ = 0;  // of those that wait
  unsigned idle_ = 0;
  atomic<unsigned> busy_{0};
  atomic<bool> told_{false};
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace coir::detail
