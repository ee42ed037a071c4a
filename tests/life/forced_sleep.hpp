// forced_sleep.hpp: messages between cores, each sent to a worker that has gone to sleep for it and
// that nothing but the message can wake.
//
// Always true:
//   - The receiver has no deadline, no timer and no time to spin: it sleeps until it is rung.
//   - Before each message the sender has seen that the receiver has slept once more since the last.
//   - One message is under way at a time, so who waits for it knows which one was lost.
//
// Comes from: sleepers_test.cpp, programs/soak.cpp.   Goes to: the public interface.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>

#include "coir/coir.hpp"

namespace test {

/// How a message gets to a sleeping worker.
enum class message : unsigned {
  wake_by_fiber,    // a parked fiber's event is set by a fiber of another worker
  spawn_by_fiber,   // a fiber is spawned there by one of another worker
  cancel_by_fiber,  // a parked fiber is cancelled by one of another worker
  wake_by_thread,   // the same three by a plain thread
  spawn_by_thread,
  cancel_by_thread,
};
inline constexpr unsigned messages_kinds = 6;
inline constexpr std::array<const char*, messages_kinds> message_names = {
    "wake by a fiber",  "spawn by a fiber",  "cancel by a fiber",
    "wake by a thread", "spawn by a thread", "cancel by a thread"};

inline constexpr unsigned sender = 0;
inline constexpr unsigned receiver = 1;

/// Options of a runtime whose workers sleep whenever they have nothing to do.
inline coir::options sleepy_options() {
  return {.workers = 2,
          .fibers_max = 1'024,
          .ring_entries = 64,
          .idle_spin = std::chrono::microseconds(0)};
}

/// Sends messages of one kind. `wait_for(arrived)` is called after each and returns when arrived()
/// is true; false: it gives up, and so does this.
template <class WaitFor>
class sleep_messages {
 public:
  sleep_messages(coir::runtime& rt, WaitFor wait_for) : rt_(rt), wait_for_(wait_for) {}

  /// How many of `count` arrived.
  std::uint64_t send(message kind, std::uint64_t count) {
    switch (kind) {
      case message::wake_by_fiber:
        return on_fiber([this, count] { return wakes(count); });
      case message::spawn_by_fiber:
        return on_fiber([this, count] { return spawns(count); });
      case message::cancel_by_fiber:
        return on_fiber([this, count] { return cancels(count); });
      case message::wake_by_thread:
        return wakes(count);
      case message::spawn_by_thread:
        return spawns(count);
      case message::cancel_by_thread:
        return cancels(count);
    }
    return 0;
  }

 private:
  template <class F>
  std::uint64_t on_fiber(F body) {
    return rt_.spawn(std::move(body), {.worker = sender}).join().value();
  }

  /// Until the receiver has gone to sleep once more. It never parks: on a fiber it keeps the
  /// sender's worker, which therefore looks at nothing else.
  void force_sleep() {
    for (unsigned looks = 1;; ++looks) {
      const std::uint64_t slept = rt_.snapshot().workers[receiver].sleeps;
      if (slept != seen_) {
        seen_ = slept;
        return;
      }
      // Who yields at once shares one processor with the receiver; who does not has one of its own.
      if (seen_ % 2 == 0 || looks % 64 == 0) std::this_thread::yield();
    }
  }

  std::uint64_t wakes(std::uint64_t count) {
    coir::event go;
    std::atomic<std::uint64_t> heard{0};
    auto listens = rt_.spawn(
        [&] {
          for (std::uint64_t i = 0; i < count && go.wait(); ++i) {
            go.reset();
            heard.fetch_add(1);
          }
        },
        {.worker = receiver});
    std::uint64_t sent = 0;
    for (bool arrives = true; sent < count && arrives; sent += arrives ? 1 : 0) {
      force_sleep();
      go.set();
      arrives = wait_for_([&] { return heard > sent; });
    }
    (void)listens.join();
    return sent;
  }

  std::uint64_t spawns(std::uint64_t count) {
    std::uint64_t sent = 0;
    for (bool arrives = true; sent < count && arrives; sent += arrives ? 1 : 0) {
      force_sleep();
      // Held until it has ended: to let go of it earlier would be another message.
      const auto there = rt_.spawn([] {}, {.worker = receiver});
      arrives = wait_for_([&] { return there.done(); });
    }
    return sent;
  }

  std::uint64_t cancels(std::uint64_t count) {
    std::uint64_t sent = 0;
    for (bool arrives = true; sent < count && arrives; sent += arrives ? 1 : 0) {
      force_sleep();
      std::atomic<bool> parks{false};
      auto sleeps = rt_.spawn(
          [&parks] {
            parks = true;
            return coir::this_fiber::sleep_until(coir::never);
          },
          {.worker = receiver});
      while (!parks) std::this_thread::yield();
      force_sleep();
      sleeps.cancel();
      arrives = wait_for_([&] { return sleeps.done(); });
      (void)sleeps.join();
    }
    return sent;
  }

  coir::runtime& rt_;
  WaitFor wait_for_;
  std::uint64_t seen_ = 0;
};

}  // namespace test
