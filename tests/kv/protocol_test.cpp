// protocol_test.cpp: the words of the protocol.
#include "kv/protocol.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <ostream>
#include <random>
#include <string>

namespace {

using kv::command;

command write_of(std::string key, std::int64_t value) {
  return {.what = command::kind::write, .key = std::move(key), .value = value};
}
command read_of(std::string key) { return {.what = command::kind::read, .key = std::move(key)}; }

}  // namespace

TEST_CASE("protocol: C-T10: answers are Ok, Result (Just n) and Result Nothing") {
  CHECK(kv::print_ok() == "Ok");
  CHECK(kv::print_result(1) == "Result (Just 1)");
  CHECK(kv::print_result(0) == "Result (Just 0)");
  CHECK(kv::print_result(-1) == "Result (Just (-1))");
  CHECK(kv::print_result({}) == "Result Nothing");
}

TEST_CASE("protocol: white space may stand around and between the words") {
  for (const char* text : {"Write \"x\" 1", "  Write \"x\" 1", "Write \"x\" 1\n",
                           "Write\t\"x\"\r\n1", "Write   \"x\"   1   ", "Write\"x\"1"}) {
    CAPTURE(text);
    const auto parsed = kv::parse(text);
    REQUIRE(parsed.has_value());
    CHECK(*parsed == write_of("x", 1));
  }
  CHECK(kv::parse(" Read \"x\" ").value() == read_of("x"));
  CHECK(kv::parse("Read \"\"").value() == read_of(""));
}

TEST_CASE("protocol: values are all 64-bit integers, with or without parentheses") {
  constexpr auto least = std::numeric_limits<std::int64_t>::min();
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  CHECK(kv::parse("Write \"x\" -5").value().value == -5);
  CHECK(kv::parse("Write \"x\" (-5)").value().value == -5);
  CHECK(kv::parse("Write \"x\" ( 5 )").value().value == 5);
  CHECK(kv::parse("Write \"x\" 9223372036854775807").value().value == most);
  CHECK(kv::parse("Write \"x\" -9223372036854775808").value().value == least);
}

TEST_CASE("protocol: escapes in keys mean what they mean in Haskell") {
  CHECK(kv::parse(R"(Read "a\"b\\c\nd\te")").value().key == "a\"b\\c\nd\te");
  CHECK(kv::parse(R"(Read "\65\x42\o103")").value().key == "ABC");
  CHECK(kv::parse(R"(Read "\955")").value().key == "\xCE\xBB");
  CHECK(kv::parse(R"(Read "\x20AC")").value().key == "\xE2\x82\xAC");
  CHECK(kv::parse(R"(Read "\x1F600")").value().key == "\xF0\x9F\x98\x80");
  CHECK(kv::parse(R"(Read "\1\&2")").value().key ==
        "\x01"
        "2");
}

TEST_CASE("protocol: C-T9: what is not a command is refused") {
  for (const char* text : {"",
                           " ",
                           "Write",
                           "Read",
                           "Write \"x\"",
                           "Write 1",
                           "Write x 1",
                           "Read x",
                           "read \"x\"",
                           "Write \"x\" 1 2",
                           "Read \"x\" 1",
                           "Write \"x\" 1.5",
                           "Write \"x\" one",
                           "Write \"x\" (1",
                           "Write \"x\" 1)",
                           "Write \"x\" 9223372036854775808",
                           "Write \"x 1",
                           "Read \"x",
                           "Read \"\\",
                           "Read \"\\q\"",
                           "Read \"\\x110000\"",
                           "Read \"\\ 65\"",
                           "Read \"a\nb\"",
                           "Delete \"x\"",
                           "Write \"x\" +1",
                           "Write \"x\" --1",
                           "Read \"\\-1\"",
                           "Read \"\\99999999999\""}) {
    CAPTURE(text);
    const auto parsed = kv::parse(text);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error() == std::errc::invalid_argument);
  }
  CHECK_FALSE(kv::parse(std::string_view("Read \"x\"\0", 9)).has_value());
}

TEST_CASE("protocol: a key of 1024 bytes is taken, one of 1025 is refused by name") {
  CHECK(kv::parse("Read \"" + std::string(1024, 'k') + "\"").has_value());
  const auto refused = kv::parse("Read \"" + std::string(1025, 'k') + "\"");
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error() == std::errc::message_size);
}

TEST_CASE("protocol: what is printed is parsed back, for any bytes in the key") {
  std::mt19937_64 random(7);
  for (int round = 0; round < 2000; ++round) {
    std::string key(random() % 20, '\0');
    for (char& letter : key) letter = static_cast<char>(random());
    command c =
        random() % 2 == 0 ? read_of(key) : write_of(key, static_cast<std::int64_t>(random()));
    CAPTURE(kv::print(c));
    const auto parsed = kv::parse(kv::print(c));
    REQUIRE(parsed.has_value());
    CHECK(*parsed == c);
  }
}

TEST_CASE("protocol: any text is answered, and none makes the parser read past its end") {
  std::mt19937_64 random(11);
  const std::string_view alphabet = "WriteRad \"\\x1o9&()-\n\t";
  for (int round = 0; round < 20'000; ++round) {
    // An exact copy on the heap, so that a sanitizer sees one byte too many.
    std::vector<char> text(random() % 24);
    for (char& letter : text) letter = alphabet[random() % alphabet.size()];
    const auto parsed = kv::parse(std::string_view(text.data(), text.size()));
    if (parsed) CHECK(kv::parse(kv::print(*parsed)).value() == *parsed);
  }
}
