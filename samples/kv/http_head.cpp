// http_head.cpp: the strict reading of a request's head.
//
// Comes from: http_head.hpp.   Goes to: the standard library.
#include "kv/http_head.hpp"

#include <algorithm>

namespace kv {

namespace {

bool is_token(char c) {
  constexpr std::string_view marks = "!#$%&'*+-.^_`|~";
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         marks.find(c) != marks.npos;
}
bool is_control(char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }
bool same(std::string_view a, std::string_view lower_case) {
  return std::ranges::equal(a, lower_case, {}, lower);
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view blank = " \t";
  const auto first = text.find_first_not_of(blank);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(blank) - first + 1);
}

}  // namespace

head_scanner head_scanner::of_trailer(const head_limits& limits) {
  head_scanner s(limits);
  s.lines_ = 1;
  s.has_length_ = s.has_coding_ = s.has_host_ = true;
  return s;
}

head_scanner::state head_scanner::refuse(unsigned status, std::string_view reason) noexcept {
  status_ = status;
  reason_ = reason;
  return state::refused;
}

head_scanner::state head_scanner::scan(std::string_view head) {
  if (status_ != 0) return state::refused;
  while (next_ < head.size()) {
    const char c = head[next_];
    const bool after_cr = next_ > line_at_ && head[next_ - 1] == '\r';
    ++next_;
    if (over_limits()) return refuse_size();
    if (c == '\n') {
      if (!after_cr) return refuse(400, "a line must end in CR LF");
      const std::string_view line = head.substr(line_at_, next_ - 2 - line_at_);
      line_at_ = next_;
      if (line.empty() && lines_ > 0) return state::complete;
      if (const state s = take_line(line); s == state::refused) return s;
    } else if (after_cr) {
      return refuse(400, "CR must be followed by LF");
    } else if (c != '\r' && is_control(c)) {
      return refuse(400, "control character in the head");
    }
  }
  return state::incomplete;
}

bool head_scanner::over_limits() const noexcept {
  constexpr std::size_t line_end = 2;
  if (lines_ == 0) return next_ > limits_.request_line_bytes + line_end;
  return next_ - fields_at_ > limits_.fields_bytes;
}

head_scanner::state head_scanner::refuse_size() {
  return lines_ == 0 ? refuse(414, "request line too long")
                     : refuse(431, "header fields too large");
}

head_scanner::state head_scanner::refuse_both() noexcept {
  return refuse(400, "both Content-Length and Transfer-Encoding");
}

head_scanner::state head_scanner::take_line(std::string_view line) {
  const state s = lines_ == 0 ? take_request_line(line) : take_field(line);
  ++lines_;
  return s;
}

head_scanner::state head_scanner::take_request_line(std::string_view line) {
  if (line.size() > limits_.request_line_bytes) return refuse_size();
  fields_at_ = next_;
  before_1_1_ = line.ends_with(" HTTP/1.0");
  return state::incomplete;
}

head_scanner::state head_scanner::take_field(std::string_view line) {
  if (lines_ > limits_.fields) return refuse(431, "too many header fields");
  if (line[0] == ' ' || line[0] == '\t') return refuse(400, "folded header field");
  const auto colon = line.find(':');
  const std::string_view name = line.substr(0, colon);
  if (colon == line.npos || name.empty() || !std::ranges::all_of(name, is_token))
    return refuse(400, "not a header field");
  return take_field(name, trim(line.substr(colon + 1)));
}

head_scanner::state head_scanner::take_field(std::string_view name, std::string_view value) {
  if (same(name, "content-length")) {
    if (has_length_) return refuse(400, "more than one Content-Length");
    if (value.empty() || !std::ranges::all_of(value, is_digit))
      return refuse(400, "Content-Length is not a number");
    has_length_ = true;
    if (has_coding_) return refuse_both();
  } else if (same(name, "transfer-encoding")) {
    // RFC 9112, 6.1: whoever sent it on may have framed it in another way.
    if (before_1_1_) return refuse(400, "Transfer-Encoding in HTTP/1.0");
    if (has_coding_ || !same(value, "chunked"))
      return refuse(400, "Transfer-Encoding may only be chunked");
    has_coding_ = true;
    if (has_length_) return refuse_both();
  } else if (same(name, "host")) {
    if (has_host_) return refuse(400, "more than one Host");
    has_host_ = true;
  }
  return state::incomplete;
}

}  // namespace kv
