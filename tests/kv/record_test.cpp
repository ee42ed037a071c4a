// record_test.cpp: the bytes of one record.
#include "kv/record.hpp"

#include <doctest/doctest.h>

#include <ostream>
#include <string>

#include "recording_file.hpp"

using kv::reading;
using kv_test::bytes_of;

TEST_CASE("record: the sum is CRC-32C, by its published check value") {
  CHECK(kv::crc32c(bytes_of("123456789")) == 0xE3069283u);
}

TEST_CASE("record: what was written is read, with what follows left alone") {
  kv_test::bytes file;
  kv::write_record(file, 7, bytes_of("seven"));
  const auto first = file.size();
  kv::write_record(file, 8, bytes_of("eight!"));
  kv::record r;
  REQUIRE(kv::read_record(file, r) == reading::complete);
  CHECK(r.sequence == 7);
  CHECK(r.bytes() == first);
  CHECK(std::ranges::equal(r.payload, bytes_of("seven")));
  REQUIRE(kv::read_record(std::span(file).subspan(first), r) == reading::complete);
  CHECK(r.sequence == 8);
}

TEST_CASE("record: every shorter piece of it is incomplete") {
  kv_test::bytes whole;
  kv::write_record(whole, 1, bytes_of("payload"));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    // A copy of exactly that size: a sanitizer then sees one byte too many.
    const kv_test::bytes piece(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    kv::record r;
    CHECK(kv::read_record(piece, r) == reading::incomplete);
  }
}

TEST_CASE("record: no flipped bit goes unnoticed") {
  kv_test::bytes whole;
  kv::write_record(whole, 0x0123456789ABCDEF, bytes_of("payload"));
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    kv_test::bytes flipped = whole;
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    kv::record r;
    CAPTURE(bit);
    CHECK(kv::read_record(flipped, r) != reading::complete);
  }
}

TEST_CASE("record: a hole of zeros and a length beyond the bound are broken, not incomplete") {
  kv::record r;
  CHECK(kv::read_record(kv_test::bytes(64), r) == reading::broken);
  kv_test::bytes long_one(64);
  kv::store_number(long_one.data(), static_cast<std::uint32_t>(kv::payload_bytes_max + 1));
  CHECK(kv::read_record(long_one, r) == reading::broken);
}
