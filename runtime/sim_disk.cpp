// sim_disk.cpp: writes, syncs, and what a power cut leaves.
//
// Always true:
//   - now_ is durable_ with changes_ applied in order, but for what a failed sync decided by
//     chance.
//
// Comes from: sim_disk.hpp.   Goes to: sim_dice.
#include "runtime/sim_disk.hpp"

#include <algorithm>
#include <cstring>

namespace coir::detail {
namespace {

using bytes = sim_file::bytes;

/// The sector's bytes, filled up with zeros beyond the end of the file.
bytes sector_of(const bytes& file, std::size_t sector) {
  bytes copy(sector_bytes);
  const std::size_t from = sector * sector_bytes;
  if (from < file.size())
    std::memcpy(copy.data(), file.data() + from, std::min(sector_bytes, file.size() - from));
  return copy;
}

void put_sector(bytes& file, std::size_t sector, const bytes& content) {
  const std::size_t from = sector * sector_bytes;
  if (file.size() < from + sector_bytes) file.resize(from + sector_bytes);
  std::memcpy(file.data() + from, content.data(), sector_bytes);
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

void sim_file::apply(bytes& to, const change& c) {
  if (c.cuts) return to.resize(c.offset);
  const std::size_t end = c.offset + c.data.size();
  if (to.size() < end) to.resize(end);
  if (!c.data.empty()) std::memcpy(to.data() + c.offset, c.data.data(), c.data.size());
}

std::size_t sim_file::read(std::uint64_t offset, std::span<std::byte> into) const noexcept {
  if (offset >= now_.size()) return 0;
  const std::size_t count = std::min(into.size(), now_.size() - offset);
  if (count != 0) std::memcpy(into.data(), now_.data() + offset, count);
  return count;
}

void sim_file::write(std::uint64_t offset, std::span<const std::byte> from) {
  changes_.push_back({++changes_made_, offset, bytes(from.begin(), from.end())});
  apply(now_, changes_.back());
}

void sim_file::truncate(std::uint64_t size) {
  changes_.push_back({++changes_made_, size, {}, true});
  apply(now_, changes_.back());
}

std::uint64_t sim_file::write_begins(std::uint64_t offset, std::span<const std::byte> from) {
  under_way_.push_back({++names_, offset, bytes(from.begin(), from.end())});
  return names_;
}

void sim_file::write_ends(std::uint64_t name) noexcept {
  std::erase_if(under_way_, [name](const change& c) { return c.name == name; });
}

std::vector<sim_file::change> sim_file::take_covered(std::uint64_t mark) {
  const auto end = std::find_if(changes_.begin(), changes_.end(),
                                [mark](const change& c) { return c.name > mark; });
  std::vector<change> covered(std::make_move_iterator(changes_.begin()),
                              std::make_move_iterator(end));
  changes_.erase(changes_.begin(), end);
  return covered;
}

void sim_file::sync(std::uint64_t mark) {
  for (const change& c : take_covered(mark)) apply(durable_, c);
}

void sim_file::sync_failed(std::uint64_t mark, sim_dice& dice) {
  bytes wanted = durable_;
  for (const change& c : take_covered(mark)) apply(wanted, c);
  const std::size_t size = dice.below(2) == 0 ? durable_.size() : wanted.size();
  const std::size_t sectors =
      (std::max(durable_.size(), wanted.size()) + sector_bytes - 1) / sector_bytes;
  for (std::size_t s = 0; s < sectors; ++s) {
    const bytes now = sector_of(wanted, s);
    if (now != sector_of(durable_, s) && dice.below(2) != 0) put_sector(durable_, s, now);
  }
  durable_.resize(size);
}

sim_file::bytes sim_file::crash(sim_dice& dice) const {
  struct version {
    std::size_t change;
    bool cut;
    bytes content;
  };
  bytes now = durable_;
  std::vector<std::size_t> sizes{durable_.size()};
  std::map<std::size_t, std::vector<version>> versions;  // of the sectors that changed
  const auto pass = [&](const change& c) {
    const std::size_t before = now.size();
    apply(now, c);
    const std::size_t first = c.cuts ? std::min(before, now.size()) : c.offset;
    const std::size_t end = c.cuts ? std::max(before, now.size()) : c.offset + c.data.size();
    for (std::size_t s = first / sector_bytes; s * sector_bytes < end; ++s)
      versions[s].push_back({sizes.size(), c.cuts, sector_of(now, s)});
    sizes.push_back(now.size());
  };
  std::ranges::for_each(changes_, pass);
  std::ranges::for_each(under_way_, pass);
  // Sizes are kept in order, as a file system's own journal does it: up to one moment. A cut that
  // came before that moment has happened as a whole, a later one not at all.
  const std::size_t moment = dice.below(sizes.size());
  bytes left = durable_;
  for (const auto& [sector, all] : versions) {
    std::vector<const bytes*> possible{nullptr};
    for (const version& v : all) {
      if (v.cut && v.change > moment) continue;
      if (v.cut) possible.clear();
      possible.push_back(&v.content);
    }
    if (const bytes* const pick = possible[dice.below(possible.size())])
      put_sector(left, sector, *pick);
  }
  left.resize(sizes[moment]);
  return left;
}

sim_disk::sim_disk(const image& durable) {
  for (const auto& [path, content] : durable)
    files_[path] = {std::make_shared<sim_file>(content), true};
}

std::shared_ptr<sim_file> sim_disk::find(const std::string& path) const {
  const auto at = files_.find(path);
  return at == files_.end() ? nullptr : at->second.file;
}

std::shared_ptr<sim_file> sim_disk::create(const std::string& path) {
  COIR_ASSERT(!files_.contains(path));
  auto made = std::make_shared<sim_file>();
  files_[path] = {made, false};
  return made;
}

void sim_disk::put(const std::string& path, sim_file::bytes content) {
  files_[path] = {std::make_shared<sim_file>(std::move(content)), true};
}

bool sim_disk::is_folder(const std::string& path) const {
  if (path == "." || path == "/") return true;
  const auto at = files_.lower_bound(path + "/");
  return at != files_.end() && at->first.starts_with(path + "/");
}

void sim_disk::sync_folder(const std::string& path) {
  for (auto& [name, entry] : files_)
    if (folder_of(name) == path) entry.durable = true;
}

sim_disk::image sim_disk::crash(std::uint64_t seed) const {
  sim_dice dice(seed);
  return crash(dice);
}

sim_disk::image sim_disk::crash(sim_dice& dice) const {
  image left;
  for (const auto& [path, entry] : files_)
    if (entry.durable || dice.below(2) != 0) left[path] = entry.file->crash(dice);
  return left;
}

sim_disk::image sim_disk::content() const {
  image all;
  for (const auto& [path, entry] : files_)
    all[path] = {entry.file->content().begin(), entry.file->content().end()};
  return all;
}

}  // namespace coir::detail
