// buffers_test.cpp: T76: buffers of one size that go out and come back.
//
// Always true:
//   - The backend of these tests lends nothing of its own unless a test says so.
#include "runtime/buffers.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "scripted_backend.hpp"

using namespace coir::detail;

namespace {

/// One that picks buffers itself, and notes which came back.
struct picking final : scripted::outside {
  using outside::outside;
  int lend_buffers(std::byte*, unsigned count, unsigned) noexcept override {
    lent = count;
    return 0;
  }
  void return_buffer(unsigned buffer) noexcept override { returned.push_back(buffer); }
  unsigned lent = 0;
  std::vector<unsigned> returned;
};

struct waits : buffer_pool::hungry {
  waits() {
    fed = [](buffer_pool::hungry& self) noexcept { ++static_cast<waits&>(self).meals; };
  }
  int meals = 0;
};

/// Keeps some, and moves aside what it is asked for.
struct keeps : buffer_pool::keeper {
  explicit keeps(buffer_pool& of) : pool(of) {
    clear = [](buffer_pool::keeper& self) noexcept {
      auto& me = static_cast<keeps&>(self);
      for (unsigned& one : me.kept) one = me.pool.move_aside(one, 4);
    };
    pool.keeps_some(*this);
  }
  ~keeps() {
    for (const unsigned one : kept) pool.give(one);
    pool.keeps_none(*this);
  }
  buffer_pool& pool;
  std::vector<unsigned> kept;
};

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

TEST_CASE(
    "buffers: T76 they lie one behind the other, each out once, and the last back goes first") {
  scripted::script s;
  scripted::outside none(s);
  const auto pool = buffer_pool::make(none, 4, 64);
  REQUIRE(pool != nullptr);
  CHECK_FALSE(pool->picked_by_backend());
  CHECK(pool->count() == 4);
  for (unsigned i = 0; i + 1 < 4; ++i) {
    CHECK(pool->at(i).size() == 64);
    CHECK(pool->at(i).data() + 64 == pool->at(i + 1).data());
  }
  std::set<int> taken;
  for (int i = 0; i < 4; ++i) taken.insert(pool->take());
  CHECK(taken == std::set<int>{0, 1, 2, 3});
  CHECK(pool->take() == -1);
  pool->give(2);
  pool->give(1);
  CHECK(pool->out() == 2);
  CHECK(pool->take() == 1);
  CHECK(pool->take() == 2);
}

TEST_CASE("buffers: T76 one that is not out, or is none of ours, is refused and counted") {
  scripted::script s;
  scripted::outside none(s);
  const auto pool = buffer_pool::make(none, 2, 64);
  REQUIRE(pool != nullptr);
  const int one = pool->take();
  pool->give(static_cast<unsigned>(one));
  pool->give(static_cast<unsigned>(one));
  pool->give(2);
  pool->give(70'000);
  CHECK(pool->refused() == 3);
  CHECK(pool->out() == 0);
  std::set<int> taken{pool->take(), pool->take()};
  CHECK(taken == std::set<int>{0, 1});
}

TEST_CASE("buffers: a count that is no power of two is rounded up") {
  scripted::script s;
  scripted::outside none(s);
  CHECK(buffer_pool::make(none, 5, 64)->count() == 8);
  CHECK(buffer_pool::make(none, 1, 64)->count() == 1);
}

TEST_CASE(
    "buffers: where the backend picks, a buffer is out from its completion on, and goes back to "
    "it") {
  scripted::script s;
  picking outside(s);
  const auto pool = buffer_pool::make(outside, 4, 64);
  REQUIRE(pool != nullptr);
  CHECK(pool->picked_by_backend());
  CHECK(outside.lent == 4);
  CHECK(pool->take() == -1);
  CHECK(pool->came(3));
  CHECK_FALSE(pool->came(3));
  CHECK_FALSE(pool->came(4));
  CHECK(pool->refused() == 2);
  pool->give(3);
  CHECK(outside.returned == std::vector<unsigned>{3});
  CHECK(pool->out() == 0);
}

TEST_CASE(
    "buffers: who found none is fed: one by one where it takes itself, all where the backend "
    "picks") {
  scripted::script s;
  scripted::outside none(s);
  picking outside(s);
  const auto own = buffer_pool::make(none, 1, 64);
  const auto picked = buffer_pool::make(outside, 1, 64);
  for (buffer_pool* pool : {own.get(), picked.get()}) {
    waits first, second, third;
    if (pool == own.get()) REQUIRE(pool->take() == 0);
    if (pool != own.get()) REQUIRE(pool->came(0));
    pool->wait_for_one(first, false);
    pool->wait_for_one(second, false);
    pool->wait_for_one(third, false);
    pool->leave(third);
    pool->give(0);
    CHECK(first.meals == 1);
    CHECK(second.meals == (pool == own.get() ? 0 : 1));
    CHECK(third.meals == 0);
    if (second.linked()) pool->leave(second);
  }
}

TEST_CASE("buffers: while somebody starves, what others keep moves aside, and can be read there") {
  scripted::script s;
  scripted::outside none(s);
  const auto pool = buffer_pool::make(none, 4, 64);
  REQUIRE(pool != nullptr);
  {
    keeps some(*pool), more(*pool);
    for (unsigned i = 0; i < 4; ++i) {
      const auto one = static_cast<unsigned>(pool->take());
      std::memcpy(pool->at(one).data(), &"abcdefgh"[i], 4);
      (i < 2 ? some : more).kept.push_back(one);
    }
    pool->relieve();
    CHECK(pool->aside() == 0);  // nobody starves
    waits patient, starving;
    pool->wait_for_one(patient, true);
    pool->relieve();
    CHECK(pool->aside() == 0);  // who keeps some can wait
    pool->wait_for_one(starving, false);
    pool->relieve();
    CHECK(pool->aside() == 2);  // half of them are free, so nobody else needs to
    CHECK(pool->out() == 2);
    CHECK(starving.meals == 1);
    CHECK(patient.meals == 1);
    CHECK(text_of(pool->at(some.kept[0])) == "abcd");
    CHECK(text_of(pool->at(some.kept[1])) == "bcde");
    CHECK(pool->move_aside(some.kept[0], 4) == some.kept[0]);
    pool->give(some.kept[0]);
    CHECK(pool->refused() == 0);
    pool->give(std::exchange(some.kept[0], some.kept[1]));
    CHECK(pool->refused() == 1);  // given back twice
    some.kept.pop_back();
  }
  CHECK(pool->aside() == 0);
  CHECK(pool->out() == 0);
}

TEST_CASE("buffers: of those who wait, who has nothing is fed before who keeps some") {
  scripted::script s;
  scripted::outside none(s);
  const auto pool = buffer_pool::make(none, 1, 64);
  REQUIRE(pool != nullptr);
  waits patient, starving;
  REQUIRE(pool->take() == 0);
  pool->wait_for_one(patient, true);
  pool->wait_for_one(starving, false);
  pool->give(0);
  CHECK(starving.meals == 1);
  CHECK(patient.meals == 0);
  pool->leave(patient);
}

TEST_CASE("buffers: more lie aside than the pool has, and all come back from other threads") {
  scripted::script s;
  scripted::outside none(s);
  const auto pool = buffer_pool::make(none, 2, 64);
  REQUIRE(pool != nullptr);
  std::vector<unsigned> held;
  for (unsigned i = 0; i < 100; ++i) {
    const auto one = static_cast<unsigned>(pool->take());
    std::memcpy(pool->at(one).data(), &i, sizeof i);
    held.push_back(pool->move_aside(one, sizeof i));
  }
  CHECK(pool->aside() == 100);
  for (unsigned i = 0; i < 100; ++i)
    CHECK(std::memcmp(pool->at(held[i]).data(), &i, sizeof i) == 0);
  held.push_back(static_cast<unsigned>(pool->take()));
  unsigned told = 0;
  std::thread([&] {
    for (const unsigned one : held) told += pool->give_from_afar(one) ? 1 : 0;
  }).join();
  CHECK(told == 1);
  pool->take_far();
  CHECK(pool->aside() == 0);
  CHECK(pool->out() == 0);
  CHECK(pool->refused() == 0);
}

TEST_CASE("buffers: other threads give back through a list that the owner takes") {
  scripted::script s;
  scripted::outside none(s);
  const auto pool = buffer_pool::make(none, 64, 64);
  REQUIRE(pool != nullptr);
  for (int i = 0; i < 64; ++i) REQUIRE(pool->take() >= 0);
  unsigned told[2] = {0, 0};
  {
    const auto give = [&](unsigned from, unsigned& tells) {
      for (unsigned i = from; i < 64; i += 2) tells += pool->give_from_afar(i) ? 1 : 0;
    };
    std::thread one(give, 0u, std::ref(told[0]));
    std::thread other(give, 1u, std::ref(told[1]));
    one.join();
    other.join();
  }
  CHECK(told[0] + told[1] == 1);  // the owner has not looked in between
  CHECK(pool->out() == 64);
  pool->take_far();
  CHECK(pool->out() == 0);
  CHECK(pool->refused() == 0);
  pool->take_far();
  CHECK(pool->out() == 0);
}
