// store.hpp: a map from text to integers that survives a crash: a journal, and memory that follows.
//
// Always true:
//   - A value can be read once it is durable, never before; reads never wait for the disk.
//   - Memory changes only as the journal says, in its order, so what recovery finds is what readers
//     saw.
//   - The memory cap refuses new keys; it never refuses to replace a value, and never loses one.
//   - One store per folder at a time, whatever process it is in.
//
// Comes from: service.cpp, main.cpp.   Goes to: journal.hpp.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "kv/journal.hpp"
#include "kv/protocol.hpp"

namespace kv {

/// What one key costs beside its own bytes: a node of the map and its share of the table.
inline constexpr std::size_t key_overhead_bytes = 96;

struct store_options {
  std::size_t memory_max = std::size_t{1} << 30;  ///< bytes of keys, with their overhead
  journal_options journal = {};
};

struct store_counters {
  std::uint64_t keys = 0;
  std::uint64_t memory_bytes = 0;
};

class store final : private journal_listener {
 public:
  /// Creates the folder if need be, locks it, and recovers its journal. Fibers only. Errors:
  /// device_or_resource_busy when another store has the folder, those of mkdir(2) and open(2).
  [[nodiscard]] static coir::result<std::unique_ptr<store>> open(const std::string& folder,
                                                                 const store_options& o = {});
  /// The same over a file of the caller's: no folder, no lock.
  [[nodiscard]] static coir::result<std::unique_ptr<store>> open(std::unique_ptr<journal_file> file,
                                                                 const store_options& o = {});

  /// Parks until the value is durable and can be read. Errors: invalid_argument (key over
  /// key_bytes_max), not_enough_memory (the cap), those of journal::append.
  [[nodiscard]] coir::result<> write(std::string_view key, std::int64_t value,
                                     coir::deadline until = coir::never);
  /// Never waits. Any thread.
  std::optional<std::int64_t> read(std::string_view key) const;
  /// Forgets everything, in memory and in the journal. Errors: those of journal::reset.
  [[nodiscard]] coir::result<> reset(coir::deadline until = coir::never);
  /// Finishes what is queued and closes the journal. Returns its failure, if there was one.
  [[nodiscard]] coir::result<> close();

  store_counters counters() const;
  const journal& log() const noexcept { return *journal_; }

  store(const store&) = delete;
  store& operator=(const store&) = delete;
  ~store();

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
    std::unordered_map<std::string, std::int64_t, text_hash, std::equal_to<>> values;
  };
  static constexpr std::size_t shards_count = 16;  // a reset holds all of them at once

  explicit store(const store_options& o) : memory_max_(o.memory_max) {}
  coir::result<> start(std::unique_ptr<journal_file> file, const store_options& o);
  static std::size_t shard_of(std::string_view key) noexcept;
  bool reserve(std::size_t bytes);
  void unreserve(std::size_t bytes);
  void on_record(std::uint64_t sequence, std::span<const std::byte> payload) override;
  void on_reset() override;

  const std::size_t memory_max_;
  std::array<shard, shards_count> shards_;
  mutable std::mutex space_mutex_;
  std::size_t held_bytes_ = 0, reserved_bytes_ = 0;  // in the maps; on their way there
  std::uint64_t keys_ = 0;
  coir::io::unique_fd lock_;  // the folder
  std::unique_ptr<journal> journal_;
};

}  // namespace kv
