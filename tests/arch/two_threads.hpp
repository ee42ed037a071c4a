// two_threads.hpp: two threads that do what they are told, one at a time.
//
// Always true:
//   - While one works, the other and whoever told it wait.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace coir::test {

class two_threads {
 public:
  two_threads() {
    for (unsigned which : {0u, 1u}) threads_[which] = std::thread([this, which] { serve(which); });
  }
  ~two_threads() {
    on(0, {});
    on(1, {});
    for (auto& each : threads_) each.join();
  }
  two_threads(const two_threads&) = delete;
  two_threads& operator=(const two_threads&) = delete;

  /// Calls `work` on thread 0 or 1 and waits for its end. An empty one ends the thread.
  void on(unsigned which, std::function<void()> work) {
    std::unique_lock lock(mutex_);
    work_ = std::move(work);
    turn_ = which;
    changed_.notify_all();
    changed_.wait(lock, [this] { return turn_ == nobody; });
  }

 private:
  static constexpr unsigned nobody = 2;

  void serve(unsigned which) {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return turn_ == which; });
      const bool last = !work_;
      if (!last) work_();
      turn_ = nobody;
      changed_.notify_all();
      if (last) return;
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> work_;
  unsigned turn_ = nobody;
  std::thread threads_[2];
};

}  // namespace coir::test
