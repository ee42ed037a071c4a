// mesh_model.cpp: see mesh_model.hpp. One event is one step of a worker: a spawn, a burst of a
// fiber, a look into its mailbox, or its rest.
//
// Comes from: mesh_sim.cpp.   Goes to: runtime/deflect.hpp.
#include "bench/mesh_model.hpp"

#include <algorithm>
#include <utility>

namespace bench {

mesh_model::mesh_model(mesh_settings s) : set_(std::move(s)) {
  for (unsigned i = 0; i < set_.workers; ++i)
    cores_.push_back({.around = {i, set_.workers, [&](unsigned j) { return between(i, j); }},
                      .threshold = mesh::adaptive_threshold(set_.threshold),
                      .gate = {},
                      .tries = {},
                      .speed = i < set_.speed.size() ? set_.speed[i] : 100,
                      .ready = {},
                      .unstarted = {},
                      .mailbox = {},
                      .seed = i,
                      .current = {},
                      .fed_at = {},
                      .shown = {}});
  for (core& w : cores_) {
    hungry_.insert(index(w));
    for_one_.insert(index(w));
    if (set_.pinned) w.threshold.pin(set_.threshold);
  }
}

/// Two to a core, eight to a cluster, 64 to a node.
mesh::distance mesh_model::between(unsigned a, unsigned b) const {
  if (set_.flat) return mesh::distance::any;
  if (a / 2 == b / 2) return mesh::distance::sibling;
  if (a / 8 == b / 8) return mesh::distance::cluster;
  return a / 64 == b / 64 ? mesh::distance::node : mesh::distance::any;
}

std::uint32_t mesh_model::add(mesh_fiber f, unsigned home) {
  all_.push_back({});
  static_cast<mesh_fiber&>(all_.back()) = std::move(f);
  all_.back().home = home;
  return static_cast<std::uint32_t>(all_.size() - 1);
}

void mesh_model::begin(std::uint64_t at_ns, unsigned worker, mesh_fiber f) {
  const std::uint32_t id = add(std::move(f), worker);
  all_[id].counted = all_[id].spawns == 0 && !all_[id].aside;
  all_[id].began = at_ns;
  ++cores_[worker].live;
  schedule(at_ns, worker, id);
}

void mesh_model::schedule(std::uint64_t at, unsigned worker, std::optional<std::uint32_t> wakes) {
  events_.push({at, order_++, worker, wakes});
}

/// A worker that rests goes on some time later. Returns what that costs whoever wakes it.
std::uint64_t mesh_model::wake(unsigned worker, std::uint64_t now, bool fed) {
  core& w = cores_[worker];
  if (!w.idle_since) return 0;
  const bool asleep = now - *w.idle_since > set_.costs.spin;
  w.idle_since.reset();
  hungry_.erase(worker);
  const std::uint64_t late = asleep ? set_.costs.wake_asleep : set_.costs.wake_spinning;
  if (fed) w.fed_at = now + late;
  schedule(set_.ideal ? now : now + late, worker);
  return asleep ? set_.costs.ring : 0;
}

void mesh_model::make_ready(std::uint64_t now, std::uint32_t id) {
  if (set_.ideal) {
    push_ideal(now, id);
    return;
  }
  cores_[all_[id].home].ready.push_back(id);
  wake(all_[id].home, now);  // by its own ring: nobody pays
}

/// What a worker sees when it pushes.
mesh::pusher mesh_model::view(core& w, std::uint64_t now) {
  w.tries.look(static_cast<std::int64_t>(now));
  hungry_for_one_ = hungry_ & for_one_;
  return {&w.around,
          {static_cast<std::uint32_t>(w.unstarted.size()), w.live},
          w.threshold.tasks(),
          w.threshold.spare(),
          ++w.seed,
          set_.batch_max,
          set_.hungry ? &hungry_ : nullptr,
          w.tries.open() ? nullptr : &hungry_for_one_};
}

mesh::load mesh_model::look(const core& from, unsigned worker, std::uint64_t now,
                            std::uint64_t& cost) {
  ++looks_;
  cost += set_.costs.line[static_cast<unsigned>(between(index(from), worker))];
  return seen(worker, now);
}

mesh::load mesh_model::seen(unsigned worker, std::uint64_t now) {
  core& w = cores_[worker];
  if (now - w.shown_at >= set_.costs.stale || w.shown_at == 0) {
    w.shown = {static_cast<std::uint32_t>(w.unstarted.size()) + w.mailed, w.live + w.mailed};
    w.shown_at = now;
  }
  return w.shown;
}

mesh_figures mesh_model::run() {
  while (!events_.empty()) {
    const event e = events_.top();
    events_.pop();
    e.wakes ? make_ready(e.at, *e.wakes) : step(e.at, e.worker);
  }
  mesh_figures f;
  std::uint64_t busiest = 0, sum = 0;
  for (const core& w : cores_) {
    busiest = std::max(busiest, w.busy);
    sum += w.busy;
  }
  const auto fibers = static_cast<double>(counted_);
  f.share = static_cast<double>(busiest) * set_.workers / static_cast<double>(sum);
  f.hops = static_cast<double>(hops_) / fibers;
  f.mail = static_cast<double>(mails_) / fibers;
  f.looks = static_cast<double>(looks_) / fibers;
  f.refused = refused_;
  f.ended_ns = ended_ns_;
  f.fibers = counted_;
  return f;
}

// -- one worker -----------------------------------------------------------------------------------

void mesh_model::step(std::uint64_t now, unsigned worker) {
  core& w = cores_[worker];
  if (w.current) {
    const std::uint64_t until = go_on(now, w);
    if (w.current) return schedule(until, worker);
    now = until;
  }
  const bool turn_over =
      now - w.turn_began >= set_.costs.turn || w.turn_picks >= set_.costs.turn_picks;
  if (turn_over || (w.ready.empty() && w.unstarted.empty())) {
    w.turn_began = now;
    w.turn_picks = 0;
    const std::uint64_t until = take_mail(now, w);
    if (until != now) return schedule(until, worker);
  }
  const auto next = pick(w);
  if (!next) return rest(now, w);
  if (set_.picks_feed && !set_.ideal) now += feed(now, w);
  fiber& f = all_[*next];
  f.home = worker;
  w.current = next;
  ++w.turn_picks;
  const std::uint64_t burst = f.burst_ns * 100 / w.speed;
  if (f.spawns == 0 && !f.aside) w.busy += burst;
  schedule(now + (set_.ideal ? 0 : set_.costs.switching) + burst, worker);
}

/// The running fiber has computed: it spawns, pauses or ends. Returns when that was done.
std::uint64_t mesh_model::go_on(std::uint64_t now, core& w) {
  const std::uint32_t id = *w.current;
  if (all_[id].spawned < all_[id].spawns) {
    const std::uint32_t made = add(all_[id].make(all_[id].spawned++), index(w));
    now += set_.costs.spawn * 100 / w.speed;
    now += set_.ideal ? push_ideal(now, made) : push(now, w, made);
    // What came while it was busy is there at once.
    const std::uint64_t due = all_[id].began + all_[id].spawned * all_[id].pause_ns;
    if (due > now) {
      schedule(due, index(w), id);
      w.current.reset();
    }
    return now;
  }
  fiber& f = all_[id];
  w.current.reset();
  if (f.spawns == 0 && --f.bursts > 0) {
    schedule(now + f.pause_ns, index(w), id);
    return now;
  }
  --w.live;
  if (!f.counted) return now;
  ++counted_;
  ended_ns_ = now;
  return now;
}

std::optional<std::uint32_t> mesh_model::pick(core& w) {
  const bool fresh_first = ++w.picks % 8 == 0 && !w.unstarted.empty();
  fibers& from = set_.ideal ? shared_ : w.ready.empty() || fresh_first ? w.unstarted : w.ready;
  if (from.empty()) return {};
  const std::uint32_t id = from.front();
  from.pop_front();
  return id;
}

void mesh_model::rest(std::uint64_t now, core& w) {
  w.idle_since = now;
  hungry_.insert(index(w));
  if (!w.fed_at) return;
  mesh::was_worth(static_cast<std::int64_t>(now - *w.fed_at)) ? for_one_.insert(index(w))
                                                              : for_one_.erase(index(w));
  w.fed_at.reset();
}

// -- work on its way ------------------------------------------------------------------------------

std::uint64_t mesh_model::take_mail(std::uint64_t now, core& w) {
  while (!w.mailbox.empty()) {
    const std::vector<std::uint32_t> batch = std::move(w.mailbox.front());
    w.mailbox.pop_front();
    const auto count = static_cast<std::uint32_t>(batch.size());
    w.mailed -= count;
    now += set_.costs.take + count * set_.costs.each_taken;
    for (const std::uint32_t id : batch) now += push(now, w, id);
  }
  return now;
}

/// A fiber that is new on this worker stays or goes. Returns how long that took.
std::uint64_t mesh_model::push(std::uint64_t now, core& w, std::uint32_t id) {
  const mesh::cargo what{mesh::affinity::any, all_[id].kind, all_[id].hops};
  const bool placed = what.kind == mesh::workload::io;  // worker::place(): each one, once
  mesh::pusher p = view(w, now);
  if (placed) {
    p.threshold = 0;
    p.hungry = nullptr;
  }
  std::uint64_t cost = 0;
  bool asks = set_.workers > 1 && (!placed || what.hops == 0);
  if (asks && !placed) {
    const auto way = w.gate.of(p.mine, p.spare, p.threshold, what, [&](bool lone) {
      if (p.hungry == nullptr) return false;
      cost += set_.costs.hungry_look;
      return (lone && !w.tries.open() ? hungry_for_one_ : hungry_).size() != 0;
    });
    asks = way != mesh::push_gate::way::stays;
    if (way == mesh::push_gate::way::around) p.hungry = nullptr;
  }
  std::uint64_t took = 0;
  const auto send = [&](const mesh::decision& d) {
    took = mail(now + cost, w, d, id);
    if (took != 0) return d.why;
    ++refused_;
    return mesh::outcome::refused;
  };
  if (asks) {
    const mesh::outcome became = mesh::offer(
        p, what, [&](unsigned i) { return look(w, i, now, cost); }, send);
    if (!placed) {
      w.threshold.learn(became);
      w.gate.learn(took != 0);
    }
  }
  if (took != 0) return cost + took;
  w.unstarted.push_back(id);
  ++w.live;
  return cost;
}

/// A worker that only runs what it has looks for the hungry at each pick.
std::uint64_t mesh_model::feed(std::uint64_t now, core& w) {
  if (w.unstarted.empty() || set_.workers == 1) return 0;
  const auto others = static_cast<std::uint32_t>(w.unstarted.size() - 1);
  mesh::pusher p = view(w, now);
  p.mine = {others, w.live - 1};
  p.spare = 0;
  std::uint64_t cost = set_.costs.hungry_look;
  if (p.hungry == nullptr || hungry_.size() == 0) return cost;
  auto first = w.unstarted.begin();
  const mesh::decision d = mesh::feed_from(
      p, first, w.unstarted.end(), [](auto at) { return std::next(at); },
      [this](auto at) {
        return std::optional(mesh::cargo{mesh::affinity::any, all_[*at].kind, all_[*at].hops});
      },
      [&](unsigned i) { return look(w, i, now, cost); });
  if (d.count == 0) return cost;
  const std::uint32_t id = *first;
  const auto place = w.unstarted.erase(first);
  --w.live;
  const std::uint64_t took = mail(now + cost, w, d, id);
  if (took == 0) {
    w.unstarted.insert(place, id);
    ++w.live;
  }
  return cost + took;
}

/// 0: the mailbox is full. The oldest that wait here go along.
std::uint64_t mesh_model::mail(std::uint64_t now, core& w, mesh::decision d, std::uint32_t id) {
  core& to = cores_[d.target];
  if (to.mailbox.size() >= set_.mailbox_slots) return 0;
  const auto far = between(index(w), d.target);
  std::vector<std::uint32_t> batch;
  while (batch.size() + 1 < d.count && !w.unstarted.empty()) {
    const fiber& oldest = all_[w.unstarted.front()];
    if (!mesh::may_go({mesh::affinity::any, oldest.kind, oldest.hops}, far)) break;
    batch.push_back(w.unstarted.front());
    w.unstarted.pop_front();
    --w.live;
  }
  batch.push_back(id);
  for (const std::uint32_t each : batch) ++all_[each].hops;
  const std::uint64_t count = batch.size();
  hops_ += count;
  ++mails_;
  to.mailed += static_cast<std::uint32_t>(count);
  to.mailbox.push_back(std::move(batch));
  if (d.why == mesh::outcome::fed && count == 1 && !for_one_.contains(d.target)) w.tries.spend();
  const bool fed = hungry_.contains(d.target);
  hungry_.erase(d.target);
  return set_.costs.mail + set_.costs.line[static_cast<unsigned>(far)] +
         count * set_.costs.each_mailed + wake(d.target, now, fed);
}

/// Whoever rests takes it at once, the fastest first.
std::uint64_t mesh_model::push_ideal(std::uint64_t now, std::uint32_t id) {
  shared_.push_back(id);
  const core* best = nullptr;
  for (const core& w : cores_)
    if (w.idle_since && (best == nullptr || w.speed > best->speed)) best = &w;
  if (best != nullptr) wake(index(*best), now);
  return 0;
}

}  // namespace bench
