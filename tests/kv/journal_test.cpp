// journal_test.cpp: success means durable, and durable before visible; what is found again.
#include "kv/journal.hpp"

#include <set>
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

TEST_CASE("journal: C-T5: a record is durable, and then visible, when append answers") {
  on_fibers([] {
    disk d;
    recorder r;
    auto log = open_journal(d, r).value();
    CHECK(log->append(bytes_of("one")).value() == 1);
    CHECK(log->append(bytes_of("two")).value() == 2);
    CHECK(r.texts == texts{"one", "two"});
    d.lose_power();
    CHECK(replay(d) == texts{"one", "two"});
  });
}

TEST_CASE("journal: nothing is visible while its sync is on the way") {
  on_fibers(
      [] {
        disk d;
        recorder r;
        auto log = open_journal(d, r).value();
        stalled_writers writers(*log, d, 1);
        CHECK(r.texts.empty());
        CHECK_FALSE(writers.all[0].done());
        writers.go_on(d);
        for (auto& w : writers.all) CHECK(w.join().has_value());
        CHECK(r.texts == texts{"first", "later 0"});
      },
      1);
}

TEST_CASE("journal: what was appended during one sync shares the next one") {
  on_fibers(
      [] {
        disk d;
        recorder r;
        auto log = open_journal(d, r).value();
        stalled_writers writers(*log, d, 40);
        writers.go_on(d);
        for (auto& w : writers.all) CHECK(w.join().has_value());
        CHECK(d.writes == 2);
        CHECK(d.syncs == 2);
        const kv::journal_counters c = log->counters();
        CHECK(c.records == 41);
        CHECK(c.batches == 2);
        CHECK(c.writes == 2);
        CHECK(c.syncs == 2);
        CHECK(c.bytes == d.durable.size());
      },
      1);
}

TEST_CASE("journal: C-T8: visible in the order of the file, for writers of every worker") {
  on_fibers([] {
    disk d;
    recorder r;
    auto log = open_journal(d, r).value();
    coir::scope writers;
    for (int i = 0; i < 300; ++i)
      writers.spawn([&log, i] { return log->append(bytes_of(std::to_string(i))); },
                    {.worker = static_cast<unsigned>(i % 2)});
    REQUIRE(writers.join().has_value());
    CHECK(r.texts.size() == 300);
    for (std::size_t i = 0; i < r.sequences.size(); ++i) CHECK(r.sequences[i] == i + 1);
    d.lose_power();
    CHECK(replay(d) == r.texts);
  });
}

TEST_CASE("journal: C-T6: recovery keeps what is whole before a tail torn at any byte") {
  on_fibers([] {
    disk d;
    {
      recorder r;
      auto log = open_journal(d, r).value();
      for (const char* text : {"one", "two", "three"})
        REQUIRE(log->append(bytes_of(text)).has_value());
    }
    const kv_test::bytes whole = d.cached;
    const std::size_t second_end = 2 * (kv::record_header_bytes + 3);
    for (std::size_t cut = second_end + 1; cut < whole.size(); ++cut) {
      d.cached.assign(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(cut));
      CHECK(replay(d) == texts{"one", "two"});
      CHECK(d.durable.size() == second_end);
    }
  });
}

TEST_CASE("journal: C-T6: recovery stops at garbage, a bad sum, and a number out of turn") {
  on_fibers([] {
    disk d;
    kv::write_record(d.cached, 5, bytes_of("five"));
    kv::write_record(d.cached, 6, bytes_of("six"));
    const kv_test::bytes good = d.cached;

    d.cached.resize(good.size() + 1000, std::byte{0xA5});
    CHECK(replay(d) == texts{"five", "six"});
    CHECK(d.cached == good);

    d.cached.resize(good.size() + 1000);  // zeros, as some file systems leave them
    CHECK(replay(d) == texts{"five", "six"});

    d.cached = good;
    kv::write_record(d.cached, 8, bytes_of("eight without seven"));
    CHECK(replay(d) == texts{"five", "six"});
    CHECK(d.cached == good);

    d.cached = good;
    d.cached[kv::record_header_bytes] ^= std::byte{1};
    CHECK(replay(d).empty());
    CHECK(d.cached.empty());
  });
}

TEST_CASE("journal: a journal larger than one read is recovered whole, and numbers go on") {
  on_fibers([] {
    disk d;
    const std::string text(300'000, 'x');
    for (std::uint64_t i = 1; i <= 12; ++i) kv::write_record(d.cached, i, bytes_of(text));
    recorder r;
    auto log = open_journal(d, r).value();
    CHECK(r.texts == texts(12, text));
    CHECK(log->recovered().records == 12);
    CHECK(log->recovered().bytes == d.cached.size());
    CHECK(log->append(bytes_of("thirteen")).value() == 13);
  });
}

TEST_CASE("journal: recovery makes durable what a killed process wrote and never synced") {
  on_fibers([] {
    disk d;
    kv::write_record(d.cached, 1, bytes_of("one"));
    CHECK(replay(d) == texts{"one"});
    d.lose_power();
    CHECK(replay(d) == texts{"one"});
  });
}

TEST_CASE("journal: C-T11: a reset wipes what was queued before it and spares what comes after") {
  on_fibers(
      [] {
        disk d;
        recorder r;
        auto log = open_journal(d, r).value();
        stalled_writers writers(*log, d, 5);
        auto reset = start([&log] { return log->reset(); });
        auto after = start([&log] { return log->append(bytes_of("after")); });
        writers.go_on(d);
        for (auto& w : writers.all) CHECK(w.join().has_value());
        CHECK(reset.join().has_value());
        CHECK(after.join().has_value());
        CHECK(r.texts == texts{"after"});
        CHECK(r.resets == 1);
        CHECK(d.truncates == 2);  // open's, and one
        d.lose_power();
        CHECK(replay(d) == texts{"after"});
      },
      1);
}

TEST_CASE("journal: C-T11: after any mix of writes and resets the file says what memory says") {
  on_fibers([] {
    disk d;
    recorder r;
    {
      auto log = open_journal(d, r).value();
      coir::scope all;
      for (int i = 0; i < 400; ++i)
        all.spawn(
            [&log, i]() -> coir::result<> {
              if (i % 37 == 0) return log->reset();
              auto done = log->append(bytes_of(std::to_string(i)));
              return done ? coir::result<>() : coir::result<>(coir::fail(done.error()));
            },
            {.worker = static_cast<unsigned>(i % 2)});
      REQUIRE(all.join().has_value());
      CHECK(r.resets == 11);
    }
    d.lose_power();
    CHECK(replay(d) == r.texts);
  });
}

TEST_CASE("journal: C-T16: close writes and answers what is queued, and refuses what comes later") {
  on_fibers(
      [] {
        disk d;
        recorder r;
        auto log = open_journal(d, r).value();
        stalled_writers writers(*log, d, 10);
        auto closing = start([&log] { return log->close(); });
        const auto late = log->append(bytes_of("late"));
        REQUIRE_FALSE(late.has_value());
        CHECK(late.error() == coir::errc::shutting_down);
        CHECK_FALSE(closing.done());
        writers.go_on(d);
        CHECK(closing.join().has_value());
        for (auto& w : writers.all) CHECK(w.join().has_value());
        CHECK(r.texts.size() == 11);
        CHECK(log->close().has_value());
      },
      1);
}

TEST_CASE("journal: C-T12: a full queue makes writers wait, and all of them get through") {
  on_fibers([] {
    disk d;
    recorder r;
    auto log = open_journal(d, r, {.batch_records_max = 2}).value();
    coir::scope writers;
    for (int i = 0; i < 200; ++i)
      writers.spawn([&log, i] { return log->append(bytes_of(std::to_string(i))); },
                    {.worker = static_cast<unsigned>(i % 2)});
    REQUIRE(writers.join().has_value());
    CHECK(std::set<std::string>(r.texts.begin(), r.texts.end()).size() == 200);
    CHECK(log->counters().batches >= 100);
  });
}

TEST_CASE("journal: a writer that gives up waiting leaves its record to be written") {
  on_fibers(
      [] {
        disk d;
        recorder r;
        auto log = open_journal(d, r).value();
        stalled_writers writers(*log, d, 1);
        const auto gave_up = log->append(bytes_of("impatient"), coir::no_wait);
        REQUIRE_FALSE(gave_up.has_value());
        CHECK(gave_up.error() == std::errc::timed_out);
        writers.go_on(d);
        for (auto& w : writers.all) CHECK(w.join().has_value());
        CHECK(log->close().has_value());
        CHECK(r.texts.back() == "impatient");
      },
      1);
}

TEST_CASE("journal: records of no bytes and of too many are refused") {
  on_fibers([] {
    disk d;
    recorder r;
    auto log = open_journal(d, r).value();
    CHECK(log->append({}).error() == std::errc::message_size);
    const kv_test::bytes big(kv::payload_bytes_max + 1);
    CHECK(log->append(big).error() == std::errc::message_size);
    CHECK(log->append(std::span(big).first(kv::payload_bytes_max)).has_value());
  });
}

TEST_CASE("journal: both broken twins lose a record that they acknowledged") {
  using kv::journal_twin;
  for (const journal_twin twin :
       {journal_twin::never_syncs, journal_twin::answers_before_completion}) {
    CAPTURE(static_cast<int>(twin));
    on_fibers(
        [twin] {
          disk d;
          recorder r;
          auto log = open_journal(d, r, {.twin = twin}).value();
          d.stalled = true;
          REQUIRE(log->append(bytes_of("acknowledged")).has_value());
          const kv_test::bytes at_the_cut = d.durable;
          d.stalled = false;
          d.go_on.set();
          (void)log->close();
          disk after;
          after.cached = at_the_cut;
          CHECK(replay(after).empty());
        },
        1);
  }
}

TEST_CASE("journal: a file on a real disk is found again, torn tail and all") {
  const kv_test::folder here;
  on_fibers([&here] {
    for (const std::string text : {"one", "two", "three"}) {
      recorder r;
      auto file = kv::open_journal_file(here.path(), "journal");
      REQUIRE(file.has_value());
      auto log = kv::journal::open(std::move(*file), r).value();
      REQUIRE(log->append(bytes_of(text)).has_value());
      REQUIRE(log->close().has_value());
    }
    const auto path = std::filesystem::path(here.path()) / "journal";
    const auto size = std::filesystem::file_size(path);
    std::filesystem::resize_file(path, size - 1);
    recorder r;
    auto log = kv::journal::open(kv::open_journal_file(here.path(), "journal").value(), r).value();
    CHECK(r.texts == texts{"one", "two"});
    CHECK(std::filesystem::file_size(path) == 2 * (kv::record_header_bytes + 3));
    CHECK(log->reset().has_value());
    CHECK(std::filesystem::file_size(path) == 0);
  });
}
