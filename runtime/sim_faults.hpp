// sim_faults.hpp: faults by chance: what happens to an operation that no rule of the world speaks
// of.
//
// Always true:
//   - Only answers come that a kernel may give to that opcode, on that kind of descriptor, in that
//     form (a multishot operation waits for readiness by itself, so it is never told EAGAIN).
//   - An operation takes one decision where nothing happens to its answer, and one where nothing
//     happens to its timing. Both are 0 then.
//   - After stop() nothing more goes wrong; what has begun to go wrong ends by itself.
//
// Comes from: coir::sim::world, tests.   Goes to: sim_world (on_fate, on_entry, on_pause).
#pragma once

#include <array>
#include <cstdint>

#include "coir/faults.hpp"
#include "runtime/sim_world.hpp"

namespace coir::detail {

using fault_chances = ::coir::sim::faults;

class sim_faults {
 public:
  static constexpr std::int64_t delay_max_ns = 1'000'000;

  /// The world asks it from now on, and it must live as long.
  explicit sim_faults(sim_world& world);
  sim_faults(const sim_faults&) = delete;
  sim_faults& operator=(const sim_faults&) = delete;

  void set(const fault_chances& chances) noexcept { now_ = chances; }
  void stop() noexcept { now_ = {}; }
  const fault_chances& chances() const noexcept { return now_; }
  /// How many there were, of those in the order of all_faults.
  const std::array<std::uint64_t, std::size(::coir::sim::all_faults)>& count() const noexcept {
    return count_;
  }

 private:
  sim_rule draw(const io_uring_sqe& entry, const sim_open* on);
  bool refuses(bool cancel) noexcept;
  std::int64_t pause_ns() noexcept;
  bool comes(unsigned chance) noexcept;
  void draw_from(unsigned first, unsigned end, const io_uring_sqe& entry, const sim_open* on,
                 sim_rule& fate);

  sim_world& world_;
  fault_chances now_;
  std::array<std::uint64_t, std::size(::coir::sim::all_faults)> count_{};
};

/// The chances of one run: each at most what `most` says, and by chance less or none; sometimes
/// none at all.
fault_chances drawn_chances(const fault_chances& most, sim_dice& dice) noexcept;

}  // namespace coir::detail
