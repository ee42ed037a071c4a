// journal.hpp: a durable log with group commit: any number of fibers append, one fiber writes.
//
// A batch is what was appended while the one before it was on its way to the disk. The writer fiber
// gives it one write and one sync, then makes its records visible in their order, then wakes
// everyone who waits for it.
//
// Always true:
//   - Success means durable: append and reset answer only after the sync that covers them.
//   - Durable before visible before answered, in the order of the sequence numbers; the listener is
//     called by the writer fiber only (and by open, before there is one).
//   - The writer fiber lives on the worker that opened the journal.
//   - A write that failed is taken back: the file is cut, durably, to what was acknowledged, all
//     those who were queued by then are told, and the next append is written as if they had not
//     been. A sync or a cut that failed is the last: nothing after it is written, made visible or
//     acknowledged, and it is not tried twice, because a kernel that failed one may have dropped
//     the pages.
//   - What open() replays is on the disk before anything follows it, though a sync failed before:
//     open() writes it once more and syncs.
//   - What open() replays is what was made visible before, plus at most a run of records that
//     followed and whose answer was never success.
//
// Comes from: store.cpp.   Goes to: journal_file.hpp, record.hpp, coir/sync.hpp.
#pragma once

#include <coir/scope.hpp>
#include <coir/sync.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <system_error>
#include <vector>

#include "kv/journal_file.hpp"
#include "kv/record.hpp"

namespace kv {

/// Who turns records into state. Never parks, never throws.
class journal_listener {
 public:
  virtual void on_record(const record& r) = 0;
  virtual void on_reset() = 0;

 protected:
  ~journal_listener() = default;
};

/// For tests of the tests: a journal that breaks its promise in one way, which a crash must show.
enum class journal_twin {
  none,
  never_syncs,
  answers_before_completion,
  trusts_what_it_reads,
  keeps_its_numbers  // after a write that failed: what follows cannot be found again
};

struct journal_options {
  std::size_t batch_records_max = 1024;  ///< then append waits for the next batch
  std::size_t batch_bytes_max = std::size_t{4}
                                << 20;  ///< likewise; what is appended at once always fits
  journal_twin twin = journal_twin::none;
  /// False: after open() the listener is told nothing. Those who append make visible what is
  /// durable, each when it is woken: in the order of the sequence numbers where all of them are
  /// fibers of the worker that opened the journal.
  bool publishes = true;
};

struct journal_counters {
  std::uint64_t records = 0, batches = 0, writes = 0, syncs = 0, bytes = 0, resets = 0;
  std::uint64_t failed_writes = 0;  ///< batches that were taken back
};

/// One record to come.
struct entry {
  std::uint8_t kind = 0;
  std::vector<std::byte> payload;
  std::size_t bytes() const noexcept { return record_header_bytes + payload.size(); }
};

struct recovery {
  std::uint64_t records = 0;
  std::uint64_t bytes = 0;      ///< of good records
  std::uint64_t cut_bytes = 0;  ///< of the torn tail that were looked at; all of it was taken off
};

class journal {
 public:
  /// Replays `file` into `listener`, writes what was good once more, cuts a torn tail off, syncs,
  /// and starts the writer fiber.
  /// `listener` outlives the journal. Fibers only. Errors: those of the file, and of spawn.
  [[nodiscard]] static coir::result<std::unique_ptr<journal>> open(
      std::unique_ptr<journal_file> file, journal_listener& listener, journal_options o = {});

  /// Appends one record; parks until it is durable and visible; returns its sequence number.
  /// Errors: message_size (empty, or over payload_bytes_max), not_enough_memory (this append alone,
  /// of which nothing is written), that of a write that failed (failure() is empty: it was taken
  /// back, as a full disk may have room again), the error that ended the journal,
  /// errc::shutting_down after close. timed_out and operation_canceled leave the outcome open: a
  /// record that was queued is still written, unless a write that fails takes it along.
  [[nodiscard]] coir::result<std::uint64_t> append(std::span<const std::byte> payload,
                                                   coir::deadline until = coir::never);

  /// The same for several in a row: nothing comes between them, and they become durable together.
  /// Returns the number of the first. Errors: also message_size when there is none.
  [[nodiscard]] coir::result<std::uint64_t> append_all(std::span<const entry> entries,
                                                       coir::deadline until = coir::never);

  /// Empties the journal and the state: every append answered or queued before is gone, every later
  /// one stays. Durable when it answers. Errors: those of append. When the disk fails it, a later
  /// open may find any beginning of what there was.
  [[nodiscard]] coir::result<> reset(coir::deadline until = coir::never);

  /// Writes what is queued, ends the writer fiber, closes the file; a cancel of the caller does not
  /// keep it from that. Returns the failure, if there was one. Fibers and plain threads, one after
  /// the other; again: the same answer.
  [[nodiscard]] coir::result<> close();

  journal_counters counters() const;
  /// Why nothing is written any more; empty while all is well.
  std::error_code failure() const;
  const recovery& recovered() const noexcept { return recovered_; }

  journal(const journal&) = delete;
  journal& operator=(const journal&) = delete;
  ~journal();

 private:
  struct batch {
    std::vector<std::byte> bytes;
    std::size_t records = 0;
    std::uint64_t first = 0;  // the number of the first record
    bool reset = false;       // comes after the records, and closes the batch
    coir::event settled;
    std::error_code error;  // written before settled, read after it
    bool empty() const noexcept { return records == 0 && !reset; }
  };
  // Shared by the writer and those who wait: set() may still be at work when a waiter goes on.
  using batch_ref = std::shared_ptr<batch>;

  journal(std::unique_ptr<journal_file> file, journal_listener& listener, journal_options o);
  coir::result<> recover();
  coir::result<> wait_for_room(std::unique_lock<coir::mutex>& held, std::size_t records,
                               std::size_t bytes, coir::deadline until);
  bool has_room(std::size_t records, std::size_t bytes) const noexcept;
  template <class Write>
  coir::result<std::uint64_t> append_with(std::size_t records, std::size_t bytes,
                                          coir::deadline until, Write write);

  void write_batches();
  batch_ref take_batch();
  std::error_code commit(batch& b);
  std::error_code store(const batch& b);
  std::error_code write_behind(std::span<const std::byte> bytes);
  std::error_code take_back(const batch& b, std::error_code why);
  void settle(batch& b, std::error_code why);
  void publish(const batch& b, const journal_counters& done);
  std::error_code fail_for_good(std::error_code why);

  std::unique_ptr<journal_file> file_;
  journal_listener& listener_;
  const journal_options options_;
  recovery recovered_;
  std::uint64_t end_ = 0;  // where the next batch goes; the writer's own

  mutable coir::mutex mutex_;  // guards everything below
  coir::condition_variable work_, room_;
  batch_ref collecting_;
  std::uint64_t next_sequence_ = 1;
  bool closing_ = false;
  std::error_code failure_;
  journal_counters counters_;

  std::optional<coir::scope> writer_;  // last: its end waits for the writer fiber
};

}  // namespace kv
