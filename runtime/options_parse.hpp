// options_parse.hpp: the options of a runtime as a table: the name, the form and the range of each.
//
// Always true:
//   - Every field of coir::options but `log` has one row, and one more field does not compile
//     before it has its own.
//   - Whoever checks a range asks this table, so what parse accepts create accepts.
//
// Comes from: options::parse, runtime::create.   Goes to: coir/options.hpp.
#pragma once

#include <cstdint>
#include <span>

#include "coir/options.hpp"

namespace coir::detail {

/// How a value is written.
enum class option_form : std::uint8_t { number, microseconds, milliseconds, flag, name, opcodes };

/// A set of opcodes is told as bits; one above this is shown by the bit behind it.
inline constexpr unsigned opcode_most = 62;

/// How far the threshold of a worker learns to go up, and so the highest that it may begin with.
inline constexpr std::uint32_t deflect_threshold_most = 1024;

struct option_row {
  const char* name;        ///< of the field
  const char* short_name;  ///< null: there is none
  option_form form;
  std::uint64_t least, most;  ///< of what `get` tells
  std::uint64_t (*get)(const options&);
  void (*set)(options&, std::uint64_t);
  std::span<const char* const> names = {};  ///< of the values, for option_form::name
};

std::span<const option_row> option_rows() noexcept;

/// The first row whose value in `o` is out of its range; null: all are within.
const option_row* out_of_range(const options& o) noexcept;

}  // namespace coir::detail
