// deflect.hpp: where an unstarted fiber should go. Pure: what the pusher can see in, a decision
// out, the same one each time; so it can be tested and simulated alone (bench/mesh_sim).
//
// Always true:
//   - Only unstarted work is moved, at most hops_max times, never further than its affinity allows,
//     and only when the gain is plain: afterwards the target still has no more than we.
//   - A hungry worker, which announced that it has nothing to do, comes before all that have some.
//     Whoever feeds it takes the announcement away first, so each is answered once.
//   - Else nearest first: a farther worker is looked at only when no nearer one is a plain gain.
//   - A push reads at most looks_max loads for each of the four distances, 8 in all, on a flat
//     machine 2, and one more for io; however many workers there are. The seed that grows with
//     every push brings everybody's turn.
//
// Comes from: placing.cpp, bench/mesh_sim.   Goes to: a mailbox, or nowhere.
#pragma once

#include <algorithm>
#include <cstdint>

#include "coir/placing.hpp"
#include "runtime/neighbours.hpp"

namespace coir::detail {

/// What a worker publishes of itself; a little old when others read it.
struct load {
  std::uint32_t unstarted = 0;  // in its queue or its mailbox
  std::uint32_t live = 0;       // fibers that have not ended, those in its mailbox included
};

// How far a fiber may go, in the order of `distance`; and what it does: io lives long and is placed
// by live fibers, everything else is short and placed by unstarted ones; memory leaves its NUMA
// node only to where half as many wait, not for hunger alone.
using coir::affinity;
using coir::workload;

inline constexpr unsigned hops_max = 2;   // mailings of one fiber that nobody asked for by name
inline constexpr unsigned looks_max = 2;  // loads read per distance; 3 were no better (mesh_sim)
inline constexpr std::uint32_t shared_on = 6;  // a mail of so many is spread by whoever gets it

// -- from how many on -----------------------------------------------------------------------------

/// What became of a push.
enum class outcome : std::uint8_t {
  kept,     // below the threshold, or it may not go
  no_gain,  // looked around in vain
  moved,    // to somebody with less
  fed,      // to somebody with nothing
  refused,  // decided to go, and the mailbox was full: only the caller can know
  late,     // to be fed, and somebody else was quicker: nothing is to be learnt from that
};
inline constexpr bool is_gone(outcome o) noexcept {
  return o == outcome::moved || o == outcome::fed;
}

/// From how many unstarted fibers on a worker gives some away. Owner only; told of every push that
/// asked deflect().
class adaptive_threshold {
 public:
  static constexpr std::uint32_t least = 4;
  static constexpr std::uint32_t most = 1024;            // of what is learnt, and to begin with
  static constexpr std::uint32_t enough_for_hungry = 1;  // whoever pushes is running itself

  explicit adaptive_threshold(std::uint32_t start) noexcept
      : tasks_(start), least_(std::min(start, least)) {}

  /// From now on it is `tasks`, also towards the hungry.
  void pin(std::uint32_t tasks) noexcept {
    if (!pinned_) learnt_ = tasks_;
    tasks_ = tasks;
    pinned_ = true;
  }
  /// It learns again, from where it was before.
  void unpin() noexcept {
    if (!pinned_ || COIR_MUTANT(unpinned_stays)) return;
    tasks_ = learnt_;
    pinned_ = false;
  }
  bool pinned() const noexcept { return pinned_; }
  std::uint32_t tasks() const noexcept { return std::max(tasks_, spare()); }
  /// What a hungry worker is fed from. Whoever feeds many in a row is the one they all wait for,
  /// and its mails shall be larger; but what waits here for that is a part of what went before it.
  std::uint32_t spare() const noexcept {
    const std::uint32_t enough = COIR_MUTANT(two_in_series) ? 2 : enough_for_hungry;
    return pinned_ ? tasks_ : enough + fed_ / fed_per_spare;
  }
  /// A push that went nowhere cost its looks: fewer of them. A hungry worker: the next one shall
  /// not have to become hungry first.
  void learn(outcome o) noexcept {
    if (pinned_ && !COIR_MUTANT(threshold_unpinned)) return;
    in_vain_ = o == outcome::no_gain ? in_vain_ + 1 : 0;
    fed_ = o == outcome::fed ? std::min(fed_ + 1, fed_most) : fed_ / 2;
    if (o == outcome::refused) grow(tasks_ / 2);
    if (in_vain_ == in_vain_max) {
      in_vain_ = 0;
      grow(tasks_ / 8);
    }
    if (o == outcome::fed && !COIR_MUTANT(threshold_stays_high))
      tasks_ = std::max(least_, tasks_ - tasks_ / 8 - 1);
  }

 private:
  static constexpr std::uint32_t in_vain_max = 8;
  static constexpr std::uint32_t fed_per_spare = 4;
  static constexpr std::uint32_t fed_most = 126 * fed_per_spare;

  void grow(std::uint32_t more) noexcept {
    if (!COIR_MUTANT(threshold_stays_low)) tasks_ = std::min(most, tasks_ + more + 1);
  }

  std::uint32_t tasks_;
  std::uint32_t least_;
  std::uint32_t learnt_ = 0;   // while it is pinned: what it was before
  std::uint32_t in_vain_ = 0;  // pushes in a row that looked and found nobody
  std::uint32_t fed_ = 0;      // mails to hungry workers, nearly in a row
  bool pinned_ = false;
};

// -- one alone ------------------------------------------------------------------------------------

/// Whether it paid to feed somebody, who then had so long something to do: it is told with its next
/// announcement. To wake a sleeper takes 40 us; less than half of that is no gain.
inline bool was_worth(std::int64_t busy_ns) noexcept {
  return busy_ns >= 20'000 || COIR_MUTANT(lone_mail_always_pays);
}

/// Nobody is woken again for one fiber alone who was fed in vain; but now and then somebody tries,
/// for the next ones may be longer. Owner only.
class lone_tries {
 public:
  static constexpr std::int64_t pause_ns = 10'000'000;

  bool open() const noexcept { return open_; }
  void spend() noexcept {
    open_ = false;
    until_ns_ = no_time;
  }
  /// Somebody looked at the clock.
  void look(std::int64_t now_ns) noexcept {
    if (open_) return;
    if (until_ns_ == no_time) until_ns_ = now_ns + pause_ns;
    open_ = now_ns >= until_ns_ && !COIR_MUTANT(lone_never_again);
  }

 private:
  static constexpr std::int64_t no_time = INT64_MIN;
  std::int64_t until_ns_ = no_time;
  bool open_ = true;
};

// -- where to -------------------------------------------------------------------------------------

/// What a pusher can see.
struct pusher {
  const neighbours* around = nullptr;
  load mine;                                   // without what is pushed
  std::uint32_t threshold = 64;                // adaptive_threshold::tasks
  std::uint32_t spare = 64;                    // adaptive_threshold::spare
  std::uint32_t seed = 0;                      // grows by one with every push
  std::uint32_t batch_max = 1;                 // fibers in one mail, from 1
  const worker_set* hungry = nullptr;          // null: nobody announces anything
  const worker_set* hungry_for_one = nullptr;  // those who may be woken for one; null: all of them
  unsigned refused_by = neighbours_max;        // its mailbox was full just now
};

/// What is pushed.
struct cargo {
  affinity where = affinity::any;
  workload kind = workload::compute;
  unsigned hops = 0;  // made so far
};
/// One bit for all that the policy answers alike.
constexpr std::uint64_t kind_of(const cargo& c) noexcept {
  const unsigned hops = std::min(c.hops, 3u);
  return std::uint64_t(1) << (static_cast<unsigned>(c.where) % 4 * 16 +
                              static_cast<unsigned>(c.kind) % 4 * 4 + hops);
}

/// `count` unstarted fibers go to `target`: the one that is pushed, and of those that wait here the
/// oldest ones that may go so far. 0 when everything stays.
struct decision {
  unsigned target = 0;
  std::uint32_t count = 0;
  outcome why = outcome::kept;
};

inline bool may_go(const cargo& what, distance d) noexcept {
  const bool hops = what.hops < hops_max || COIR_MUTANT(deflect_without_end);
  const bool near = static_cast<unsigned>(d) <= static_cast<unsigned>(what.where);
  return hops && (near || COIR_MUTANT(deflect_too_far));
}

inline std::uint32_t weight(const load& l, workload kind) noexcept {
  return kind == workload::io && !COIR_MUTANT(io_by_unstarted) ? l.live : l.unstarted;
}

/// How much less somebody must have. Short work: an eighth, so that no mail is made for what will
/// have run before it arrives, and at least what makes a mail of two. Long work pays its one mail
/// back in any case.
inline std::uint32_t plain_gain(std::uint32_t mine, workload kind, distance d) noexcept {
  if (COIR_MUTANT(deflect_without_gain)) return 0;
  if (kind == workload::io) return std::max(1u, mine / 16);
  if (kind == workload::memory && d == distance::any && !COIR_MUTANT(memory_left_behind))
    return std::max(3u, mine - mine / 2);
  return std::max(3u, mine / 8);
}

/// One of `size`, whose turn it is: by multiples of the golden ratio, which come to everybody
/// evenly also when only every 16th push asks, as it is when the others fill a mail of 16.
inline unsigned turn_of(std::uint32_t seed, unsigned size) noexcept {
  if (COIR_MUTANT(same_turn)) seed = 0;
  return static_cast<unsigned>(std::uint64_t(seed * 0x9E3779B9u) * size >> 32);
}

/// Which of the hungry is fed; neighbours_max when there is none. The nearest, in turn among
/// equals. A mail that is to be shared on goes to anybody in turn: it is spread from there, nearest
/// first, and a root that fed its own neighbourhood alone would never reach the rest.
inline unsigned choose_hungry(const pusher& from, const worker_set& hungry, const cargo& what,
                              std::uint32_t count) noexcept {
  cargo narrow = what;
  if (what.kind == workload::memory && !COIR_MUTANT(memory_left_behind))
    narrow.where = std::min(what.where, affinity::same_numa);
  const bool spread = count >= shared_on && what.hops + 1 < hops_max;
  for (unsigned i = spread ? static_cast<unsigned>(narrow.where) : 0; i < distances; ++i) {
    const auto d = static_cast<distance>(i);
    if (!may_go(narrow, d)) break;
    worker_set near = hungry & from.around->reach(d);
    if (from.refused_by != neighbours_max) near.erase(from.refused_by);
    if (const unsigned size = near.size(); size != 0) return near.at(turn_of(from.seed, size));
  }
  return neighbours_max;
}

/// What a hungry worker gets of those that wait and the one that is pushed.
inline constexpr std::uint32_t half_of(const load& mine) noexcept {
  return (mine.unstarted + 2) / 2;
}
inline constexpr bool is_lone(const load& mine) noexcept { return half_of(mine) == 1; }

/// Half of what waits goes to a hungry worker, if there is one and we have enough. Also for a
/// worker that only runs what it has: at each pick of an unstarted fiber, with the next one as
/// cargo; else what is left when a root has ended its pushes stays where it is. `load_of(i)`: what
/// worker i published; read for io alone.
template <class LoadOf>
decision feed_hungry(const pusher& from, const cargo& what, LoadOf load_of) noexcept {
  const decision stay{from.around->self(), 0, outcome::kept};
  if (from.hungry == nullptr || from.mine.unstarted < from.spare || COIR_MUTANT(hungry_unheard))
    return stay;
  const std::uint32_t count = std::min(half_of(from.mine), from.batch_max);
  const bool lone = is_lone(from.mine) && from.hungry_for_one != nullptr;
  const unsigned i = choose_hungry(from, lone ? *from.hungry_for_one : *from.hungry, what, count);
  if (i == neighbours_max) return stay;
  // It has nothing to do now, but for long work its many parked fibers count.
  if (what.kind == workload::io && load_of(i).live > from.mine.live) return stay;
  return {i, count, outcome::fed};
}

/// In a look for one who may go, so many of those who wait are passed over at most.
inline constexpr unsigned passed_over_most = 16;

/// Of those who wait, from `at` on, the first whom somebody hungry may have; `at` is left there.
/// `cargo_of(at)`: nothing where it may not travel. Each kind of cargo is asked for once, since all
/// of a kind get one answer: with an idle neighbour out of reach each pick has such a look.
template <class At, class Behind, class CargoOf, class LoadOf>
decision feed_from(const pusher& from, At& at, At end, Behind behind, CargoOf cargo_of,
                   LoadOf load_of) noexcept {
  std::uint64_t asked = 0;
  for (unsigned passed = 0; at != end; at = behind(at)) {
    if (const std::optional<cargo> what = cargo_of(at)) {
      const std::uint64_t kind = kind_of(*what);
      if ((asked & kind) == 0 || COIR_MUTANT(each_of_a_kind_asked_for)) {
        const decision d = feed_hungry(from, *what, load_of);
        if (d.count != 0) return d;  // else nobody hungry is near enough for it, or light enough
      }
      asked |= kind;
      if (COIR_MUTANT(out_of_reach_not_passed_over)) break;
    }
    if (++passed > passed_over_most || COIR_MUTANT(who_stays_is_not_passed_over)) break;
  }
  return {from.around->self(), 0, outcome::kept};
}

/// The best of a few at that distance, if it is a plain gain.
template <class LoadOf>
decision look_around(const pusher& from, workload kind, distance d, LoadOf load_of) noexcept {
  const neighbours& around = *from.around;
  const std::uint32_t mine = weight(from.mine, kind);
  const std::uint32_t gain = plain_gain(mine, kind, d);
  const unsigned first = around.before(d);
  const unsigned size = around.within(d) - first;
  decision best{around.self(), 0, outcome::no_gain};
  if (gain > mine || size == 0) return best;
  std::uint32_t enough = mine - gain;
  const unsigned turn = turn_of(from.seed, size);
  // The one whose turn it is, and another one anywhere.
  const unsigned stride = 1 + (size > 2 ? (from.seed * 0x85EBCA6Bu >> 8) % (size - 1) : 0);
  const unsigned known = from.refused_by != neighbours_max ? 1 : 0;  // it may be one of those
  const unsigned looks = COIR_MUTANT(looks_at_all) ? size : std::min(size, looks_max + known);
  for (unsigned k = 0; k < looks; ++k) {
    const unsigned i = around.at(first + (turn + k * stride) % size);
    if (i == from.refused_by) continue;
    const std::uint32_t theirs = weight(load_of(i), kind);
    if (theirs > enough || (theirs == enough && best.count != 0)) continue;
    enough = theirs;
    best = {i, std::clamp((mine - theirs + 1) / 2, 1u, from.batch_max), outcome::moved};
  }
  return best;
}

/// Where a fiber goes that is new on this worker: spawned here, or come with the mail.
template <class LoadOf>
decision deflect(const pusher& from, const cargo& what, LoadOf load_of) noexcept {
  const decision fed = feed_hungry(from, what, load_of);
  if (fed.count != 0) return fed;
  decision best{from.around->self(), 0, outcome::kept};
  if (weight(from.mine, what.kind) < from.threshold) return best;
  for (unsigned step = 0; step < distances; ++step) {
    const auto d = static_cast<distance>(COIR_MUTANT(farthest_first) ? distances - 1 - step : step);
    if (!may_go(what, d)) continue;
    best = look_around(from, what.kind, d, load_of);
    if (best.count != 0) break;
  }
  return best;
}

/// To the one that deflect() names; where that one's mailbox is full to whom it names then, and to
/// no third one: with more tries a push would cost more than what it moves. `mail(d)` says what
/// became of one: d.why, refused or late.
template <class LoadOf, class Mail>
outcome offer(pusher& from, const cargo& what, LoadOf load_of, Mail mail) noexcept {
  for (unsigned targets = 0; targets < 2; ++targets) {
    const decision d = deflect(from, what, load_of);
    if (d.count == 0) return targets == 0 ? d.why : outcome::refused;
    const outcome became = mail(d);
    if (became != outcome::refused) return became;
    from.refused_by = d.target;
    if (COIR_MUTANT(one_target_only)) break;
  }
  return outcome::refused;
}

// -- who asks -------------------------------------------------------------------------------------

/// Stands before deflect(): nearly every push needs no answer. Owner only.
class push_gate {
 public:
  enum class way : std::uint8_t {
    stays,   // nothing is to be asked
    hungry,  // somebody hungry may be fed
    around,  // nobody is hungry, but we may have more than others
  };
  // Whoever looked around in vain does not look again for the next push, then the next three, ...
  // and at most so many: each look reads lines that others write.
  static constexpr unsigned spared_most = 63;

  /// `mine`: without what is pushed. `any_hungry(lone)`: whether somebody has announced that, for
  /// one fiber alone or for more.
  template <class AnyHungry>
  way of(const load& mine, std::uint32_t spare, std::uint32_t threshold, const cargo& what,
         AnyHungry any_hungry) noexcept {
    // Long work is placed once, when it is spawned: it pays its mail back, but not for ever. Only
    // hunger moves it again (feed_hungry).
    if (what.kind == workload::io && what.hops != 0) return way::stays;
    if (mine.unstarted >= spare && any_hungry(is_lone(mine))) return way::hungry;
    if (weight(mine, what.kind) < threshold) return way::stays;
    if (to_spare_ == 0) return way::around;
    --to_spare_;
    return way::stays;
  }
  /// What became of a push that was not to stay.
  void learn(bool gone) noexcept {
    spared_ = gone || COIR_MUTANT(looks_unspared) ? 0 : std::min(2 * spared_ + 1, spared_most);
    to_spare_ = spared_;
  }

 private:
  unsigned to_spare_ = 0;  // pushes that do not look around
  unsigned spared_ = 0;    // after the last look
};

}  // namespace coir::detail
