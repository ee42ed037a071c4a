// lanes.hpp: several workers on one thread: the loop of each has a stack of its own, and a
// simulated world says which of them goes on.
//
// Always true:
//   - One lane runs at a time; it hands the thread on in sim::wait and nowhere else.
//   - What belongs to a thread (whose worker it is, errno, what is being caught) is brought along.
//   - A thread keeps the stacks of the lanes that ended last on it.
//   - A lane may hand on while its loop is served on the stack of a fiber, as on any worker.
//
// Comes from: runtime_core::run_here.   Goes to: worker::run, sim_crew.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "arch/context.hpp"
#include "arch/exceptions.hpp"
#include "runtime/sim_crew.hpp"
#include "runtime/worker.hpp"

namespace coir::detail {

/// errno of this thread, found anew: whoever switches keeps no address of it.
int errno_now() noexcept;
void set_errno_now(int value) noexcept;

class lanes final : private sim_crew::stage {
 public:
  /// Serves `all`, whose backends are the members of one world's crew in this order, on the calling
  /// thread until each was told to quit. 0 or a negative errno.
  static int run(std::span<const std::unique_ptr<worker>> all, sim_world& world) noexcept;

 private:
  using place = std::span<std::byte>;  // a stack, and below it a page that nobody may touch
  class kept_places;
  struct lane {
    lanes* all = nullptr;
    worker* loop = nullptr;
    lanes::place place;
    arch::context at;
    arch::switch_notes* notes = nullptr;  // of the stack that it left
    arch::exception_state exceptions;
  };
  struct spaces {
    std::vector<lane> of;
    ~spaces();
  };

  static constexpr std::size_t guard_bytes = 64 << 10;  // a page on every CPU
  static constexpr std::size_t stack_bytes = 256 << 10;

  explicit lanes(sim_world& world) noexcept : world_(world) {}
  static void lane_main(void* self) noexcept;
  static kept_places& kept_here() noexcept;
  static int find_place(place& into) noexcept;
  int make(lane& one, worker& loop) noexcept;
  void hand_on(unsigned from, unsigned to) noexcept override;
  void go(lane& from, lane& to, bool for_good) noexcept;

  sim_world& world_;
  spaces lanes_;
  lane caller_;
  arch::switch_notes caller_notes_;
  int refused_ = 0;
};

}  // namespace coir::detail
