// rows_spawn.cpp: starting fibers and waiting for their end.
//
// Always true:
//   - But for spawn_bounded, all of a batch are spawned before the first is joined; the body counts
//     itself, so that none can be left out.
//   - The cheapest of several batches counts: the first one pays for pages, the later ones find
//     records and stacks warm.
//
// Comes from: coir_bench.cpp.   Goes to: peers.hpp.
#include <cstdint>
#include <vector>

#include "bench/peers.hpp"
#include "bench/rows.hpp"

namespace bench {

namespace {

template <class Make>
sample coir_spawn_of(const spawn_plan& plan, Make make) {
  std::vector<coir::handle<void>> fibers;
  fibers.reserve(plan.batch);
  const counting counts;
  std::size_t spawned = 0;
  sample got(fastest_ns(static_cast<double>(plan.timed()), [&] {
    for (std::size_t n = 0; n < plan.batches; ++n) {
      for (std::size_t i = 0; i < plan.batch; ++i) fibers.push_back(coir::spawn(make()));
      for (auto& fiber : fibers) sure(fiber.join());
      fibers.clear();
    }
    spawned += plan.timed();
  }));
  got.per_operation = counts.per(static_cast<double>(spawned));
  return got;
}

sample coir_spawn(const spawn_plan& plan) {
  return on_coir([&] {
    std::size_t ran = 0;
    sample got;
    if (plan.closure_bytes == 0)
      got = coir_spawn_of(plan, [&ran] { return [&ran] { ++ran; }; });
    else
      got = coir_spawn_of(plan, [&ran] { return cargo<256>{&ran, {1}}; });
    if (ran == 0 || ran % plan.timed() != 0) throw std::logic_error("a fiber did not run");
    return got;
  });
}

struct alignas(64) tally {
  std::size_t ran = 0;
};

/// Nobody keeps a handle, so a record is free again when its fiber has ended; whoever spawns waits
/// for one where `records` are in use.
sample coir_spawn_bounded(std::size_t count, unsigned workers, std::uint32_t records) {
  const auto root = [&] {
    std::vector<tally> by_worker(workers);
    std::size_t spawned = 0;
    const counting counts;
    sample got(fastest_ns(static_cast<double>(count), [&] {
      coir::scope all;
      for (std::size_t i = 0; i < count; ++i)
        all.spawn([&by_worker] { ++by_worker[coir::this_fiber::worker()].ran; });
      sure(all.join());
      spawned += count;
    }));
    std::size_t ran = 0;
    for (const tally& each : by_worker) ran += each.ran;
    if (ran != spawned) throw std::logic_error("a fiber did not run");
    got.per_operation = counts.per(static_cast<double>(spawned));
    return got;
  };
  return on_coir(root, {.workers = workers, .fibers_max = records, .stack_bytes = 64 << 10});
}

row bounded_row(const settings& chosen) {
  const std::size_t many = chosen.many;
  constexpr std::uint32_t few = 8'192;
  const auto enough = static_cast<std::uint32_t>(2 * many);
  row one{
      "spawn_bounded/1000000",
      "(DB1) a million trivial bodies of one fiber, 8,192 records: it waits for them as it goes",
      {{"fiber", "ns"}},
      {{"coir, 4 workers", role::ours, [=] { return coir_spawn_bounded(many, 4, few); }},
       {"coir, 1 worker", role::variant, [=] { return coir_spawn_bounded(many, 1, few); }},
       {"coir, 4 workers, a record for each", role::base,
        [=] { return coir_spawn_bounded(many, 4, enough); }}},
      {}};
  one.entries.push_back(go_entry(
      chosen, "spawn_bounded 4 " + std::to_string(many) + " " + std::to_string(few) + " 0"));
  one.rounds_most = 3;
  one.two_cpus = true;
  one.smaller = many != 1'000'000;
  if (one.smaller) one.note = "with " + std::to_string(many) + " fibers in this run";
  return one;
}

row spawn_row(const settings& chosen, const char* name, const char* what, const spawn_plan& p) {
  row one{name, what, {{"fiber", "ns"}}, {}, {}};
  one.entries = {
      {"coir", role::ours, [=] { return coir_spawn(p); }},
      {"closures on one stack by hand", role::raw, [=] { return sample(raw_spawn_ns(p)); }},
      {"Boost.Fiber", role::peer, [=] { return sample(boost_fiber_spawn_ns(p)); },
       boost_fiber_package}};
  one.entries.push_back({"State Threads", role::peer,
                         [=] { return sample(state_threads_spawn_ns(p)); }, state_threads_package});
  one.entries.push_back(go_entry(chosen, "spawn " + std::to_string(p.batch) + " " +
                                             std::to_string(p.batches) + " " +
                                             std::to_string(p.closure_bytes)));
  return one;
}

}  // namespace

void add_spawn(rows& to, const settings& chosen) {
  row one = spawn_row(chosen, "spawn_join", "spawn a trivial body and join it, one at a time",
                      {1, 10'000});
  one.reaches = {{reach::kind::at_most, 15}, {reach::kind::times_peer, 10}};
  to.push_back(one);

  one = spawn_row(chosen, "spawn_batch/10000", "spawn 10,000 trivial bodies, then join them",
                  {10'000, 1});
  one.reaches = {{reach::kind::at_most, 10}, {reach::kind::times_peer, 10}};
  to.push_back(one);

  const std::string many = std::to_string(chosen.many);
  one = spawn_row(chosen, "spawn_batch/1000000", "the same with a million", {chosen.many, 1});
  one.reaches = {{reach::kind::at_most, 45}, {reach::kind::times_peer, 10}};
  one.rounds_most = 3;
  for (entry& e : one.entries) {
    if (e.as == role::peer) e.rounds_most = 1;
    if (e.who == "State Threads" && chosen.many > 100'000 && e.missing.empty())
      e.missing = "so many mappings (each of its stacks is one)";
  }
  one.smaller = chosen.many != 1'000'000;
  if (one.smaller) one.note = "with " + many + " fibers in this run";
  to.push_back(one);

  to.push_back(bounded_row(chosen));

  one =
      spawn_row(chosen, "spawn_join/closure_256",
                "spawn_join with 256 bytes of closure, more than a record holds", {1, 10'000, 256});
  one.reaches = {{reach::kind::at_most, 35}};
  to.push_back(one);
}

}  // namespace bench
