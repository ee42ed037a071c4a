// protocol.cpp: reads and writes the text of commands and answers.
//
// Comes from: protocol.hpp.   Goes to: the standard library.
#include "kv/protocol.hpp"

#include <array>
#include <charconv>
#include <system_error>

namespace kv {

namespace {

constexpr std::uint32_t code_point_max = 0x10FFFF;

struct escape {
  char letter;
  char meaning;
};
constexpr std::array<escape, 10> escapes = {{{'"', '"'},
                                             {'\\', '\\'},
                                             {'\'', '\''},
                                             {'n', '\n'},
                                             {'t', '\t'},
                                             {'r', '\r'},
                                             {'a', '\a'},
                                             {'b', '\b'},
                                             {'f', '\f'},
                                             {'v', '\v'}}};

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }

void append_utf8(std::string& out, std::uint32_t point) {
  const auto put = [&out](std::uint32_t byte) { out += static_cast<char>(byte); };
  if (point < 0x80) return put(point);
  if (point < 0x800) {
    put(0xC0 | point >> 6);
  } else if (point < 0x10000) {
    put(0xE0 | point >> 12);
    put(0x80 | (point >> 6 & 0x3F));
  } else {
    put(0xF0 | point >> 18);
    put(0x80 | (point >> 12 & 0x3F));
    put(0x80 | (point >> 6 & 0x3F));
  }
  put(0x80 | (point & 0x3F));
}

/// Eats a text from the left. Each step says whether it found what it looked for.
class reader {
 public:
  explicit reader(std::string_view text) : rest_(text) {}

  bool end() {
    skip_space();
    return rest_.empty();
  }
  bool word(std::string_view expected) {
    skip_space();
    if (!rest_.starts_with(expected)) return false;
    rest_.remove_prefix(expected.size());
    return true;
  }
  bool quoted(std::string& out) {
    if (!word("\"")) return false;
    while (!rest_.empty() && rest_[0] != '"') {
      if (is_control(rest_[0])) return false;
      if (rest_[0] == '\\') {
        if (!escaped(out)) return false;
      } else {
        out += rest_[0];
        rest_.remove_prefix(1);
      }
    }
    return word("\"");
  }
  bool integer(std::int64_t& out) {
    if (!word("(")) return digits(out, 10);
    return digits(out, 10) && word(")");
  }

 private:
  void skip_space() {
    while (!rest_.empty() && is_space(rest_[0])) rest_.remove_prefix(1);
  }

  template <class Number>
  bool digits(Number& out, int base) {
    if (base == 10) skip_space();
    const auto [after, error] = std::from_chars(rest_.begin(), rest_.end(), out, base);
    if (error != std::errc()) return false;
    rest_.remove_prefix(static_cast<std::size_t>(after - rest_.begin()));
    return true;
  }
  bool escaped(std::string& out) {
    rest_.remove_prefix(1);
    if (rest_.empty()) return false;
    const char letter = rest_[0];
    for (const escape& e : escapes)
      if (e.letter == letter) {
        out += e.meaning;
        rest_.remove_prefix(1);
        return true;
      }
    if (letter == '&') {
      rest_.remove_prefix(1);
      return true;
    }
    return code_point(out);
  }
  bool code_point(std::string& out) {
    int base = 10;
    if (rest_[0] == 'x' || rest_[0] == 'o') {
      base = rest_[0] == 'x' ? 16 : 8;
      rest_.remove_prefix(1);
    }
    // from_chars would skip nothing here: a space after the backslash is no number.
    if (rest_.empty() || is_space(rest_[0])) return false;
    std::uint32_t point = 0;
    if (!digits(point, base) || point > code_point_max) return false;
    append_utf8(out, point);
    return true;
  }

  std::string_view rest_;
};

}  // namespace

coir::result<command> parse(std::string_view text) {
  reader r(text);
  command c;
  bool whole = false;
  if (r.word("Write")) {
    c.what = command::kind::write;
    whole = r.quoted(c.key) && r.integer(c.value);
  } else if (r.word("Read")) {
    whole = r.quoted(c.key);
  }
  if (!whole || !r.end()) return coir::fail(std::errc::invalid_argument);
  if (c.key.size() > key_bytes_max) return coir::fail(std::errc::message_size);
  return c;
}

std::string print(const command& c) {
  std::string text = c.what == command::kind::write ? "Write \"" : "Read \"";
  for (const char letter : c.key) {
    if (letter == '"' || letter == '\\') {
      text += '\\';
      text += letter;
    } else if (is_control(letter)) {
      // \& keeps a digit that follows from joining the number.
      text += '\\' + std::to_string(static_cast<unsigned char>(letter)) + "\\&";
    } else {
      text += letter;
    }
  }
  text += '"';
  if (c.what == command::kind::write) text += ' ' + std::to_string(c.value);
  return text;
}

std::string_view print_ok() noexcept { return "Ok"; }

std::string print_result(std::optional<std::int64_t> value) {
  if (!value) return "Result Nothing";
  const std::string number = std::to_string(*value);
  return *value < 0 ? "Result (Just (" + number + "))" : "Result (Just " + number + ")";
}

}  // namespace kv
