// resp_reader.cpp: the states of a request, each of which can be left and taken up again.
//
// Comes from: resp_reader.hpp.   Goes to: the standard library.
#include "kv/resp_reader.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace kv {

namespace {

bool number_in(std::string_view text, long long& out) noexcept {
  const char* const end = text.data() + text.size();
  const auto [after, error] = std::from_chars(text.data(), end, out);
  return error == std::errc() && after == end;
}

bool is_space(char c) noexcept { return c == ' ' || c == '\t'; }

int hex(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  c = static_cast<char>(c | 0x20);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/// What stands behind a backslash inside double quotes; `at` is moved behind it.
char unescape(std::string_view line, std::size_t& at) noexcept {
  const char letter = line[at++];
  if (letter == 'x' && at + 1 < line.size() && hex(line[at]) >= 0 && hex(line[at + 1]) >= 0) {
    const int value = hex(line[at]) * 16 + hex(line[at + 1]);
    at += 2;
    return static_cast<char>(value);
  }
  constexpr std::string_view letters = "nrtab", meanings = "\n\r\t\a\b";
  const auto known = letters.find(letter);
  return known == letters.npos ? letter : meanings[known];
}

}  // namespace

std::span<std::byte> resp_reader::room() {
  drop_last();
  if (begin_ != 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  // A long argument is asked for in one piece, so that it is not copied again and again.
  std::size_t wanted = limits_.read_bytes;
  if (bulk_ >= 0) {
    const std::size_t whole = scanned_ + static_cast<std::size_t>(bulk_) + 2;
    if (whole > end_) wanted = std::max(wanted, whole - end_);
  }
  if (buffer_.size() < end_ + wanted) buffer_.resize(end_ + wanted);
  return std::as_writable_bytes(std::span(buffer_)).subspan(end_);
}

void resp_reader::drop_last() {
  begin_ += used_;
  used_ = 0;
}

resp_reader::step resp_reader::refuse(std::string_view why) {
  error_ = "Protocol error: ";
  error_ += why;
  state_ = state::refused;
  return step::wait;
}

bool resp_reader::line(std::string_view& out, std::string_view too_long) {
  const std::string_view all(buffer_.data() + begin_, end_ - begin_);
  searched_ = std::max(searched_, scanned_);
  const auto end = all.find('\n', searched_);
  const std::size_t length = (end == all.npos ? all.size() : end) - scanned_;
  if (length > limits_.line_bytes) {
    (void)refuse(too_long);
    return false;
  }
  if (end == all.npos) {
    searched_ = all.size();
    return false;
  }
  out = all.substr(scanned_, length);
  if (out.ends_with('\r')) out.remove_suffix(1);
  scanned_ = end + 1;
  return true;
}

resp_reader::state resp_reader::parse() {
  if (state_ == state::refused) return state_;
  drop_last();
  arguments_.clear();
  state_ = state::incomplete;
  for (step s = step::again; s == step::again;) {
    if (in_array_)
      s = parse_bulks();
    else if (begin_ == end_)
      s = step::wait;
    else
      s = buffer_[begin_] == '*' ? parse_count() : parse_words();
    if (s == step::done) state_ = state::complete;
  }
  return state_;
}

/// "*3": how many arguments come.
resp_reader::step resp_reader::parse_count() {
  std::string_view head;
  if (!line(head, "too big mbulk count string")) return step::wait;
  long long count = 0;
  if (!number_in(head.substr(1), count)) return refuse("invalid multibulk length");
  if (count > static_cast<long long>(limits_.arguments))
    return refuse("too many arguments, at most " + std::to_string(limits_.arguments));
  if (count <= 0) {  // nothing is asked for, and nothing is answered
    begin_ += scanned_;
    scanned_ = searched_ = 0;
    return step::again;
  }
  in_array_ = true;
  wanted_ = static_cast<std::size_t>(count);
  argument_bytes_ = 0;
  pieces_.clear();
  return step::again;
}

resp_reader::step resp_reader::parse_bulks() {
  while (wanted_ > 0) {
    if (bulk_ < 0) {
      std::string_view head;
      if (!line(head, "too big bulk count string")) return step::wait;
      if (!head.starts_with('$')) {
        std::string why = "expected '$', got '";
        why += head.empty() ? ' ' : head[0];
        return refuse(why + "'");
      }
      long long length = -1;
      if (!number_in(head.substr(1), length) || length < 0) return refuse("invalid bulk length");
      if (length > static_cast<long long>(limits_.bulk_bytes))
        return refuse("invalid bulk length, at most " + std::to_string(limits_.bulk_bytes));
      argument_bytes_ += static_cast<std::size_t>(length);
      if (argument_bytes_ > limits_.command_bytes)
        return refuse("command too long, at most " + std::to_string(limits_.command_bytes));
      bulk_ = static_cast<std::ptrdiff_t>(length);
    }
    const auto length = static_cast<std::size_t>(bulk_);
    if (end_ - begin_ - scanned_ < length + 2) return step::wait;
    const char* const behind = buffer_.data() + begin_ + scanned_ + length;
    if (behind[0] != '\r' || behind[1] != '\n') return refuse("no end of line behind a bulk");
    pieces_.push_back({.at = scanned_, .bytes = length});
    scanned_ += length + 2;
    bulk_ = -1;
    --wanted_;
  }
  for (const piece& p : pieces_) arguments_.emplace_back(buffer_.data() + begin_ + p.at, p.bytes);
  used_ = scanned_;
  scanned_ = searched_ = 0;
  in_array_ = false;
  return step::done;
}

resp_reader::step resp_reader::parse_words() {
  std::string_view text;
  if (!line(text, "too big inline request")) return step::wait;
  if (!split(text)) return refuse("unbalanced quotes in request");
  if (words_.size() > limits_.arguments)
    return refuse("too many arguments, at most " + std::to_string(limits_.arguments));
  used_ = scanned_;
  scanned_ = searched_ = 0;
  if (words_.empty()) {
    drop_last();
    return step::again;
  }
  arguments_.assign(words_.begin(), words_.end());
  return step::done;
}

/// Words are parted by spaces; "..." knows escapes, '...' knows \' only. False: a quote is not
/// closed, or something follows it.
bool resp_reader::split(std::string_view text) {
  words_.clear();
  std::size_t at = 0;
  for (;;) {
    while (at < text.size() && is_space(text[at])) ++at;
    if (at == text.size()) return true;
    std::string word;
    while (at < text.size() && !is_space(text[at])) {
      const char quote = text[at];
      if (quote != '"' && quote != '\'') {
        word += text[at++];
        continue;
      }
      for (++at; at < text.size() && text[at] != quote;) {
        if (text[at] != '\\' || at + 1 == text.size()) {
          word += text[at++];
        } else if (quote == '"') {
          word += unescape(text, ++at);
        } else {
          at += text[at + 1] == '\'' ? 1 : 0;
          word += text[at++];
        }
      }
      if (at == text.size()) return false;
      if (++at < text.size() && !is_space(text[at])) return false;
    }
    words_.push_back(std::move(word));
  }
}

}  // namespace kv
