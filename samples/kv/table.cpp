// table.cpp: changes into the maps, and their cost into the account.
//
// Comes from: table.hpp.   Goes to: the standard library.
#include "kv/table.hpp"

#include <vector>

namespace kv {

namespace {

/// Short values lie in the node itself.
std::size_t value_cost(std::string_view value) noexcept {
  return value.size() <= std::string().capacity() ? 0 : value.size();
}

std::size_t key_cost(std::string_view key) noexcept { return key.size() + key_overhead_bytes; }

}  // namespace

std::size_t table::cost(const change& c) const {
  if (c.what == change::kind::erase) return 0;
  const std::size_t after = value_cost(c.value);
  std::size_t before = 0;
  const bool there = visit(c.key, [&before](std::string_view old) { before = value_cost(old); });
  if (!there) return key_cost(c.key) + after;
  return after > before ? after - before : 0;
}

bool table::reserve(std::size_t bytes) {
  const std::lock_guard held(space_mutex_);
  if (bytes != 0 && counters_.memory_bytes + reserved_bytes_ + bytes > memory_max_) return false;
  reserved_bytes_ += bytes;
  return true;
}

void table::unreserve(std::size_t bytes) {
  const std::lock_guard held(space_mutex_);
  reserved_bytes_ -= bytes;
}

bool table::apply(std::uint64_t sequence, const change& c) {
  {
    const std::lock_guard held(space_mutex_);
    if (sequence <= last_sequence_) ++counters_.out_of_order;
    last_sequence_ = sequence;
  }
  return c.what == change::kind::write ? write(c) : erase(c);
}

bool table::write(const change& c) {
  const auto grown = static_cast<std::ptrdiff_t>(value_cost(c.value));
  {
    shard& s = shards_[shard_of(c.key)];
    const std::lock_guard held(s.mutex);
    if (const auto at = s.values.find(c.key); at != s.values.end()) {
      account(grown - static_cast<std::ptrdiff_t>(value_cost(at->second)), 0);
      at->second = c.value;
      return true;
    }
    s.values.emplace(c.key, c.value);
  }
  account(grown + static_cast<std::ptrdiff_t>(key_cost(c.key)), 1);
  return false;
}

bool table::erase(const change& c) {
  shard& s = shards_[shard_of(c.key)];
  const std::lock_guard held(s.mutex);
  const auto at = s.values.find(c.key);
  if (at == s.values.end()) return false;
  account(-static_cast<std::ptrdiff_t>(value_cost(at->second) + key_cost(c.key)), -1);
  s.values.erase(at);
  return true;
}

void table::account(std::ptrdiff_t bytes, int keys) {
  const std::lock_guard held(space_mutex_);
  counters_.memory_bytes += static_cast<std::uint64_t>(bytes);
  counters_.keys += static_cast<std::uint64_t>(static_cast<std::int64_t>(keys));
}

void table::clear() {
  // All shards at once: no reader may find one key gone and then another one still there.
  std::vector<std::unique_lock<std::mutex>> held;
  held.reserve(shards_count);
  for (shard& s : shards_) held.emplace_back(s.mutex);
  for (shard& s : shards_) s.values.clear();
  const std::lock_guard space(space_mutex_);
  counters_.memory_bytes = 0;
  counters_.keys = 0;
}

table_counters table::counters() const {
  const std::lock_guard held(space_mutex_);
  return counters_;
}

}  // namespace kv
