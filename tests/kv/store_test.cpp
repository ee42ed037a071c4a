// store_test.cpp: the map that survives: order, visibility, and what many callers may see at once.
#include "kv/store.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "on_fibers.hpp"
#include "recording_file.hpp"

using kv_test::disk;
using kv_test::on_fibers;
using kv_test::start;
using model = std::map<std::string, std::int64_t>;

namespace {

std::unique_ptr<kv::store> open_store(disk& d, kv::store_options o = {}) {
  auto made = kv::store::open(std::make_unique<kv_test::recording_file>(d), o);
  REQUIRE(made.has_value());
  return std::move(*made);
}

/// The folders that this process synced by fsync(2), in their order; rings are not seen.
std::mutex synced_mutex;
std::vector<std::string> synced;

const std::vector<std::string> keys = {"a", "b", "c"};

model contents(const kv::store& s) {
  model found;
  for (const auto& key : keys)
    if (const auto value = s.read(key)) found[key] = *value;
  return found;
}

}  // namespace

// Instead of the C library's: does the same and writes down what was synced.
extern "C" int fsync(int fd) {
  std::error_code unknown;
  const auto path = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), unknown);
  {
    const std::lock_guard held(synced_mutex);
    synced.push_back(path.string());
  }
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

TEST_CASE("store: closed by a cancelled fiber it ends its writer all the same") {
  on_fibers(
      [] {
        disk d;
        auto owner = start([&] {
          auto s = open_store(d);
          d.stalled = true;
          CHECK(s->write("x", "1").error() == std::errc::operation_canceled);
        });
        REQUIRE(d.at_the_sync.wait().has_value());
        owner.cancel();
        for (int turns = 0; turns < 100; ++turns) coir::this_fiber::yield();
        CHECK_FALSE(owner.done());  // the writer fiber is at the file, which is the owner's
        d.go_on.set();
        CHECK(owner.join().has_value());
        CHECK(d.cached == d.durable);
      },
      1);
}

TEST_CASE("store: a new folder is durable in the folder that names it before anything is written") {
  const kv_test::folder outer;
  on_fibers([&] {
    synced.clear();
    auto s = kv::store::open(outer.path() + "/data");
    REQUIRE(s.has_value());
    // Where there is no ring its own files are synced by the same call, after that.
    REQUIRE_FALSE(synced.empty());
    CHECK(synced.front() == std::filesystem::canonical(outer.path()).string());
  });
}

TEST_CASE("store: C-T3: a read is answered while a write waits for the disk, with the old value") {
  on_fibers(
      [] {
        disk d;
        auto s = open_store(d);
        REQUIRE(s->write("x", 1).has_value());
        d.stalled = true;
        auto writer = start([&] { return s->write("x", 2); });
        REQUIRE(d.at_the_sync.wait().has_value());
        CHECK(s->read("x") == 1);
        CHECK_FALSE(writer.done());
        d.go_on.set();
        CHECK(writer.join().has_value());
        CHECK(s->read("x") == 2);
      },
      1);
}

TEST_CASE("store: C-T4: reads go on while N writes wait") {
  on_fibers(
      [] {
        disk d;
        auto s = open_store(d);
        constexpr int pending = 20;
        REQUIRE(s->write("old", 1).has_value());
        d.stalled = true;
        std::vector<coir::handle<void>> writers;
        for (int i = 0; i < pending; ++i)
          writers.push_back(start([&s, i] { return s->write("k" + std::to_string(i), i); }));
        REQUIRE(d.at_the_sync.wait().has_value());
        for (int i = 0; i < pending; ++i) {
          CHECK(s->read("old") == 1);
          CHECK_FALSE(s->read("k" + std::to_string(i)).has_value());
        }
        d.stalled = false;
        d.go_on.set();
        for (auto& w : writers) CHECK(w.join().has_value());
        for (int i = 0; i < pending; ++i) CHECK(s->read("k" + std::to_string(i)) == i);
      },
      1);
}

TEST_CASE("store: C-T7: a write that failed cannot be read, and reads of others go on") {
  on_fibers([] {
    disk d;
    auto s = open_store(d);
    REQUIRE(s->write("x", 1).has_value());
    d.next_fault = disk::fault::sync_error;
    CHECK(s->write("x", 2).error() == std::errc::io_error);
    CHECK(s->write("y", 3).error() == std::errc::io_error);
    CHECK(s->read("x") == 1);
    CHECK_FALSE(s->read("y").has_value());
    CHECK(s->close().error() == std::errc::io_error);
  });
}

TEST_CASE("store: C-T8: of many writes to one key, memory and recovery keep the same last one") {
  on_fibers([] {
    disk d;
    std::optional<std::int64_t> last;
    {
      auto s = open_store(d);
      coir::scope writers;
      for (int i = 0; i < 500; ++i)
        writers.spawn([&s, i] { return s->write("x", i); },
                      {.worker = static_cast<unsigned>(i % 2)});
      REQUIRE(writers.join().has_value());
      last = s->read("x");
      CHECK(s->counters().out_of_order == 0);
    }
    d.lose_power();
    CHECK(open_store(d)->read("x") == last);
  });
}

TEST_CASE("store: C-T11: no write from before a reset comes back, in memory or after a restart") {
  on_fibers(
      [] {
        disk d;
        {
          auto s = open_store(d);
          REQUIRE(s->write("a", 1).has_value());
          d.stalled = true;
          auto on_its_way = start([&s] { return s->write("b", 2); });
          REQUIRE(d.at_the_sync.wait().has_value());
          auto queued = start([&s] { return s->write("c", 3); });
          auto reset = start([&s] { return s->reset(); });
          d.stalled = false;
          d.go_on.set();
          CHECK(on_its_way.join().has_value());
          CHECK(queued.join().has_value());
          CHECK(reset.join().has_value());
          CHECK(contents(*s).empty());
          CHECK(s->counters().keys == 0);
          CHECK(s->counters().memory_bytes == 0);
        }
        d.lose_power();
        CHECK(contents(*open_store(d)).empty());
      },
      1);
}

TEST_CASE("store: C-T12: 9,000 callers at once over a queue of 64 are all answered") {
  on_fibers([] {
    disk d;
    auto s = open_store(d, {.journal = {.batch_records_max = 64}});
    coir::scope callers;
    for (int i = 0; i < 9000; ++i)
      callers.spawn([&s, i] { return s->write(std::to_string(i), i); });
    REQUIRE(callers.join().has_value());
    CHECK(s->counters().keys == 9000);
    CHECK(s->log().counters().batches >= 9000 / 64);
  });
}

TEST_CASE("store: C-T17: two folders are two stores, and one folder has one at a time") {
  const kv_test::folder one, two;
  on_fibers([&] {
    auto first = kv::store::open(one.path()).value();
    auto second = kv::store::open(two.path()).value();
    REQUIRE(first->write("x", 1).has_value());
    REQUIRE(second->write("x", 2).has_value());
    CHECK(first->read("x") == 1);
    const auto third = kv::store::open(one.path());
    REQUIRE_FALSE(third.has_value());
    CHECK(third.error() == std::errc::device_or_resource_busy);
    first.reset();
    auto again = kv::store::open(one.path());
    REQUIRE(again.has_value());
    CHECK((*again)->read("x") == 1);
  });
}

TEST_CASE("store: C-T19: one input may wait for the disk several times, in its own order") {
  on_fibers([] {
    disk d;
    auto s = open_store(d);
    auto input = coir::spawn([&s]() -> coir::result<> {
      if (auto first = s->write("x", 1); !first) return first;
      const auto seen = s->read("x");
      return s->write("y", seen.value_or(0) + 1);
    });
    CHECK(input.join().has_value());
    s.reset();
    d.lose_power();
    auto again = open_store(d);
    CHECK(again->read("x") == 1);
    CHECK(again->read("y") == 2);
  });
}

TEST_CASE(
    "store: C-T13: of callers that gave up the change that had begun is made, and those that "
    "waited "
    "in line, or for room there, are not") {
  on_fibers(
      [] {
        disk d;
        auto s = open_store(d, {.inflight_max = 1, .queue_max = 1});
        d.stalled = true;
        auto begun = start([&s] { return s->write("a", 1); });
        REQUIRE(d.at_the_sync.wait().has_value());
        auto in_line = start([&s] { return s->write("b", 2); });
        auto for_room = start([&s] { return s->write("c", 3); });
        for (auto* each : {&for_room, &in_line, &begun}) {
          each->cancel();
          CHECK(each->join().error() == std::errc::operation_canceled);
        }
        d.stalled = false;
        d.go_on.set();
        REQUIRE(s->write("later", 4).has_value());
        CHECK(contents(*s) == model{{"a", 1}});
      },
      1);
}

TEST_CASE(
    "store: C-T8: several changes are one batch, whatever else is under way, and erased is "
    "erased") {
  on_fibers([] {
    disk d;
    auto s = open_store(d, {.journal = {.batch_records_max = 3}});
    coir::scope callers;
    for (int i = 0; i < 60; ++i)
      callers.spawn(
          [&s, i]() -> coir::result<> {
            std::vector<kv::change> both(2);
            both[0] = {.key = "x", .value = std::to_string(i)};
            both[1] = {.key = "y", .value = std::to_string(i)};
            if (i % 7 == 6) both[0].what = both[1].what = kv::change::kind::erase;
            auto done = s->change_all(std::move(both));
            return done ? coir::result<>() : coir::fail(done.error());
          },
          {.worker = static_cast<unsigned>(i % 2)});
    REQUIRE(callers.join().has_value());
    const auto x = s->find("x"), y = s->find("y");
    CHECK(x == y);
    CHECK(s->counters().out_of_order == 0);
    s.reset();
    d.lose_power();
    s = open_store(d);
    CHECK(s->find("x") == x);
    CHECK(s->find("y") == x);
  });
}

TEST_CASE("store: a journal of a newer version is refused and left as it is") {
  on_fibers([] {
    disk d;
    kv::write_record(d.cached, 1, kv_test::bytes_of("from the future"), 9);
    const auto before = d.cached;
    const auto made = kv::store::open(std::make_unique<kv_test::recording_file>(d));
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error() == std::errc::not_supported);
    CHECK(d.cached == before);
  });
}

TEST_CASE("store: the memory cap refuses new keys, keeps old ones, and lets them change") {
  on_fibers([] {
    disk d;
    const std::size_t two_keys = 2 * (1 + kv::key_overhead_bytes);
    auto s = open_store(d, {.memory_max = two_keys});
    REQUIRE(s->write("a", 1).has_value());
    REQUIRE(s->write("b", 2).has_value());
    CHECK(s->write("c", 3).error() == std::errc::not_enough_memory);
    CHECK(s->write("a", 4).has_value());
    CHECK(contents(*s) == model{{"a", 4}, {"b", 2}});
    CHECK(s->counters().memory_bytes == two_keys);
    REQUIRE(s->reset().has_value());
    CHECK(s->write("c", 3).has_value());
  });
}

TEST_CASE("store: keys of any bytes come back from the disk, and long ones are refused") {
  const kv_test::folder here;
  const std::string odd("\0\xFF\n\"", 4);
  on_fibers([&] {
    {
      auto s = kv::store::open(here.path()).value();
      REQUIRE(s->write(odd, -1).has_value());
      REQUIRE(s->write("", 7).has_value());
      CHECK(s->write(std::string(kv::key_bytes_max + 1, 'k'), 1).error() ==
            std::errc::invalid_argument);
      REQUIRE(s->close().has_value());
    }
    auto s = kv::store::open(here.path()).value();
    CHECK(s->read(odd) == -1);
    CHECK(s->read("") == 7);
    CHECK(s->counters().keys == 2);
  });
}
