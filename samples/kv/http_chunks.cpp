// http_chunks.cpp: the strict reading of a chunked body's lines.
//
// Comes from: http_chunks.hpp.   Goes to: http_head.hpp.
#include "kv/http_chunks.hpp"

#include <algorithm>

namespace kv {

namespace {

constexpr unsigned digits_max = 16;
constexpr std::size_t extension_bytes_max = 1024;

/// The value of a hexadecimal digit; 16 for anything else.
unsigned value_of(char c) noexcept {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A') + 10;
  return 16;
}

}  // namespace

bool chunk_scanner::refuse(unsigned status, std::string_view reason) noexcept {
  status_ = status;
  reason_ = reason;
  return false;
}

chunk_scanner::state chunk_scanner::scan(std::string_view bytes) {
  taken_ = 0;
  while (taken_ < bytes.size() && place_ != place::end && status_ == 0) {
    if (place_ == place::data) {
      const auto step = std::min<std::uint64_t>(size_, bytes.size() - taken_);
      size_ -= step;
      taken_ += static_cast<std::size_t>(step);
      if (size_ == 0) place_ = place::data_cr;
    } else if (take(bytes[taken_])) {
      ++taken_;
    }
  }
  if (status_ != 0) return state::refused;
  return place_ == place::end ? state::complete : state::incomplete;
}

bool chunk_scanner::take(char c) {
  switch (place_) {
    case place::size:
      return take_of_size(c);
    case place::extension:
      return take_of_extension(c);
    case place::size_end:
      if (!expect(c, '\n', size_ == 0 ? place::trailer : place::data)) return false;
      digits_ = 0;
      extension_bytes_ = 0;
      return true;
    case place::data_cr:
      return expect(c, '\r', place::data_lf);
    case place::data_lf:
      return expect(c, '\n', place::size);
    case place::trailer:
      return take_of_trailer(c);
    case place::data:
    case place::end:
      break;
  }
  return false;
}

bool chunk_scanner::take_of_size(char c) {
  if (const unsigned digit = value_of(c); digit < 16) {
    if (++digits_ > digits_max) return refuse(400, "chunk size too long");
    size_ = size_ << 4 | digit;
    return true;
  }
  if (digits_ == 0) return refuse(400, "a chunk begins with its size");
  if (c == '\r') {
    place_ = place::size_end;
    return true;
  }
  if (c != ';') return refuse(400, "chunk size is not a number");
  place_ = place::extension;
  return true;
}

bool chunk_scanner::take_of_extension(char c) {
  if (++extension_bytes_ > extension_bytes_max) return refuse(400, "chunk header too long");
  if (c == '\r') {
    place_ = place::size_end;
    return true;
  }
  if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F)
    return refuse(400, "control character in a chunk header");
  return true;
}

bool chunk_scanner::expect(char c, char wanted, place next) {
  if (c != wanted) return refuse(400, "a chunk must end in CR LF");
  place_ = next;
  return true;
}

bool chunk_scanner::take_of_trailer(char c) {
  trailer_text_ += c;
  switch (trailer_.scan(trailer_text_)) {
    case head_scanner::state::incomplete:
      return true;
    case head_scanner::state::complete:
      place_ = place::end;
      return true;
    case head_scanner::state::refused:
      break;
  }
  return refuse(trailer_.status(), trailer_.reason());
}

}  // namespace kv
