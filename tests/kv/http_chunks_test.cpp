// http_chunks_test.cpp: chunked bodies: what is whole, where it ends, and what is refused at once.
#include "kv/http_chunks.hpp"

#include <doctest/doctest.h>

#include <string>

using kv::chunk_scanner;
using state = chunk_scanner::state;

namespace {

struct outcome {
  state last = state::incomplete;
  std::size_t taken = 0;
  unsigned status = 0;
};

/// Gives `text` in pieces of at most `step` bytes, as far as the scanner goes.
outcome feed(const std::string& text, std::size_t step) {
  chunk_scanner s({});
  outcome o;
  while (o.taken < text.size() && o.last == state::incomplete) {
    o.last = s.scan(std::string_view(text).substr(o.taken, step));
    o.taken += s.taken();
  }
  o.status = s.status();
  return o;
}

std::string fields(int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "X" + std::to_string(i) + ": y\r\n";
  return text;
}

}  // namespace

TEST_CASE("http_chunks: a body is complete at its end, cut at any size, and no byte further") {
  for (const std::string& text :
       {std::string("0\r\n\r\n"), std::string("3\r\nabc\r\n0\r\n\r\n"),
        std::string("a\r\n0123456789\r\n2;name=value\r\n\r\n\r\n0\r\n\r\n"),
        std::string("0000000000000003\r\nabc\r\n0\r\nA: b\r\nC:d\r\n\r\n"),
        "1\r\nx\r\n0\r\n" + fields(100) + "\r\n"}) {
    CAPTURE(text.substr(0, 60));
    for (std::size_t step = 1; step < 30; ++step) {
      const outcome o = feed(text + "GET / HTTP/1.1\r\n", step);
      CHECK(o.last == state::complete);
      CHECK(o.taken == text.size());
    }
    for (std::size_t shorter = 0; shorter < text.size(); ++shorter)
      CHECK(feed(text.substr(0, shorter), 7).last == state::incomplete);
  }
}

TEST_CASE("http_chunks: what can be understood in two ways is refused with 400 where it stands") {
  const std::string last = "0\r\n";
  for (const std::string& text : {std::string("\r"),
                                  std::string("x"),
                                  std::string("-1"),
                                  std::string(" 3"),
                                  std::string("3 "),
                                  std::string("0x3"),
                                  std::string("3\n"),
                                  std::string("3\rx"),
                                  std::string("00000000000000003"),
                                  std::string("FFFFFFFFFFFFFFFFF"),
                                  std::string("3;a\n"),
                                  std::string("3;a\0", 4),
                                  std::string("3;a\rb"),
                                  "3;" + std::string(1025, 'x'),
                                  std::string("3\r\nabcd"),
                                  std::string("3\r\nabc\n"),
                                  std::string("3\r\nabc\rx"),
                                  last + "A: b\n",
                                  last + "A : b\r\n",
                                  last + "A: b\r\n c\r\n",
                                  last + std::string("A: \0b", 5),
                                  last + "Content-Length: 3\r\n",
                                  last + "Transfer-Encoding: chunked\r\n",
                                  last + "Host: a\r\n",
                                  last + "nonsense\r\n"}) {
    CAPTURE(text.substr(0, 60));
    for (const std::size_t step : {1, 5, 2000}) {
      const outcome o = feed(text, step);
      CHECK(o.last == state::refused);
      CHECK(o.status == 400);
    }
  }
}

TEST_CASE("http_chunks: fields behind the last chunk have the bounds of a head") {
  CHECK(feed("0\r\n" + fields(101) + "\r\n", 1000).status == 431);
  CHECK(feed("0\r\nX: " + std::string(20'000, 'a'), 1000).status == 431);
}
