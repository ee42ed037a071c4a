// protocol.hpp: the words between a client and the store, as text; no file, no socket.
//
//   Write "x" 1    answered by  Ok
//   Read "x"       answered by  Result (Just 1), Result (Just (-1)) or Result Nothing
//
// Always true:
//   - parse and print agree: parse(print(c)) == c for every command within the limits.
//   - Only white space may stand before, between and behind the words. Nothing recurses.
//
// Comes from: service.cpp.   Goes to: the standard library.
#pragma once

#include <coir/result.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kv {

inline constexpr std::size_t key_bytes_max = 1024;

struct command {
  enum class kind { read, write } what = kind::read;
  std::string key;
  std::int64_t value = 0;  ///< of a write
  friend bool operator==(const command&, const command&) = default;
};

/// Keys are text in double quotes with the escapes of Haskell: \" \\ \n and their like, \& for
/// nothing, and code points as \955, \x3bb or \o1673, which become UTF-8. Values are decimal 64-bit
/// integers; a negative one may stand in parentheses. Errors: invalid_argument (not a command),
/// message_size (a key of more than key_bytes_max bytes).
[[nodiscard]] coir::result<command> parse(std::string_view text);

/// The command as a client would write it.
std::string print(const command& c);

std::string_view print_ok() noexcept;
std::string print_result(std::optional<std::int64_t> value);

}  // namespace kv
