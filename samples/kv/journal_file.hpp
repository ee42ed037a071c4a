// journal_file.hpp: the few things a journal asks of a file, so that a test can put a file of its
// own there: one that waits, that fails, or that loses what was not synced.
//
// Always true:
//   - Only sync() and truncate() make anything durable; write_at alone promises nothing.
//   - One fiber uses a file at a time.
//
// Comes from: journal.cpp.   Goes to: coir/io.hpp.
#pragma once

#include <coir/io.hpp>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace kv {

class journal_file {
 public:
  journal_file() = default;
  journal_file(const journal_file&) = delete;
  journal_file& operator=(const journal_file&) = delete;
  virtual ~journal_file() = default;

  /// Up to into.size() bytes at `offset`; 0 at the end of the file.
  virtual coir::result<std::size_t> read_at(std::span<std::byte> into, std::uint64_t offset) = 0;
  /// May write less than asked.
  virtual coir::result<std::size_t> write_at(std::span<const std::byte> from,
                                             std::uint64_t offset) = 0;
  /// All that was written is on the disk once this answers success. After a failure nobody knows
  /// what is, and asking again proves nothing.
  virtual coir::result<> sync() = 0;
  /// Cuts the file to `bytes`, durably.
  virtual coir::result<> truncate(std::uint64_t bytes) = 0;
};

/// For tests of the tests: a file that leaves one sync out, which a power cut must show.
enum class file_twin { none, appends_unsynced, cuts_unsynced, folder_unsynced };

/// Opens or creates the file `name` in the folder `folder`; its entry in the folder is durable.
/// Fibers only. Errors: those of open(2) and fsync(2).
[[nodiscard]] coir::result<std::unique_ptr<journal_file>> open_journal_file(
    const std::string& folder, const std::string& name, file_twin twin = file_twin::none);

}  // namespace kv
