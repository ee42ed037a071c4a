// change_test.cpp: changes go into records and come back, those of old journals too.
#include "kv/change.hpp"

#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "recording_file.hpp"

namespace {

std::optional<kv::change> there_and_back(const kv::change& c) {
  const kv::entry e = kv::write_change(c);
  std::vector<std::byte> bytes;
  kv::write_record(bytes, 1, e.payload, e.kind);
  kv::record r;
  REQUIRE(kv::read_record(bytes, r) == kv::reading::complete);
  CHECK(r.kind == e.kind);
  CHECK(kv::knows_kind(r.kind));
  return kv::read_change(r);
}

}  // namespace

TEST_CASE("change: every change comes back from its record") {
  for (const std::string value : {"", "0", "-1", "007", "-0", "9223372036854775807",
                                  "9223372036854775808", "12 ", "+1", "text", "\r\n", "1e3"}) {
    CAPTURE(value);
    const kv::change c{.key = "key", .value = value};
    CHECK(there_and_back(c) == c);
  }
  const kv::change gone{.what = kv::change::kind::erase, .key = "", .value = {}};
  CHECK(there_and_back(gone) == gone);
  std::mt19937_64 random(3);
  for (int i = 0; i < 500; ++i) {
    kv::change c;
    c.what = random() % 3 == 0 ? kv::change::kind::erase : kv::change::kind::write;
    for (auto n = random() % 40; n > 0; --n) c.key += static_cast<char>(random());
    if (c.what == kv::change::kind::write)
      for (auto n = random() % 40; n > 0; --n) c.value += static_cast<char>(random());
    CHECK(there_and_back(c) == c);
  }
}

TEST_CASE("change: an integer is written as the first journals wrote it") {
  const kv::entry e = kv::write_change({.key = "x", .value = "258"});
  CHECK(e.kind == 0);
  const std::string bytes(reinterpret_cast<const char*>(e.payload.data()), e.payload.size());
  CHECK(bytes == std::string("\2\1\0\0\0\0\0\0x", 9));
}

TEST_CASE("change: what is no change of a known kind is none") {
  const auto read = [](std::uint8_t kind, std::string_view text) {
    return kv::read_change({.sequence = 1, .kind = kind, .payload = kv_test::bytes_of(text)});
  };
  CHECK_FALSE(read(0, "short").has_value());
  CHECK_FALSE(read(1, "x").has_value());
  CHECK_FALSE(read(1, std::string_view("\5\0key", 5)).has_value());
  CHECK_FALSE(read(3, "from the future").has_value());
  CHECK_FALSE(kv::knows_kind(3));
}
