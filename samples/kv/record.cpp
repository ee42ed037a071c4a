// record.cpp: writes and checks one record of the journal.
//
// Comes from: record.hpp.   Goes to: Boost.CRC.
#include "kv/record.hpp"

#include <algorithm>
#include <boost/crc.hpp>

namespace kv {

namespace {

// Where the fields stand in the header.
constexpr std::size_t length_at = 0;
constexpr std::uint32_t length_mask = 0xFFFFFF;
constexpr std::size_t sum_at = 4;
constexpr std::size_t sequence_at = 8;
static_assert(sequence_at + sizeof(std::uint64_t) == record_header_bytes);

using castagnoli = boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true>;

std::uint32_t sum_of(std::span<const std::byte> whole) noexcept {
  castagnoli sum;
  sum.process_bytes(whole.data() + length_at, sum_at - length_at);
  sum.process_bytes(whole.data() + sequence_at, whole.size() - sequence_at);
  return sum.checksum();
}

}  // namespace

reading read_record(std::span<const std::byte> bytes, record& out) noexcept {
  if (bytes.size() < record_header_bytes) return reading::incomplete;
  const auto word = load_number<std::uint32_t>(bytes.data() + length_at);
  const std::uint32_t length = word & length_mask;
  if (length == 0 || length > payload_bytes_max) return reading::broken;
  if (bytes.size() - record_header_bytes < length) return reading::incomplete;
  const auto whole = bytes.first(record_header_bytes + length);
  if (sum_of(whole) != load_number<std::uint32_t>(whole.data() + sum_at)) return reading::broken;
  out.kind = static_cast<std::uint8_t>(word >> 24);
  out.sequence = load_number<std::uint64_t>(whole.data() + sequence_at);
  out.payload = whole.subspan(record_header_bytes);
  return reading::complete;
}

void write_record(std::vector<std::byte>& bytes, std::uint64_t sequence,
                  std::span<const std::byte> payload, std::uint8_t kind) {
  const std::size_t begin = bytes.size();
  bytes.resize(begin + record_header_bytes + payload.size());
  const auto whole = std::span(bytes).subspan(begin);
  store_number(whole.data() + length_at,
               static_cast<std::uint32_t>(payload.size()) | std::uint32_t{kind} << 24);
  store_number(whole.data() + sequence_at, sequence);
  std::ranges::copy(payload, whole.begin() + record_header_bytes);
  store_number(whole.data() + sum_at, sum_of(whole));
}

std::uint32_t crc32c(std::span<const std::byte> bytes) noexcept {
  castagnoli sum;
  sum.process_bytes(bytes.data(), bytes.size());
  return sum.checksum();
}

}  // namespace kv
