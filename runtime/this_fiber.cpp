// this_fiber.cpp: what a fiber asks for itself: to let others run, to sleep, who it is, and what
// time it is.
//
// Always true:
//   - On a plain thread each of these does what the thread's own would, or says not_in_fiber.
//
// Comes from: coir/fiber.hpp, coir/clock.hpp.   Goes to: hop.hpp, worker::sleep.
#include "coir/operations.hpp"
#include "runtime/hop.hpp"
#include "runtime/waiting.hpp"

namespace coir {

result<> sleep_operation::outside(deadline limit) const {
  const deadline end = std::min(until, limit);
  detail::record* const me = detail::current_fiber();
  if (me == nullptr) {
    detail::sleep_on_thread(detail::ns_of(end));
  } else {
    if (detail::park_refused(*me)) [[unlikely]]
      return fail(std::errc::operation_canceled);
    const detail::woken why = detail::worker::current()->sleep(detail::ns_of(end));
    detail::forced_move();
    if (why == detail::woken::by_cancel) return fail(std::errc::operation_canceled);
  }
  if (limit < until) return fail(std::errc::timed_out);
  return {};
}

namespace this_fiber {

// One function with the switch in it, so that a yield is one return.
COIR_UNINSTRUMENTED void yield() noexcept {
  detail::worker* const here = detail::worker::current();
  if (here == nullptr || here->self() == nullptr) [[unlikely]]
    return detail::yield_on_thread();
  here->yield_in_place();
  detail::forced_move();
}

result<> yield_to(fiber_id id) {
  detail::record* const me = detail::current_fiber();
  if (me == nullptr) return fail(errc::not_in_fiber);
  detail::worker& here = *detail::worker::current();
  detail::commons& all = here.shared();
  if (id.runtime != all.serial) return fail(errc::foreign_runtime);
  if (id.slot >= all.records.touched()) return fail(errc::stale_handle);
  auto& r = *static_cast<detail::record*>(all.records.at(id.slot));
  // acquire: pairs with next_life(), as in wait().
  if (r.generation.load(std::memory_order_acquire) != id.generation || id.generation == 0)
    return fail(errc::stale_handle);
  if (&r == me) return {};
  if (detail::is_done(r)) return fail(errc::finished);
  if (r.home.load(std::memory_order_acquire) != here.index() || !here.could_run(r))
    return fail(errc::not_parked);
  if (detail::park_refused(*me) && !COIR_MUTANT(yields_to_in_update)) [[unlikely]]
    return fail(std::errc::operation_canceled);
  here.yield_to(r);
  detail::forced_move();
  return {};
}

result<> sleep_until(deadline until) { return perform(sleep_operation{until}); }

result<> sleep_for(clock::duration d) { return sleep_until(in(d)); }

bool cancelled() noexcept {
  const detail::record* const me = detail::current_fiber();
  return me != nullptr && detail::was_cancelled(*me);
}

fiber_id id() noexcept {
  const detail::record* const me = detail::current_fiber();
  return me == nullptr ? fiber_id{} : detail::id_of(*me);
}

unsigned worker() noexcept {
  detail::worker* const here = detail::worker::current();
  return here == nullptr ? UINT_MAX : here->index();
}

result<> move_to(unsigned worker) {
  if (const detail::refusal why = detail::move_fiber(worker)) return fail(why.code());
  return {};
}

}  // namespace this_fiber

clock::time_point clock::now() noexcept {
  detail::worker* const here = detail::worker::current();
  return time_point(duration(here != nullptr ? here->outside().now_ns() : detail::thread_now_ns()));
}

deadline in(clock::duration d) noexcept {
  std::int64_t sum = 0;
  if (__builtin_add_overflow(clock::now().time_since_epoch().count(), d.count(), &sum))
    return d.count() < 0 ? no_wait : never;
  return deadline(clock::duration(sum));
}

}  // namespace coir
