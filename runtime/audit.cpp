// audit.cpp: the records counted one by one, against what everybody says of them.
//
// Comes from: audit.hpp.   Goes to: worker, flight, sim.
#include "runtime/audit.hpp"

#include <algorithm>

#include "runtime/sim.hpp"

namespace coir::detail {

/// Remembers the first sentence that does not hold.
void audit::note(const char* sentence, std::uint64_t is, std::uint64_t must) {
  if (!found_.empty()) return;
  found_ = std::string(sentence) + " (" + std::to_string(is) + ", " + std::to_string(must) + ")";
}

std::string audit::look() {
  found_.clear();
  count_records();
  for (unsigned i = 0; i < core_.workers(); ++i) check_worker(core_.at(i));
  check_sums();
  return found_;
}

void audit::count_records() {
  tallies_.assign(core_.workers(), {});
  const std::uint32_t touched = core_.records.touched();
  if (generations_.size() < touched) generations_.resize(touched);
  for (std::uint32_t i = 0; i < touched; ++i) {
    const auto& r = *static_cast<const record*>(core_.records.at(i));
    if (r.shared == nullptr) continue;  // never used
    const std::uint64_t generation = r.generation.load(std::memory_order_relaxed);
    says(generation >= generations_[i], "a generation only grows", generation, generations_[i]);
    generations_[i] = generation;
    check_record(r);
  }
}

/// Each that lives is in one stage, and counted there.
void audit::check_record(const record& r) {
  const std::uint32_t home = r.home.load(std::memory_order_relaxed);
  const std::uint64_t word = r.wake.load(std::memory_order_relaxed);
  const bool claimed = (word & wake_claimed) != 0;
  says(!claimed || (word & wake_queued) != 0, "who is claimed has a wake link on its way", r.slot,
       word);
  if (home == no_home || r.at == stage::finished) {
    says(!claimed, "who is claimed is parked", r.slot, word);
    return;
  }
  if (!says(home < core_.workers(), "a home is a worker", home, core_.workers())) return;
  tally& t = tallies_[home];
  switch (r.at) {
    case stage::unstarted:
      ++(r.waits_to_start() ? t.queued : t.mailed);
      says(r.stack_slot == nullptr, "who has not started has no stack", r.slot, 0);
      break;
    case stage::runnable:
      ++t.runnable;
      t.passing += r.may_move && r.parked_at != nullptr;  // it may have moved, and not yet arrived
      says(!claimed, "who is claimed is parked", r.slot, word);
      break;
    case stage::parked:
      ++t.parked;
      t.passing += r.may_move && claimed;
      break;
    case stage::finished:
      break;
  }
  if (r.at != stage::unstarted)
    says(r.stack_slot != nullptr, "who has started stands on a stack", r.slot, 0);
  for (const local_joiner* j = r.local_joiners; j != nullptr; j = j->next) {
    says(j->target == &r, "who joins a fiber knows it", r.slot, 0);
    says(j->fiber->at == stage::parked && j->fiber->home.load(std::memory_order_relaxed) == home,
         "who joins a fiber of its worker is parked there", j->fiber->slot, home);
  }
}

void audit::check_worker(worker& w) {
  const tally& t = tallies_[w.index()];
  const std::uint64_t runs = w.current_ != nullptr ? 1 : 0;
  says(w.own_unstarted() == t.queued, "the unstarted are counted", w.own_unstarted(), t.queued);
  const std::uint64_t mailed = w.mail_.fibers();
  says(mailed == t.mailed, "what is in a mailbox was mailed and not taken", mailed, t.mailed);
  const std::uint64_t ready = w.ready_now();
  says(ready + runs == t.runnable, "who is runnable runs or is ready", ready + runs, t.runnable);
  // One that moves is counted by neither worker until it arrives.
  const std::uint64_t walked = t.queued + t.runnable + t.parked, live = w.live_.get();
  says(live <= walked && walked - live <= t.passing, "the living are counted", live, walked);
  if (w.buffers_ != nullptr) check_buffers(w);
  check_operations(w);
}

void audit::check_buffers(worker& w) {
  const buffer_pool& all = *w.buffers_;
  says(all.refused() == 0, "a buffer is given back once", all.refused(), 0);
  if (!all.picked_by_backend() || !w.outside().simulated()) return;
  const std::uint64_t found = static_cast<const sim&>(w.outside()).lent_here() + all.out();
  says(found == all.count(), "a buffer is lent or out", found, all.count());
}

void audit::check_operations(worker& w) {
  flight& all = w.flight_;
  named_.clear();
  busy_.clear();
  const auto visit = [&](const pending& p) {
    if (p.fd >= 0) busy_.push_back(p.fd);
    const record& owner = *p.fiber;
    says(!p.ended, "what has ended has no token", owner.slot, 0);
    if (p.lasts || &owner == w.current_) return;
    says(owner.at == stage::parked && owner.parked_at != nullptr &&
             owner.home.load(std::memory_order_relaxed) == w.index(),
         "who has an operation under way is parked on it", owner.slot,
         static_cast<std::uint64_t>(owner.at));
  };
  all.tokens_.for_each([&](const pending& p) {
    named_.push_back(&p);
    visit(p);
  });
  // The first in line has a token already while the turn makes room for its entry.
  std::uint64_t between = 0;
  for (pending* p = all.line_.front(); p != nullptr; p = all.line_.after(*p)) {
    const bool has_token = std::ranges::find(named_, p) != named_.end();
    has_token ? void(++between) : visit(*p);
  }
  std::ranges::sort(busy_);
  for (auto at = busy_.begin(); at != busy_.end();) {
    const auto next = std::upper_bound(at, busy_.end(), *at);
    const auto count = static_cast<std::uint64_t>(next - at);
    const std::uint32_t* const word = all.fds_.at(*at);
    const std::uint32_t users = word == nullptr ? 0 : *word & fd_counts::count_mask;
    says(users >= count && users < (1u << 24), "operations on a descriptor are counted", users,
         count);
    at = next;
  }
  // In the midst of a submission a token is open before its entry is taken.
  if (w.current_ != nullptr || !w.outside().simulated()) return;
  const std::uint64_t accepted = static_cast<const sim&>(w.outside()).in_flight();
  const std::uint64_t open = all.tokens_.open_count();
  says(open == accepted + between, "a token is open until its last completion", open,
       accepted + between);
}

void audit::check_sums() {
  // Who waits for a place in a mailbox has counted what it will send.
  if (core_.starving.load(std::memory_order_relaxed) != 0) return;
  std::uint64_t spawned = core_.foreign_spawned_.load(std::memory_order_relaxed), finished = 0;
  std::uint64_t alive = 0;
  for (unsigned i = 0; i < core_.workers(); ++i) {
    spawned += core_.at(i).spawned.load(std::memory_order_relaxed);
    finished += core_.at(i).finished.load(std::memory_order_relaxed);
    const tally& t = tallies_[i];
    alive += t.queued + t.mailed + t.runnable + t.parked;
  }
  says(spawned == finished + alive, "who was spawned lives or has finished", spawned,
       finished + alive);
}

std::string audit::look_at_the_end() {
  look();
  for (unsigned i = 0; i < core_.workers(); ++i) {
    worker& w = core_.at(i);
    says(w.live_.get() == 0, "at the end nobody lives", w.live_.get(), 0);
    says(w.flight_.open_count() == 0, "at the end nothing is under way", w.flight_.open_count(), 0);
    says(w.timers_.size() == 0, "at the end no deadline is armed", w.timers_.size(), 0);
    says(w.mail_.empty(), "at the end no mail is on its way", i, 0);
    if (w.buffers_ != nullptr) {
      const unsigned out = w.buffers_->out() + w.buffers_->aside();
      says(out == 0, "at the end every buffer was given back", out, 0);
    }
    const int numbers = static_cast<int>(std::min(core_.descriptors().size(), 1024u));
    for (int fd = 0; fd < numbers; ++fd)
      says((*w.flight_.fd_word(fd) & fd_counts::count_mask) == 0,
           "at the end no descriptor is in use", static_cast<std::uint64_t>(fd),
           *w.flight_.fd_word(fd));
  }
  const std::uint64_t bound = core_.pool->stats().bound;
  says(bound == 0, "at the end every stack was given back", bound, 0);
  return found_;
}

}  // namespace coir::detail
