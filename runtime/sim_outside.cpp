// sim_outside.cpp: what a simulated world leaves to the real one: which operations, how they are
// tried, and how the world waits for them.
//
// Always true:
//   - What would block has not waited, and changed no flag of a descriptor (attempt.hpp).
//   - Memory lent to a real operation is not scribbled on: the kernel may write there at any time.
//   - Nothing is done twice: a retry is of what said that it would block.
//
// Comes from: sim.cpp.   Goes to: attempt, sim_real.
#include <cerrno>
#include <climits>

#include "runtime/sim.hpp"

namespace coir::detail {

bool sim::is_real(const io_uring_sqe& entry) const noexcept {
  if (entry.opcode == IORING_OP_NOP || entry.opcode == IORING_OP_TIMEOUT) return false;
  const bool named = entry.opcode == IORING_OP_CLOSE || uses_fd(entry);
  if (named && entry.fd >= 0)
    return world_.at(entry.fd) == nullptr &&
           (world_.settings_.real || entry.fd < sim_world::first_fd);
  return world_.settings_.real;
}

std::int32_t sim::execute_for_real(flying& f) {
  std::int32_t res = try_now(f.real, false);
  // There is no other thread for it. What may wait there waits for a disk, or for the answer to a
  // connect.
  if (res == for_a_thread) res = do_now(f.real);
  if (res != not_ready) return res;
  world_.real.wait_for(this, f.number, f.real.waits_on, f.real.events);
  return would_block;
}

/// Those who were told.
void sim::try_real_again() noexcept {
  if (!world_.real.any()) return;
  for (const std::uint64_t number : world_.real.take_told(this)) {
    const auto found = flights_.find(number);
    if (found == flights_.end() || found->second.done || world_.crashed()) continue;
    attempt(found->second);
  }
}

bool sim_world::sleep_outside() {
  constexpr int look_again_ms = 100;  // whether those who may come are still there
  const bool any = real.any();
  // Whether somebody rang is asked last: who did and has ended since then will not come again.
  const auto heard = [this] { return real.rung() && !COIR_MUTANT(late_ring_unheard); };
  if (!any && !(others_may_come && (others_may_come() || heard()))) return false;
  // Who may move only so often has others to look after.
  const bool alone = moves_left == UINT_MAX;
  (void)real.sleep(!alone ? 1 : any ? -1 : look_again_ms);
  return true;
}

std::int32_t sim::send_now(const io_uring_sqe& entry) noexcept {
  // In a world that a seed decides every send is an operation.
  return world_.settings_.real && is_real(entry) ? send_at_once(entry) : -EAGAIN;
}

void sim::discard(int fd) noexcept {
  if (world_.at(fd) == nullptr && (world_.settings_.real || fd < sim_world::first_fd))
    return backend::discard(fd);
  world_.close(fd);
}

bool sim::threads_for_blocking_sockets() const noexcept { return world_.settings_.real; }

}  // namespace coir::detail
