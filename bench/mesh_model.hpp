// mesh_model.hpp: the workers of a runtime as a deterministic simulation in virtual time: what they
// spawn, mail, pick and run, with the real policy of runtime/deflect.hpp deciding where work goes.
//
// Always true:
//   - Nothing is drawn and no clock is read: the same settings give the same figures everywhere.
//   - A started fiber stays; a mailbox refuses mails beyond its slots; a load is seen as it was up
//     to `stale_ns` ago; a busy worker looks into its mailbox once a turn; one that slept comes
//     late.
//   - The ideal is the same work under a scheduler that moves everything at once and for nothing.
//
// Comes from: mesh_sim.cpp.   Goes to: runtime/deflect.hpp.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <queue>
#include <vector>

#include "runtime/deflect.hpp"

namespace bench {

namespace mesh = coir::detail;

/// What things cost, in ns; from the tables of docs/design.md where it has them.
struct mesh_costs {
  std::uint64_t spawn = 20, switching = 10, take = 60, each_taken = 8;
  std::uint64_t hungry_look = 20;  // one line that is mostly read
  std::uint64_t mail = 60, each_mailed = 8, ring = 500;
  std::uint64_t line[mesh::distances] = {30, 60, 100, 200};  // one from a worker so far away
  std::uint64_t spin = 50'000, wake_spinning = 150, wake_asleep = 40'000;
  std::uint64_t turn = 200'000, turn_picks = 256;
  std::uint64_t stale = 500;
};

struct mesh_settings {
  unsigned workers = 2;
  unsigned batch_max = 64;        // fibers in one mail
  unsigned mailbox_slots = 1024;  // mails in one mailbox
  unsigned threshold = 64;        // the first one; for good when it is pinned
  bool pinned = false;
  bool hungry = true;      // who has nothing to do announces it
  bool picks_feed = true;  // a worker answers that also when it picks an unstarted fiber
  bool flat = false;       // no distances
  bool ideal = false;
  std::vector<unsigned> speed = {};  // percent, by worker; the missing are 100
  mesh_costs costs = {};
};

/// A fiber: so many bursts of computing with pauses between; or one that spawns others.
struct mesh_fiber {
  std::uint64_t burst_ns = 0, pause_ns = 0;
  std::uint32_t bursts = 1;
  mesh::workload kind = mesh::workload::compute;
  bool aside = false;  // no part of the figures, as who spawns
  // Who spawns: what `make` says by number, one every `pause_ns`; 0: at once.
  std::uint32_t spawns = 0;
  std::function<mesh_fiber(std::uint32_t)> make = {};
};

struct mesh_figures {
  double share = 0;  // the busiest worker's time in fibers, over the mean
  double hops = 0;   // mailings per fiber
  double mail = 0;   // mails per fiber; a batch is one
  double looks = 0;  // loads read per fiber
  std::uint64_t refused = 0;
  std::uint64_t ended_ns = 0;
  std::uint64_t fibers = 0;
};

class mesh_model {
 public:
  explicit mesh_model(mesh_settings s);
  /// `f` becomes ready on that worker at that time; it is not placed.
  void begin(std::uint64_t at_ns, unsigned worker, mesh_fiber f);
  mesh_figures run();

 private:
  struct fiber : mesh_fiber {
    unsigned home = 0;
    unsigned hops = 0;
    std::uint32_t spawned = 0;
    std::uint64_t began = 0;
    bool counted = true;  // what begin() brought is not part of the figures
  };
  using fibers = std::deque<std::uint32_t>;
  struct core {
    mesh::neighbours around;
    mesh::adaptive_threshold threshold;
    mesh::push_gate gate;
    mesh::lone_tries tries;
    unsigned speed = 100;
    fibers ready, unstarted;
    std::deque<std::vector<std::uint32_t>> mailbox;
    std::uint32_t mailed = 0, live = 0, seed = 0, picks = 0;
    std::optional<std::uint32_t> current;
    std::optional<std::uint64_t> idle_since = 0;
    std::uint64_t turn_began = 0, turn_picks = 0, busy = 0;
    std::optional<std::uint64_t> fed_at;
    mesh::load shown;  // what others see
    std::uint64_t shown_at = 0;
  };
  /// A step of a worker, or a fiber whose pause is over.
  struct event {
    std::uint64_t at, order;
    unsigned worker;
    std::optional<std::uint32_t> wakes;
    bool operator>(const event& o) const { return at != o.at ? at > o.at : order > o.order; }
  };

  std::uint32_t add(mesh_fiber f, unsigned home);
  void schedule(std::uint64_t at, unsigned worker, std::optional<std::uint32_t> wakes = {});
  std::uint64_t wake(unsigned worker, std::uint64_t now, bool fed = false);
  void make_ready(std::uint64_t now, std::uint32_t id);
  void step(std::uint64_t now, unsigned worker);
  std::uint64_t go_on(std::uint64_t now, core& w);
  std::uint64_t take_mail(std::uint64_t now, core& w);
  std::uint64_t push(std::uint64_t now, core& w, std::uint32_t id);
  std::uint64_t feed(std::uint64_t now, core& w);
  std::uint64_t mail(std::uint64_t now, core& w, mesh::decision d, std::uint32_t id);
  std::uint64_t push_ideal(std::uint64_t now, std::uint32_t id);
  std::optional<std::uint32_t> pick(core& w);
  void rest(std::uint64_t now, core& w);
  mesh::pusher view(core& w, std::uint64_t now);
  mesh::load look(const core& from, unsigned worker, std::uint64_t now, std::uint64_t& cost);
  mesh::load seen(unsigned worker, std::uint64_t now);
  static unsigned index(const core& w) { return w.around.self(); }
  mesh::distance between(unsigned a, unsigned b) const;

  mesh_settings set_;
  std::vector<core> cores_;
  std::vector<fiber> all_;
  fibers shared_;  // of the ideal scheduler
  mesh::worker_set hungry_, for_one_;
  mesh::worker_set hungry_for_one_;  // both of these, for who looks just now
  std::priority_queue<event, std::vector<event>, std::greater<>> events_;
  std::uint64_t order_ = 0, mails_ = 0, hops_ = 0, looks_ = 0, refused_ = 0, ended_ns_ = 0;
  std::uint64_t counted_ = 0;
};

}  // namespace bench
