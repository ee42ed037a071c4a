// sim_disk.hpp: files in memory that know what a power cut would leave of them.
//
// A file is what programs see now, what is durable for certain, and the list of changes between the
// two. A crash gives the durable bytes plus any mixture of the rest, in units of one sector: old,
// new, or any version in between, each sector by itself. Cuts and sizes keep their order.
//
// Always true:
//   - A sync makes durable exactly the changes that were complete when the sync was handed over.
//   - After a failed sync each of its sectors is durable or not, by chance, and a later sync that
//     succeeds does not make up for it.
//   - A file that was created is found after a crash for certain only if its folder was synced
//     since.
//   - A write that is under way may be on the disk, in part or as a whole, before it is complete.
//
// Comes from: sim_execute, tests.   Goes to: sim_dice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/sim_dice.hpp"

namespace coir::detail {

inline constexpr std::size_t sector_bytes = 512;

class sim_file {
 public:
  using bytes = std::vector<std::byte>;
  static constexpr std::size_t bytes_max = std::size_t{1} << 30;

  explicit sim_file(bytes durable = {}) : durable_(durable), now_(std::move(durable)) {}

  std::size_t size() const noexcept { return now_.size(); }
  std::span<const std::byte> content() const noexcept { return now_; }
  std::span<const std::byte> durable() const noexcept { return durable_; }
  /// How many bytes were copied; 0 at the end of the file.
  std::size_t read(std::uint64_t offset, std::span<std::byte> into) const noexcept;
  void write(std::uint64_t offset, std::span<const std::byte> from);
  void truncate(std::uint64_t size);

  /// A write was handed over and has not been completed; the name to end it by.
  std::uint64_t write_begins(std::uint64_t offset, std::span<const std::byte> from);
  void write_ends(std::uint64_t name) noexcept;

  /// The changes that a sync handed over now covers.
  std::uint64_t sync_mark() const noexcept { return changes_made_; }
  void sync(std::uint64_t mark);
  void sync_failed(std::uint64_t mark, sim_dice& dice);
  std::size_t unsynced() const noexcept { return changes_.size(); }

  /// What a power cut now would leave.
  bytes crash(sim_dice& dice) const;

 private:
  struct change {
    std::uint64_t name;
    std::uint64_t offset;  // of a write; the new size of a truncate
    bytes data;
    bool cuts = false;
  };
  static void apply(bytes& to, const change& c);
  std::vector<change> take_covered(std::uint64_t mark);

  bytes durable_;
  bytes now_;
  std::vector<change> changes_;    // complete, in their order, and not durable
  std::vector<change> under_way_;  // handed over, not complete
  std::uint64_t changes_made_ = 0;
  std::uint64_t names_ = 0;
};

class sim_disk {
 public:
  using image = std::map<std::string, sim_file::bytes>;

  /// Everything in `durable` is durable.
  explicit sim_disk(const image& durable = {});

  /// Null when there is none.
  std::shared_ptr<sim_file> find(const std::string& path) const;
  /// A new, empty file; the path must be free.
  std::shared_ptr<sim_file> create(const std::string& path);
  /// A durable file, in place of any that was there.
  void put(const std::string& path, sim_file::bytes content);
  /// True for a path that some file lies below, and for "." and "/".
  bool is_folder(const std::string& path) const;
  /// Makes the names of all files directly in `path` durable.
  void sync_folder(const std::string& path);

  /// What a power cut now would leave; the same seed gives the same damage.
  image crash(std::uint64_t seed) const;
  /// The same by these decisions: if all are 0, what was durable for certain and nothing else.
  image crash(sim_dice& dice) const;
  /// What programs see now.
  image content() const;

 private:
  struct name {
    std::shared_ptr<sim_file> file;
    bool durable;
  };
  std::map<std::string, name> files_;
};

}  // namespace coir::detail
