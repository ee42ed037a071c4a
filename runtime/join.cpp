// join.cpp: waiting for a fiber's end, asking it to stop, and letting go of it.
//
// Always true:
//   - Fibers of the target's own worker wait in the record (local_joiners), without atomics;
//     everybody else in the join stripe. Those of a fiber that moves away are woken, and look
//     again.
//   - A joiner in the stripe is there before it looks at the join word for the last time, and tells
//     the owner afterwards: the owner ends the fiber later and looks, or has ended it and looks
//     then.
//   - Self-join is refused; join of an unstarted fiber of this worker starts it at once.
//
// Comes from: handle, coir::wait.   Goes to: worker::park, ending.cpp.
#include "runtime/waiting.hpp"

namespace coir::detail {
namespace {

void leave_local(local_joiner& me) noexcept {
  for (local_joiner** at = &me.target->local_joiners; *at != nullptr; at = &(*at)->next) {
    if (*at != &me) continue;
    *at = me.next;
    me.target = nullptr;
    return;
  }
}

void end_local_early(park_site& self, record& fiber, woken why) noexcept {
  auto& me = static_cast<local_joiner&>(self);
  if (me.target == nullptr) return;
  leave_local(me);
  me.why = why;
  worker::current()->make_ready(fiber);
}

refusal join_local(worker& here, record& r, std::int64_t until_ns) noexcept {
  local_joiner me;
  me.stop = &end_local_early;
  me.fiber = here.self();
  me.target = &r;
  me.next = r.local_joiners;
  r.local_joiners = &me;
  const bool starts_now = here.holds_unstarted(r) && !COIR_MUTANT(join_not_started_at_once);
  return refusal_of(starts_now ? here.start_and_park(r, me, until_ns)
                               : here.park(me, until_ns, true));
}

/// `generation` is r's; a record that got another one meanwhile has ended.
refusal join_from_afar(runtime_core& core, record& r, std::uint64_t generation,
                       std::int64_t until_ns) noexcept {
  joiner me;
  me.target = &r;
  me.generation = generation;
  const woken why = wait_in(
      core.stripe_of(r).queue, me, until_ns, true, [&] { return !has_ended(r, generation); },
      [&] {
        return stands(r, generation, [&](std::uint32_t home) {
          core.at(home).tell_of_joiner(r.slot % commons::stripes_count);
        });
      });
  return refusal_of(why);
}

bool lives_here(worker* here, const record& r) noexcept {
  return here != nullptr && &here->shared() == r.shared && here->self() != nullptr &&
         r.home.load(std::memory_order_acquire) == here->index();
}

[[gnu::noinline]] refusal wait_for_end(record& r, deadline until) noexcept {
  if (current_fiber() == &r && !COIR_MUTANT(self_join_waits)) return errc::deadlock;
  while (!is_done(r)) {
    if (record* const me = current_fiber(); me != nullptr && park_refused(*me)) [[unlikely]]
      return std::errc::operation_canceled;
    refusal why;
    if (worker* const here = worker::current(); lives_here(here, r)) {
      if (r.at == stage::unstarted && !r.waits_to_start()) {
        here->take_mail();
        // It may have gone on to a neighbour, and only its home may look at it.
        if (!lives_here(here, r) && !COIR_MUTANT(mailed_on_unseen)) continue;
      }
      if (r.at != stage::unstarted || r.waits_to_start()) {
        why = join_local(*here, r, ns_of(until));
        forced_move();
        if (why && !is_done(r)) return why;
        continue;
      }
    }
    why = join_from_afar(static_cast<runtime_core&>(*r.shared), r,
                         r.generation.load(std::memory_order_relaxed), ns_of(until));
    if (why && !is_done(r)) return why;
  }
  return {};
}

}  // namespace

refusal join(task& t, deadline until) noexcept {
  auto& r = static_cast<record&>(t);
  if (static_cast<runtime_core&>(*r.shared).inherited()) return errc::foreign_runtime;
  return is_done(r) ? refusal() : wait_for_end(r, until);
}

bool done(const task& t) noexcept { return is_done(static_cast<const record&>(t)); }

void cancel(task& t) noexcept {
  auto& r = static_cast<record&>(t);
  worker* const here = worker::current();
  if (here == nullptr && static_cast<runtime_core&>(*r.shared).inherited())
    return;  // the fiber is the parent's
  if (here != nullptr && &here->shared() == r.shared &&
      r.home.load(std::memory_order_acquire) == here->index()) {
    r.wake.fetch_or(wake_cancelled, std::memory_order_relaxed);
    here->stop_parked(r, woken::by_cancel);
    return;
  }
  if (r.home.load(std::memory_order_acquire) ==
      no_home) {  // not launched yet: seen at its first run, or by confirm()
    r.wake.fetch_or(wake_cancelled, std::memory_order_relaxed);
    return;
  }
  if (latch_cancel(r)) r.shared->send_wake(*r.shared, r);
}

void release(task& t) noexcept {
  auto& r = static_cast<record&>(t);
  if (is_done(r)) {  // there is one holder, so the record is ours
    if (r.held != holds::nothing) r.ops->drop(r);
    // Whoever waits for a record waits in the parent, and the lock of their room may be held there.
    const bool parents = static_cast<runtime_core&>(*r.shared).inherited();
    if (parents && !COIR_MUTANT(inherited_record_recycled)) return;
    return recycle(r);
  }
  if (static_cast<runtime_core&>(*r.shared).inherited()) return;  // the fiber is the parent's
  worker* const here = worker::current();
  if (here != nullptr && &here->shared() == r.shared &&
      r.home.load(std::memory_order_acquire) == here->index()) {
    r.let_go = true;
  } else if (latch_detach(r)) {
    r.shared->send_wake(*r.shared, r);
  }
}

fiber_id id_of(const task& t) noexcept {
  const auto& r = static_cast<const record&>(t);
  return {r.slot, r.shared->serial, r.generation.load(std::memory_order_relaxed)};
}

void* allocate_box(task& owner, std::size_t bytes, std::size_t alignment) {
  static_cast<runtime_core&>(*static_cast<record&>(owner).shared)
      .count(&worker_counters::boxes, &foreign_counts::boxes);
  // Asked for an alignment, the C library goes a way that keeps nothing at hand: 20 ns more.
  return alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__
             ? ::operator new(bytes)
             : ::operator new(bytes, std::align_val_t(alignment));
}

void free_box(void* box, std::size_t, std::size_t alignment) noexcept {
  if (alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__) return ::operator delete(box);
  ::operator delete(box, std::align_val_t(alignment));  // clang 14 has no sized form
}

}  // namespace coir::detail

namespace coir {

result<> wait(fiber_id id, deadline until) {
  using namespace detail;
  const visit core = find_core(id.runtime);
  if (!core || core->inherited() || id.slot >= core->records.touched())
    return fail(errc::foreign_runtime);
  auto& r = *static_cast<record*>(core->records.at(id.slot));
  const std::uint64_t differs = r.generation.load(std::memory_order_acquire) ^ id.generation;
  if ((COIR_MUTANT(narrow_generation) ? differs & 0xffff : differs) != 0 || id.generation == 0) {
    if (COIR_MUTANT(stale_wait_steals)) r.local_joiners = nullptr;
    return fail(errc::stale_handle);
  }
  // The generation that a free record will have next can be guessed; it names nobody yet.
  if (r.home.load(std::memory_order_acquire) == no_home) return fail(errc::stale_handle);
  if (current_fiber() == &r) return fail(errc::deadlock);
  if (const refusal why = join_from_afar(*core, r, id.generation, ns_of(until)))
    return fail(why.code());
  return {};
}

}  // namespace coir
