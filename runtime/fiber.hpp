// fiber.hpp: the record: all that is known of one fiber, from its spawn to the recycling of its
// slot.
//
// Who may touch what:
//   - The owner is the worker `home` names. Before launch it is the spawner; while the record is in
//     a mailbox, nobody.
//   - `home`, `join` and `wake` are the atomic words; each has one protocol, written beside it.
//     Everything else belongs to the owner, but `slot`, `generation`, `name` and the spawn site,
//     which stay still while the record is in use.
//   - The answer (task::storage, held) belongs to the fiber until `join` says done, then to the
//     holder of the handle.
//
// Always true:
//   - A record that has a stack is running or parked on the worker `home` names, and stays there.
//   - A record is recycled by the last of three: the end of the fiber, the end of its handle, the
//     arrival of its wake link.
//   - `generation` grows at each recycling and is never reset, so an old id finds nobody.
//
// Comes from: spawn.   Goes to: waits, timers, worker.
#pragma once

#include <cstring>

#include "arch/context.hpp"
#include "arch/exceptions.hpp"
#include "arch/float_control.hpp"
#include "arch/sanitizers.hpp"
#include "coir/detail/atomic.hpp"
#include "coir/detail/task.hpp"
#include "coir/fiber.hpp"
#include "runtime/base.hpp"
#include "runtime/list.hpp"
#include "runtime/manner.hpp"
#include "runtime/stacks.hpp"

namespace coir::detail {

struct record;
struct waiter;
struct commons;
struct handler_frame;

/// What travels to another worker without room being asked for: a wake-up of a record, or an
/// errand. Intrusive, and queued at most once, so sending it cannot fail.
struct wake_link {
  plain<wake_link*> next = nullptr;
};

/// `runnable`: it runs (worker::current_) or waits for its turn.
enum class stage : std::uint8_t { unstarted, runnable, parked, finished };
enum class woken : std::uint8_t { by_item, by_deadline, by_cancel };

/// How a park is ended from outside by a deadline or a cancel; a sleep has none of these and is
/// simply over. Lives on the parked fiber's stack;
/// owner only.
struct park_site {
  void (*stop)(park_site& self, record& fiber, woken why) noexcept = nullptr;
  woken why = woken::by_item;
  bool heeds_cancel = true;
};

// join: 0, and join_done from the end on, stored once by the owner with release. Everything that
// others want to tell the end goes to the owner as a message (a detach with the wake link, a joiner
// through worker::tell_of_joiner), so the end of a fiber needs no locked instruction: 14 ns of 54
// for a spawn and a join.
inline constexpr std::uint16_t join_done = 1;

/// A fiber that waits for another one of its own worker. On its stack.
struct local_joiner : park_site {
  record* fiber = nullptr;
  record* target = nullptr;
  local_joiner* next = nullptr;
};

/// What a record tells the scope that spawned it; the rest is scope.cpp's own.
struct scope_state {
  void (*ended)(scope_state& self, record& child) noexcept = nullptr;
  /// Before the answer of a child without a handle is dropped: the scope keeps its error.
  void (*answered)(scope_state& self, record& child) noexcept = nullptr;
};

// wake: the current park's epoch, and what is on its way to the owner. The protocol is in
// waits.hpp.
inline constexpr std::uint64_t wake_queued = 1;  // the wake link is in an inbox
inline constexpr std::uint64_t wake_claimed =
    2;  // this epoch's park has been ended by another thread
inline constexpr std::uint64_t wake_cancelled =
    4;  // latched: every park point answers operation_canceled
inline constexpr std::uint64_t wake_orphan =
    8;  // finished and detached: whoever takes the link recycles
inline constexpr std::uint64_t wake_detached = 16;  // its handle was dropped on another thread
inline constexpr std::uint64_t wake_epoch = 32;     // one park

inline constexpr std::uint32_t no_home = UINT32_MAX;

/// What lies at the very top of a stack while a fiber has it.
struct stack_head {
  arch::exception_state exceptions;
  const char* forbids = nullptr;      // the innermost no_park; null: the fiber may park
  handler_frame* handlers = nullptr;  // the innermost of those who answer its effects
  arch::float_state controls;         // of a float fiber that is not running
  [[no_unique_address]] arch::switch_notes notes;
};
static_assert(sizeof(stack_head) <= stack_header_bytes);

struct queue_node : list_node {};  // among the unstarted or the ready ones of a worker
struct scope_node : list_node {};  // among the children of a scope

// What a switch from or to a fiber has to think of: an exception state that is not empty, its own
// floating-point controls, a run that costs more than its pick.
inline constexpr std::uint8_t brings_exceptions = 1;
inline constexpr std::uint8_t brings_float = 2;
inline constexpr std::uint8_t brings_price = 4;
inline constexpr std::uint8_t brings_always = brings_float | brings_price;
// No business of a switch, but in the same line: it may not park (machine_context::update).
inline constexpr std::uint8_t refuses_parks = 8;

/// A task and where it stands. The members lie in what task leaves of its last 16 bytes.
struct staged_task : task {
  stage at = stage::finished;
  std::uint8_t brings = 0;
  std::uint8_t stack_class = 0;
  manner treat;
  bool may_move : 1 = false;     // a cross_thread one
  bool let_go : 1 = false;       // it has no handle any more, as far as the owner knows
  bool far_joiners : 1 = false;  // some wait in the join stripe, as far as the owner knows
  bool asks : 1 = false;         // somebody answers its effects before the backend does
  woken slept_until = woken::by_deadline;  // what ended its last sleep
};
static_assert(sizeof(staged_task) == sizeof(task));

/// Together with the tail of a task one cache line: all that a park, its end and a switch touch.
struct left_off {
  arch::context context;  // where the fiber goes on
  union {
    park_site* parked_at = nullptr;
    record* mailed_behind;  // while it is in a mailbox: who comes in the same mail
  };
  atomic<std::uint64_t> wake{0};
};

/// Four cache lines: what is stored, and the deadline of a park; what a switch and a park touch;
/// who knows it; what is written once.
struct record : staged_task, left_off, queue_node, scope_node, wake_link {
  atomic<std::uint16_t> join{0};
  std::uint16_t ignored = 0;  // answers operation_canceled that it went on after
  // Written by whoever mails the record, with release, after everything else; read with acquire by
  // a worker that gets the record's wake link and asks whether it is the owner.
  atomic<std::uint32_t> home{no_home};
  // Grows by one at recycling, under no lock: see join.cpp.
  atomic<std::uint64_t> generation{0};
  commons* shared = nullptr;  // of its runtime; set once, at its first use
  // Fibers of the same worker that wait for the end; owner only.
  local_joiner* local_joiners = nullptr;
  scope_state* scope = nullptr;
  std::byte* stack_slot = nullptr;  // of class stack_class; null: none yet
  const char* file = "";
  char name[24] = {};
  int line = 0;
  std::uint32_t slot = 0;  // its index in the arena

  bool waits_to_start() const noexcept { return static_cast<const queue_node&>(*this).linked(); }
  stack_head& head() const noexcept {
    return *static_cast<stack_head*>(header_of(stack_slot, stack_class));
  }
};
static_assert(sizeof(staged_task) + sizeof(left_off) == 2 * cache_line_bytes);
static_assert(sizeof(record) <= 256, "a parked fiber costs its stack page, this, and a token");
inline constexpr std::size_t record_bytes = round_up(sizeof(record), cache_line_bytes);

}  // namespace coir::detail
