// rows_yield.cpp: fibers of one worker that yield in turn, in the shapes that programs have.
//
// Always true:
//   - The loop of every entry is the same template; only spawn and yield differ.
//
// Comes from: coir_bench.cpp.   Goes to: yield_ring.hpp, peers.hpp.
#include "bench/peers.hpp"
#include "bench/raw_switch.hpp"
#include "bench/rows.hpp"
#include "bench/yield_ring.hpp"

namespace bench {

namespace {

sample coir_yield(const ring_plan& plan, std::size_t stack_bytes = 0) {
  return on_coir([&] {
    yield_ring ring(plan);
    std::vector<coir::handle<void>> fibers;
    const counting counts;
    start_ring(
        ring, plan, [] { coir::this_fiber::yield(); },
        [&](auto body) {
          fibers.push_back(coir::spawn(std::move(body), {.stack_bytes = stack_bytes}));
        });
    for (auto& fiber : fibers) sure(fiber.join());
    sample got(ring.per_switch_ns());
    got.per_operation = counts.per(static_cast<double>(ring.switches()));
    return got;
  });
}

const char* word_of(shape s) {
  switch (s) {
    case shape::same_site:
      return "same_site";
    case shape::two_sites:
      return "two_sites";
    case shape::eight_sites:
      return "8_sites";
    case shape::eight_mixed:
      return "8_sites/mixed";
    case shape::one_chain:
      return "depth4_one_chain";
    case shape::two_chains:
      return "depth4_two_chains";
  }
  return "";
}

const char* meaning_of(shape s) {
  switch (s) {
    case shape::same_site:
      return "all fibers run one loop";
    case shape::two_sites:
      return "every other fiber has a loop of its own";
    case shape::eight_sites:
      return "eight loops, each with an eighth of the fibers side by side";
    case shape::eight_mixed:
      return "eight loops, no two neighbours in the same one";
    case shape::one_chain:
      return "four frames deep (three functions and yield), the same for all";
    case shape::two_chains:
      return "four frames deep, other functions for every other fiber";
  }
  return "";
}

/// No `most_ns`: the reach is against the others alone.
row yield_row(const settings& chosen, const ring_plan& plan, double most_ns, bool near_raw) {
  row one;
  one.name = "yield/" + std::to_string(plan.fibers) + "/" + word_of(plan.of);
  one.what = "one yield among " + std::to_string(plan.fibers) + " fibers: " + meaning_of(plan.of);
  one.figures = {{"switch", "ns"}};
  one.entries = {
      {"coir", role::ours, [=] { return coir_yield(plan); }},
      {"paired switch by hand", role::raw, [=] { return sample(raw_yield_ns(plan)); },
       raw::has_switch ? "" : "a switch for this CPU"},
      {"Boost.Fiber", role::peer, [=] { return sample(boost_fiber_yield_ns(plan)); },
       boost_fiber_package},
      {"State Threads", role::peer, [=] { return sample(state_threads_yield_ns(plan)); },
       state_threads_package},
      go_entry(chosen, std::string("yield ") + word_of(plan.of) + " " +
                           std::to_string(plan.fibers) + " " + std::to_string(plan.laps))};
  if (most_ns > 0) one.reaches.push_back({reach::kind::at_most, most_ns});
  if (near_raw) one.reaches.push_back({reach::kind::over_raw, 3});
  one.reaches.push_back({reach::kind::times_peer, 2});
  return one;
}

}  // namespace

void add_yield(rows& to, const settings& chosen) {
  constexpr unsigned block = 100'000;  // switches
  to.push_back(yield_row(chosen, {2, block / 2, shape::same_site}, 5, true));
  to.push_back(yield_row(chosen, {2, block / 2, shape::two_sites}, 16, true));
  to.push_back(yield_row(chosen, {2, block / 2, shape::one_chain}, 8, true));
  to.push_back(yield_row(chosen, {2, block / 2, shape::two_chains}, 42, true));
  to.push_back(yield_row(chosen, {10, block / 10, shape::same_site}, 0, true));
  to.back().what = "(DB2) " + to.back().what;
  to.push_back(yield_row(chosen, {1'000, block / 1'000, shape::one_chain}, 12, true));
  to.push_back(yield_row(chosen, {10'000, block / 10'000, shape::eight_sites}, 12, false));
  const ring_plan& small = {10'000, block / 10'000, shape::eight_sites};
  to.back().entries.push_back(
      {"coir, stacks of 32 KiB", role::variant, [small] { return coir_yield(small, 32 << 10); }});
  to.back().entries.push_back({"paired switch by hand, stacks of 256 KiB", role::variant,
                               [small] { return sample(raw_yield_ns(small, 256 << 10)); },
                               raw::has_switch ? "" : "a switch for this CPU"});
  to.push_back(yield_row(chosen, {10'000, block / 10'000, shape::eight_mixed}, 0, false));
}

}  // namespace bench
