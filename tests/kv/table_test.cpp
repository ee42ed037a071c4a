// table_test.cpp: what is held costs what the account says, whatever order things come in.
#include "kv/table.hpp"

#include <doctest/doctest.h>

#include <map>
#include <random>
#include <string>

namespace {

kv::change write(std::string key, std::string value) {
  return {.what = kv::change::kind::write, .key = std::move(key), .value = std::move(value)};
}
kv::change erase(std::string key) {
  return {.what = kv::change::kind::erase, .key = std::move(key), .value = {}};
}

}  // namespace

TEST_CASE("table: any program leaves what a map holds, and nothing when all of it is erased") {
  std::mt19937_64 random(11);
  kv::table t(1 << 20);
  std::map<std::string, std::string> expected;
  for (std::uint64_t i = 1; i <= 5000; ++i) {
    const std::string key = std::to_string(random() % 50);
    if (random() % 3 == 0) {
      CHECK(t.apply(i, erase(key)) == (expected.erase(key) != 0));
    } else {
      const std::string value(random() % 60, 'v');
      const auto before = t.counters().memory_bytes;
      const auto cost = t.cost(write(key, value));
      CHECK(t.apply(i, write(key, value)) == expected.contains(key));
      CHECK(t.counters().memory_bytes <= before + cost);
      expected[key] = value;
    }
    CHECK(t.counters().keys == expected.size());
  }
  for (const auto& [key, value] : expected) {
    std::string found;
    CHECK(t.visit(key, [&found](std::string_view v) { found = v; }));
    CHECK(found == value);
  }
  std::uint64_t next = 6000;
  for (const auto& [key, value] : expected) t.apply(next++, erase(key));
  CHECK(t.counters().keys == 0);
  CHECK(t.counters().memory_bytes == 0);
  CHECK(t.counters().out_of_order == 0);
}

TEST_CASE("table: what was promised counts until it is taken back, and order is watched") {
  kv::table t(1000);
  CHECK(t.reserve(600));
  CHECK_FALSE(t.reserve(600));
  CHECK(t.reserve(0));
  t.unreserve(600);
  CHECK(t.reserve(1000));
  t.apply(2, write("a", "1"));
  t.apply(1, write("a", "0"));
  CHECK(t.counters().out_of_order == 1);
}
