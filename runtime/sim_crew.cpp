// sim_crew.cpp: who steps next, and when.
//
// Comes from: sim_crew.hpp.   Goes to: sim.
#include "runtime/sim_crew.hpp"

#include <algorithm>
#include <climits>

#include "runtime/sim.hpp"

namespace coir::detail {

unsigned sim_crew::enlist(sim& member) {
  members_.push_back(&member);
  return static_cast<unsigned>(members_.size() - 1);
}

bool sim_crew::empty() const noexcept {
  return std::ranges::all_of(members_, [](const sim* one) { return one == nullptr; });
}

void sim_crew::rest(unsigned from) noexcept {
  const std::optional<unsigned> to = next(from);
  COIR_ASSERT(to);
  if (*to != from) on->hand_on(from, *to);
}

std::optional<unsigned> sim_crew::next(unsigned from) noexcept {
  for (;;) {
    catch_up(from);
    if (const auto drawn = draw(from)) return drawn;
    if (world_.moves_left != 0 && (move_time(from) || sleep(from))) {
      if (world_.moves_left != UINT_MAX) --world_.moves_left;
      continue;
    }
    // Nobody can ever step again: one is told so.
    for (unsigned i = 0; i < members_.size(); ++i) {
      const auto number = static_cast<unsigned>((from + i) % members_.size());
      if (!takes_part(number, from)) continue;
      members_[number]->exhausted_ = true;
      return number;
    }
    return std::nullopt;
  }
}

/// What is due by now happens, until nothing changes any more.
void sim_crew::catch_up(unsigned only) noexcept {
  if (world_.real.any()) (void)world_.real.look();
  std::uint64_t before = 0;
  do {
    before = changes;
    for (unsigned i = 0; i < members_.size(); ++i)
      if (takes_part(i, only)) members_[i]->catch_up();
  } while (changes != before);
}

std::optional<unsigned> sim_crew::draw(unsigned from) noexcept {
  const auto count = static_cast<unsigned>(members_.size());
  const auto can = [&](unsigned i) { return takes_part(i, from) && members_[i]->may_step(); };
  std::uint64_t able = 0;
  for (unsigned i = 0; i < count; ++i) able += can(i);
  if (able == 0) return std::nullopt;
  std::uint64_t behind = world_.dice_.below(able);
  for (unsigned i = 1;; ++i) {
    const unsigned number = (from + i) % count;
    if (can(number) && behind-- == 0) return number;
  }
}

/// False: there is no moment to move to.
bool sim_crew::move_time(unsigned only) noexcept {
  std::int64_t to = never_ns;
  for (unsigned i = 0; i < members_.size(); ++i)
    if (takes_part(i, only)) to = std::min(to, members_[i]->next_ns());
  if (to == never_ns) return false;
  now_ns = std::max(now_ns, to);
  world_.memory.scribble();
  return true;
}

/// Until something comes from outside: then somebody has a turn, and looks. False: nothing can.
bool sim_crew::sleep(unsigned only) noexcept {
  for (unsigned i = 0; i < members_.size(); ++i) {
    if (!takes_part(i, only)) continue;
    if (!world_.sleep_outside()) return false;
    // relaxed: it is this thread that will ask.
    members_[i]->woken_.store(true, std::memory_order_relaxed);
    return true;
  }
  return false;
}

}  // namespace coir::detail
