// linear.hpp: is there an order of these calls, one after the other, that explains every answer?
// After Wing and Gong, with the memory of states that Lowe added.
//
// Always true:
//   - A call may only be put in front of those that began after it ended.
//   - A state of the search {which calls are placed, what the store holds} is entered once.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace kv_test {

/// One call as its caller saw it. Times are places in one order of all begins and ends.
struct call {
  enum class kind { write, read, erase, reset } what = kind::read;
  std::string key = {};
  std::int64_t value = 0;                   // of a write
  std::optional<std::int64_t> answer = {};  // of a read; of an erasure, how many there were
  std::uint64_t began = 0, ended = 0;
};

class linear_search {
 public:
  explicit linear_search(const std::vector<call>& history)
      : history_(history), placed_(history.size(), false) {}
  bool found() { return place_rest(history_.size()); }

 private:
  using state = std::map<std::string, std::int64_t>;

  bool place_rest(std::size_t left) {
    if (left == 0) return true;
    if (!seen_.emplace(placed_, state_).second) return false;
    // The first end among the calls not placed: one that began later may not go before it.
    std::uint64_t first_end = UINT64_MAX;
    for (std::size_t i = 0; i < history_.size(); ++i)
      if (!placed_[i]) first_end = std::min(first_end, history_[i].ended);
    for (std::size_t i = 0; i < history_.size(); ++i) {
      if (placed_[i] || history_[i].began > first_end) continue;
      const state before = state_;
      if (apply(history_[i])) {
        placed_[i] = true;
        if (place_rest(left - 1)) return true;
        placed_[i] = false;
      }
      state_ = before;
    }
    return false;
  }
  bool apply(const call& c) {
    if (c.what == call::kind::write) {
      state_[c.key] = c.value;
    } else if (c.what == call::kind::reset) {
      state_.clear();
    } else if (c.what == call::kind::erase) {
      return c.answer == static_cast<std::int64_t>(state_.erase(c.key));
    } else {
      const auto at = state_.find(c.key);
      return c.answer == (at == state_.end() ? std::nullopt : std::optional(at->second));
    }
    return true;
  }

  const std::vector<call>& history_;
  std::vector<bool> placed_;
  state state_;
  std::set<std::pair<std::vector<bool>, state>> seen_;
};

inline bool is_linear(const std::vector<call>& history) { return linear_search(history).found(); }

}  // namespace kv_test
