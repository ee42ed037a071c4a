// audit_test.cpp: a healthy runtime passes at every visit to the outside, and each sentence notices
// when it is made untrue.
#include "runtime/audit.hpp"

#include <array>
#include <functional>

#include "tests/sim/in_sim.hpp"

using namespace sim_test;
using namespace std::chrono_literals;
using coir::detail::audit;
using coir::detail::record;
using coir::detail::runtime_core;
using coir::detail::stage;
using coir::detail::worker;

namespace {

worker& here() { return *worker::current(); }
runtime_core& core() { return *coir::detail::current_core(); }

/// What a look says while `untrue` holds; everything is put back before anybody else looks.
std::string said_while(std::function<void()> untrue, std::function<void()> put_back) {
  sim_world world;
  std::string said;
  const auto ended = run_in_sim(world, [&] {
    auto resting = start([] { (void)coir::this_fiber::sleep_for(1s); });
    CHECK(audit(core()).look() == "");
    untrue();
    said = audit(core()).look();
    put_back();
    CHECK(audit(core()).look() == "");
    (void)resting.join();
  });
  REQUIRE(ended.has_value());
  return said;
}

bool begins(const std::string& text, const char* with) { return text.rfind(with, 0) == 0; }

record& sleeper() {
  for (std::uint32_t i = 0; i < core().records.touched(); ++i) {
    auto& r = *static_cast<record*>(core().records.at(i));
    if (r.shared != nullptr && r.at == stage::parked) return r;
  }
  FAIL("nobody sleeps");
  std::abort();
}

}  // namespace

TEST_CASE("audit: a runtime that talks, spawns, cancels and ends is in order at every visit") {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    sim_world world({.seed = seed, .shuffle = true, .delay_max_ns = 50, .entries = 8});
    std::unique_ptr<audit> all;
    std::string first;
    unsigned looks = 0;
    world.on_visit = [&] {
      if (all == nullptr) all = std::make_unique<audit>(core());
      ++looks;
      if (first.empty()) first = all->look();
    };
    const auto [one, other] = world.connection(8);
    const auto ended = run_in_sim(world, [&, a = one, b = other] {
      coir::scope fibers;
      (void)fibers.spawn([&] {
        std::array<std::byte, 100> data{};
        (void)coir::io::write_all(a, data);
        (void)coir::io::close(a);
      });
      auto reading = fibers.spawn([&] {
        std::array<std::byte, 7> buffer{};
        while (coir::io::recv(b, buffer).value_or(0) != 0) continue;
      });
      for (int i = 0; i < 20; ++i)
        (void)fibers.spawn([i] { (void)coir::this_fiber::sleep_for(std::chrono::nanoseconds(i)); });
      (void)coir::this_fiber::sleep_for(std::chrono::nanoseconds(seed * 11));
      reading.cancel();
      (void)coir::io::close(b);  // else who writes would wait for ever
      (void)fibers.join();
    });
    CAPTURE(ended.has_value() ? std::string() : ended.error().message());
    REQUIRE(ended.has_value());
    CHECK_MESSAGE(first == "", first << ", seed " << seed);
    CHECK(looks > 10);
  }
}

TEST_CASE("audit: what is counted wrongly is named") {
  CHECK(begins(said_while([] { here().spawned.store(here().spawned.load() + 1); },
                          [] { here().spawned.store(here().spawned.load() - 1); }),
               "who was spawned lives or has finished"));
  CHECK(begins(said_while([] { here().finished.store(here().finished.load() + 1); },
                          [] { here().finished.store(here().finished.load() - 1); }),
               "who was spawned lives or has finished"));
}

TEST_CASE("audit: a record in the wrong stage, without its stack, or without its link is named") {
  CHECK(begins(said_while([] { sleeper().at = stage::runnable; },
                          [] {
                            for (std::uint32_t i = 0; i < core().records.touched(); ++i) {
                              auto& r = *static_cast<record*>(core().records.at(i));
                              if (&r != here().self() && r.at == stage::runnable)
                                r.at = stage::parked;
                            }
                          }),
               "who is runnable runs or is ready"));
  std::byte* kept = nullptr;
  CHECK(begins(said_while([&] { kept = std::exchange(sleeper().stack_slot, nullptr); },
                          [&] { sleeper().stack_slot = kept; }),
               "who has started stands on a stack"));
  CHECK(begins(said_while([] { sleeper().wake.fetch_or(coir::detail::wake_claimed); },
                          [] { sleeper().wake.fetch_and(~coir::detail::wake_claimed); }),
               "who is claimed has a wake link on its way"));
}

TEST_CASE("audit: a buffer that is lent and out at once is named") {
  sim_world world({.goes_on = true});
  const auto [one, other] = world.connection();
  const auto ended = run_in_sim(world, [&, from = one, to = other] {
    auto bytes = coir::perform(coir::recv_stream{from});
    REQUIRE(coir::io::send(to, std::as_bytes(std::span("one", 3))).has_value());
    {
      const auto lease = bytes.next();
      REQUIRE((lease && lease->has_value()));
      CHECK(audit(core()).look() == "");
    }
    REQUIRE(here().buffers()->picked_by_backend());
    bytes.cancel();
    while (bytes.next().value().has_value()) continue;
    CHECK(audit(core()).look() == "");
    REQUIRE(here().buffers()->came(0));  // it is out, and nobody knows of it
    here().outside().return_buffer(0);
    CHECK(begins(audit(core()).look(), "a buffer is lent or out"));
  });
  CAPTURE(ended.has_value() ? std::string() : ended.error().message());
  REQUIRE(ended.has_value());
}

TEST_CASE("audit: a generation that goes back is named") {
  sim_world world;
  const auto ended = run_in_sim(world, [&] {
    audit all(core());
    CHECK(all.look() == "");
    record& me = *here().self();
    me.generation.store(me.generation.load() + 5);
    CHECK(all.look() == "");
    me.generation.store(me.generation.load() - 5);
    CHECK(begins(all.look(), "a generation only grows"));
  });
  REQUIRE(ended.has_value());
}

TEST_CASE(
    "audit: an operation whose fiber goes on before its end, or that is not counted, is named") {
  for (const bool early : {true, false}) {
    sim_world world;
    const auto [one, other] = world.connection();
    const auto ended = run_in_sim(world, [&, fd = one] {
      auto reading = start([&] {
        std::array<std::byte, 4> buffer{};
        (void)coir::io::recv(fd, buffer);
      });
      REQUIRE(coir::perform(coir::nop{}).has_value());
      CHECK(audit(core()).look() == "");
      record& waiting = sleeper();
      std::uint32_t& word = *here().operations().fd_word(fd);
      const auto parked_at = waiting.parked_at;
      const std::uint32_t users = word;
      if (early) {
        waiting.parked_at = nullptr;
        CHECK(begins(audit(core()).look(), "who has an operation under way is parked on it"));
      } else {
        word &= ~coir::detail::fd_counts::count_mask;
        CHECK(begins(audit(core()).look(), "operations on a descriptor are counted"));
      }
      waiting.parked_at = parked_at;
      word = users;
      reading.cancel();
      (void)reading.join();
    });
    CAPTURE(ended.has_value() ? std::string() : ended.error().message());
    REQUIRE(ended.has_value());
  }
}
