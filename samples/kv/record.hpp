// record.hpp: the form of one record of the journal, as bytes; no file, no fiber.
//
// Always true:
//   - A record is length u24, kind u8, crc32c u32, sequence u64, payload, in little-endian order.
//     The sum covers everything but itself, so a wrong length, kind or sequence is found too.
//   - What kind 0 is never changes: journals from before there were kinds are read as they are.
//   - A length of 0 is not a record: a hole of zeros ends the journal.
//   - read_record looks at no byte outside what it is given, whatever the bytes say.
//
// Comes from: journal.cpp, tests.   Goes to: Boost.CRC.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kv {

inline constexpr std::size_t record_header_bytes = 16;
inline constexpr std::size_t payload_bytes_max = std::size_t{1} << 20;
static_assert(payload_bytes_max < std::size_t{1} << 24, "the kind has the length's last byte");

struct record {
  std::uint64_t sequence = 0;
  std::uint8_t kind = 0;
  std::span<const std::byte> payload;
  std::size_t bytes() const noexcept { return record_header_bytes + payload.size(); }
};

enum class reading {
  complete,    ///< a record lies here
  incomplete,  ///< a record may begin here, and its end is not among these bytes
  broken       ///< no record: wrong length, or wrong sum
};

/// Looks for a record at the begin of `bytes`. `out` is only set when it is complete, and points
/// into `bytes`.
reading read_record(std::span<const std::byte> bytes, record& out) noexcept;

/// Appends the record to `bytes`. `payload` has 1 to payload_bytes_max bytes.
void write_record(std::vector<std::byte>& bytes, std::uint64_t sequence,
                  std::span<const std::byte> payload, std::uint8_t kind = 0);

/// CRC-32C (Castagnoli), as iSCSI and ext4 use it.
std::uint32_t crc32c(std::span<const std::byte> bytes) noexcept;

/// Little-endian numbers in bytes; the caller has checked that they fit.
template <class Number>
Number load_number(const std::byte* from) noexcept {
  Number number = 0;
  for (std::size_t i = 0; i < sizeof(Number); ++i)
    number |= static_cast<Number>(std::to_integer<Number>(from[i]) << (8 * i));
  return number;
}
template <class Number>
void store_number(std::byte* into, Number number) noexcept {
  for (std::size_t i = 0; i < sizeof(Number); ++i)
    into[i] = static_cast<std::byte>(number >> (8 * i));
}

}  // namespace kv
