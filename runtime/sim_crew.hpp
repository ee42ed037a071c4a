// sim_crew.hpp: the backends of one simulated world: they share its clock and one thread, and step
// one after the other.
//
// Always true:
//   - Time moves only when nobody can step without it, and then to the next moment at which
//     somebody can; and by compute(). Real descriptors were looked at before.
//   - Who steps next is a draw of the world's dice. 0 is the next one in order, so that whoever
//     only ever waits for another does not keep it from stepping.
//   - Only wait() hands the thread on: between two waits a worker's turn is one step.
//
// Comes from: sim::wait.   Goes to: whoever has a stack for each worker's loop (lanes).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/base.hpp"

namespace coir::detail {

class sim;
class sim_world;

class sim_crew {
 public:
  /// Goes on with the loop `to`; returns when somebody goes on with `from`.
  struct stage {
    virtual void hand_on(unsigned from, unsigned to) noexcept = 0;

   protected:
    ~stage() = default;
  };

  sim_crew(sim_world& world, std::int64_t start_ns) noexcept : now_ns(start_ns), world_(world) {}

  /// The number of `member`, from 0 on in the order in which they were made.
  unsigned enlist(sim& member);
  /// It steps no more.
  void leave(unsigned number) noexcept { members_[number] = nullptr; }
  void come_back(unsigned number, sim& member) noexcept { members_[number] = &member; }
  bool empty() const noexcept;

  /// `from` can do nothing, or lets the others have their turn. Returns when it is its own again.
  void rest(unsigned from) noexcept;
  /// Who steps after `from`; none when all have left. Moves the time where it must.
  std::optional<unsigned> next(unsigned from) noexcept;

  std::int64_t now_ns;
  std::uint64_t changes = 0;  ///< grows with whatever a blocked operation may wait for
  stage* on = nullptr;        ///< null: each steps by itself, on a thread of its own

 private:
  void catch_up(unsigned only) noexcept;
  std::optional<unsigned> draw(unsigned from) noexcept;
  bool move_time(unsigned only) noexcept;
  bool sleep(unsigned only) noexcept;
  bool takes_part(unsigned number, unsigned only) const noexcept {
    return members_[number] != nullptr && (on != nullptr || number == only);
  }

  sim_world& world_;
  std::vector<sim*> members_;
};

}  // namespace coir::detail
