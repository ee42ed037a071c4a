// change.cpp: changes into records and back.
//
// Comes from: change.hpp.   Goes to: record.hpp.
#include "kv/change.hpp"

#include <algorithm>
#include <charconv>
#include <span>
#include <utility>
#include <vector>

namespace kv {

namespace {

// integer: the value as a 64-bit number, then the key. text: how long the key is, in 16 bits, the
// key, the value. erased: the key, behind one byte, because no record is empty.
enum kinds : std::uint8_t { integer = 0, text = 1, erased = 2 };

constexpr std::size_t number_bytes = sizeof(std::uint64_t);
constexpr std::size_t length_bytes = sizeof(std::uint16_t);

void put(std::vector<std::byte>& into, std::size_t at, std::string_view what) {
  std::ranges::copy(std::as_bytes(std::span(what)), into.begin() + static_cast<std::ptrdiff_t>(at));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

std::optional<std::int64_t> integer_in(std::string_view text) noexcept {
  std::int64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [after, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || after != end) return {};
  // "007" and "-0" are numbers, but would come back as others.
  const bool negative = text.front() == '-';
  const std::string_view digits = text.substr(negative ? 1 : 0);
  if (digits.front() == '0' && (digits.size() > 1 || negative)) return {};
  return number;
}

entry write_change(const change& c) {
  entry e;
  if (c.what == change::kind::erase) {
    e.kind = erased;
    e.payload.resize(1 + c.key.size());
    put(e.payload, 1, c.key);
  } else if (const auto number = integer_in(c.value)) {
    e.kind = integer;
    e.payload.resize(number_bytes + c.key.size());
    store_number(e.payload.data(), static_cast<std::uint64_t>(*number));
    put(e.payload, number_bytes, c.key);
  } else {
    e.kind = text;
    e.payload.resize(length_bytes + c.key.size() + c.value.size());
    store_number(e.payload.data(), static_cast<std::uint16_t>(c.key.size()));
    put(e.payload, length_bytes, c.key);
    put(e.payload, length_bytes + c.key.size(), c.value);
  }
  return e;
}

std::optional<change> read_change(const record& r) {
  const auto payload = r.payload;
  if (r.kind == erased)
    return change{.what = change::kind::erase, .key = text_of(payload.subspan(1)), .value = {}};
  if (r.kind == integer && payload.size() >= number_bytes) {
    const auto number = static_cast<std::int64_t>(load_number<std::uint64_t>(payload.data()));
    return change{.key = text_of(payload.subspan(number_bytes)), .value = std::to_string(number)};
  }
  if (r.kind != text || payload.size() < length_bytes) return {};
  const std::size_t key_bytes = load_number<std::uint16_t>(payload.data());
  if (payload.size() < length_bytes + key_bytes) return {};
  return change{.key = text_of(payload.subspan(length_bytes, key_bytes)),
                .value = text_of(payload.subspan(length_bytes + key_bytes))};
}

bool knows_kind(std::uint8_t kind) noexcept { return kind <= erased; }

}  // namespace kv
