// crowd.hpp: eight fibers that fill every register with patterns of their own before each switch,
// and look at all of them after it.
//
// Always true:
//   - What a fiber sees depends on the number of turns alone: not on the switch, not on the
//     threads. So a run on any switch can be compared with a run on any other.
//   - The thread that resumes fills the registers too, and is never `float`.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <thread>

#include "tests/arch/float_controls.hpp"
#include "tests/arch/loose_fiber.hpp"
#include "tests/arch/register_probe.hpp"
#include "tests/arch/two_threads.hpp"

namespace coir::test {

/// What all of them saw, in the order they saw it.
struct crowd_log {
  std::uint64_t switches = 0;
  std::uint64_t registers_lost = 0;  ///< switches after which one was not as before
  std::uint64_t controls_lost = 0;
  std::uint64_t digest = 0;
  bool operator==(const crowd_log&) const = default;

  void note(std::uint64_t owner, std::uint64_t turn, std::uint64_t lost, bool controls) {
    ++switches;
    registers_lost += lost != 0;
    controls_lost += !controls;
    for (const std::uint64_t word : {owner, turn, lost, std::uint64_t{controls}}) {
      digest = (digest ^ word) * 0x100000001B3u;
    }
  }
};

/// Which of the fibers are `float`.
enum class floats { none, all, every_other };

template <class Switch>
class crowd {
 public:
  static constexpr std::uint64_t size = 8;

  explicit crowd(floats which) {
    for (std::uint64_t id = 0; id < size; ++id) {
      const bool is_float = which == floats::all || (which == floats::every_other && id % 2 == 0);
      all_[id] =
          std::make_unique<fiber>([this, id, is_float](fiber& self) { live(self, id, is_float); });
      all_[id]->bare().own.is_float = is_float;
    }
  }

  /// Resumes that many fibers, in an order without a pattern, on this thread.
  void run(unsigned turns) {
    if (runs_on_ != std::this_thread::get_id()) {
      runs_on_ = std::this_thread::get_id();
      for (auto& each : all_) each->bare().adopt();
    }
    for (unsigned turn = 0; turn < turns; ++turn) {
      random_ = random_ * 1664525u + 1013904223u;
      resume(random_ >> 16 & (size - 1));
    }
  }

  crowd_log end() {
    stop_ = true;
    for (auto& each : all_) each->bare().adopt();
    for (std::uint64_t id = 0; id < size; ++id) resume(id);
    return log_;
  }

 private:
  using fiber = loose_fiber<Switch>;

  void live(fiber& self, std::uint64_t id, bool is_float) {
    const patterns mine = patterns_of(id);
    auto wanted = float_controls::at_start();
    bool kept = float_controls::now() == wanted;
    for (std::uint64_t turn = 0; !stop_; ++turn) {
      if (is_float) {
        wanted = float_controls::pattern(static_cast<unsigned>(id + turn));
        wanted.load();
      }
      const auto lost = coir_test_registers_lost(
          [](void* own) { static_cast<fiber*>(own)->park(); }, &self, mine.data());
      kept = kept && float_controls::now() == wanted;
      log_.note(id, turn, lost, kept);
    }
  }

  void resume(std::uint64_t id) {
    const auto lost = coir_test_registers_lost(
        [](void* its) { static_cast<fiber*>(its)->resume(); }, all_[id].get(), of_thread_.data());
    log_.note(size, id, lost, float_controls::now() == float_controls::at_start());
  }

  const patterns of_thread_ = patterns_of(size);
  std::array<std::unique_ptr<fiber>, size> all_;
  std::thread::id runs_on_ = std::this_thread::get_id();
  std::uint32_t random_ = 7;
  bool stop_ = false;
  crowd_log log_;
};

/// A crowd that stays on this thread.
template <class Switch>
crowd_log on_one_thread(floats which, unsigned turns) {
  crowd<Switch> fibers(which);
  fibers.run(turns);
  return fibers.end();
}

/// A crowd that changes its thread `moves` times.
template <class Switch>
crowd_log on_two_threads(floats which, unsigned turns, unsigned moves) {
  crowd<Switch> fibers(which);
  two_threads threads;
  for (unsigned move = 0; move < moves; ++move) {
    threads.on(move % 2, [&] { fibers.run(turns / moves); });
  }
  return fibers.end();
}

}  // namespace coir::test
