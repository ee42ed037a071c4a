// placing.cpp: where a new fiber goes, as the worker that has it sees it: it stays, or it goes with
// others to a neighbour.
//
//   a spawn, a fiber that came with the mail:  settle() -> offer() -> post(), or enqueue()
//   a connection, which will live for long:    place()  -> offer() -> post(), or enqueue()
//   a pick of an unstarted one:                feed() -> feed_hungry() -> post()
//
// Always true:
//   - Only a closure that waits for its first run travels, and nobody of its worker waits in its
//     record. Those that may not are passed over, a few of them: who is looked for stands near the
//     front, where the oldest are.
//   - A fiber that has a home already may be known there to somebody far who waits for it. So its
//     end looks into the join stripe in any case; a link that is under way follows it (hear()).
//   - What a full mailbox is answered with, in this order: who may run anywhere, a connection too,
//     goes to the one that deflect() names next, once (offer()); else it stays where it was, in its
//     order, and is asked about again where somebody is hungry at a pick. Who comes from outside
//     the runtime goes to any worker with a place, and waits for one of any (spawn.cpp); who was
//     sent to a worker by name waits for a place there. try_ forms are refused instead of waiting.
//     Nobody is dropped.
//   - Whoever feeds a hungry worker has taken its name from the board. Other mail does not look
//     there: that by name, that to who has less, and a thread's to the one whose turn it is.
//
// Comes from: spawn, net::serve, take_mail, choosing.cpp.
// Goes to: deflect.hpp, a neighbour's mailbox.
#include "runtime/hop.hpp"

#include <algorithm>

namespace coir::detail {

namespace {
constexpr unsigned batch_max = 64;  // fibers in one mail

cargo cargo_in(const record& r) noexcept {
  return {r.treat.where(), r.treat.kind(), r.treat.hops()};
}
}  // namespace

inline load worker::load_of(unsigned i) const noexcept {
  return shared_.peers[i]->published_load();
}

/// Somebody has set another threshold, or wants it to adapt again; or it has learnt.
void worker::set_threshold(std::uint32_t told) noexcept {
  if (std::exchange(heard_threshold_, told) != told)
    told != 0 ? threshold_.pin(told) : threshold_.unpin();
  if (settings_.workers == 1) return;
  asks_from_ = threshold_.pinned() ? threshold_.tasks() : adaptive_threshold::enough_for_hungry;
  // At a pick somebody goes on to run, as the pusher does at a push; so all the others are to
  // spare. More than there can be stays so.
  feeds_from_ = threshold_.pinned() ? std::max(threshold_.tasks() + 1, threshold_.tasks()) : 1;
  asks_live_from_ = threshold_.tasks();
}

void worker::learn(outcome o) noexcept {
  threshold_.learn(o);
  set_threshold(heard_threshold_);
}

/// True: it was mailed to somebody. Its closure is in it; `fresh` is in no queue.
[[gnu::noinline]] bool worker::send_elsewhere(record& fresh) noexcept {
  const cargo what = cargo_in(fresh);
  if (shared_.stopping.load(std::memory_order_relaxed)) return false;
  const auto way =
      gate_.of({own_unstarted(), static_cast<std::uint32_t>(live_.get())}, threshold_.spare(),
               threshold_.tasks(), what, [this](bool lone) { return is_hungry(lone); });
  if (way == push_gate::way::stays) return false;
  const bool somebody_hungry = way == push_gate::way::hungry;
  const worker_set hungry = somebody_hungry ? shared_.hungry.look() : worker_set();
  const worker_set for_one = somebody_hungry ? shared_.hungry.look_for_one() : worker_set();
  pusher from = as_pusher();
  from.threshold = threshold_.tasks();
  from.spare = threshold_.spare();
  from.batch_max = batch_max;
  from.hungry = somebody_hungry ? &hungry : nullptr;
  from.hungry_for_one = lone_tries_.open() ? nullptr : &for_one;
  const auto mail = [&](const decision& d) {
    if (d.why == outcome::fed && !shared_.hungry.take_away(d.target)) return outcome::late;
    if (!post(d, fresh)) return outcome::refused;
    if (d.why == outcome::fed && d.count == 1 && !for_one.contains(d.target)) lone_tries_.spend();
    return d.why;
  };
  const outcome became = offer(
      from, what, [this](unsigned i) { return load_of(i); }, mail);
  if (became == outcome::late) return false;
  learn(became);
  gate_.learn(is_gone(became));
  return is_gone(became);
}

/// True: it was mailed to whom deflect() names, however few there are here.
bool worker::send_to_emptiest(record& fresh) noexcept {
  if (shared_.stopping.load(std::memory_order_relaxed)) return false;
  const affinity where = COIR_MUTANT(connections_go_anywhere) ? affinity::any : fresh.treat.where();
  pusher from = as_pusher();
  from.threshold = 0;
  const auto mail = [&](const decision& d) { return post(d, fresh) ? d.why : outcome::refused; };
  return is_gone(offer(
      from, {where, workload::io, fresh.treat.hops()}, [this](unsigned i) { return load_of(i); },
      mail));
}

/// Whether anybody is hungry; for one fiber alone, or for more.
inline bool worker::is_hungry(bool lone) const noexcept {
  return lone && !lone_tries_.open() ? shared_.hungry.any_for_one(settings_.workers)
                                     : shared_.hungry.any(settings_.workers);
}

/// A hungry worker gets a half of what waits here, if that is enough.
[[gnu::noinline]] void worker::feed() noexcept {
  const load mine{own_unstarted() - 1, static_cast<std::uint32_t>(live_.get()) - 1};
  if (!is_hungry(is_lone(mine)) || shared_.stopping.load(std::memory_order_relaxed)) return;
  const worker_set hungry = shared_.hungry.look();
  const worker_set for_one = shared_.hungry.look_for_one();
  pusher from = as_pusher();
  from.mine = mine;
  from.spare = feeds_from_ - 1;
  from.batch_max = batch_max;
  from.hungry = &hungry;
  from.hungry_for_one = lone_tries_.open() ? nullptr : &for_one;
  // Whoever waits at another priority than the normal one stays here, in its level, and may be all
  // there are. It was asked about when it was new.
  record* first = unstarted_.front();
  const decision d = feed_from(
      from, first, static_cast<record*>(nullptr),
      [this](record* r) { return unstarted_.after(*r); },
      [this](record* r) {
        return may_leave(*r, distance::sibling) ? std::optional(cargo_in(*r)) : std::nullopt;
      },
      [this](unsigned i) { return load_of(i); });
  if (d.count == 0) return;
  if (!shared_.hungry.take_away(d.target)) return;
  record& oldest = *first;
  if (d.count == 1 && !for_one.contains(d.target)) lone_tries_.spend();
  record* const behind = leave_home(oldest);
  if (!post(d, oldest)) return_home(oldest, behind);
}

inline bool worker::may_travel(const record& waiting) const noexcept {
  return waiting.held == holds::closure && waiting.local_joiners == nullptr && &waiting != first_;
}

/// It may go so far.
inline bool worker::may_leave(const record& waiting, distance far) const noexcept {
  return may_travel(waiting) && may_go(cargo_in(waiting), far);
}

/// From the line of the unstarted into nobody's hands: who stood behind it; and back before that.
inline record* worker::leave_home(record& waiting) noexcept {
  record* const behind = unstarted_.after(waiting);
  leave_line(waiting);
  --live_;
  return behind;
}
inline void worker::return_home(record& waiting, record* behind) noexcept {
  unstarted_.insert(behind, waiting);
  ++unstarted_count_;
  ++live_;
}

/// `last`, and of those that wait here the oldest that may go so far, in one mail. False: there was
/// no room, and nothing has changed.
bool worker::post(const decision& d, record& last) noexcept {
  const distance far = settings_.around.to(d.target);
  record* chain[batch_max];
  record* behind[batch_max];
  unsigned count = 0, passed = 0;
  for (record* next = unstarted_.front(); next != nullptr && count + 1 < d.count;) {
    record& each = *next;
    next = unstarted_.after(each);
    if (may_leave(each, far)) {
      behind[count] = leave_home(each);
      chain[count++] = &each;
    } else if (++passed > passed_over_most || COIR_MUTANT(nobody_is_passed_over)) {
      break;
    }
  }
  chain[count++] = &last;
  for (unsigned i = 0; i < count; ++i) {
    record& each = *chain[i];
    each.mailed_behind = i + 1 < count ? chain[i + 1] : nullptr;
    if (each.home.load(std::memory_order_relaxed) != no_home && !COIR_MUTANT(mailed_on_unmarked))
      each.far_joiners = true;
  }
  if (shared_.peers[d.target]->send_batch(*chain[0], count)) {
    counts_.deflected_out += count;
    return true;
  }
  ++counts_.mailbox_refused;
  for (unsigned i = count; i-- != 0;) {  // who stood behind one is there again before it
    chain[i]->mailed_behind = nullptr;
    if (chain[i] != &last) return_home(*chain[i], behind[i]);
  }
  return false;
}

/// A fiber that is new here: it goes on, or it waits here for its first run.
void worker::settle(record& fiber) noexcept {
  const bool any_level = !COIR_MUTANT(levels_stay_at_home) || fiber.treat.usual_level();
  if (may_be_too_many() && any_level && may_travel(fiber) && send_elsewhere(fiber)) return;
  keep(fiber);
}

/// One of many that come one by one, each by itself, and stay: of these each is placed when it is
/// new, and what it is placed by are those who live. It learns nothing: it asks in any case.
void worker::place(record& fiber) noexcept {
  if (fiber.treat.kind() != workload::io && !COIR_MUTANT(connections_are_io)) return settle(fiber);
  if (settings_.workers != 1 && may_travel(fiber) && send_to_emptiest(fiber)) return;
  if (COIR_MUTANT(connections_stay)) fiber.treat.stay();
  keep(fiber);
}

}  // namespace coir::detail
