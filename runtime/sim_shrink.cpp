// sim_shrink.cpp: delta debugging on a list of numbers.
//
// Always true:
//   - A candidate is taken only when it is smaller: fewer that are not zero, then shorter, then a
//     smaller sum. So it ends.
//
// Comes from: sim_shrink.hpp.   Goes to: nothing.
#include "runtime/sim_shrink.hpp"

#include <algorithm>
#include <tuple>

namespace coir::detail {
namespace {

void drop_zeros_at_the_end(decision_list& list) noexcept {
  while (!list.empty() && list.back() == 0) list.pop_back();
}

/// What is smaller is simpler.
std::tuple<std::size_t, std::size_t, std::uint64_t> weight(const decision_list& list) noexcept {
  std::uint64_t sum = 0;
  for (const std::uint64_t one : list) sum += std::min<std::uint64_t>(one, UINT32_MAX);
  return {unusual(list), list.size(), sum};
}

class shrinking {
 public:
  shrinking(decision_list failing, const still_fails& fails, unsigned& runs)
      : best(std::move(failing)), fails_(fails), runs_(runs) {
    drop_zeros_at_the_end(best);
  }
  bool may_run() const noexcept { return runs_ != 0; }

  /// Takes `tried` if it is simpler and fails.
  bool take(decision_list tried) {
    drop_zeros_at_the_end(tried);
    if (runs_ == 0 || weight(tried) >= weight(best)) return false;
    --runs_;
    if (!fails_(tried)) return false;
    drop_zeros_at_the_end(tried);
    if (weight(tried) < weight(best)) best = std::move(tried);
    return true;
  }

  bool drop_end() {
    bool any = false;
    for (std::size_t part = best.size(); part != 0 && may_run(); part /= 2)
      while (part <= best.size() && part != 0 &&
             take({best.begin(), best.end() - static_cast<std::ptrdiff_t>(part)}))
        any = true;
    return any;
  }

  /// change(list, from, end) on pieces of halving size, from the end to the beginning: late
  /// decisions matter least.
  template <class Change>
  bool in_pieces(Change change) {
    bool any = false;
    for (std::size_t part = (best.size() + 1) / 2; part != 0; part /= 2) {
      for (std::size_t end = best.size(); end != 0 && may_run();) {
        end = std::min(end, best.size());
        const std::size_t from = end < part ? 0 : end - part;
        decision_list tried = best;
        change(tried, from, end);
        any |= take(std::move(tried));
        end = from;
      }
    }
    return any;
  }

  bool lower() {
    bool any = false;
    for (std::size_t i = best.size(); i-- != 0;) {
      if (i >= best.size() || best[i] == 0) continue;
      // Lower ones may fail where one in between does not; this finds one of the lowest.
      std::uint64_t passes = 0, known = best[i];
      while (passes + 1 < known && i < best.size() && may_run()) {
        const std::uint64_t between = passes + (known - passes) / 2;
        decision_list tried = best;
        tried[i] = between;
        const bool lower = take(std::move(tried));
        (lower ? known : passes) = between;
        any |= lower;
      }
    }
    return any;
  }

  decision_list best;

 private:
  const still_fails& fails_;
  unsigned& runs_;
};

using place = std::ptrdiff_t;

}  // namespace

std::size_t unusual(const decision_list& list) noexcept {
  return list.size() - static_cast<std::size_t>(std::ranges::count(list, 0u));
}

decision_list shrunk(decision_list failing, const still_fails& fails, unsigned& runs) {
  shrinking s(std::move(failing), fails, runs);
  for (bool better = true; better && s.may_run();) {
    better = s.drop_end();
    better |= s.in_pieces([](decision_list& list, std::size_t from, std::size_t end) {
      std::fill(list.begin() + static_cast<place>(from), list.begin() + static_cast<place>(end), 0);
    });
    better |= s.in_pieces([](decision_list& list, std::size_t from, std::size_t end) {
      list.erase(list.begin() + static_cast<place>(from), list.begin() + static_cast<place>(end));
    });
    better |= s.lower();
  }
  return std::move(s.best);
}

}  // namespace coir::detail
