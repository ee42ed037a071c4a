// rows_pingpong.cpp: waking somebody who is parked, and being woken: on one worker, from worker to
// worker, and from a plain thread.
//
// Always true:
//   - A ball is an event that one sets and the other waits for: the cheapest wake that is public.
//     Each of the two always waits for the ball before it strikes again.
//   - How awake the workers were is printed, not assumed: `sleeps` is how often a worker slept per
//     round trip, by snapshot().
//   - Each worker (and the plain thread) has a CPU of its own, as two threads by hand have: on one
//     CPU, where the kernel often puts two that wake each other, a sleep costs a tenth, and
//     nobody's spin wins. Only spawn_foreign/one_cpu is about that.
//   - Awake are workers whose spin wins: options::idle_spin is a millisecond, and the warm-up is
//     long enough to learn it. The variant keeps each busy with a fiber that yields all the time.
//   - Asleep are workers that may not spin at all: options::idle_spin is 0.
//   - Where somebody is woken from sleep the median of a measurement counts, and across two CPUs
//     that of the rounds as well: in the least somebody did not sleep, for a futex by hand a
//     seventeenth of the usual.
//
// Comes from: coir_bench.cpp.   Goes to: peers.hpp.
#include <atomic>
#include <chrono>
#include <string>
#include <vector>

#include "bench/peers.hpp"
#include "bench/raw_switch.hpp"
#include "bench/rows.hpp"

namespace bench {

namespace {

struct table {
  coir::event ping, pong;
  bool over = false;  // said before the last ball
};

void take(coir::event& ball) {
  sure(ball.wait());
  ball.reset();
}
/// Both run this one function, as all clients of a server run one.
[[gnu::noinline]] void strike(coir::event& theirs, coir::event& mine) {
  theirs.set();
  take(mine);
}

void answer(table& t) {
  take(t.ping);
  while (!t.over) strike(t.pong, t.ping);
}

/// On the fiber of the first one. `warm_up` round trips come before everything.
sample serve(table& t, players where, unsigned laps, unsigned warm_up) {
  for (unsigned lap = 0; lap < warm_up; ++lap) strike(t.ping, t.pong);
  const counting counts;
  const coir::worker_stats before = coir::snapshot().total();
  double balls = 0;
  const auto struck = [&] {
    for (unsigned lap = 0; lap < laps; ++lap) strike(t.ping, t.pong);
    balls += laps;
  };
  const double ns = where == players::asleep ? usual_ns(laps, struck) : fastest_ns(laps, struck);
  const coir::worker_stats after = coir::snapshot().total();
  sample got{ns, static_cast<double>(after.sleeps - before.sleeps) / balls,
             static_cast<double>(after.parks - before.parks) / balls};
  got.per_operation = counts.per(balls);
  t.over = true;
  t.ping.set();
  return got;
}

enum class restless { no, yes };

sample coir_pingpong(players where, std::chrono::microseconds idle_spin,
                     restless others = restless::no) {
  const bool same = where == players::same_thread;
  const unsigned laps = same ? 10'000 : where == players::awake ? 1'000 : 200;
  const unsigned far = same ? 0 : 1;
  return on_coir(
      [&]() -> sample {
        table t;
        sample got;
        std::atomic<bool> over{false};
        std::vector<coir::handle<void>> yielding;
        if (others == restless::yes)
          for (unsigned i = 0; i <= far; ++i)
            yielding.push_back(coir::spawn(
                [&over] {
                  while (!over.load(std::memory_order_relaxed)) coir::this_fiber::yield();
                },
                {.worker = i}));
        auto second = coir::spawn([&t] { answer(t); }, {.worker = far});
        auto first =
            coir::spawn([&] { got = serve(t, where, laps, same ? 0 : 200); }, {.worker = 0});
        sure(first.join());
        sure(second.join());
        over = true;
        for (auto& one : yielding) sure(one.join());
        return got;
      },
      {.workers = far + 1, .pin_workers = true, .idle_spin = idle_spin});
}

row pingpong_row(const settings& chosen, const char* name, const char* what, players where,
                 std::chrono::microseconds idle_spin, const std::string& go_arguments) {
  row one{
      name,
      what,
      {{"round trip", "ns", where != players::asleep}, {"sleeps", "", false}, {"parks", "", false}},
      {{"coir", role::ours, [=] { return coir_pingpong(where, idle_spin); }},
       {"Boost.Fiber", role::peer, [=] { return sample(boost_fiber_pingpong_ns(where, chosen)); },
        boost_fiber_package}},
      {{reach::kind::of_raw, 1.3}}};
  one.entries.push_back(go_entry(chosen, go_arguments));
  one.two_cpus = where != players::same_thread;
  return one;
}

// -- a plain thread

sample coir_foreign(const settings& chosen) {
  constexpr unsigned count = 200;
  const auto runtime = sure(coir::runtime::create({.workers = 1}));
  sure(runtime->start());
  sure(runtime->spawn([&] { pin_to(chosen.client_cpu); }).join());
  pin_to(chosen.cpu);
  std::size_t ran = 0;
  std::size_t spawned = 0;
  const double ns = usual_ns(count, [&] {
    for (unsigned i = 0; i < count; ++i) sure(runtime->spawn([&ran] { ++ran; }).join());
    spawned += count;
  });
  if (ran != spawned) throw std::logic_error("a fiber did not run");
  const coir::worker_stats all = runtime->snapshot().total();
  sure(runtime->shutdown());
  const auto each = [&](std::uint64_t value) {
    return static_cast<double>(value) / static_cast<double>(spawned);
  };
  sample got{ns, each(all.sleeps)};
  got.per_operation = {each(all.switches), each(all.sqes), each(all.enters)};
  return got;
}

/// On one CPU what the kernel does is cheap, and what coir adds is seen.
row foreign_row(settings chosen, bool two_cpus) {
  if (!two_cpus) chosen.client_cpu = chosen.cpu;
  const std::string where = two_cpus ? "" : ", both on one CPU";
  row one{two_cpus ? "spawn_foreign" : "spawn_foreign/one_cpu",
          "a plain thread spawns a trivial fiber and joins it" + where,
          {{"fiber", "ns", !two_cpus}, {"sleeps", "", false}},
          {{"coir", role::ours, [=] { return coir_foreign(chosen); }},
           {"a futex to and fro", role::raw, [=] { return raw_futex(chosen); }},
           {"Boost.Fiber", role::peer, {}, "a spawn on another thread's scheduler"}},
          {{reach::kind::of_raw, 1.2}}};
  one.entries.push_back(go_entry(chosen, "spawn_foreign"));
  one.two_cpus = two_cpus;
  if (two_cpus) one.note = "Go's threads are where the kernel puts them";
  return one;
}

}  // namespace

void add_pingpong(rows& to, const settings& chosen) {
  using std::chrono::microseconds;
  const microseconds usual = coir::options().idle_spin;
  to.push_back(pingpong_row(chosen, "pingpong/same", "two fibers of one worker wake each other",
                            players::same_thread, usual, "pingpong same"));
  to.back().entries.push_back({"two switches and six locked instructions", role::raw,
                               [] { return sample(raw_pingpong_same_ns()); },
                               raw::has_switch ? "" : "a switch for this CPU"});

  to.push_back(pingpong_row(chosen, "pingpong/cross_awake",
                            "the same from worker to worker, whose spin wins", players::awake,
                            microseconds(1000), "pingpong awake"));
  to.back().entries.push_back({"a cache line to and fro", role::raw,
                               [=] { return sample(raw_pingpong_awake_ns(chosen)); }});
  to.back().entries.push_back(
      {"coir, each worker busy with a fiber that yields", role::variant,
       [=] { return coir_pingpong(players::awake, usual, restless::yes); }});
  to.back().note = "Go's two goroutines may be on one thread";

  to.push_back(pingpong_row(
      chosen, "pingpong/cross_asleep", "the same from worker to worker, which sleep meanwhile",
      players::asleep, microseconds(0),
      "pingpong asleep " + std::to_string(chosen.cpu) + " " + std::to_string(chosen.client_cpu)));
  to.back().entries.push_back({"MSG_RING from ring to ring", role::raw,
                               [=] { return sample(raw_pingpong_asleep_ns(chosen)); }});
  to.back().note = "Go's goroutines are locked to their threads";

  to.push_back(foreign_row(chosen, true));
  to.push_back(foreign_row(chosen, false));
}

}  // namespace bench
