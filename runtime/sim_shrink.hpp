// sim_shrink.hpp: from a list of decisions that fails to a short one that fails as well.
//
// Always true:
//   - The answer fails: it is the list that came, or one that was seen to fail.
//   - No more runs are made than the caller allows.
//
// Comes from: coir::sim::explore.   Goes to: nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/base.hpp"

namespace coir::detail {

using decision_list = std::vector<std::uint64_t>;

/// Runs the list; true: it fails. It may put another list in its place that does the same, as a run
/// that asked for less does.
using still_fails = std::function<bool(decision_list& tried)>;

/// Drops the end, sets to zero and takes out pieces of halving size, and lowers what is left, until
/// nothing helps any more or `runs` are used up; how many are left is put there.
decision_list shrunk(decision_list failing, const still_fails& fails, unsigned& runs);

/// How many are not the ordinary.
std::size_t unusual(const decision_list& list) noexcept;

}  // namespace coir::detail
