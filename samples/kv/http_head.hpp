// http_head.hpp: looks at the head of a request byte by byte before the parser may, and refuses
// what two parsers could understand differently.
//
// Always true:
//   - Each byte is looked at once, however slowly the head arrives.
//   - A head is complete only when every line ended in CR LF, no line was folded, no byte was NUL,
//     no space stood before a colon, and its length of body was said in at most one way.
//   - The bounds hold for incomplete heads too: nobody can make us keep more than they allow.
//
// Comes from: http_reader.cpp.   Goes to: the standard library.
#pragma once

#include <cstddef>
#include <string_view>

namespace kv {

struct head_limits {
  std::size_t request_line_bytes = 8 << 10;  ///< else 414
  std::size_t fields = 100;                  ///< else 431
  std::size_t fields_bytes = 16 << 10;       ///< all lines after the first; else 431
};

class head_scanner {
 public:
  enum class state { incomplete, complete, refused };

  explicit head_scanner(const head_limits& limits) : limits_(limits) {}
  /// For the fields behind a chunked body: there is no line before them, and none of them may say
  /// how long a body is or for whom.
  static head_scanner of_trailer(const head_limits& limits);

  /// `head` begins where the request (or the trailer) begins, and holds at least what the last call
  /// was given.
  state scan(std::string_view head);

  std::size_t head_bytes() const noexcept { return next_; }  ///< when complete
  unsigned status() const noexcept { return status_; }       ///< when refused
  std::string_view reason() const noexcept { return reason_; }

 private:
  state refuse(unsigned status, std::string_view reason) noexcept;
  bool over_limits() const noexcept;
  state refuse_size();
  state refuse_both() noexcept;
  state take_line(std::string_view line);
  state take_request_line(std::string_view line);
  state take_field(std::string_view line);
  state take_field(std::string_view name, std::string_view value);

  head_limits limits_;
  std::size_t line_at_ = 0;  // begin of the line that is being read
  std::size_t next_ = 0;     // first byte not looked at
  std::size_t lines_ = 0;
  std::size_t fields_at_ = 0;
  bool before_1_1_ = false;
  bool has_length_ = false, has_coding_ = false, has_host_ = false;
  unsigned status_ = 0;
  std::string_view reason_;
};

}  // namespace kv
