// resp_reader.hpp: bytes in, commands out, in the protocol of Redis (RESP2 requests); no socket, no
// fiber.
//
//   *2\r\n$3\r\nGET\r\n$1\r\nx\r\n     an array of bulk strings, as clients send it
//   GET x\r\n                          a line of words, as people type it; quotes as in a shell
//
// Always true:
//   - Memory is bounded: one command of at most command_bytes, and read_bytes behind it.
//   - After a refusal nothing more is parsed: where the next command begins is not known.
//   - It looks at each byte a bounded number of times, however the bytes are cut into pieces.
//
// Comes from: resp.cpp.   Goes to: the standard library.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kv {

struct resp_limits {
  std::size_t arguments = 1024;         ///< of one command, its name included
  std::size_t bulk_bytes = 1 << 20;     ///< of one argument
  std::size_t command_bytes = 2 << 20;  ///< of all arguments together
  std::size_t line_bytes = 64 << 10;    ///< of a line of words, or of a length
  std::size_t read_bytes = 16 << 10;    ///< asked of the socket at a time, at least
};

class resp_reader {
 public:
  enum class state {
    incomplete,  ///< more bytes are needed
    complete,    ///< take() gives a command
    refused      ///< answer error() and close
  };

  explicit resp_reader(const resp_limits& limits = {}) : limits_(limits) {}

  /// Where to put the next bytes; then say how many they were.
  std::span<std::byte> room();
  void took(std::size_t bytes) noexcept { end_ += bytes; }

  /// Goes as far as the bytes go. Empty commands are skipped.
  state parse();
  /// The arguments of the command that is complete, its name first; good until room() or parse().
  const std::vector<std::string_view>& arguments() const noexcept { return arguments_; }
  /// What to tell the peer, as in "Protocol error: invalid bulk length".
  const std::string& error() const noexcept { return error_; }
  /// False when nothing of a command is here.
  bool begun() const noexcept { return begin_ != end_; }

 private:
  struct piece {
    std::size_t at, bytes;  // from begin_
  };
  /// `wait`: for bytes, or for ever after a refusal.
  enum class step { wait, again, done };
  step refuse(std::string_view why);
  step parse_words();
  step parse_count();
  step parse_bulks();
  bool split(std::string_view line);
  /// The line at `scanned_`, without its end; false: it is not all here, or too long (refused).
  bool line(std::string_view& out, std::string_view too_long);
  void drop_last();

  const resp_limits limits_;
  std::string buffer_;
  std::size_t begin_ = 0, end_ = 0;  // of the bytes that no command was made of
  std::size_t scanned_ = 0;          // of these, from begin_: where the next part begins
  std::size_t searched_ = 0;         // of these: no end of line before here
  std::size_t used_ = 0;             // bytes of the command that was given away last
  std::size_t wanted_ = 0;           // arguments of an array still to come
  bool in_array_ = false;
  std::size_t argument_bytes_ = 0;
  std::ptrdiff_t bulk_ = -1;  // length of the argument that is being read
  std::vector<piece> pieces_;
  std::vector<std::string> words_;  // of a line: quotes may make them differ from the bytes
  std::vector<std::string_view> arguments_;
  state state_ = state::incomplete;
  std::string error_;
};

}  // namespace kv
