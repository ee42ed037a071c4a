// commons.hpp: what all workers of one runtime share: records, stacks, the rooms where outsiders
// wait, and the few flags.
//
// Always true:
//   - `stopping` is set once and never cleared. New work is refused from then on; what starts for
//     the first time ends cancelled.
//   - A stripe's queue holds the joiners from other workers and threads of every record that hashes
//     to it. A finished record is not touched to wake them: they are found by record and
//     generation, because its slot may be in use again.
//   - Whoever waits for a record raises `starving` and rings every worker; each worker that sees it
//     gives back what it hoards. A waiter is woken once for each record that was given back since;
//     and once for each that was given back unannounced before the worker heard of it, which may be
//     in vain.
//   - Whoever waits for a place in a mailbox raises `starving`, stands in its room, and calls by
//     `starved` afterwards; so whoever takes mail needs no order of its own (model/place_test.cpp).
//
// Comes from: runtime::create.   Goes to: worker, join, spawn.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>

#include "coir/detail/atomic.hpp"
#include "coir/options.hpp"
#include "runtime/arena.hpp"
#include "runtime/hungry.hpp"
#include "runtime/stacks.hpp"
#include "runtime/waits.hpp"

namespace coir::detail {

class worker;

/// Somebody who waits for a fiber of another worker. On the waiter's stack.
struct joiner : waiter {
  record* target = nullptr;
  std::uint64_t generation = 0;
};

struct alignas(cache_line_bytes) join_stripe {
  wait_queue queue;
};

struct commons {
  static constexpr std::size_t stripes_count = 1024;

  options chosen;
  std::uint32_t serial = 0;  // of the runtime, in fiber ids
  arena records;
  std::shared_ptr<stacks> pool;  // nobody else's, but whoever made this may keep it for the next
  std::uint8_t stack_class = 0;  // of options::stack_bytes
  std::unique_ptr<worker*[]> peers;  // every worker, from the beginning to the end
  hungry_board hungry;
  // Every worker of the process may have a processor of its own. Changed only when a runtime comes
  // or goes, so it lies beside what is changed as seldom.
  atomic<bool> spin_pays{false};
  atomic<bool> stopping{false};
  atomic<bool> settling{false};       // somebody waits until every fiber has ended
  atomic<std::uint32_t> starving{0};  // how many wait for a record or a place in a mailbox
  atomic<std::uint32_t> starved{
      0};                // how often that happened; a worker serves each call once before it sleeps
  wait_queue room;       // where they wait for a record
  wait_queue mail_room;  // and for a place in any mailbox; for one by name: worker::mail_room
  std::array<join_stripe, stripes_count> stripes = {};

  /// Called by a worker that has nothing to do while `settling` is set.
  void (*on_idle)(commons& self) noexcept = nullptr;
  /// Whether every worker but `self` sleeps for what others may send, and nobody has sent anything.
  bool (*others_rest)(commons& all, unsigned self) noexcept = nullptr;
  /// Wakes `fiber`'s worker with the fiber's link, which the caller has the right to push.
  void (*send_wake)(commons& self, record& fiber) noexcept = nullptr;

  join_stripe& stripe_of(const record& r) noexcept { return stripes[r.slot % stripes_count]; }
  void log(log_record::level severity, const std::string& text) const;
};

/// Called when the wait of a plain thread was ended; null: nobody wants to know.
COIR_HIDDEN extern atomic<void (*)() noexcept> thread_was_woken;

/// Ends the wait of `w`, popped from its queue and still under the queue's lock. False: it had
/// ended already, offer to the next one.
bool wake_waiter(waiter& w) noexcept;

/// Lets the first `count` of who waits in `room` try again.
void wake_some(wait_queue& room, unsigned count) noexcept;

/// Somebody waits for a record: let up to `count` try again.
void wake_for_room(commons& all, unsigned count) noexcept;

}  // namespace coir::detail
