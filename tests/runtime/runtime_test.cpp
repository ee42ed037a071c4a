// runtime_test.cpp: the life of a runtime: each step once, what is refused, who survived, and
// bounds that are reached.
//
// Always true:
//   - What leaves threads or memory behind on purpose happens in a child process.
//
// Comes from: runtime/runtime.hpp.   Goes to: ctest.
#include "runtime/runtime.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "scripted_backend.hpp"
#include "tests/catalogue/process_facts.hpp"
#include "tests/test_options.hpp"

using namespace std::chrono_literals;
using namespace coir::detail;

namespace {

coir::options small(unsigned workers) {
  coir::options o;
  o.workers = workers;
  o.fibers_max = 64;
  o.ring_entries = 8;
  return test::tested(o);
}

int next_descriptor() {
  const int fd = ::dup(0);
  ::close(fd);
  return fd;
}

}  // namespace

TEST_CASE("runtime: it is started once and shut down as often as one likes") {
  auto rt = coir::runtime::create(small(2)).value();
  REQUIRE(rt->start().has_value());
  CHECK(rt->start().error() == coir::errc::already_started);
  CHECK(rt->shutdown().has_value());
  CHECK(rt->shutdown().has_value());
  CHECK(rt->start().error() == coir::errc::shutting_down);
  CHECK(rt->try_spawn([] {}).error() == coir::errc::shutting_down);
}

TEST_CASE("runtime: what is spawned before the start waits for it") {
  auto rt = coir::runtime::create(small(1)).value();
  auto early = rt->spawn([] { return 5; });
  CHECK_FALSE(early.done());
  REQUIRE(rt->start().has_value());
  CHECK(early.join().value() == 5);
}

TEST_CASE("runtime: one that never starts still ends what was queued, and destroys its closures") {
  const auto kept = std::make_shared<int>(1);
  bool ran = false;
  coir::handle<void> early;
  {
    auto rt = coir::runtime::create(small(1)).value();
    early = rt->spawn([kept, &ran] { ran = true; });
    CHECK(rt->shutdown().has_value());
    CHECK(early.join().error() == std::errc::operation_canceled);
  }
  CHECK(kept.use_count() == 1);
  CHECK_FALSE(ran);
}

TEST_CASE("runtime: a stop that a fiber asks for refuses new work and cancels what is there") {
  auto rt = coir::runtime::create(small(2)).value();
  REQUIRE(rt->start().has_value());
  auto sleeper = rt->spawn([] { return coir::this_fiber::sleep_until(coir::never); });
  auto stopper = rt->spawn([&] {
    rt->request_stop();
    return coir::try_spawn([] {}).error() == coir::errc::shutting_down;
  });
  CHECK(stopper.join().value());
  CHECK(sleeper.join().error() == std::errc::operation_canceled);
  CHECK(rt->shutdown().has_value());
}

TEST_CASE("runtime: shutdown inside a fiber is refused, not waited for") {
  auto rt = coir::runtime::create(small(1)).value();
  REQUIRE(rt->start().has_value());
  auto inside = rt->spawn([&] { return rt->shutdown(coir::in(50ms)); });
  CHECK(inside.join().error() == coir::errc::deadlock);
  CHECK(rt->spawn([] { return 1; }).join().value() == 1);
}

TEST_CASE(
    "runtime: survivors of a shutdown are named and kept, and joined when they end after all") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int wrong = 0;
    std::string said;
    coir::mutex held;  // waiting for a mutex heeds no cancel
    held.lock();
    coir::options o = small(2);
    o.log = [&](const coir::log_record& l) { said += l.text; };
    auto rt = coir::runtime::create(std::move(o)).value();
    if (!rt->start()) wrong |= 1;
    std::atomic<unsigned> running{0};
    auto stubborn = rt->spawn(
        [&] {
          ++running;
          held.lock();
        },
        {.name = "stubborn"});
    auto obedient = rt->spawn(
        [&] {
          ++running;
          (void)coir::this_fiber::sleep_until(coir::never);
        },
        {.name = "obedient"});
    while (running.load() != 2) std::this_thread::yield();
    rt->request_stop();
    while (!obedient.done()) std::this_thread::yield();
    const auto first = rt->shutdown(coir::in(100ms));
    if (first || first.error() != coir::errc::survivors) wrong |= 2;
    if (said.find("'stubborn' (") == std::string::npos) wrong |= 4;
    if (said.find("obedient") != std::string::npos) wrong |= 8;
    const auto again = rt->shutdown(coir::no_wait);
    if (again || again.error() != coir::errc::survivors) wrong |= 64;
    held.unlock();
    if (!stubborn.join()) wrong |= 16;  // it still has its stack, and ends on it
    if (!rt->shutdown(coir::in(20s))) wrong |= 32;
    rt.reset();
    ::_exit(wrong);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("runtime: one that is destroyed with a survivor leaves it its ring and its stack") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int wrong = 0;
    coir::mutex held;  // waiting for a mutex heeds no cancel
    held.lock();
    coir::options o = small(1);
    o.log = [](const coir::log_record&) {};
    auto rt = coir::runtime::create(std::move(o)).value();
    if (!rt->start()) wrong |= 1;
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) wrong |= 1;
    std::atomic<bool> running{false};
    auto stubborn = rt->spawn([&] {
      std::array<char, 2048> deep{};
      deep.fill('x');
      running = true;
      held.lock();
      const bool closed = coir::io::close(ends[0]).has_value();  // a close is never refused
      return closed ? std::count(deep.begin(), deep.end(), 'x') : 0;
    });
    while (!running) std::this_thread::yield();
    const auto first = rt->shutdown(coir::no_wait);
    if (first || first.error() != coir::errc::survivors) wrong |= 2;
    rt.reset();
    held.unlock();
    const auto answer = stubborn.join();
    if (!answer || *answer != 2048) wrong |= 4;
    ::_exit(wrong);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("runtime: a fiber that ignores 1,000 cancelled answers is reported once, and goes on") {
  scripted::script s;
  std::vector<std::string> said;
  coir::options o = small(1);
  o.log = [&](const coir::log_record& l) { said.emplace_back(l.text); };
  const auto reports = [&] {
    return std::count_if(said.begin(), said.end(), [](const std::string& line) {
      return line.find("'stubborn' (") != line.npos && line.find(" 1000 ") != line.npos;
    });
  };
  CHECK_FALSE(scripted::run(
      s,
      [&] {
        for (const bool by_operation : {false, true}) {
          said.clear();
          bool begun = false;
          auto h = coir::spawn(
              [&] {
                begun = true;
                const auto ask = [&] {
                  return by_operation ? coir::perform(coir::nop{}).error()
                                      : coir::this_fiber::sleep_until(coir::never).error();
                };
                CHECK(coir::this_fiber::sleep_until(coir::never).error() ==
                      std::errc::operation_canceled);
                for (int i = 1; i < 1000; ++i)
                  if (ask() != std::errc::operation_canceled) return -1;
                CHECK(reports() == 0);
                errno = 77;
                CHECK(ask() == std::errc::operation_canceled);
                CHECK(errno == 77);
                CHECK(reports() == 1);
                for (int i = 0; i < 70'000; ++i)
                  if (ask() != std::errc::operation_canceled) return -1;
                return 5;
              },
              {.name = "stubborn"});
          while (!begun) coir::this_fiber::yield();
          h.cancel();
          CHECK(h.join().value() == 5);
          CHECK(reports() == 1);
        }
      },
      std::move(o)));
}

// The sanitizer's own thread could wake a fiber, as far as the runtime can know.
TEST_CASE("runtime: fibers that wait for each other for ever are a deadlock, and are named" *
          doctest::skip(COIR_TSAN)) {
  for (const unsigned workers : {1u, 2u}) {
    // The threads of the life before may be in the list of the process for a moment.
    REQUIRE(test::comes_down_to(1, &test::live_threads));
    std::string said;
    coir::event never_set;
    coir::options o = small(workers);
    o.log = [&](const coir::log_record& l) { said += l.text; };
    const auto answer = coir::run(
        [&] {
          auto h = coir::spawn([&] { return never_set.wait(); }, {.name = "lonely"});
          return h.join();
        },
        std::move(o));
    REQUIRE_FALSE(answer.has_value());
    CHECK(answer.error() == coir::errc::deadlock);
    CHECK(said.find("deadlock") != std::string::npos);
    CHECK(said.find("'lonely' (") != std::string::npos);
    CHECK(said.find("runtime_test.cpp:") != std::string::npos);
  }
}

TEST_CASE("runtime: every option out of its range is refused by name, and nothing is clamped") {
  struct row {
    const char* name;
    void (*spoil)(coir::options&);
  };
  const row rows[] = {
      {"workers", [](coir::options& o) { o.workers = 257; }},
      {"fibers_max", [](coir::options& o) { o.fibers_max = 0; }},
      {"fibers_max", [](coir::options& o) { o.fibers_max = (1u << 24) + 1; }},
      {"stack_bytes", [](coir::options& o) { o.stack_bytes = (16 << 10) - 1; }},
      {"stack_bytes", [](coir::options& o) { o.stack_bytes = SIZE_MAX; }},
      {"ring_entries", [](coir::options& o) { o.ring_entries = 0; }},
      {"ring_entries", [](coir::options& o) { o.ring_entries = 32769; }},
      {"mailbox_slots", [](coir::options& o) { o.mailbox_slots = 0; }},
      {"mailbox_slots", [](coir::options& o) { o.mailbox_slots = 65537; }},
      {"run_budget", [](coir::options& o) { o.run_budget = 0; }},
      {"deflect_threshold", [](coir::options& o) { o.deflect_threshold = 0; }},
      {"deflect_threshold", [](coir::options& o) { o.deflect_threshold = 1025; }},
      {"deflect_threshold", [](coir::options& o) { o.deflect_threshold = UINT32_MAX; }},
      {"stream_buffers", [](coir::options& o) { o.stream_buffers = 0; }},
      {"stream_buffer_bytes", [](coir::options& o) { o.stream_buffer_bytes = 63; }},
      {"offload_threads", [](coir::options& o) { o.offload_threads = 0; }},
      {"offload_queue", [](coir::options& o) { o.offload_queue = 0; }},
      {"idle_spin", [](coir::options& o) { o.idle_spin = -1us; }},
  };
  for (const row& r : rows) {
    CAPTURE(r.name);
    std::string said;
    coir::options o = small(1);
    o.log = [&](const coir::log_record& l) { said += l.text; };
    r.spoil(o);
    const auto made = coir::runtime::create(std::move(o));
    REQUIRE_FALSE(made.has_value());
    CHECK(made.error() == std::errc::invalid_argument);
    CHECK(said.find("options::" + std::string(r.name) + " is ") != std::string::npos);
  }
}

TEST_CASE("runtime: it knows when all have ended, also those it was given from outside") {
  scripted::script s;
  auto core = scripted::make_core(s);
  REQUIRE(core != nullptr);
  CHECK(core->all_ended());
  auto root = scripted::spawn_on(*core, [&] { CHECK_FALSE(core->all_ended()); });
  CHECK_FALSE(core->all_ended());
  CHECK_FALSE(core->run_here());
  CHECK(core->all_ended());
}

TEST_CASE("runtime: thousands of starts and stops end each time and leave no descriptor") {
  constexpr unsigned cycles = COIR_TSAN || COIR_ASAN ? 60 : 2'000;
  const int before = next_descriptor();
  for (unsigned i = 0; i < cycles; ++i) {
    auto rt = coir::runtime::create(small(1 + i % 3)).value();
    REQUIRE(rt->start().has_value());
    if (i % 2 == 0) REQUIRE(rt->spawn([i] { return i; }).join().value() == i);
    REQUIRE(rt->shutdown(coir::in(20s)).has_value());
  }
  CHECK(next_descriptor() == before);
}

TEST_CASE("runtime: mailboxes of one slot lose nobody, when everybody sends to everybody") {
  constexpr unsigned fibers = 4;
  constexpr unsigned rounds = COIR_TSAN || COIR_ASAN ? 50 : 400;
  coir::options o = small(2);
  o.mailbox_slots = 1;
  auto rt = coir::runtime::create(std::move(o)).value();
  REQUIRE(rt->start().has_value());
  std::atomic<unsigned> ran{0};
  std::atomic<unsigned> lost{0};
  std::vector<coir::handle<void>> senders;
  for (unsigned i = 0; i < fibers; ++i)
    senders.push_back(rt->spawn(
        [&, i] {
          for (unsigned k = 0; k < rounds && lost.load() == 0; ++k) {
            std::array<coir::handle<void>, 4> out;
            for (auto& h : out) h = coir::spawn([&] { ran.fetch_add(1); }, {.worker = (i + k) % 2});
            for (auto& h : out)
              if (!h.join(coir::in(3s))) lost.fetch_add(1);
          }
        },
        {.worker = i % 2}));
  for (auto& h : senders) CHECK(h.join().has_value());
  CHECK(lost.load() == 0);
  CHECK(ran.load() == fibers * rounds * 4);
  CHECK(rt->shutdown(coir::in(5s)).has_value());
}

TEST_CASE("runtime: with every record in use try_spawn refuses, and spawn waits for the next one") {
  auto rt = coir::runtime::create(small(1)).value();
  REQUIRE(rt->start().has_value());
  std::vector<coir::event> open(64);
  auto root = rt->spawn([&] {
    std::vector<coir::handle<void>> all;
    for (coir::event& e : open) {
      auto made = coir::try_spawn([&e] { CHECK(e.wait().has_value()); });
      if (!made) {
        CHECK(made.error() == coir::errc::arena_full);
        break;
      }
      all.push_back(std::move(*made));
    }
    CHECK(all.size() == 63);  // and this fiber
    all[0].detach();
    open[0].set();
    auto next = coir::spawn([] { return 8; }, {.until = coir::in(5s)});
    CHECK(next.join().value() == 8);
    for (coir::event& e : open) e.set();
    for (auto& h : all)
      if (h) CHECK(h.join().has_value());
  });
  CHECK(root.join().has_value());
  CHECK(rt->shutdown(coir::in(5s)).has_value());
}

TEST_CASE("runtime: a thread that joins is woken by the end of the fiber") {
  auto rt = coir::runtime::create(small(1)).value();
  REQUIRE(rt->start().has_value());
  auto h = rt->spawn([] {
    // Ends only once somebody waits for it.
    while (!current_fiber()->far_joiners) coir::this_fiber::yield();
    return 4;
  });
  const auto answer = h.join();
  REQUIRE(answer.has_value());
  CHECK(*answer == 4);
}

TEST_CASE("runtime: an id of a fiber that ended names nobody, although its slot is used again") {
  auto rt = coir::runtime::create(small(1)).value();
  REQUIRE(rt->start().has_value());
  auto root = rt->spawn([] {
    auto h = coir::spawn([] {});
    const coir::fiber_id old = h.id();
    CHECK(h.join().has_value());
    CHECK(coir::wait(old).error() == coir::errc::stale_handle);
    auto young = coir::spawn([] {});
    CHECK(young.id().slot == old.slot);
    CHECK_FALSE(young.id() == old);
    CHECK(coir::wait(old).error() == coir::errc::stale_handle);
    CHECK(young.join().has_value());
  });
  CHECK(root.join().has_value());
}

TEST_CASE("runtime: who waits for a record of one that never starts hears of its end") {
  auto made =
      coir::runtime::create(test::tested({.workers = 1, .fibers_max = 64, .mailbox_slots = 1024}));
  REQUIRE(made.has_value());
  coir::runtime& rt = **made;
  std::vector<coir::handle<void>> kept;
  for (;;) {
    auto one = rt.try_spawn([] {});
    if (!one && one.error() == coir::errc::mailbox_full) {
      MESSAGE("left out: fewer places in a mailbox than records");
      CHECK(rt.shutdown().has_value());
      return;
    }
    if (!one) {
      CHECK(one.error() == coir::errc::arena_full);
      break;
    }
    kept.push_back(std::move(*one));
  }
  REQUIRE(!kept.empty());
  std::error_code told;
  std::thread waiting([&] { told = rt.spawn([] {}).join().error(); });
  {
    const auto core = coir::detail::find_core(kept[0].id().runtime);
    REQUIRE(core);
    const auto stands = [&] {
      const coir::detail::word_lock held(core->room.lock);
      return core->room.head != nullptr;
    };
    while (!stands()) std::this_thread::yield();
  }
  CHECK(rt.shutdown().has_value());
  waiting.join();
  CHECK(told == coir::errc::shutting_down);
  for (auto& each : kept) CHECK(each.join().error() == std::errc::operation_canceled);
}
