// watch.hpp: the thread that notices when a worker stays with one fiber for too long, and says
// which one, and where it stands.
//
// Always true:
//   - A worker does nothing for it: that it goes on is seen from the counts it keeps anyway.
//   - What a fiber is called and where it stands is read by its own thread, in a signal handler: no
//     other thread may look at a fiber that runs.
//   - One line for each standstill. A worker that sleeps in the kernel does not stand still.
//   - Without options::stall_after there is no thread, and no signal handler.
//
// Comes from: runtime_core::start.   Goes to: options::log.
#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "coir/detail/atomic.hpp"
#include "coir/options.hpp"
#include "runtime/base.hpp"

namespace coir::detail {

class worker;

/// What a thread says of itself when it is asked.
struct standing {
  static constexpr int frames_max = 32;
  pthread_t thread;
  bool on_fiber = false;
  std::uint32_t slot = 0;
  char name[24] = {};
  const char* file = "";
  int line = 0;
  void* frames[frames_max];
  int depth = 0;
  atomic<std::uint32_t> told{0};
};

/// Grows as long as the worker goes on. Any thread.
std::uint64_t beat_of(worker& w) noexcept;

/// One worker, as somebody sees it who looks from time to time.
struct standstill {
  std::uint64_t beat = 0;
  std::int64_t since_ns = 0;
  bool reported = false;

  /// How long it has stood still, once for each time that it does so for `after_ns`; else 0. Who
  /// looks every look_every_ns() hears of it before it has lasted twice as long.
  std::int64_t look(std::uint64_t beat_now, bool awake, std::int64_t now_ns,
                    std::int64_t after_ns) noexcept;
};
constexpr std::int64_t look_every_ns(std::int64_t after_ns) noexcept { return after_ns / 2; }

class watch {
 public:
  /// Watches the workers that entered, until it is destroyed. `log` outlives it.
  watch(std::int64_t after_ns, unsigned workers, const std::function<void(const log_record&)>& log);
  ~watch();
  watch(const watch&) = delete;
  watch& operator=(const watch&) = delete;

  /// On the worker's own thread, before its first turn.
  void enter(worker& who);
  /// Starts to look; false when there is no thread for it. Once.
  bool begin() noexcept;

 private:
  struct watched {
    worker* who;
    pthread_t thread;
    pid_t tid;
    standstill seen;
  };

  void run() noexcept;
  void look_at(watched& w, std::int64_t now_ns) noexcept;
  void report(const watched& w, std::int64_t stood_ns) const;

  const std::int64_t after_ns_;
  const std::function<void(const log_record&)>& log_;
  std::mutex entering_;
  std::vector<watched> all_;
  atomic<std::uint32_t> over_{0};
  std::thread thread_;
};

}  // namespace coir::detail
