// change.hpp: one change of the store, and its record in the journal.
//
// Always true:
//   - read_change(write_change(c)) == c for every change within the limits.
//   - An integer is kept as the very first journals kept it; everything else has a kind of its own.
//
// Comes from: store.cpp, table.cpp.   Goes to: record.hpp, journal.hpp.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kv/journal.hpp"

namespace kv {

inline constexpr std::size_t value_bytes_max =
    payload_bytes_max - 4096;  ///< and a key, and lengths

struct change {
  enum class kind { write, erase } what = kind::write;
  std::string key;
  std::string value;  ///< of a write
  friend bool operator==(const change&, const change&) = default;
};

/// The number that `text` is, written as std::to_string writes it; nothing for any other text.
std::optional<std::int64_t> integer_in(std::string_view text) noexcept;

entry write_change(const change& c);
/// Nothing for a record that is no change: of a kind that is not known, or too short for its own.
std::optional<change> read_change(const record& r);
/// False: it was written by a newer version of this program.
bool knows_kind(std::uint8_t kind) noexcept;

}  // namespace kv
