// sim.cpp: when things happen: hand over, do, show, cancel.
//
// Always true:
//   - Only finish() ends an operation, and only reap() forgets one.
//   - After the power cut nothing is executed.
//
// Comes from: sim.hpp.   Goes to: sim_execute.cpp, sim_world.
#include "runtime/sim.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>

namespace coir::detail {
namespace {

/// Of a timeout.
std::int64_t span_of(const io_uring_sqe& entry) noexcept {
  std::int64_t parts[2];
  std::memcpy(parts, reinterpret_cast<const void*>(static_cast<std::uintptr_t>(entry.addr)),
              sizeof parts);
  return parts[0] * 1'000'000'000 + parts[1];
}

}  // namespace

sim::sim(sim_world& outside) : world_(outside), number_(outside.crew_.enlist(*this)) {}

sim::sim(std::unique_ptr<sim_world> own)
    : own_(std::move(own)), world_(*own_), number_(own_->crew_.enlist(*this)) {
  own_->others_may_come = [] { return true; };  // who has it may be told to wake it
}

void sim::come_back() noexcept {
  rests_until_ns_ = no_wait_ns;
  exhausted_ = false;
  world_.crew_.come_back(number_, *this);
}

sim::~sim() {
  world_.real.forget_all(this);
  world_.crew_.leave(number_);
  if (world_.crew_.empty()) world_.memory.forget();
}

void sim::note(sim_event::kind what, token name, std::uint8_t opcode, std::int32_t res) noexcept {
  world_.note(what, name, opcode, res, number_);
}

// -- in

bool sim::full(bool urgent) const noexcept {
  const unsigned room = world_.settings_.entries;
  const unsigned kept_for_cancels = urgent ? 0 : room >= 64 ? 8 : room / 4;
  return requests_.size() + kept_for_cancels >= room;
}

bool sim::submit(const io_uring_sqe& entry, token t, bool urgent) noexcept {
  if (world_.refuses_submission() || full(urgent)) {
    note(sim_event::kind::refused, t, entry.opcode, 0);
    return false;
  }
  requests_.push_back({request::kind::operation, t, entry.fd, entry_copy(entry)});
  ++counts_.sqes;
  return true;
}

bool sim::cancel(token target) noexcept {
  if (world_.refuses_cancel() || full(true)) {
    note(sim_event::kind::refused, target, IORING_OP_ASYNC_CANCEL, 0);
    return false;
  }
  requests_.push_back({request::kind::cancel_token, target, -1, {}});
  ++counts_.sqes;
  return true;
}

bool sim::cancel_fd(int fd) noexcept {
  if (world_.refuses_cancel() || full(true)) {
    note(sim_event::kind::refused, {}, IORING_OP_ASYNC_CANCEL, 0);
    return false;
  }
  requests_.push_back({request::kind::cancel_fd, {}, fd, {}});
  ++counts_.sqes;
  return true;
}

void sim::hand_over() noexcept {
  while (!requests_.empty()) {
    const request r = requests_.front();
    requests_.pop_front();
    if (r.is == request::kind::operation) {
      launch(r);
    } else {
      answer_cancel(r, cancel_matching(r));
    }
  }
}

void sim::launch(const request& r) noexcept {
  const std::uint64_t number = ++world_.numbers_;
  COIR_ASSERT(!by_token_.contains(r.name.raw));
  by_token_[r.name.raw] = number;
  flying& f = flights_[number];
  f.number = number;
  f.entry = r.entry;
  f.name = r.name;
  f.on = world_.at(r.fd);
  if (world_.crashed()) return finish(f, -ECANCELED);
  f.fate = world_.fate(*r.entry);
  f.is_real = is_real(*r.entry);
  if (f.is_real) {
    f.real.begin(*r.entry);
    if (COIR_MUTANT(real_memory_lent)) world_.memory.lend(number, *r.entry);
  } else {
    world_.memory.lend(number, *r.entry);
    prepare(f);
  }
  plan(now_ns() + time_of(f), {.number = number});
  note(sim_event::kind::handed_over, f.name, f.entry->opcode, 0);
}

/// How long it takes to its next completion.
std::int64_t sim::time_of(const flying& f) noexcept {
  const sim_settings& s = world_.settings_;
  const std::int64_t takes =
      f.fate.delay_ns ? *f.fate.delay_ns : world_.dice_.between(s.delay_min_ns, s.delay_max_ns);
  const bool answers_at_once = f.fate.result && f.items >= f.fate.items_max.value_or(UINT_MAX);
  if (f.entry->opcode != IORING_OP_TIMEOUT || answers_at_once) return takes;
  return takes + span_of(*f.entry);
}

void sim::plan(std::int64_t at_ns, const happening& what) noexcept {
  const std::uint64_t rank = world_.settings_.shuffle ? world_.dice_.below(64) : 0;
  calendar_.emplace(moment{at_ns, rank, ++order_}, what);
}

void sim::take_injected() noexcept {
  for (const auto& i : world_.injected_)
    plan(std::max(i.at_ns, now_ns()), {.is_completion = true, .what = i.what});
  world_.injected_.clear();
}

std::size_t sim::in_flight() const noexcept {
  const auto submitted = std::ranges::count(requests_, request::kind::operation, &request::is);
  return flights_.size() + static_cast<std::size_t>(submitted);
}

std::size_t sim::lent_here() const noexcept {
  const auto brings = [](const completion& c) { return (c.flags & IORING_CQE_F_BUFFER) != 0; };
  std::size_t count = lent_free_.size();
  for (const auto& [number, f] : flights_) count += f.buffer >= 0 && !f.done;
  for (const auto& [when, h] : calendar_) count += h.is_completion && brings(h.what);
  for (const completion& c : visible_) count += brings(c);
  return count;
}

// -- time

bool sim::pending() const noexcept {
  // Among others, in a world that lives on real descriptors, and where a visit takes time, each
  // turn is a step: who yields until something has been done, as who finds a number that is being
  // closed, would else keep it from being done.
  return world_.crew_.on != nullptr || world_.settings_.real || world_.settings_.visit_ns != 0 ||
         !requests_.empty() || !visible_.empty() || !world_.injected_.empty() ||
         (!calendar_.empty() && calendar_.begin()->first.at_ns <= now_ns());
}

void sim::wait(std::int64_t until_ns) noexcept {
  ++counts_.enters;
  exhausted_ = false;
  world_.crew_.now_ns += world_.settings_.visit_ns;
  if (world_.on_visit) world_.on_visit();
  take_injected();
  hand_over();
  world_.memory.scribble();
  rests_until_ns_ = until_ns == no_wait_ns ? until_ns : std::min(until_ns, world_.limit_ns);
  if (world_.on_pause) stands_until_ns_ = now_ns() + world_.on_pause(number_);
  world_.crew_.rest(number_);
  if (until_ns != no_wait_ns && visible_.empty()) woken_.store(false, std::memory_order_relaxed);
  if (own_ != nullptr) tell_thread_now(now_ns());
}

void sim::wake() noexcept {
  // release: pairs with the acquire in may_step(): what was done before is seen.
  woken_.store(true, std::memory_order_release);
  if (world_.on_ring) world_.on_ring(number_);
  world_.real.ring();
}

void sim::catch_up() noexcept {
  try_real_again();
  happen_until(now_ns());
  if (std::exchange(changes_seen_, world_.crew_.changes) != world_.crew_.changes) retry_blocked();
}

bool sim::may_step() const noexcept { return stands_until_ns_ <= now_ns() && has_reason_to_step(); }

bool sim::has_reason_to_step() const noexcept {
  // acquire: pairs with the release in wake().
  return !visible_.empty() || woken_.load(std::memory_order_acquire) || rests_until_ns_ <= now_ns();
}

std::int64_t sim::next_ns() const noexcept {
  const std::int64_t steps =
      has_reason_to_step() ? stands_until_ns_ : std::max(stands_until_ns_, rests_until_ns_);
  return calendar_.empty() ? steps : std::min(calendar_.begin()->first.at_ns, steps);
}

void sim::happen_until(std::int64_t now) noexcept {
  while (!calendar_.empty() && calendar_.begin()->first.at_ns <= now && !world_.crashed()) {
    const happening h = calendar_.extract(calendar_.begin()).mapped();
    if (h.is_completion) {
      show(h.what);
      continue;
    }
    const auto found = flights_.find(h.number);
    if (found == flights_.end() || found->second.done) continue;
    attempt(found->second);
    if (changes_seen_ != world_.crew_.changes) retry_blocked();
  }
  if (world_.crashed()) lose_power();
}

void sim::retry_blocked() noexcept {
  do {
    changes_seen_ = world_.crew_.changes;
    for (auto at = blocked_.begin(); at != blocked_.end();) {
      const std::uint64_t number = *at;
      const auto found = flights_.find(number);
      const bool tries = found != flights_.end() && !found->second.done &&
                         !found->second.fate.until_cancelled && !world_.crashed();
      if (tries) attempt(found->second);
      at = blocked_.upper_bound(number);
    }
  } while (changes_seen_ != world_.crew_.changes);
}

void sim::attempt(flying& f) noexcept {
  const bool scripted =
      f.fate.result && !f.fate.bytes_max && f.items >= f.fate.items_max.value_or(0);
  std::int32_t res = would_block;
  if (f.fate.until_cancelled) {
    // Only a cancel ends it.
  } else if (scripted) {
    res = *f.fate.result;
    // A sync that was only interrupted has lost nothing: the next one does it.
    if (res < 0 && !interrupted(res)) fail_on_disk(f);
  } else {
    res = execute(f);
    if (res != would_block && f.fate.result && !f.fate.items_max) res = *f.fate.result;
  }
  if (res == would_block) {
    if (f.cancelled_late) return finish(f, -ECANCELED);
    if (!f.is_real) blocked_.insert(f.number);
    return;
  }
  if (goes_on_after(f, res)) return give_item(f, res);
  finish(f, res);
}

bool sim::goes_on(std::uint8_t opcode) const noexcept {
  constexpr opcodes known(IORING_OP_ACCEPT, IORING_OP_RECV, IORING_OP_TIMEOUT);
  return world_.settings_.goes_on && known.have(opcode);
}

bool sim::goes_on_after(const flying& f, std::int32_t res) const noexcept {
  if (world_.crashed()) return false;
  const bool last = f.fate.items_max && !f.fate.result && f.items + 1 >= *f.fate.items_max;
  switch (f.entry->opcode) {
    case IORING_OP_ACCEPT:
      return (f.entry->ioprio & IORING_ACCEPT_MULTISHOT) != 0 && res >= 0 && !last;
    case IORING_OP_RECV:
      return (f.entry->ioprio & IORING_RECV_MULTISHOT) != 0 && res > 0 && !last;
    case IORING_OP_TIMEOUT:
      return (f.entry->timeout_flags & timeout_multishot) != 0 && res == -ETIME && !last;
    default:
      return false;
  }
}

/// When a completion of it that is held becomes visible: behind all earlier ones, as in a queue.
std::int64_t sim::seen_ns(flying& f) noexcept {
  f.seen_ns = std::max(now_ns() + f.fate.hold_ns, f.seen_ns + 1);
  return f.seen_ns;
}

/// A completion that is not the last one.
void sim::give_item(flying& f, std::int32_t res) noexcept {
  ++f.items;
  ++world_.crew_.changes;
  blocked_.erase(f.number);
  const std::uint32_t brought =
      f.buffer < 0
          ? 0
          : static_cast<std::uint32_t>(f.buffer) << IORING_CQE_BUFFER_SHIFT | IORING_CQE_F_BUFFER;
  f.buffer = -1;
  const completion seen{f.name, res, brought | IORING_CQE_F_MORE};
  if (f.fate.hold_ns == 0) {
    show(seen);
  } else {
    plan(seen_ns(f), {.number = f.number, .is_completion = true, .what = seen});
  }
  note(sim_event::kind::done, f.name, f.entry->opcode, res);
  plan(now_ns() + time_of(f), {.number = f.number});
}

// -- buffers that operations take when their data is there

int sim::lend_buffers(std::byte* first, unsigned count, unsigned bytes) noexcept {
  if (!world_.settings_.goes_on) return -ENOSYS;
  lent_ = {first, std::size_t{count} * bytes};
  lent_bytes_ = bytes;
  for (unsigned i = count; i-- != 0;) lent_free_.push_back(i);
  ++world_.crew_.changes;
  return 0;
}

/// From here on the kernel may write into it again: whoever still reads there shall notice.
void sim::return_buffer(unsigned buffer) noexcept {
  std::ranges::fill(lent_.subspan(std::size_t{buffer} * lent_bytes_, lent_bytes_), std::byte{0xdd});
  lent_free_.push_back(buffer);
  ++world_.crew_.changes;
}

void sim::finish(flying& f, std::int32_t res) noexcept {
  COIR_ASSERT(!f.done);
  f.done = true;
  ++world_.crew_.changes;
  blocked_.erase(f.number);
  if (f.is_real) world_.real.forget(this, f.number);
  if (f.write_name != 0) f.on->file->write_ends(f.write_name);
  const std::uint32_t brought =
      f.buffer < 0
          ? 0
          : static_cast<std::uint32_t>(f.buffer) << IORING_CQE_BUFFER_SHIFT | IORING_CQE_F_BUFFER;
  const completion last{f.name, res, brought};
  const std::int64_t visible_at = seen_ns(f);
  const happening seen{.number = f.number, .is_completion = true, .what = last};
  if (f.fate.hold_ns == 0) {
    show(last);
  } else {
    plan(visible_at, seen);
  }
  for (unsigned i = 0; i < f.fate.duplicates; ++i)
    plan(visible_at, {.is_completion = true, .what = last});
  if (f.fate.late_ns) plan(visible_at + *f.fate.late_ns, {.is_completion = true, .what = last});
  note(sim_event::kind::done, f.name, f.entry->opcode, res);
}

void sim::lose_power() noexcept {
  for (const auto& [when, h] : calendar_)
    if (h.is_completion && h.number != 0) show(h.what);
  calendar_.clear();
  for (auto& [number, f] : flights_) {
    if (f.done) continue;
    f.fate = {};
    finish(f, -ECANCELED);
  }
}

// -- cancel

std::int32_t sim::cancel_matching(const request& r) noexcept {
  if (r.is == request::kind::cancel_token) {
    const auto found = by_token_.find(r.name.raw);
    if (found == by_token_.end()) return -ENOENT;
    flying& f = flights_.at(found->second);
    if (f.done) return -ENOENT;
    if (f.fate.cancel_first && f.fate.cancel_answer == 0) {
      answer_cancel(r, 0);
      cancel_one(f);
      return answered_before;
    }
    const std::int32_t answer = f.fate.cancel_answer;
    cancel_one(f);
    return answer;
  }
  const auto target = world_.at(r.fd);
  std::int32_t count = 0;
  for (auto& [number, f] : flights_) {
    if (f.done || f.entry->fd != r.fd || f.on != target || !uses_fd(*f.entry)) continue;
    cancel_one(f);
    ++count;
  }
  return count == 0 ? -ENOENT : count;
}

void sim::cancel_one(flying& f) noexcept {
  if (f.fate.cancel_answer == 0)
    return finish(f, f.is_real ? given_up(f.real, ECANCELED) : -ECANCELED);
  f.cancelled_late = true;
  if (blocked_.contains(f.number) || f.fate.until_cancelled)
    plan(now_ns() + f.fate.delay_ns.value_or(0), {.number = f.number});
}

void sim::answer_cancel(const request& r, std::int32_t res) noexcept {
  if (res == answered_before) return;
  const token name = token::make(r.name.slot(), r.name.generation(), token_kind::cancel);
  show({name, res, 0});
  note(sim_event::kind::cancel_asked, r.name, IORING_OP_ASYNC_CANCEL, res);
}

// -- out

void sim::show(const completion& c) noexcept { visible_.push_back(c); }

unsigned sim::reap(completion_sink sink) noexcept {
  unsigned taken = 0;
  while (!visible_.empty()) {
    const completion c = visible_.front();
    visible_.pop_front();
    ++taken;
    std::uint8_t opcode = IORING_OP_NOP;
    if (const auto found = by_token_.find(c.to.raw); found != by_token_.end() && !c.more()) {
      const auto f = flights_.find(found->second);
      if (f->second.done) {  // else somebody injected it while the operation is under way
        opcode = f->second.entry->opcode;
        world_.memory.give_back(f->first);
        flights_.erase(f);
        by_token_.erase(found);
      }
    }
    note(sim_event::kind::seen, c.to, opcode, c.res);
    sink.deliver(sink.context, c);
  }
  counts_.cqes += taken;
  return taken;
}

}  // namespace coir::detail
