// resp_reader_test.cpp: requests of Redis clients, whole, in pieces, and wrong.
#include "kv/resp_reader.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

using state = kv::resp_reader::state;
using words = std::vector<std::string>;

namespace {

void feed(kv::resp_reader& r, std::string_view text) {
  while (!text.empty()) {
    const auto room = r.room();
    const auto count = std::min(room.size(), text.size());
    std::ranges::copy(std::as_bytes(std::span(text.substr(0, count))), room.begin());
    r.took(count);
    text.remove_prefix(count);
  }
}

/// The commands in `text`, fed in pieces of `piece_bytes`; the last is {"refused", why} after one.
std::vector<words> commands_in(std::string_view text, std::size_t piece_bytes,
                               const kv::resp_limits& limits = {}) {
  kv::resp_reader r(limits);
  std::vector<words> found;
  for (std::size_t at = 0; at < text.size(); at += piece_bytes) {
    feed(r, text.substr(at, piece_bytes));
    for (;;) {
      const state s = r.parse();
      if (s == state::complete) found.emplace_back(r.arguments().begin(), r.arguments().end());
      if (s == state::refused) {
        found.push_back({"refused", r.error()});
        CHECK(r.parse() == state::refused);
        return found;
      }
      if (s == state::incomplete) break;
    }
  }
  return found;
}

std::string request(const words& arguments) {
  std::string text = "*" + std::to_string(arguments.size()) + "\r\n";
  for (const auto& a : arguments) text += "$" + std::to_string(a.size()) + "\r\n" + a + "\r\n";
  return text;
}

std::string refusal_of(std::string_view text, const kv::resp_limits& limits = {}) {
  const auto found = commands_in(text, text.size(), limits);
  REQUIRE_FALSE(found.empty());
  REQUIRE(found.back().size() == 2);
  REQUIRE(found.back()[0] == "refused");
  return found.back()[1];
}

}  // namespace

TEST_CASE("resp_reader: commands come out whole, however their bytes are cut into pieces") {
  const std::vector<words> sent = {{"GET", "x"},
                                   {"SET", std::string("\0\r\n", 3), std::string(5000, 'v')},
                                   {"PING"},
                                   {"DEL", "", "b"}};
  std::string text;
  for (const auto& s : sent) text += request(s);
  text += "*0\r\n\r\n*-1\r\n  get   x  \r\nPING\n";
  auto expected = sent;
  expected.push_back({"get", "x"});
  expected.push_back({"PING"});
  for (const std::size_t piece : {1u, 2u, 3u, 7u, 64u, 4096u, 1u << 20}) {
    CAPTURE(piece);
    CHECK(commands_in(text, piece) == expected);
  }
}

TEST_CASE("resp_reader: the words of a line may stand in quotes") {
  CHECK(commands_in("set \"a b\" 'c \\' d'\r\n", 99) ==
        std::vector<words>{{"set", "a b", "c ' d"}});
  CHECK(commands_in("\"\\x41\\n\\\"\" ''\r\n", 99) == std::vector<words>{{"A\n\"", ""}});
  CHECK(refusal_of("get \"a\r\n") == "Protocol error: unbalanced quotes in request");
  CHECK(refusal_of("get \"a\"b\r\n") == "Protocol error: unbalanced quotes in request");
}

TEST_CASE("resp_reader: what is no request is refused with its reason") {
  CHECK(refusal_of("*x\r\n") == "Protocol error: invalid multibulk length");
  CHECK(refusal_of("*99999999999999999999\r\n") == "Protocol error: invalid multibulk length");
  CHECK(refusal_of("*1\r\n:3\r\n") == "Protocol error: expected '$', got ':'");
  CHECK(refusal_of("*1\r\n$-1\r\n") == "Protocol error: invalid bulk length");
  CHECK(refusal_of("*1\r\n$x\r\n") == "Protocol error: invalid bulk length");
  CHECK(refusal_of("*1\r\n$1\r\nabc") == "Protocol error: no end of line behind a bulk");
}

TEST_CASE("resp_reader: each limit has its own refusal, as soon as it is passed") {
  const kv::resp_limits tight = {
      .arguments = 2, .bulk_bytes = 4, .command_bytes = 6, .line_bytes = 16};
  CHECK(commands_in(request({"abcd", "ef"}), 99, tight) == std::vector<words>{{"abcd", "ef"}});
  CHECK(refusal_of("*3\r\n", tight) == "Protocol error: too many arguments, at most 2");
  CHECK(refusal_of("a b c\r\n", tight) == "Protocol error: too many arguments, at most 2");
  CHECK(refusal_of("*1\r\n$5\r\n", tight) == "Protocol error: invalid bulk length, at most 4");
  CHECK(refusal_of("*2\r\n$4\r\nabcd\r\n$3\r\n", tight) ==
        "Protocol error: command too long, at most 6");
  CHECK(refusal_of(std::string(17, 'x'), tight) == "Protocol error: too big inline request");
  CHECK(refusal_of("*" + std::string(17, '1'), tight) ==
        "Protocol error: too big mbulk count string");
  CHECK(refusal_of("*1\r\n$" + std::string(17, '1'), tight) ==
        "Protocol error: too big bulk count string");
}

TEST_CASE("resp_reader: any bytes are either parsed or refused") {
  std::mt19937_64 random(7);
  const std::string letters = "*$\r\n0123456789-\"' abGET\\x";
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (auto n = random() % 60; n > 0; --n) text += letters[random() % letters.size()];
    CAPTURE(text);
    CHECK(commands_in(text, 1) == commands_in(text, 1000));
  }
}
