// journal_failure_test.cpp: what becomes of a journal, and of those who wait for it, when the disk
// refuses a write, a cut or a sync.
#include "kv/journal.hpp"

#include <string>
#include <vector>

#include "on_fibers.hpp"
#include "recording_file.hpp"
#include "stalled_writers.hpp"

using kv_test::bytes_of;
using kv_test::disk;
using kv_test::on_fibers;
using kv_test::open_journal;
using kv_test::recorder;
using kv_test::replay;
using kv_test::stalled_writers;
using kv_test::start;
using kv_test::texts;

TEST_CASE("journal: C-T7, E2: after a failure nothing is written, visible or acknowledged") {
  using fault = disk::fault;
  for (const fault f : {fault::lasting_error, fault::sync_error}) {
    CAPTURE(static_cast<int>(f));
    on_fibers([f] {
      disk d;
      recorder r;
      auto log = open_journal(d, r).value();
      REQUIRE(log->append(bytes_of("good")).has_value());
      d.next_fault = f;
      const auto failed = log->append(bytes_of("bad"));
      REQUIRE_FALSE(failed.has_value());
      d.next_fault = fault::none;  // a disk that seems well again does not count
      const auto later = log->append(bytes_of("later"));
      REQUIRE_FALSE(later.has_value());
      CHECK(later.error() == failed.error());
      CHECK(log->reset().error() == failed.error());
      CHECK(log->failure() == failed.error());
      CHECK(r.texts == texts{"good"});
      CHECK(d.calls_after_failure == 0);
      CHECK(log->close().error() == failed.error());
      d.lose_power();
      CHECK(replay(d) == texts{"good"});
    });
  }
}

TEST_CASE("journal: C-T7: a write that failed is taken back, and the next one is as good as any") {
  using fault = disk::fault;
  for (const fault f : {fault::write_error, fault::short_write}) {
    CAPTURE(static_cast<int>(f));
    on_fibers([f] {
      disk d;
      recorder r;
      auto log = open_journal(d, r).value();
      REQUIRE(log->append(bytes_of("good")).has_value());
      for (int i = 0; i < 3; ++i) {
        d.next_fault = f;
        const auto failed = log->append(bytes_of("bad"));
        CHECK(failed.error() == std::errc::no_space_on_device);
        CHECK(d.durable == d.cached);
        d.next_fault = fault::none;
        CHECK(log->append(bytes_of("next")).value() == 2 + static_cast<unsigned>(i));
      }
      CHECK(log->counters().failed_writes == 3);
      CHECK(log->counters().batches == 4);
      CHECK_FALSE(log->failure());
      CHECK(log->reset().has_value());
      CHECK(log->append(bytes_of("last")).has_value());
      CHECK(log->close().has_value());
      d.lose_power();
      CHECK(replay(d) == texts{"last"});
    });
  }
}

namespace {

/// One write fails; while it is taken back two more and a reset are queued. What is found in the
/// end: the first one and the one after all that, of which that one is told.
texts after_one_was_taken_back(kv::journal_twin twin) {
  disk d;
  recorder r;
  auto log = open_journal(d, r, {.twin = twin}).value();
  REQUIRE(log->append(bytes_of("first")).has_value());
  d.next_fault = disk::fault::write_error;
  d.cut_stalled = true;
  auto failed = start([&log] { return log->append(bytes_of("failed")); });
  REQUIRE(d.at_the_cut.wait().has_value());
  auto queued = start([&log] { return log->append(bytes_of("queued")); });
  auto reset = start([&log] { return log->reset(); });
  auto behind = start([&log] { return log->append(bytes_of("behind")); });
  for (int i = 0; i < 4; ++i) coir::this_fiber::yield();
  d.next_fault = disk::fault::none;
  d.cut_stalled = false;
  d.go_on.set();
  CHECK(failed.join().error() == std::errc::no_space_on_device);
  CHECK(queued.join().error() == std::errc::no_space_on_device);
  CHECK(reset.join().error() == std::errc::no_space_on_device);
  CHECK(behind.join().has_value());  // a reset closes its batch: it waited for the next one
  REQUIRE(log->append(bytes_of("last")).has_value());
  CHECK(r.texts == texts{"first", "behind", "last"});
  CHECK(log->close().has_value());
  d.lose_power();
  return replay(d);
}

}  // namespace

TEST_CASE("journal: C-T7: what was queued behind a write that failed is told, and leaves no gap") {
  on_fibers(
      [] {
        CHECK(after_one_was_taken_back(kv::journal_twin::none) == texts{"first", "behind", "last"});
        CHECK(after_one_was_taken_back(kv::journal_twin::keeps_its_numbers) == texts{"first"});
      },
      1);
}

TEST_CASE("journal: C-T7: what a failed sync left in the cache alone takes nothing with it") {
  const auto after_two_lives = [](kv::journal_twin twin) {
    disk d;
    recorder r;
    auto log = open_journal(d, r).value();
    REQUIRE(log->append(bytes_of("good")).has_value());
    d.next_fault = disk::fault::sync_error;
    REQUIRE_FALSE(log->append(bytes_of("refused")).has_value());
    log = nullptr;
    d.next_fault = disk::fault::none;

    // The next process; the machine goes on.
    recorder again;
    log = open_journal(d, again, {.twin = twin}).value();
    CHECK(again.texts == texts{"good", "refused"});
    REQUIRE(log->append(bytes_of("acknowledged")).has_value());
    log = nullptr;
    d.lose_power();
    return replay(d);
  };
  on_fibers([&] {
    CHECK(after_two_lives(kv::journal_twin::none) == texts{"good", "refused", "acknowledged"});
    CHECK(after_two_lives(kv::journal_twin::trusts_what_it_reads) == texts{"good"});
  });
}

TEST_CASE("journal: C-T7: every writer that waits behind a failure is told") {
  on_fibers(
      [] {
        disk d;
        recorder r;
        auto log = open_journal(d, r).value();
        stalled_writers writers(*log, d, 10);
        d.next_fault = disk::fault::sync_error;
        writers.go_on(d);
        for (auto& w : writers.all) CHECK(w.join().error() == std::errc::io_error);
        CHECK(r.texts.empty());
        CHECK(d.calls_after_failure == 0);
      },
      1);
}
