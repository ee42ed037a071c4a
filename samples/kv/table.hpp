// table.hpp: the keys and values in memory, and what they cost.
//
// Always true:
//   - One fiber at a time changes it (the store's machine); any thread reads meanwhile, and waits
//     for nothing but a look-up.
//   - A reader finds all keys that a reset takes away, or none of them.
//   - What is promised (reserve) and what is held together never pass memory_max when a promise is
//     made. It is one for the key as it stands: where a change that is on its way to the disk takes
//     the key, or most of its value, away before, what comes after it is that much larger.
//
// Comes from: store.cpp.   Goes to: change.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "kv/change.hpp"

namespace kv {

/// What one key costs beside its own bytes: a node of the map and its share of the table.
inline constexpr std::size_t key_overhead_bytes = 96;

struct table_counters {
  std::uint64_t keys = 0;
  std::uint64_t memory_bytes = 0;
  std::uint64_t out_of_order = 0;  ///< changes that came after a later one; never any
};

class table {
 public:
  explicit table(std::size_t memory_max) : memory_max_(memory_max) {}
  table(const table&) = delete;
  table& operator=(const table&) = delete;

  /// Calls `use(std::string_view)` under the lock of the key's part; false when there is no value.
  /// `use` must not park. Any thread.
  template <class F>
  bool visit(std::string_view key, F&& use) const {
    const shard& s = shards_[shard_of(key)];
    const std::lock_guard held(s.mutex);
    const auto at = s.values.find(key);
    if (at == s.values.end()) return false;
    use(std::string_view(at->second));
    return true;
  }
  bool contains(std::string_view key) const {
    return visit(key, [](std::string_view) {});
  }

  /// What `c` adds to the memory that is held, as things stand; 0 when it adds nothing.
  std::size_t cost(const change& c) const;
  /// Promises `bytes`; false: there is no room for them.
  bool reserve(std::size_t bytes);
  void unreserve(std::size_t bytes);

  /// Record `sequence` of the journal. True when the key had a value before.
  bool apply(std::uint64_t sequence, const change& c);
  void clear();

  table_counters counters() const;

 private:
  struct text_hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept {
      return std::hash<std::string_view>()(text);
    }
  };
  // A plain mutex: it is held for one look-up and never across a park.
  struct shard {
    mutable std::mutex mutex;
    std::unordered_map<std::string, std::string, text_hash, std::equal_to<>> values;
  };
  static constexpr std::size_t shards_count = 16;  // a reset holds all of them at once

  static std::size_t shard_of(std::string_view key) noexcept {
    return text_hash()(key) % shards_count;
  }
  bool write(const change& c);
  bool erase(const change& c);
  void account(std::ptrdiff_t bytes, int keys);

  const std::size_t memory_max_;
  std::array<shard, shards_count> shards_;
  mutable std::mutex space_mutex_;  // guards what follows
  std::size_t reserved_bytes_ = 0;
  std::uint64_t last_sequence_ = 0;
  table_counters counters_;
};

}  // namespace kv
