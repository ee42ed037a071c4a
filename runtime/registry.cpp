// registry.cpp: a list under a mutex, and the handler that counts forks.
//
// Always true:
//   - The child of a fork begins with an empty list of its own: the parent's may have been in the
//     middle of a change, by a thread that does not exist here. Nothing of it is read again but
//     the next serial, so that no identity of the parent's names a fiber of the child.
//   - The child's one thread is a plain one, also where it was forked off by a fiber: its worker is
//     the parent's, and so is the ring. It hears the signals again that a worker does not.
//   - The list is in the order of the serials. Nothing is allocated but by register_core, and by
//     the child of a fork.
//
// Comes from: registry.hpp.   Goes to: runtime.
#include "runtime/registry.hpp"

#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <new>
#include <vector>

#include "arch/thread_word.hpp"
#include "runtime/runtime.hpp"

namespace coir::detail {

atomic<unsigned> forks_seen{0};

namespace {

struct book {
  std::mutex mutex;
  std::vector<runtime_core*> cores;
  std::uint32_t next_serial = 1;
  const book* of_parent = nullptr;  // kept, so that what it lists is not taken for lost
};

book*& current_book() {
  static book* one = new book;  // never destroyed: runtimes may end after static destructors began
  return one;
}

book& the_book() { return *current_book(); }

/// One without a processor of its own spins for those it keeps from running. Those of the parent of
/// a fork are not here.
void share_processors(const std::vector<runtime_core*>& cores) noexcept {
  unsigned all = 0;
  for (const runtime_core* const core : cores) all += core->running_workers();
  for (runtime_core* const core : cores) {
    const unsigned busy = COIR_MUTANT(spins_beside_others) ? core->workers() : all;
    const bool enough = busy <= core->processors() || COIR_MUTANT(spins_on_few_processors);
    // relaxed: see resting.cpp.
    core->spin_pays.store(enough, std::memory_order_relaxed);
  }
}

void after_fork_in_child() {
  forks_seen.fetch_add(1, std::memory_order_relaxed);
  if (COIR_MUTANT(torn_list_inherited)) {
    ::new (&the_book().mutex) std::mutex;
  } else {
    const book& parents = the_book();
    current_book() = new book{{}, {}, parents.next_serial, &parents};
  }
  leave_signals_to_the_parent();
  release_signals();
  const runtime_core* const of_fiber = current_core();
  if (!COIR_MUTANT(forked_fiber_stays)) arch::set_thread_word(nullptr);
  if (of_fiber != nullptr) {
    of_fiber->leave_worker();
  } else {
    leave_offload_thread();
  }
}

/// When the library is loaded: were it done by the first runtime, a fork by another thread in that
/// moment would leave the child a beginning that nobody ends.
[[gnu::constructor]] void hear_of_forks() {
  (void)current_book();
  (void)::pthread_atfork(&hold_signals, &release_signals, &after_fork_in_child);
}

}  // namespace

void register_core(runtime_core& core) {
  book& b = the_book();
  const std::lock_guard held(b.mutex);
  core.serial = b.next_serial++;
  b.cores.push_back(&core);
}

void count_workers(runtime_core& core, bool run) noexcept {
  book& b = the_book();
  const std::lock_guard held(b.mutex);
  core.workers_run_ = run;
  share_processors(b.cores);
}

void unregister_core(runtime_core& core) noexcept {
  {
    book& b = the_book();
    const std::lock_guard held(b.mutex);
    b.cores.erase(std::remove(b.cores.begin(), b.cores.end(), &core), b.cores.end());
    share_processors(b.cores);
  }
  // On a fiber of another runtime the one we wait for may be a fiber of the same worker.
  while (core.visitors.load(std::memory_order_seq_cst) != 0 ||
         core.guests.load(std::memory_order_seq_cst) != 0)
    this_fiber::yield();
}

// Both count under the lock that unregister takes: whoever was listed then is not destroyed.

visit find_core(std::uint32_t serial) noexcept {
  if (runtime_core* const mine = current_core();
      mine != nullptr && (mine->serial == serial || COIR_MUTANT(serial_ignored)))
    return {*mine, nullptr};
  book& b = the_book();
  const std::lock_guard held(b.mutex);
  for (runtime_core* const core : b.cores) {
    if (core->serial != serial) continue;
    if (COIR_MUTANT(guest_uncounted)) return {*core, nullptr};
    core->guests.fetch_add(1, std::memory_order_seq_cst);
    return {*core, &core->guests};
  }
  return {};
}

visit core_after(std::uint32_t serial) noexcept {
  book& b = the_book();
  const std::lock_guard held(b.mutex);
  // In the order of their serials, as they came.
  for (runtime_core* const core : b.cores) {
    if (core->serial <= serial) continue;
    core->visitors.fetch_add(1, std::memory_order_seq_cst);
    return {*core, &core->visitors};
  }
  return {};
}

}  // namespace coir::detail
