// crash_test.cpp: the power is cut after every event of a run, and the disk is looked at.
//
// Always true:
//   - What was acknowledged before the cut is on every image that the cut may leave.
//   - The two broken twins lose something at some cut: the search would have found it.
#include <fcntl.h>

#include <cstring>

#include "in_sim.hpp"

using namespace sim_test;
using coir::detail::sim_disk;
using coir::detail::sim_file;

namespace {

constexpr std::size_t record_bytes = 700;  // more than a sector, and no multiple of it
constexpr unsigned records = 5;

enum class twin { none, never_syncs, acknowledges_before_completion };

sim_file::bytes record(unsigned number) {
  return sim_file::bytes(record_bytes, static_cast<std::byte>(number + 1));
}

/// Appends the records one by one; `acknowledged` counts those that it promised to keep.
void write_log(twin how, unsigned& acknowledged) {
  const auto fd = coir::io::open("data/log", O_CREAT | O_RDWR, 0600);
  if (!fd) return;
  const auto folder = coir::io::open("data", O_RDONLY | O_DIRECTORY);
  if (!folder || !coir::io::fsync(*folder)) return;
  for (unsigned i = 0; i < records; ++i) {
    const auto bytes = record(i);
    if (how == twin::acknowledges_before_completion) ++acknowledged;
    const auto n = coir::io::pwrite(*fd, bytes, i * record_bytes);
    if (!n || *n != record_bytes) return;
    if (how != twin::never_syncs && !coir::io::fdatasync(*fd)) return;
    if (how != twin::acknowledges_before_completion) ++acknowledged;
  }
  (void)coir::io::close(*fd);
  (void)coir::io::close(*folder);
}

/// How many whole records the image begins with.
unsigned recovered(const sim_disk::image& left) {
  const auto log = left.find("data/log");
  if (log == left.end()) return 0;
  unsigned count = 0;
  while (count < records && log->second.size() >= (count + 1) * record_bytes) {
    const auto wanted = record(count);
    if (std::memcmp(log->second.data() + count * record_bytes, wanted.data(), record_bytes) != 0)
      break;
    ++count;
  }
  return count;
}

struct search {
  std::uint64_t cuts = 0;
  unsigned lost = 0, kept_more = 0;
};

/// Every event of the run, four kinds of damage each.
search cut_everywhere(twin how) {
  search s;
  for (bool cut = true; cut; s.cuts += cut ? 1 : 0) {
    sim_world world({.seed = 1, .delay_min_ns = 10, .delay_max_ns = 20});
    unsigned acknowledged = 0;
    cut = run_until_cut(
        world, s.cuts + 1, [&] { write_log(how, acknowledged); },
        [&] {
          for (std::uint64_t damage = 0; damage < 4; ++damage) {
            const unsigned found = recovered(world.disk.crash(s.cuts * 4 + damage));
            if (found < acknowledged) ++s.lost;
            if (found > acknowledged) ++s.kept_more;
          }
        });
  }
  return s;
}

}  // namespace

TEST_CASE("crash: wherever the power is cut, what was acknowledged is kept") {
  const search s = cut_everywhere(twin::none);
  CHECK(s.lost == 0);
  CHECK(s.kept_more != 0);  // a write that was under way was there as a whole: cuts do fall between
  CHECK(s.cuts >= records * 6);
}

TEST_CASE("crash: control: a log that never syncs loses records") {
  CHECK(cut_everywhere(twin::never_syncs).lost != 0);
}

TEST_CASE("crash: control: a log that acknowledges before the completion loses records") {
  CHECK(cut_everywhere(twin::acknowledges_before_completion).lost != 0);
}

TEST_CASE("crash: a run goes on from the image that another one left") {
  unsigned acknowledged = 0;
  sim_disk::image left;
  {
    sim_world world;
    CHECK(run_until_cut(
        world, 20, [&] { write_log(twin::none, acknowledged); },
        [&] { left = world.disk.crash(7); }));
  }
  const unsigned kept = recovered(left);
  CHECK(kept >= 1);
  sim_world world({}, left);
  const auto ended = run_in_sim(world, [&] {
    const int fd = coir::io::open("data/log", O_RDWR).value();
    REQUIRE(coir::perform(truncate_op{fd, kept * record_bytes}).has_value());
    REQUIRE(coir::io::pwrite(fd, record(kept), kept * record_bytes).value() == record_bytes);
    REQUIRE(coir::io::fsync(fd).has_value());
    CHECK(coir::io::close(fd).has_value());
  });
  REQUIRE(ended.has_value());
  CHECK(recovered(world.disk.crash(8)) == kept + 1);
}

TEST_CASE("crash: after the cut nothing is done, and the run ends") {
  sim_world world;
  unsigned acknowledged = 0, at_the_cut = 0;
  sim_disk::image then;
  CHECK(run_until_cut(
      world, 9, [&] { write_log(twin::none, acknowledged); },
      [&] {
        at_the_cut = acknowledged;
        then = world.disk.content();
      }));
  CHECK(world.disk.content() == then);
  CHECK(acknowledged == at_the_cut);
}
