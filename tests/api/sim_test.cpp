// sim_test.cpp: the simulated world as a user's own tests use it.
//
// Always true:
//   - Each kind of failure is produced by a program that is broken on purpose, found by its seed,
//     shrunk, and repeated by what the report prints.
#include "coir/sim.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <set>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using namespace coir::sim;
using namespace std::chrono_literals;

namespace {

settings of(faults chances = {}, std::uint64_t seed = 1) {
  settings s{.seed = seed, .chances = chances};
  s.runtime = test::tested(s.runtime);
  return s;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// Sends `total` bytes and receives them. `careless`: whoever receives takes one recv for all.
void talk(world& w, std::size_t total, bool careless) {
  const auto [one, other] = w.connection(64);
  w.run([&, a = one, b = other] {
    auto sending = coir::spawn([&] {
      const std::string text(total, 'x');
      for (std::size_t sent = 0; sent < total;) {
        const auto n = coir::io::send(a, bytes_of(text).subspan(sent));
        check(n.has_value(), "send");
        sent += *n;
      }
      check(coir::io::close(a).has_value(), "close");
    });
    std::array<std::byte, 4096> buffer{};
    std::size_t received = 0;
    for (;;) {
      const auto n = coir::io::recv(b, buffer);
      check(n.has_value(), "recv");
      received += *n;
      if (careless || *n == 0) break;
    }
    check(received == total, "bytes were lost");
    check(coir::io::close(b).has_value(), "close");
    check(sending.join().has_value(), "join");
  });
  check(w.open_descriptors() == 0, "a descriptor is open");
}

}  // namespace

TEST_CASE("sim: a healthy program is healthy for every seed, whatever harmless thing happens") {
  std::set<std::uint64_t> hashes;
  std::uint64_t steps = 0;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    const report r = run(of(faults::harmless(60), seed), [](world& w) { talk(w, 300, false); });
    REQUIRE_MESSAGE(r.ok(), r.to_text());
    hashes.insert(r.hash);
    steps += r.steps;
  }
  CHECK(hashes.size() == 200);
  CHECK(steps > 200);
}

TEST_CASE("sim: the same seed is the same run, a thousand times") {
  const program p = [](world& w) { talk(w, 100 + w.choose(50), false); };
  for (std::uint64_t seed = 1; seed <= test::at_full_speed(1000u, 100u); ++seed) {
    const report one = run(of(faults::harmless(100), seed), p);
    const report same = run(of(faults::harmless(100), seed), p);
    REQUIRE_MESSAGE(one.ok(), one.to_text());
    REQUIRE(one.hash == same.hash);
    REQUIRE(one.decided == same.decided);
    REQUIRE(one.steps == same.steps);
  }
}

TEST_CASE("sim: what fails shrinks to the decisions that matter, and the report repeats it") {
  // 40 bytes fit into one recv, unless that is a short one.
  const program p = [](world& w) { talk(w, 40, true); };
  const settings s = of(faults::harmless(100));
  const report r = explore(s, 1000, p);
  REQUIRE(r.is == verdict::failed_check);
  CHECK(r.text.find("bytes were lost (") == 0);
  CHECK(r.text.find("sim_test.cpp:") != r.text.npos);
  CHECK(r.decisions.size() <= 4);
  const report again = replay(s, r.decisions, p);
  CHECK(again.is == r.is);
  CHECK(again.text == r.text);
  CHECK(again.hash == r.hash);
  CHECK(r.to_text().find("coir::sim::replay(settings, {{") != std::string::npos);
  CHECK(replay(s, {}, p).ok());  // all ordinary: nothing happens
}

TEST_CASE("sim: no fault, no failure: chances of 0 are never") {
  const report r = explore(of(), 300, [](world& w) {
    talk(w, 40, false);
    for (const auto count : w.faults_seen()) check(count == 0, "a fault");
  });
  CHECK_MESSAGE(r.ok(), r.to_text());
  CHECK(r.seeds == 300);
}

TEST_CASE("sim: every fault happens, and a run without any as well") {
  std::array<std::uint64_t, std::size(all_faults)> seen{};
  unsigned healthy = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    settings s = of(faults::every(300), seed);
    s.chances.power_cut = 5;
    (void)run(s, [&](world& w) {
      w.put_file("data/old", "old");
      const auto [one, other] = w.connection();
      const int listening = w.listener(80);
      w.run([&, a = one, b = other] {
        coir::scope all;
        (void)all.spawn([&] {
          (void)coir::io::send(a, bytes_of("x"));
          (void)coir::io::close(a);
        });
        (void)all.spawn([&] {
          auto stream = coir::perform(coir::recv_stream{b});
          while (auto part = stream.next(coir::in(1ms)))
            if (!*part) break;
        });
        (void)all.spawn([&] {
          std::array<std::byte, 8> buffer{};
          const auto fd = coir::io::open("data/new", O_CREAT | O_RDWR, 0600);
          if (!fd) return;
          (void)coir::io::write(*fd, buffer);
          (void)coir::io::fsync(*fd);
          (void)coir::io::read(*fd, buffer, coir::in(1us));
          (void)coir::io::close(*fd);
        });
        (void)all.spawn(
            [&] { (void)coir::io::accept(listening, nullptr, nullptr, coir::in(2us)); });
        (void)all.join();
      });
      std::uint64_t sum = 0;
      const auto counts = w.faults_seen();
      for (std::size_t i = 0; i < seen.size(); ++i) {
        seen[i] += counts[i];
        sum += counts[i];
      }
      healthy += sum == 0;
    });
  }
  for (std::size_t i = 0; i < seen.size(); ++i) CHECK_MESSAGE(seen[i] != 0, "fault " << i);
  CHECK(healthy != 0);
}

TEST_CASE("sim: a deadlock is found, and who waits is named") {
  const report r = run(of(), [](world& w) {
    w.run([] {
      coir::event never_set;
      auto waiting = coir::spawn([&] { (void)never_set.wait(); }, {.name = "patient"});
      (void)waiting.join();
    });
  });
  CHECK(r.is == verdict::deadlock);
  CHECK_MESSAGE(r.text.find("patient") != r.text.npos, r.text);
}

TEST_CASE("sim: an exception of the body, of a fiber that is joined, and of the program is told") {
  const auto thrown = [](const program& p) {
    const report r = run(of(), p);
    CHECK(r.is == verdict::exception);
    return r.text;
  };
  CHECK(thrown([](world& w) { w.run([] { throw std::runtime_error("first"); }); }) == "first");
  CHECK(thrown([](world& w) {
          w.run([] { (void)coir::spawn([] { throw std::runtime_error("second"); }).join(); });
        }) == "second");
  CHECK(thrown([](world&) { throw std::runtime_error("third"); }) == "third");
  CHECK(thrown([](world& w) { w.run([] { throw 4; }); }).find("not a std::exc") !=
        std::string::npos);
}

TEST_CASE("sim: a check that fails on any fiber ends the run, and nothing after it counts") {
  bool after = false;
  const report r = run(of(), [&](world& w) {
    w.run([&] {
      auto failing = coir::spawn([] {
        check(true, "fine");
        check(false, "the first");
      });
      (void)coir::this_fiber::sleep_for(24h);
      after = !coir::this_fiber::cancelled();
      check(false, "the second");
    });
    after = true;
  });
  CHECK(r.is == verdict::failed_check);
  CHECK(r.text.find("the first (") == 0);
  CHECK_FALSE(after);
  CHECK_THROWS_AS(check(true, "nowhere"), std::logic_error);
}

TEST_CASE("sim: time is virtual, and a program without end is ended") {
  const report day = run(of(), [](world& w) {
    w.run([] {
      const auto before = coir::clock::now();
      check(coir::this_fiber::sleep_for(24h).has_value(), "sleep");
      check(coir::clock::now() - before >= 24h, "a day is a day");
    });
  });
  CHECK_MESSAGE(day.ok(), day.to_text());
  settings s = of();
  s.steps_max = 500;
  const report endless = run(s, [](world& w) {
    w.run([] {
      while (coir::this_fiber::sleep_for(1us)) continue;
    });
  });
  CHECK(endless.is == verdict::too_many_steps);
}

namespace {

/// Appends records and counts those that are promised; the power is cut somewhere; the next life
/// looks for them.
void keep_records(world& w, bool syncs) {
  constexpr std::size_t record_bytes = 600;
  w.put_file("log", "");
  unsigned promised = 0;
  const bool whole = w.run([&] {
    const auto fd = coir::io::open("log", O_RDWR);
    if (!fd) return;
    const std::uint64_t cut = w.choose(12);
    for (unsigned i = 0; i < 6; ++i) {
      const std::string record(record_bytes, static_cast<char>('a' + i));
      const auto n = coir::io::pwrite(*fd, bytes_of(record), i * record_bytes);
      if (!n || *n != record_bytes) break;
      if (syncs && !coir::io::fdatasync(*fd)) break;
      ++promised;
      if (cut == i + 1) w.crash();
    }
    (void)coir::io::close(*fd);
  });
  if (whole) return;
  const std::string log = w.file("log").value();
  unsigned found = 0;
  while (log.size() >= (found + 1) * record_bytes &&
         log.substr(found * record_bytes, record_bytes) ==
             std::string(record_bytes, static_cast<char>('a' + found)))
    ++found;
  check(found >= promised, "a promised record is lost");
  unsigned read = 0;
  const bool uncut = w.run([&] {
    const auto fd = coir::io::open("log", O_RDONLY);
    check(fd.has_value(), "open");
    std::array<std::byte, record_bytes> record{};
    while (read < found && coir::io::read_exact(*fd, record).value_or(0) == record_bytes) ++read;
    check(coir::io::close(*fd).has_value(), "close");
  });
  if (uncut) check(read == found, "the next life reads what is there");
}

}  // namespace

TEST_CASE("sim: a cut of the power loses what was not synced, and the next life finds the rest") {
  settings s = of();
  const report safe = explore(s, 400, [](world& w) { keep_records(w, true); });
  CHECK_MESSAGE(safe.ok(), safe.to_text());
  const report lossy = explore(s, 400, [](world& w) { keep_records(w, false); });
  CHECK(lossy.is == verdict::failed_check);
  CHECK(lossy.text.find("a promised record is lost") == 0);
  CHECK(lossy.decisions.size() <= 2);
  s.chances.power_cut = 30;  // by chance as well
  const report by_chance = explore(s, 400, [](world& w) { keep_records(w, true); });
  CHECK_MESSAGE(by_chance.ok(), by_chance.to_text());
}

TEST_CASE("sim: what ends a process is found and shrunk where each run has its own") {
  settings s = of(faults::harmless(100));
  s.isolate = true;
  const program p = [](world& w) {
    const auto [one, other] = w.connection();
    w.run([&, a = one, b = other] {
      check(coir::io::send(a, bytes_of("0123456789")).has_value(), "send");
      std::array<std::byte, 10> buffer{};
      const auto n = coir::io::recv(b, buffer);
      if (n && *n != 10) {
        std::fputs("the reader is confused\n", stderr);
        std::abort();
      }
    });
  };
  const report r = explore(s, 600, p);
  REQUIRE_MESSAGE(r.is == verdict::died, r.to_text());
  CHECK(r.text.find("SIGABRT") != r.text.npos);
  CHECK(r.text.find("the reader is confused") != r.text.npos);
  CHECK(r.decisions.size() <= 4);
  CHECK(replay(s, r.decisions, p).is == verdict::died);
  s.seed = r.seed;
  s.chances = {};
  CHECK(run(s, p).ok());
}

TEST_CASE("sim: a rule happens to the operation that it names, and only so often") {
  const report r = run(of(), [](world& w) {
    const auto [one, other] = w.connection();
    w.add({.fd = other, .skip = 1, .times = 1, .result = -ECONNRESET});
    w.run([&, a = one, b = other] {
      std::array<std::byte, 1> buffer{};
      check(coir::io::send(a, bytes_of("abc")).has_value(), "send");
      check(coir::io::recv(b, buffer).has_value(), "unharmed");
      check(coir::io::recv(b, buffer).error() == std::errc::connection_reset, "harmed");
      check(coir::io::recv(b, buffer).has_value(), "used up");
    });
  });
  CHECK_MESSAGE(r.ok(), r.to_text());
}

TEST_CASE("sim: memory that is taken back before the operation has ended is seen") {
  const report r = run(of(), [](world& w) {
    const auto [one, other] = w.connection();
    w.run([&, a = one, b = other] {
      std::array<std::byte, 64> buffer{};
      auto meddling = coir::spawn([&] {
        (void)coir::this_fiber::sleep_for(1us);
        buffer[5] = std::byte{1};
        (void)coir::this_fiber::sleep_for(1us);
        (void)coir::io::send(a, bytes_of("abc"));
      });
      (void)coir::io::recv(b, buffer);
      (void)meddling.join();
    });
  });
  CHECK(r.is == verdict::invariant);
  CHECK(r.text.find("changed while it was lent") != r.text.npos);
}

TEST_CASE("sim: a number of workers that no world has is refused by name") {
  for (const unsigned workers : {0u, 9u}) {
    const auto r = coir::sim::run({.workers = workers}, [](coir::sim::world& w) { w.run([] {}); });
    CHECK(r.is == coir::sim::verdict::exception);
    CHECK(r.text.find("workers is " + std::to_string(workers)) != std::string::npos);
  }
}
