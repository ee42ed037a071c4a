// recording_file.hpp: a file for the journal that remembers what a power cut would leave, and that
// waits or fails when a test says so.
//
// Always true:
//   - `durable` changes in sync() and truncate() only; `cached` is what a reader of the file sees.
//   - A sync that fails leaves what it was to write in `cached` alone, and no later sync writes it:
//     so does Linux (fsync(2): the pages are marked clean).
//   - After a failure that cannot be taken back (a sync's, a cut's) every further call of the
//     journal is counted: there must be none.
#pragma once

#include <algorithm>
#include <cerrno>
#include <coir/sync.hpp>
#include <memory>
#include <span>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "kv/journal.hpp"
#include "kv/journal_file.hpp"

namespace kv_test {

using bytes = std::vector<std::byte>;

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// The disk outlives the files opened on it, as disks do.
struct disk {
  bytes cached, durable;
  struct range {
    std::size_t offset, count;
  };
  std::vector<range> dirty;  // of `cached`
  unsigned writes = 0, syncs = 0, truncates = 0;

  bool stalled = false;      // the next sync waits for `go_on`
  bool cut_stalled = false;  // and so does the next cut
  coir::event at_the_sync;   // set when one waits
  coir::event at_the_cut;
  coir::event go_on;

  // lasting_error: the write fails, and so does the cut that would take it back
  enum class fault {
    none,
    write_error,
    short_write,
    lasting_error,
    sync_error
  } next_fault = fault::none;
  bool failed = false;
  unsigned calls_after_failure = 0;

  /// Writes what is dirty, and its size.
  void flush() {
    for (const range& each : std::exchange(dirty, {})) {
      const std::size_t end = std::min(each.offset + each.count, cached.size());
      if (end <= each.offset) continue;
      durable.resize(std::max(durable.size(), end));
      std::ranges::copy(std::span(cached).subspan(each.offset, end - each.offset),
                        durable.begin() + static_cast<std::ptrdiff_t>(each.offset));
    }
  }
  /// What a machine without power finds again.
  void lose_power() {
    cached = durable;
    dirty.clear();
  }
};

class recording_file final : public kv::journal_file {
 public:
  explicit recording_file(disk& d) : disk_(d) {}

  coir::result<std::size_t> read_at(std::span<std::byte> into, std::uint64_t offset) override {
    if (offset >= disk_.cached.size()) return std::size_t{0};
    const auto rest = std::span(disk_.cached).subspan(offset);
    const auto count = std::min(into.size(), rest.size());
    std::ranges::copy(rest.first(count), into.begin());
    return count;
  }
  coir::result<std::size_t> write_at(std::span<const std::byte> from,
                                     std::uint64_t offset) override {
    count_late_call();
    ++disk_.writes;
    if (disk_.next_fault == disk::fault::write_error) return fault(ENOSPC);
    if (disk_.next_fault == disk::fault::lasting_error) return fault(ENOSPC);
    auto count = from.size();
    if (disk_.next_fault == disk::fault::short_write) count /= 2;
    if (disk_.cached.size() < offset + count) disk_.cached.resize(offset + count);
    std::ranges::copy(from.first(count),
                      disk_.cached.begin() + static_cast<std::ptrdiff_t>(offset));
    disk_.dirty.push_back({offset, count});
    return count;
  }
  coir::result<> sync() override {
    count_late_call();
    ++disk_.syncs;
    if (disk_.stalled) {
      disk_.at_the_sync.set();
      if (auto waited = disk_.go_on.wait(); !waited) return waited;
    }
    if (disk_.next_fault == disk::fault::sync_error) {
      disk_.dirty.clear();
      return fault(EIO, true);
    }
    disk_.flush();
    return {};
  }
  coir::result<> truncate(std::uint64_t size) override {
    count_late_call();
    ++disk_.truncates;
    if (disk_.cut_stalled) {
      disk_.at_the_cut.set();
      if (auto waited = disk_.go_on.wait(); !waited) return waited;
    }
    if (disk_.next_fault == disk::fault::lasting_error) return fault(EIO, true);
    disk_.cached.resize(size);
    disk_.flush();
    disk_.durable.resize(size);
    return {};
  }

 private:
  void count_late_call() { disk_.calls_after_failure += disk_.failed ? 1 : 0; }
  tl::unexpected<std::error_code> fault(int number, bool lasts = false) {
    disk_.failed = disk_.failed || lasts;
    return coir::fail(std::error_code(number, std::generic_category()));
  }

  disk& disk_;
};

/// Keeps what it is told, in order.
struct recorder final : kv::journal_listener {
  std::vector<std::string> texts;
  std::vector<std::uint64_t> sequences;
  unsigned resets = 0;

  void on_record(const kv::record& r) override {
    sequences.push_back(r.sequence);
    texts.emplace_back(reinterpret_cast<const char*>(r.payload.data()), r.payload.size());
  }
  void on_reset() override {
    ++resets;
    texts.clear();
    sequences.clear();
  }
};

inline coir::result<std::unique_ptr<kv::journal>> open_journal(disk& d, recorder& r,
                                                               kv::journal_options o = {}) {
  return kv::journal::open(std::make_unique<recording_file>(d), r, o);
}

}  // namespace kv_test
