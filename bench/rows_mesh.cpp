// rows_mesh.cpp: work that begins in one place and is to be done by two workers.
//
// Always true:
//   - Every task is counted by the worker that ran it, so none can be left out, and the share of
//     the busiest worker is that of the timed runs.
//   - Two workers have two CPUs, and so have the two processes that are the limit: each of those
//     has one of its own.
//   - The rows of mesh_sim measure nothing: they are the same in every run.
//
// Comes from: coir_bench.cpp.   Goes to: peers.hpp, two_processes.hpp, the program mesh_sim.
#include <array>
#include <numeric>
#include <sstream>
#include <vector>

#include "bench/computing.hpp"
#include "bench/peers.hpp"
#include "bench/programs.hpp"
#include "bench/rows.hpp"
#include "bench/two_processes.hpp"

namespace bench {

namespace {

/// The busiest over the mean.
double share(const std::vector<std::uint64_t>& each) {
  const double all = static_cast<double>(std::accumulate(each.begin(), each.end(), 0ul));
  return static_cast<double>(*std::max_element(each.begin(), each.end())) *
         static_cast<double>(each.size()) / all;
}

// -- skynet: every node spawns ten children and adds up what they return

constexpr unsigned children_each = 10;

std::uint64_t grow(std::uint64_t first, std::uint64_t leaves) {
  if (leaves == 1) return first;
  const std::uint64_t each = leaves / children_each;
  std::array<coir::handle<std::uint64_t>, children_each> children;
  for (unsigned i = 0; i < children_each; ++i)
    children[i] = coir::spawn([from = first + i * each, each] { return grow(from, each); });
  std::uint64_t sum = 0;
  for (auto& child : children) sum += sure(child.join());
  return sum;
}

/// The tree is walked depth first, so few of its nodes live at once. Room for the whole tree is
/// what a careful user asks for all the same: whoever finds no record waits for one, and where
/// every node does nothing ends. Stacks of 32 KiB: a node needs half a KiB, and a small slot costs
/// fewer page tables.
coir::options of_skynet(unsigned workers, std::uint64_t leaves) {
  return {.workers = workers,
          .fibers_max = static_cast<std::uint32_t>(std::max<std::uint64_t>(2 * leaves, 1024)),
          .stack_bytes = 32 << 10};
}

sample coir_skynet(unsigned workers, std::uint64_t leaves) {
  const auto root = [&]() -> sample {
    const counting counts;
    const coir::stats before = coir::snapshot();
    unsigned trees = 0;
    const double ns = fastest_ns(static_cast<double>(leaves), [&] {
      if (grow(0, leaves) != leaves * (leaves - 1) / 2) throw std::logic_error("a leaf is missing");
      ++trees;
    });
    const coir::stats after = coir::snapshot();
    std::vector<std::uint64_t> ran;
    std::uint64_t mailed = 0;
    for (unsigned i = 0; i < workers; ++i) {
      ran.push_back(after.workers[i].finished - before.workers[i].finished);
      mailed += after.workers[i].deflected_out - before.workers[i].deflected_out;
    }
    const double all = static_cast<double>(leaves) * trees;
    sample got{ns, share(ran), static_cast<double>(mailed) / all};
    got.per_operation = counts.per(all);
    return got;
  };
  return on_coir(root, of_skynet(workers, leaves));
}

row skynet_row(const settings& chosen) {
  const std::uint64_t leaves = chosen.many;
  const std::string fewer = std::to_string(leaves / 10);
  row one{"skynet",
          "a tree of fibers with a million leaves, ten children a node, sums going back",
          {{"leaf", "ns"}, {"max/mean share", "", false}, {"mailed per leaf", "", false}},
          {{"coir, 2 workers", role::ours, [=] { return coir_skynet(2, leaves); }},
           {"coir, 1 worker", role::base, [=] { return coir_skynet(1, leaves); }},
           {"Boost.Fiber, work stealing, 2 threads, " + fewer + " leaves", role::peer,
            [=] { return sample(boost_stealing_skynet_ns(leaves / 10)); }, boost_fiber_package, 1}},
          {{reach::kind::of_base, 1}, {reach::kind::times_peer, 8}}};
  one.entries.push_back(go_entry(chosen, "skynet 2 " + std::to_string(leaves)));
  one.entries.back().rounds_most = 2;
  one.rounds_most = 3;
  one.two_cpus = true;
  one.smaller = leaves != 1'000'000;
  if (one.smaller) one.note = "with " + std::to_string(leaves) + " leaves in this run";
  return one;
}

// -- hot_root: one fiber spawns everything

struct alignas(64) tally {
  std::uint64_t ran = 0;
};

void spawn_and_join(std::vector<coir::handle<void>>& tasks, std::vector<tally>& by_worker,
                    unsigned count, const coir::spawn_options& how) {
  tasks.reserve(count);
  for (unsigned i = 0; i < count; ++i)
    tasks.push_back(coir::spawn(
        [&by_worker] {
          compute(task_steps);
          ++by_worker[coir::this_fiber::worker()].ran;
        },
        how));
  for (auto& task : tasks) sure(task.join());
  tasks.clear();
}

sample coir_hot_root(unsigned count, coir::workload kind) {
  constexpr unsigned workers = 2;
  return on_coir(
      [&]() -> sample {
        std::vector<coir::handle<void>> tasks;
        double shares = 0;
        unsigned runs = 0;
        const counting counts;
        const std::uint64_t mailed = coir::snapshot().total().deflected_out;
        const double ns = fastest_ns(count, [&] {
          std::vector<tally> by_worker(workers);
          spawn_and_join(tasks, by_worker, count, {.kind = kind});
          std::vector<std::uint64_t> ran;
          for (const tally& each : by_worker) ran.push_back(each.ran);
          if (std::accumulate(ran.begin(), ran.end(), 0ul) != count)
            throw std::logic_error("a task did not run");
          shares += share(ran);
          ++runs;
        });
        const double all = double{1} * count * runs;
        sample got{ns, shares / runs,
                   static_cast<double>(coir::snapshot().total().deflected_out - mailed) / all};
        got.per_operation = counts.per(all);
        return got;
      },
      {.workers = workers});
}

/// What two workers cannot beat: nothing is shared, nothing is sent.
sample coir_two_processes(unsigned count, coir::workload kind, const settings& chosen) {
  const unsigned each = count / 2;
  const double ns = side_by_side_ns(chosen, [=](const stopwatch& timed) {
    on_coir([&] {
      std::vector<coir::handle<void>> tasks;
      std::vector<tally> by_worker(1);
      timed([&] { spawn_and_join(tasks, by_worker, each, {.kind = kind}); });
      if (by_worker[0].ran % each != 0) throw std::logic_error("a task did not run");
    });
  });
  return ns / count;
}

row hot_root_row(const settings& chosen) {
  constexpr unsigned count = 10'000;
  using coir::workload;
  row one{"hot_root/10000",
          "one fiber spawns 10,000 tasks of 5 us; plain: two processes with a half each",
          {{"task", "ns"}, {"max/mean share", "", false}, {"mailed per task", "", false}},
          {{"coir, 2 workers", role::ours, [] { return coir_hot_root(count, workload::compute); }},
           {"coir, not said that they compute", role::variant,
            [] { return coir_hot_root(count, workload::io); }},
           {"two processes of one worker", role::base,
            [=] { return coir_two_processes(count, workload::compute, chosen); }},
           {"Boost.Fiber, work stealing, 2 threads", role::peer,
            [] { return boost_stealing_hot_root(count); }, boost_fiber_package}},
          {{reach::kind::of_base, 1 / 0.95}, {reach::kind::at_most, 1.1, 1}}};
  one.entries.push_back(go_entry(chosen, "hot_root " + std::to_string(count)));
  one.two_cpus = true;
  one.prepare = &calibrate_computing;
  one.note = "1.05x the time is 0.95 of the throughput";
  return one;
}

// -- light_root: one fiber spawns bodies that take no longer than their spawn

constexpr std::uint32_t light_steps = 100;
constexpr std::uint32_t light_records = 8'192;

/// Once: so many make an average of their own.
sample coir_light_root(std::size_t count, unsigned workers) {
  const auto root = [&]() -> sample {
    std::vector<tally> by_worker(workers);
    const counting counts;
    const std::uint64_t mailed = coir::snapshot().total().deflected_out;
    const std::int64_t began = now_ns();
    coir::scope all;
    for (std::size_t i = 0; i < count; ++i)
      all.spawn([&by_worker] {
        compute(light_steps);
        ++by_worker[coir::this_fiber::worker()].ran;
      });
    sure(all.join());
    const auto each = static_cast<double>(count);
    const double ns = static_cast<double>(now_ns() - began) / each;
    std::vector<std::uint64_t> ran;
    for (const tally& one : by_worker) ran.push_back(one.ran);
    if (std::accumulate(ran.begin(), ran.end(), 0ul) != count)
      throw std::logic_error("a body did not run");
    sample got{ns, share(ran),
               static_cast<double>(coir::snapshot().total().deflected_out - mailed) / each};
    got.per_operation = counts.per(each);
    return got;
  };
  return on_coir(root, {.workers = workers, .fibers_max = light_records, .stack_bytes = 64 << 10});
}

row light_root_row(const settings& chosen) {
  const std::size_t count = chosen.many * 10;
  row one{"hot_root/light",
          "(DB3) one fiber spawns ten million bodies of 100 steps; 8,192 at a time",
          {{"body", "ns"}, {"max/mean share", "", false}, {"mailed per body", "", false}},
          {{"coir, 2 workers", role::ours, [=] { return coir_light_root(count, 2); }},
           {"coir, 1 worker", role::base, [=] { return coir_light_root(count, 1); }}},
          {}};
  one.entries.push_back(go_entry(chosen, "spawn_bounded 2 " + std::to_string(count) + " " +
                                             std::to_string(light_records) + " " +
                                             std::to_string(light_steps)));
  one.rounds_most = 1;
  one.two_cpus = true;
  one.smaller = count != 10'000'000;
  if (one.smaller) one.note = "with " + std::to_string(count) + " bodies in this run";
  return one;
}

// -- mesh_sim: the policy alone, with more workers than this machine has

row mesh_sim_row(const settings& chosen, unsigned workers) {
  const std::string count = std::to_string(workers);
  row one{"mesh_sim/" + count,
          "the policy in virtual time: one fiber of " + count + " workers spawns all",
          {{"max/mean share", ""},
           {"mail per fiber", ""},
           {"hops per fiber", ""},
           {"time over an ideal", ""}},
          {{"coir", role::ours,
            [=] {
              program sim({chosen.folder + "/mesh_sim", "--scenario", "hot_root", "--workers",
                           count, "--bare"},
                          program::same_cpus);
              std::istringstream said(sim.line());
              sample got;
              for (double& value : got.values)
                if (!(said >> value)) throw std::runtime_error("mesh_sim said too little");
              sim.wait();
              return got;
            }}},
          {{reach::kind::at_most, 1.3, 0}, {reach::kind::at_most, 0.6, 1}}};
  one.rounds_most = 1;
  return one;
}

// -- idle: a runtime with nothing to do costs nothing

/// What the whole process uses while a root sleeps, after both workers had much to do.
sample coir_idle(std::chrono::milliseconds span) {
  return on_coir(
      [=] {
        std::vector<coir::handle<void>> load;
        for (unsigned i = 0; i < 10'000; ++i)
          load.push_back(coir::spawn([i] {
            if (i % 10 == 0) sure(coir::this_fiber::sleep_for(std::chrono::milliseconds(1)));
          }));
        for (auto& each : load) sure(each.join());
        load.clear();
        const std::uint64_t turns = coir::snapshot().total().turns;
        const std::int64_t cpu = cpu_used_ns();
        const std::int64_t began = now_ns();
        sure(coir::this_fiber::sleep_for(span));
        const auto wall = static_cast<double>(now_ns() - began);
        const auto used = static_cast<double>(cpu_used_ns() - cpu);
        const auto turned = static_cast<double>(coir::snapshot().total().turns - turns);
        return sample{100 * used / wall, turned * 1e9 / wall};
      },
      {});
}

row idle_row(const settings& chosen) {
  const std::chrono::milliseconds span(chosen.quick ? 200 : 1'500);
  row one{"idle",
          "a default runtime after 10,000 tasks, while its root sleeps",
          {{"CPU", "% of a core"}, {"turns", "/s", false}},
          {{"coir", role::ours, [=] { return coir_idle(span); }}},
          {{reach::kind::at_most, 0.5}}};
  one.rounds_most = 3;
  one.two_cpus = true;
  return one;
}

}  // namespace

void add_mesh(rows& to, const settings& chosen) {
  to.push_back(idle_row(chosen));
  to.push_back(skynet_row(chosen));
  to.push_back(hot_root_row(chosen));
  to.push_back(light_root_row(chosen));
  for (const unsigned workers : {8u, 64u, 256u}) to.push_back(mesh_sim_row(chosen, workers));
}

}  // namespace bench
