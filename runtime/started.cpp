// started.cpp: lasting operations from the fiber's side: begin, wait, and end in every way.
//
// Always true:
//   - Only the fiber that began an operation waits for it, and only put_down() waits on behalf of
//     another one.
//   - put_down() heeds neither cancel nor deadline: the memory is the kernel's until the last
//     completion.
//
// Comes from: coir/detail/lasting.hpp.   Goes to: lasting.hpp, worker::park.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#include "coir/started.hpp"
#include "runtime/lasting.hpp"
#include "runtime/perform.hpp"

namespace coir::detail {
namespace {

constexpr std::int32_t own(errc e) noexcept { return -(io_own_base + static_cast<int>(e)); }

/// A wait that an item or the end ends, at home.
struct lasting_park : park_site {
  lasting_park(lasting_operation& one, record& fiber) noexcept : what(one), by{&fiber, nullptr} {
    stop = &end_early;
    what.watch(&by);
  }
  ~lasting_park() { what.watch(nullptr); }
  lasting_park(const lasting_park&) = delete;
  lasting_park& operator=(const lasting_park&) = delete;
  lasting_operation& what;
  watcher by;

 private:
  static void end_early(park_site& self, record& fiber, woken why) noexcept {
    auto& me = static_cast<lasting_park&>(self);
    if (!me.what.watched_by(me.by)) return;  // it has been made ready
    // A single operation whose fiber was cancelled: the kernel is asked to hurry, and its answer
    // counts.
    if (!me.what.many() && (why == woken::by_cancel || me.what.cancelled())) {
      me.what.cancel();
      // At rest the kernel has nothing of it, and no answer comes.
      if (!me.what.over() || COIR_MUTANT(rest_ends_unheard)) return;
    }
    me.what.watch(nullptr);
    me.why = why;
    worker::current()->make_ready(fiber);
  }
};

}  // namespace

woken park_for(lasting_operation& one, std::int64_t until_ns, bool heeds) noexcept {
  worker& here = *worker::current();
  lasting_park site(one, *here.self());
  return here.park(site, until_ns, heeds);
}

std::int32_t not_its_own(const lasting_operation& one) noexcept {
  const record* const me = current_fiber();
  if (me == nullptr) return own(errc::not_in_fiber);
  return one.is_of(me) || COIR_MUTANT(anybody_takes_streams) ? 0 : own(errc::wrong_operation);
}

namespace {

[[noreturn]] void put_down_elsewhere() noexcept {
  constexpr char text[] =
      "coir: a started operation or a stream ends on another worker than it began on, or outside "
      "of "
      "the runtime: it is bound to its fiber\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, sizeof text - 1);
  std::abort();
}

}  // namespace

lasting_operation* stand_up(const lasting_kind& kind, const void* op, const lasting_bounds& bounds,
                            std::int32_t& why, const io::unique_fd* owner) {
  worker* const here = worker::current();
  record* const me = current_fiber();
  why = own(errc::not_in_fiber);
  if (me == nullptr) return nullptr;
  why = -EINVAL;
  if (bounds.capacity == 0 || bounds.capacity > 1u << 16) return nullptr;
  why = -ECANCELED;
  if (is_cancelled(*me)) {
    here->count_ignored(*me);
    return nullptr;
  }
  why = -ENOMEM;
  lasting_bounds used = bounds;
  used.low_water = std::min(bounds.low_water, bounds.capacity - 1);
  struct freed {
    void operator()(lasting_operation* one) const noexcept { one->free(); }
  };
  std::unique_ptr<lasting_operation, freed> made(
      lasting_operation::make(kind, used, op, *here, *me));
  if (made == nullptr) return nullptr;
  why = made->begin(owner);
  return why == 0 ? made.release() : nullptr;
}

void put_down(lasting_operation* one) noexcept {
  if (worker::current() != &one->home()) put_down_elsewhere();
  record* const me = current_fiber();
  one->home().operations().forget(*one);
  one->let_go();
  one->cancel();
  if (!one->over() && me == nullptr) return one->orphan();
  while (!one->over() && !COIR_MUTANT(put_down_does_not_wait))
    (void)park_for(*one, never_ns, false);
  if (!one->many() && one->end() >= 0) one->dispose_answer();
  one->free();
  forced_move();  // only now: with an operation of this worker's ring nobody moves
}

const void* description_of(const lasting_operation& one) noexcept { return one.op(); }
void cancel_lasting(lasting_operation& one) noexcept {
  if (not_its_own(one) == 0) one.cancel();
}
bool lasting_over(const lasting_operation& one) noexcept { return one.over(); }
bool has_failed(const lasting_operation& one) noexcept { return one.over() && one.end() < 0; }
lasting_counts counts_of(const lasting_operation& one) noexcept { return one.counts(); }

awaited await_lasting(lasting_operation& one, deadline until) noexcept {
  if (const std::int32_t no = not_its_own(one); no != 0) return {false, no};
  woken why = woken::by_item;
  if (!one.over()) {
    record& me = *current_fiber();
    if (park_refused(me) && !COIR_MUTANT(get_parks_in_update)) return {false, -ECANCELED};
    if (was_cancelled(me)) one.cancel();
    // After a cancel no deadline counts: it is about to end.
    while (!one.over() && why == woken::by_item)
      why = park_for(one, one.cancelled() ? never_ns : ns_of(until), !one.cancelled());
  }
  if (!one.over()) return {false, -ETIMEDOUT};
  return {true, one.take_answer()};
}

// -- one of several

namespace {

bool is_over(const waited_for& w) noexcept {
  return w.operation != nullptr ? w.operation->over() : w.fiber == nullptr || done(*w.fiber);
}

bool mark(std::span<waited_for> all) noexcept {
  bool any = false;
  for (waited_for& w : all) {
    if (w.over || !is_over(w)) continue;
    w.over = true;
    any = true;
  }
  return any;
}

joiner& joiner_of(waited_for& w) noexcept {
  return *std::launder(reinterpret_cast<joiner*>(w.room));
}

/// Stands in the stripe of its fiber. False: that has ended.
bool stand_for(waited_for& w, record& me, std::uint64_t epoch) noexcept {
  auto& r = static_cast<record&>(*w.fiber);
  auto& core = static_cast<runtime_core&>(*r.shared);
  static_assert(sizeof(joiner) <= sizeof w.room);
  joiner& j = *::new (static_cast<void*>(w.room)) joiner;
  j.target = &r;
  j.generation = r.generation.load(std::memory_order_relaxed);
  j.fiber = &me;
  j.epoch = epoch;
  {
    const word_lock held(core.stripe_of(r).queue.lock);
    if (has_ended(r, j.generation)) return false;
    enqueue(core.stripe_of(r).queue, j);
  }
  w.stands = true;
  return stands(r, j.generation, [&](std::uint32_t home) {
    core.at(home).tell_of_joiner(r.slot % commons::stripes_count);
  });
}

/// False: somebody has taken it out to wake us, and the news of it, if any, must be waited for.
bool leave_stripe(waited_for& w) noexcept {
  if (!std::exchange(w.stands, false)) return true;
  auto& r = static_cast<record&>(*w.fiber);
  return leave(static_cast<runtime_core&>(*r.shared).stripe_of(r).queue, joiner_of(w));
}

}  // namespace

refusal await_first(std::span<waited_for> all, deadline until, bool heeds) noexcept {
  record* const me = current_fiber();
  if (me == nullptr) return errc::not_in_fiber;
  for (const waited_for& w : all) {
    if (w.operation != nullptr && not_its_own(*w.operation) != 0) return errc::wrong_operation;
    if (w.fiber == me) return errc::deadlock;
  }
  if (mark(all)) return {};
  if (park_refused(*me) && !COIR_MUTANT(several_awaited_in_update)) return errc::update_would_park;
  shared_park site(*me);
  watcher by{me, &site};
  bool blocked = true;
  for (waited_for& w : all) {
    if (w.over) continue;
    if (w.operation != nullptr) {
      w.operation->watch(&by);
    } else if (!stand_for(w, *me, site.epoch)) {
      blocked = false;
      break;
    }
  }
  bool claimed = false;
  if (!blocked)
    for (waited_for& w : all) claimed |= !leave_stripe(w);
  woken why = woken::by_item;
  if (blocked || claimed) why = worker::current()->park(site, ns_of(until), heeds);
  for (waited_for& w : all) {
    (void)leave_stripe(w);
    if (w.operation != nullptr) w.operation->watch(nullptr);
  }
  const bool any = mark(all);
  forced_move();
  return any ? refusal() : refusal_of(why);
}

bool has_failed(const task& ended) noexcept {
  auto& t = const_cast<task&>(ended);
  if (t.held == holds::error || t.held == holds::exception) return true;
  return t.held == holds::answer && static_cast<bool>(t.ops->failure(t));
}

}  // namespace coir::detail
