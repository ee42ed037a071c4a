// store.hpp: a map from text to text that survives a crash: a machine whose inputs are changes, a
// journal that they wait for, and a table that follows.
//
// Always true:
//   - Answered is durable, and durable comes before visible: a value can be read once it is on the
//     disk, and reads never wait for the disk.
//   - Memory changes in the order of the journal, so what recovery finds is what readers saw. All
//     inputs and the journal's writer are fibers of one worker, which wakes those who wait for a
//     batch in the order in which they appended.
//   - The memory cap refuses what needs more memory than there is; it never refuses what needs no
//     more than the value it replaces, and never loses one.
//   - One store per folder at a time, whatever process it is in.
//
// Comes from: service.cpp, resp_service.cpp, main.cpp.   Goes to: journal.hpp, table.hpp,
// coir/state_machine.hpp.
#pragma once

#include <coir/state_machine.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kv/journal.hpp"
#include "kv/protocol.hpp"
#include "kv/table.hpp"

namespace kv {

struct store_options {
  std::size_t memory_max = std::size_t{1} << 30;  ///< bytes of keys and values, with their overhead
  journal_options journal = {};
  std::uint32_t inflight_max = 4096;  ///< changes on their way to the disk; then they wait in line
  std::uint32_t queue_max = 4096;     ///< in that line; then callers wait
};

using store_counters = table_counters;

class store final : private journal_listener {
 public:
  /// Creates the folder if need be, locks it, and recovers its journal. Fibers only; the calling
  /// fiber's worker is the one that changes it. Errors: device_or_resource_busy when another store
  /// has the folder, not_supported when a newer version wrote its journal, those of mkdir(2) and
  /// open(2).
  [[nodiscard]] static coir::result<std::unique_ptr<store>> open(const std::string& folder,
                                                                 const store_options& o = {});
  /// The same over a file of the caller's: no folder, no lock.
  [[nodiscard]] static coir::result<std::unique_ptr<store>> open(std::unique_ptr<journal_file> file,
                                                                 const store_options& o = {});

  /// Makes all of `changes`, in their order and in one batch of the journal; parks until they are
  /// durable and can be read. Returns how many of their keys had a value before. Errors:
  /// invalid_argument (none; a key over key_bytes_max), message_size (a value over
  /// value_bytes_max), not_enough_memory (the cap), those of journal::append. After timed_out and
  /// operation_canceled nobody knows: what had begun goes on and is made, if the cap, the disk and
  /// a stop allow it; what still waited in line, or for room there, never is.
  [[nodiscard]] coir::result<std::size_t> change_all(std::vector<change> changes,
                                                     coir::deadline until = coir::never) {
    return change_all(std::make_shared<const std::vector<change>>(std::move(changes)), until);
  }
  /// The same, for who keeps them.
  [[nodiscard]] coir::result<std::size_t> change_all(
      std::shared_ptr<const std::vector<change>> changes, coir::deadline until = coir::never);
  /// One of them.
  [[nodiscard]] coir::result<> write(std::string_view key, std::string value,
                                     coir::deadline until = coir::never);
  [[nodiscard]] coir::result<> write(std::string_view key, std::int64_t value,
                                     coir::deadline until = coir::never) {
    return write(key, std::to_string(value), until);
  }

  /// The value, if there is one and it is an integer. Never waits. Any thread.
  std::optional<std::int64_t> read(std::string_view key) const;
  std::optional<std::string> find(std::string_view key) const;
  /// For who needs no copy: table::visit.
  const table& values() const noexcept { return table_; }

  /// Forgets everything, in memory and in the journal. Errors: those of journal::reset.
  [[nodiscard]] coir::result<> reset(coir::deadline until = coir::never);
  /// Finishes what is queued and closes the journal. Returns its failure, if there was one.
  [[nodiscard]] coir::result<> close();

  store_counters counters() const { return table_.counters(); }
  const journal& log() const noexcept { return *journal_; }

  store(const store&) = delete;
  store& operator=(const store&) = delete;
  ~store();

 private:
  struct input {
    std::shared_ptr<const std::vector<change>> changes;  // none: a reset
  };
  // Readers are everywhere, so the table has locks of its own, and the machine holds its place.
  using machine = coir::state_machine<input, std::size_t, table*>;

  explicit store(const store_options& o) : table_(o.memory_max) {}
  coir::result<> start(std::unique_ptr<journal_file> file, const store_options& o);
  coir::result<std::size_t> handle(const input& in, machine::context& context);
  coir::result<std::size_t> handle_reset(machine::context& context);
  void on_record(const record& r) override;
  void on_reset() override { table_.clear(); }

  table table_;
  bool newer_ = false;        // a record of a kind that nobody here knows
  coir::io::unique_fd lock_;  // the folder
  std::unique_ptr<journal> journal_;
  std::optional<machine> machine_;  // ends first: its inputs use the rest
};

}  // namespace kv
