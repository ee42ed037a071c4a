// ending.cpp: the end of a fiber: who is told, and who gives the record back.
//
// Always true:
//   - The answer is complete before join_done is set; whoever reads done with acquire sees it.
//   - What is said between an end and its joiners is said by the functions of ending.hpp.
//   - The record is recycled once, by the last of: its end, its handle, its wake link.
//
// Comes from: worker::finish, release of a handle.   Goes to: joiners, arena.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "runtime/worker.hpp"

namespace coir::detail {

/// `fiber` may belong to its holder already, and is not touched.
void worker::wake_far_joiners(const record& fiber, std::uint64_t generation) noexcept {
  wake_joiners(shared_.stripe_of(fiber), fiber, generation,
               [](waiter& w) { (void)wake_waiter(w); });
}

/// The fiber has ended, and only then came the news that nobody holds it. An answer's destructor
/// may wait, which a loop cannot: it runs on a fiber, and that is this one once more. It is counted
/// once more, too.
void worker::drop_unheld(record& fiber) noexcept {
  if (fiber.held == holds::nothing || fiber.held == holds::error ||
      (fiber.held == holds::answer && fiber.ops->trivial_answer))
    return recycle(fiber);
  if (current() != this) {  // no loop and no fiber any more: the thread that ended them may wait
    fiber.ops->drop(fiber);
    return recycle(fiber);
  }
  fiber.let_go = true;
  spawned.store(spawned.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  enqueue(fiber);
}

void returned_after_fork(const record& fiber) noexcept {
  char text[320];
  const int n = std::snprintf(
      text, sizeof text,
      "coir: fiber %u '%s' (%s:%d) returned in the child of a fork, where its worker does not "
      "exist: end the child by _exit or exec\n",
      fiber.slot, fiber.name, fiber.file, fiber.line);
  const auto bytes = std::min(static_cast<std::size_t>(n < 0 ? 0 : n), sizeof text - 1);
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, bytes);
  std::abort();
}

void worker::tell_of_joiner(unsigned stripe) noexcept {
  if (joiners_.tell(stripe)) send_errand(joiners_errand_);
}

void worker::look_for_joiners() noexcept {
  joiners_.look([this](unsigned stripe) {
    meet_joiners(shared_.stripes[stripe], settings_.index, [](waiter& w) { (void)wake_waiter(w); });
  });
}

namespace {

/// By somebody who has no cache of that runtime's records.
[[gnu::noinline]] void give_from_afar(commons& shared, std::uint32_t slot) noexcept {
  shared.records.give(slot);
  // seq_cst: orders the gift before the look; partner: whoever raises `starving` and then tries to
  // take. One of the two sees the other.
  fence(std::memory_order_seq_cst);
  if (shared.starving.load(std::memory_order_relaxed) != 0) [[unlikely]]
    wake_for_room(shared, 1);
}

}  // namespace

void recycle(record& fiber) noexcept {
  if (!may_recycle(fiber)) [[unlikely]]
    return;
  commons& shared = *fiber.shared;
  fiber.ops = nullptr;
  fiber.scope = nullptr;
  next_life(fiber);
  worker* const here = worker::current();
  if (here == nullptr || &here->shared() != &shared) [[unlikely]]
    return give_from_afar(shared, fiber.slot);
  here->give_back(fiber.slot);
}

atomic<void (*)() noexcept> thread_was_woken{nullptr};

bool wake_waiter(waiter& w) noexcept {
  if (w.fiber == nullptr) {
    if (!wake_thread(w)) return false;
    // acquire: pairs with the release of who set it: what it works on is there.
    if (const auto tell = thread_was_woken.load(std::memory_order_acquire)) [[unlikely]]
      tell();
    return true;
  }
  record& fiber = *w.fiber;
  worker* const here = worker::current();
  if (here != nullptr && &here->shared() == fiber.shared &&
      (fiber.home.load(std::memory_order_relaxed) == here->index() ||
       COIR_MUTANT(readied_by_a_stranger))) {
    if (!claim_at_home(fiber, w.epoch)) return false;
    w.ended_at_home = true;
    here->make_ready(fiber);
    return true;
  }
  switch (claim_from_afar(fiber, w.epoch)) {
    case claim::lost:
      return false;
    case claim::won_and_push:
      fiber.shared->send_wake(*fiber.shared, fiber);
      return true;
    case claim::won:
      return true;
  }
  return false;
}

void wake_for_room(commons& all, unsigned count) noexcept { wake_some(all.room, count); }

void wake_some(wait_queue& room, unsigned count) noexcept {
  const word_lock held(room.lock);
  while (count != 0) {
    waiter* const w = dequeue(room);
    if (w == nullptr) return;
    if (wake_waiter(*w)) --count;
  }
}

}  // namespace coir::detail
