// http_chunks.hpp: looks at a chunked body byte by byte before the parser may, as http_head.hpp
// does with the head, and refuses what two parsers could understand differently.
//
// Always true:
//   - Each byte is looked at once, however slowly the body arrives.
//   - A size has at most 16 digits, every line ends in CR LF, and data ends where its size says.
//   - What follows the last chunk obeys the rules and the bounds of a head, and says nothing about
//     where the message ends.
//
// Comes from: http_reader.cpp.   Goes to: http_head.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "kv/http_head.hpp"

namespace kv {

class chunk_scanner {
 public:
  enum class state { incomplete, complete, refused };

  explicit chunk_scanner(const head_limits& limits) : trailer_(head_scanner::of_trailer(limits)) {}

  /// `bytes` are those that follow what the last call took. Looks at all of them, or at those up to
  /// the end of the body.
  state scan(std::string_view bytes);

  std::size_t taken() const noexcept { return taken_; }  ///< of the bytes of the last call
  unsigned status() const noexcept { return status_; }   ///< when refused
  std::string_view reason() const noexcept { return reason_; }

 private:
  enum class place { size, extension, size_end, data, data_cr, data_lf, trailer, end };

  bool take(char c);
  bool take_of_size(char c);
  bool take_of_extension(char c);
  bool take_of_trailer(char c);
  bool expect(char c, char wanted, place next);
  bool refuse(unsigned status, std::string_view reason) noexcept;

  place place_ = place::size;
  unsigned digits_ = 0;              // of the size that is being read
  std::size_t extension_bytes_ = 0;  // of the line that is being read
  std::uint64_t size_ = 0;           // of the chunk; then what is missing of its data
  std::size_t taken_ = 0;
  std::string trailer_text_;
  head_scanner trailer_;
  unsigned status_ = 0;
  std::string_view reason_;
};

}  // namespace kv
