// sim_disk_test.cpp: what is durable, what is perhaps, and what certainly is not.
//
// Always true:
//   - A statement about chance is checked over many seeds: what must be possible was seen, what
//     must not be possible was never seen.
#include "runtime/sim_disk.hpp"

#include <doctest/doctest.h>

#include <set>

using coir::detail::sector_bytes;
using coir::detail::sim_dice;
using coir::detail::sim_disk;
using coir::detail::sim_file;

namespace {

sim_file::bytes block(std::size_t bytes, int value) {
  return sim_file::bytes(bytes, static_cast<std::byte>(value));
}

/// Every image of the file that 200 seeds can leave.
std::set<sim_file::bytes> images(const sim_file& file) {
  std::set<sim_file::bytes> all;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    sim_dice dice(seed);
    all.insert(file.crash(dice));
  }
  return all;
}

}  // namespace

TEST_CASE("sim_disk: what is read is what was written, with zeros in the holes") {
  sim_file file;
  file.write(3, block(2, 7));
  sim_file::bytes read(10, std::byte{9});
  CHECK(file.read(0, read) == 5);
  CHECK(read == sim_file::bytes{std::byte{0}, std::byte{0}, std::byte{0}, std::byte{7},
                                std::byte{7}, std::byte{9}, std::byte{9}, std::byte{9},
                                std::byte{9}, std::byte{9}});
  CHECK(file.read(5, read) == 0);
  file.truncate(4);
  CHECK(file.size() == 4);
}

TEST_CASE("sim_disk: after a sync a crash leaves exactly what was written") {
  sim_file file;
  file.write(0, block(3000, 1));
  file.sync(file.sync_mark());
  CHECK(images(file) == std::set<sim_file::bytes>{block(3000, 1)});
}

TEST_CASE("sim_disk: without a sync each sector is old or new, by itself") {
  sim_file file(block(2 * sector_bytes, 1));
  file.write(0, block(2 * sector_bytes, 2));
  std::set<std::pair<std::byte, std::byte>> seen;
  for (const auto& image : images(file)) {
    REQUIRE(image.size() == 2 * sector_bytes);
    for (std::size_t i = 1; i < sector_bytes; ++i) {
      CHECK(image[i] == image[0]);
      CHECK(image[sector_bytes + i] == image[sector_bytes]);
    }
    seen.insert({image[0], image[sector_bytes]});
  }
  CHECK(seen.size() == 4);
}

TEST_CASE("sim_disk: a sector that was written twice may be at any of its versions") {
  sim_file file(block(sector_bytes, 1));
  file.write(0, block(sector_bytes, 2));
  file.write(0, block(sector_bytes, 3));
  CHECK(images(file) == std::set<sim_file::bytes>{block(sector_bytes, 1), block(sector_bytes, 2),
                                                  block(sector_bytes, 3)});
}

TEST_CASE("sim_disk: a sync covers what was complete when it was handed over, and no more") {
  sim_file file;
  file.write(0, block(10, 1));
  const std::uint64_t mark = file.sync_mark();
  file.write(10, block(10, 2));
  file.sync(mark);
  bool only_first = false;
  for (const auto& image : images(file)) {
    REQUIRE(image.size() >= 10);
    CHECK(std::equal(image.begin(), image.begin() + 10, block(10, 1).begin()));
    only_first |= image.size() == 10;
  }
  CHECK(only_first);
  CHECK(file.unsynced() == 1);
}

TEST_CASE("sim_disk: a write that is under way may be there, and is not when it was given up") {
  sim_file file;
  const std::uint64_t name = file.write_begins(0, block(100, 1));
  CHECK(images(file).contains(block(100, 1)));
  CHECK(images(file).contains({}));
  CHECK(file.size() == 0);
  file.write_ends(name);
  CHECK(images(file) == std::set<sim_file::bytes>{{}});
}

TEST_CASE("sim_disk: a sync that failed is not made up for by the next one that succeeds") {
  bool lost = false, kept = false;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    sim_file file(block(sector_bytes, 1));
    file.write(0, block(sector_bytes, 2));
    sim_dice dice(seed);
    file.sync_failed(file.sync_mark(), dice);
    file.sync(file.sync_mark());
    const auto all = images(file);
    REQUIRE(all.size() == 1);
    lost |= *all.begin() == block(sector_bytes, 1);
    kept |= *all.begin() == block(sector_bytes, 2);
  }
  CHECK(lost);
  CHECK(kept);
}

TEST_CASE("sim_disk: a cut that was not synced may be undone, and one that was may not") {
  sim_file file(block(1000, 1));
  file.truncate(0);
  CHECK(images(file) == std::set<sim_file::bytes>{{}, block(1000, 1)});
  file.sync(file.sync_mark());
  CHECK(images(file) == std::set<sim_file::bytes>{{}});
}

TEST_CASE("sim_disk: a new file may be missing until its folder was synced") {
  sim_disk disk({{"data/old", block(1, 1)}});
  const auto file = disk.create("data/new");
  file->write(0, block(1, 2));
  file->sync(file->sync_mark());
  bool missing = false, there = false;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const auto left = disk.crash(seed);
    CHECK(left.contains("data/old"));
    missing |= !left.contains("data/new");
    there |= left.contains("data/new");
  }
  CHECK(missing);
  CHECK(there);
  disk.sync_folder("data");
  for (std::uint64_t seed = 0; seed < 50; ++seed) CHECK(disk.crash(seed).contains("data/new"));
}

TEST_CASE("sim_disk: the same seed does the same damage") {
  sim_disk disk;
  for (int i = 0; i < 20; ++i) {
    const auto file = disk.create("f" + std::to_string(i));
    file->write(0, block(5000, i));
  }
  CHECK(disk.crash(5) == disk.crash(5));
  CHECK(disk.crash(5) != disk.crash(6));
}

TEST_CASE("sim_disk: a folder is what files lie in") {
  const sim_disk disk({{"a/b/c", {}}, {"top", {}}});
  CHECK(disk.is_folder("."));
  CHECK(disk.is_folder("a"));
  CHECK(disk.is_folder("a/b"));
  CHECK_FALSE(disk.is_folder("a/b/c"));
  CHECK_FALSE(disk.is_folder("to"));
  CHECK(disk.find("top") != nullptr);
  CHECK(disk.find("a") == nullptr);
}

TEST_CASE("sim_disk: where every decision is 0 a cut leaves what was durable for certain") {
  sim_disk disk;
  disk.put("kept", sim_file::bytes(700, std::byte{1}));
  disk.find("kept")->write(0, sim_file::bytes(1400, std::byte{2}));
  disk.create("new")->write(0, sim_file::bytes(10, std::byte{3}));
  sim_dice ordinary(1);
  ordinary.replay({});
  const sim_disk::image left = disk.crash(ordinary);
  CHECK(left == sim_disk::image{{"kept", sim_file::bytes(700, std::byte{1})}});
  CHECK(ordinary.made() > 2);
}
