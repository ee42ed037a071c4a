// spawn.cpp: from a closure to a record in some worker's queue.
//
// Always true:
//   - A record is filled by its spawner alone; `home` is written last, with release, and launch
//     hands it over.
//   - What a full mailbox is answered with stands in one place, at the top of placing.cpp; here is
//     who waits for it.
//   - Every record that was launched was counted as spawned before, so the sums never say "all
//     ended" too early.
//
// Comes from: coir::spawn, runtime::spawn, scope::spawn.   Goes to: worker::enqueue, mailbox.
#include <algorithm>
#include <cstring>

#include "runtime/waiting.hpp"

namespace coir::detail {
namespace {

// The two questions that a switcher answers are its two bits.
static_assert(static_cast<unsigned>(switcher::same_thread_float) == 1);
static_assert(static_cast<unsigned>(switcher::cross_thread_no_float) == 2);
static_assert(static_cast<unsigned>(switcher::cross_thread_float) == 3);

/// The record in a cell: one that was never used is memory of zeros.
[[gnu::always_inline]] inline record* record_in(runtime_core& core, void* cell) noexcept {
  auto* r = static_cast<record*>(cell);
  if (r->shared != nullptr) [[likely]]
    return r;
  r = ::new (cell) record;
  r->slot = core.records.index_of(cell);
  r->shared = &core;
  r->generation.store(1, std::memory_order_relaxed);
  return r;
}

/// `here` is the calling worker if it is one of `core`.
record* take_record(runtime_core& core, worker* here) {
  const std::uint32_t slot =
      here != nullptr ? core.records.take(here->records()) : core.records.take();
  return slot == no_record ? nullptr : record_in(core, core.records.at(slot));
}

/// Whoever is awake sees the call in its next turn; whoever sleeps or goes to sleep is rung, or
/// sees it in its last look.
void tell_everybody(runtime_core& core) noexcept {
  core.starved.fetch_add(1, std::memory_order_seq_cst);
  for (unsigned i = 0; i < core.workers(); ++i) core.at(i).ring();
}

/// Somebody was refused, and does not wait: what lies in caches is there for the next one.
void call_for_records(runtime_core& core) noexcept {
  if (!core.records.caches() || COIR_MUTANT(hoards_uncalled)) return;
  std::uint64_t alive = 0;
  for (unsigned i = 0; i < core.workers(); ++i) alive += core.at(i).published_load().live;
  if (alive < core.records.capacity()) tell_everybody(core);
}

/// A fiber parks, a thread blocks, until a record is free or the time is over.
record* wait_for_record(runtime_core& core, deadline until, refusal& why) {
  record* got = nullptr;
  const auto take = [&] {
    worker* const here = worker::current();
    got = take_record(core, here != nullptr && &here->shared() == &core ? here : nullptr);
    return got != nullptr;
  };
  for (;;) {
    core.starving.fetch_add(1, std::memory_order_seq_cst);
    tell_everybody(core);
    waiter w;
    const std::int64_t until_ns = COIR_MUTANT(room_waited_for_ever) ? never_ns : ns_of(until);
    why = refusal_of(wait_in(core.room, w, until_ns, true, [&] {
      return !take() && !core.stopping.load(std::memory_order_relaxed);
    }));
    core.starving.fetch_sub(1, std::memory_order_relaxed);
    if (got == nullptr && core.stopping.load(std::memory_order_relaxed)) why = errc::shutting_down;
    if (got == nullptr && why) return nullptr;
    if (got != nullptr || take()) break;
  }
  why = {};
  return got;
}

/// Numbers from elsewhere may be anything.
inline bool choices_exist(const spawn_options& o) noexcept {
  return ((static_cast<unsigned>(o.sw) | static_cast<unsigned>(o.prio) |
           static_cast<unsigned>(o.kind) | static_cast<unsigned>(o.where)) &
          ~3u) == 0;
}

/// Refuses what cannot be; `klass` is the class of stacks that was asked for.
refusal check(const runtime_core& core, const spawn_options& options, unsigned& klass) {
  if (core.inherited()) return errc::foreign_runtime;
  if (core.stopping.load(std::memory_order_relaxed) && !COIR_MUTANT(work_after_stop))
    return errc::shutting_down;
  if (options.worker && *options.worker >= core.workers()) return std::errc::invalid_argument;
  if (!choices_exist(options)) return std::errc::invalid_argument;
  if (options.stack_bytes == 0) return {};
  const auto asked = core.pool->class_of(options.stack_bytes);
  if (!asked || options.stack_bytes < stack_smallest_bytes) return std::errc::invalid_argument;
  klass = *asked;
  return {};
}

}  // namespace

namespace {

/// Nothing that its record would have to remember was asked for.
[[gnu::always_inline]] inline bool usual(const spawn_options& o) noexcept {
  constexpr spawn_options unsaid;
  const auto differs = [](auto a, auto b) {
    return static_cast<unsigned>(a) ^ static_cast<unsigned>(b);
  };
  return (differs(o.sw, unsaid.sw) | differs(o.prio, unsaid.prio) | differs(o.kind, unsaid.kind) |
          differs(o.where, unsaid.where)) == 0;
}

/// What a record is filled with before its closure, for the usual choices.
[[gnu::always_inline]] inline record* fill(record& r, const spawn_options& options,
                                           const site& where, unsigned klass) noexcept {
  r.at = stage::unstarted;
  r.let_go = false;
  r.far_joiners = false;
  r.brings = 0;
  r.may_move = false;
  r.treat = {};
  r.stack_class = static_cast<std::uint8_t>(klass);
  r.file = where.file;
  r.line = where.line;
  const std::size_t length = std::min(options.name.size(), sizeof r.name - 1);
  if (length != 0) [[unlikely]]
    std::memcpy(r.name, options.name.data(), length);
  r.name[length] = '\0';
  // release: pairs with the acquire of whoever asks for an older life of this slot.
  r.join.store(0, std::memory_order_release);
  // A new life begins without a request to stop; the epoch goes on, so claims of earlier parks
  // miss.
  const std::uint64_t word = r.wake.load(std::memory_order_relaxed);
  r.wake.store(word & ~(wake_epoch - 1), std::memory_order_relaxed);
  return &r;
}

/// A fiber spawns in its own runtime with nothing to check or to wait for: null when it is not so.
[[gnu::always_inline]] inline record* take_at_once(const runtime_core* core,
                                                   const spawn_options& options) noexcept {
  worker* const here = worker::current();
  if (here == nullptr || here->self() == nullptr) return nullptr;
  auto& own = static_cast<runtime_core&>(here->shared());
  if (core != nullptr && core != &own) return nullptr;
  if (options.stack_bytes != 0 || options.worker || !usual(options) || own.inherited() ||
      own.stopping.load(std::memory_order_relaxed))
    return nullptr;
  void* const cell = own.records.take_warm(here->records());
  return cell == nullptr ? nullptr : record_in(own, cell);
}

[[gnu::noinline]] task* new_task_with_care(runtime_core* core, const spawn_options& options,
                                           const site& where, bool wait, refusal& why) {
  worker* const here = worker::current();
  runtime_core* const own = here == nullptr ? nullptr : static_cast<runtime_core*>(&here->shared());
  if (core == nullptr) core = own;
  if (core == nullptr || (core == own && here->self() == nullptr)) {
    why = errc::not_in_fiber;
    return nullptr;
  }
  unsigned klass = core->stack_class;
  why = check(*core, options, klass);
  if (why) return nullptr;
  record* r = take_record(*core, core == own ? here : nullptr);
  if (r == nullptr) [[unlikely]] {
    // Who gives no time lets nobody else run meanwhile.
    const bool patient = wait && (options.until != no_wait || COIR_MUTANT(no_wait_hops));
    const bool waits = patient || COIR_MUTANT(try_spawn_waits);
    r = waits ? wait_for_record(*core, options.until, why) : nullptr;
    if (!patient) {
      why = wait ? refusal(std::errc::timed_out) : refusal(errc::arena_full);
      call_for_records(*core);
    }
    if (r == nullptr) return nullptr;
  }
  fill(*r, options, where, klass);
  const auto sw = static_cast<unsigned>(options.sw);
  r->treat = manner(options.prio, options.kind, options.where);
  r->brings = static_cast<std::uint8_t>(((sw & 1) != 0 ? brings_float : 0) |
                                        (r->treat.price() != 1 ? brings_price : 0));
  r->may_move = (sw & 2) != 0;
  return r;
}

}  // namespace

task* new_task(runtime_core* core, const spawn_options& options, const site& where, bool wait,
               refusal& why) {
  if (record* const r = take_at_once(core, options)) [[likely]]
    return fill(*r, options, where, r->shared->stack_class);
  return new_task_with_care(core, options, where, wait, why);
}

namespace {

bool mail_to(runtime_core& core, record& r, unsigned target) noexcept {
  if (core.at(target).send(r)) return true;
  core.count(&worker_counters::mailbox_refused, &foreign_counts::mailbox_refused);
  return false;
}

/// What `mail()` sends when it says so; waits in `room` for a place if the caller allows it, and
/// then lets those know by `ring()` who may give one.
template <class Mail, class Ring>
refusal launch_by(runtime_core& core, wait_queue& room, deadline until, bool wait, Mail mail,
                  Ring ring) noexcept {
  while (!mail()) {
    if (COIR_MUTANT(worker_waits_for_mailbox)) continue;
    if (COIR_MUTANT(place_not_waited_for) || (!wait && !COIR_MUTANT(try_waits_for_place)))
      return errc::mailbox_full;
    if (until == no_wait) return std::errc::timed_out;
    core.starving.fetch_add(1, std::memory_order_seq_cst);
    waiter w;
    bool sent = false;
    const auto blocked = [&] {
      sent = mail();
      return !sent;
    };
    // The call comes after the last try. A worker hears it, and then knows that somebody stands
    // here, or it took all of its mail before that try: no order is asked of who takes mail.
    const auto call = [&] {
      // seq_cst: release, so that whoever hears it finds us in the room; the fence that orders it
      // against a worker that goes to sleep is that of its bell.
      core.starved.fetch_add(1, std::memory_order_seq_cst);
      ring();
      return true;
    };
    const woken why = wait_in(room, w, ns_of(until), true, blocked, call);
    core.starving.fetch_sub(1, std::memory_order_relaxed);
    if (sent) return {};
    if (why != woken::by_item) return refusal_of(why);
  }
  return {};
}

/// Sends to one worker by name.
refusal launch_at(runtime_core& core, record& r, unsigned target, deadline until,
                  bool wait) noexcept {
  return launch_by(
      core, core.at(target).mail_room, until, wait, [&] { return mail_to(core, r, target); },
      [&] { core.at(target).ring(); });
}

/// Some more, or as many less, of its fibers than were counted.
[[gnu::always_inline]] inline void count_spawned(worker& here, std::uint64_t more) noexcept {
  const std::uint64_t count = here.spawned.load(std::memory_order_relaxed) + more;
  // release: whoever gets the fiber, and counts its end, brings this count to nobody_lives().
  here.spawned.store(count, std::memory_order_release);
}

/// Whose turn it is, unless it has something to do and somebody else has nothing.
unsigned hungry_or_next(runtime_core& core) noexcept {
  const unsigned next = core.next_worker();
  if (core.at(next).published_load().live == 0 || !core.hungry.any(core.workers())) return next;
  const worker_set hungry = core.hungry.look();
  const unsigned size = hungry.size();
  if (size == 0) return next;
  const unsigned i = hungry.at(next % size);
  return core.hungry.take_away(i) ? i : next;
}

refusal launch_from_outside(runtime_core& core, record& r, deadline until, bool wait) noexcept {
  const unsigned first = hungry_or_next(core);
  if (COIR_MUTANT(place_of_one_worker)) return launch_at(core, r, first, until, wait);
  const auto mail = [&] {
    for (unsigned step = 0; step < core.workers(); ++step)
      if (mail_to(core, r, (first + step) % core.workers())) return true;
    return false;
  };
  return launch_by(core, core.mail_room, until, wait, mail, [&] {
    for (unsigned i = 0; i < core.workers(); ++i) core.at(i).ring();
  });
}

}  // namespace

namespace {

[[gnu::noinline]] refusal launch_with_care(runtime_core& core, record& r,
                                           const spawn_options& options, bool wait) noexcept {
  worker* const here = worker::current();
  const bool ours = here != nullptr && &here->shared() == &core;
  if (!ours && !core.count_foreign_spawn()) {
    core.uncount_foreign_spawn();
    return errc::shutting_down;
  }
  refusal why;
  if (options.worker && !COIR_MUTANT(named_worker_is_advice)) r.treat.stay();
  if (ours && !options.worker) {
    here->settle(r);
  } else if (ours && *options.worker == here->index()) {
    here->keep(r);
  } else if (options.worker) {
    why = launch_at(core, r, *options.worker, options.until, wait);
  } else {
    why = launch_from_outside(core, r, options.until, wait);
  }
  if (!why) {
    // It was counted before the stop. ring() has a fence between its mail and this look.
    if (!ours && core.stopping.load(std::memory_order_seq_cst)) core.refuse_unbegun();
    return {};
  }
  if (ours) {
    count_spawned(*worker::current(), std::uint64_t(-1));  // the wait may have ended elsewhere
  } else {
    core.uncount_foreign_spawn();
  }
  return why;
}

}  // namespace

refusal launch(task& t, const spawn_options& options, bool wait) noexcept {
  auto& r = static_cast<record&>(t);
  auto& core = *static_cast<runtime_core*>(r.shared);
  worker* const here = worker::current();
  const bool ours = here != nullptr && &here->shared() == &core;
  if (ours) count_spawned(*here, 1);
  if (!ours || options.worker || here->may_be_too_many())
    return launch_with_care(core, r, options, wait);
  here->keep(r);
  return {};
}

refusal launch_placed(task& t, const spawn_options& options, bool wait) noexcept {
  if (options.worker) return launch(t, options, wait);
  auto& r = static_cast<record&>(t);
  auto& core = *static_cast<runtime_core*>(r.shared);
  worker& here = *worker::current();
  COIR_ASSERT(&here.shared() == &core);  // new_task gave no record to anybody else
  count_spawned(here, 1);
  if (COIR_MUTANT(connections_wait_for_place))
    return launch_at(core, r, (here.index() + 1) % core.workers(), options.until, wait);
  here.place(r);
  return {};
}

void abandon(task& t) noexcept {
  auto& r = static_cast<record&>(t);
  if (r.scope != nullptr) r.scope->ended(*r.scope, r);
  recycle(r);
}

}  // namespace coir::detail
