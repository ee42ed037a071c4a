// http_head_test.cpp: heads that two parsers could understand differently are refused, by number.
#include "kv/http_head.hpp"

#include <doctest/doctest.h>

#include <ostream>
#include <string>

using kv::head_scanner;
using state = kv::head_scanner::state;

namespace {

const kv::head_limits usual;

/// 0 when the head is complete, 1 when it is incomplete, else the status of the refusal.
unsigned scan(std::string_view head, const kv::head_limits& limits = usual) {
  head_scanner s(limits);
  const state found = s.scan(head);
  if (found == state::refused) return s.status();
  return found == state::complete ? 0 : 1;
}

/// The same, a byte at a time.
unsigned scan_slowly(std::string_view head) {
  head_scanner s(usual);
  for (std::size_t size = 1; size <= head.size(); ++size) {
    const state found = s.scan(head.substr(0, size));
    if (found == state::refused) return s.status();
    if (found == state::complete) return 0;
  }
  return 1;
}

std::string with(std::string_view fields) {
  return "POST / HTTP/1.1\r\nHost: x\r\n" + std::string(fields) + "\r\n";
}

}  // namespace

TEST_CASE("http_head: ordinary heads are complete, and their size is known") {
  const std::string head = with("Content-Length: 3\r\nX-Odd_!#$%&'*+.^`|~:\r\nTab:\ta b\t\r\n");
  head_scanner s(usual);
  REQUIRE(s.scan(head + "abc") == state::complete);
  CHECK(s.head_bytes() == head.size());
  CHECK(scan("GET / HTTP/1.1\r\n\r\n") == 0);
  CHECK(scan(with("Transfer-Encoding: Chunked\r\n")) == 0);
  CHECK(scan_slowly(head) == 0);
}

TEST_CASE("http_head: every shorter piece of a good head is incomplete") {
  const std::string head = with("Content-Length: 3\r\n");
  for (std::size_t size = 0; size < head.size(); ++size)
    CHECK(scan(std::string_view(head).substr(0, size)) == 1);
}

TEST_CASE("http_head: what can be understood in two ways is refused with 400") {
  const std::string bad[] = {
      with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
      "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
      with("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
      with("Content-Length: 3\r\nContent-Length: 4\r\n"),
      with("Content-Length: 3\r\ncontent-length: 3\r\n"),
      with("Content-Length: 3, 4\r\n"),
      with("Content-Length: +3\r\n"),
      with("Content-Length: -3\r\n"),
      with("Content-Length: 0x3\r\n"),
      with("Content-Length: 3 4\r\n"),
      with("Content-Length: \r\n"),
      with("Content-Length: 3a\r\n"),
      with("Transfer-Encoding: xchunked\r\n"),
      with("Transfer-Encoding: chunked, identity\r\n"),
      with("Transfer-Encoding: gzip, chunked\r\n"),
      with("Transfer-Encoding: identity\r\n"),
      with("Transfer-Encoding: \"chunked\"\r\n"),
      with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
      with("Content-Length : 3\r\n"),
      with("Content-Length\t: 3\r\n"),
      with(" Content-Length: 3\r\n"),
      with("X: a\r\n b\r\n"),
      with("X: a\r\n\tb\r\n"),
      with("X\r\n"),
      with(": a\r\n"),
      with("X(y): a\r\n"),
      with("X: a\rb\r\n"),
      with("X: a\nY: b\r\n"),
      with("X: a\r\r\n"),
      with("Host: y\r\n"),
      with(std::string("X: a\0b\r\n", 8)),
      with("X: a\x01\r\n"),
      with("X: a\x7F\r\n"),
      "GET / HTTP/1.1\n\n",
      "GET / HTTP/1.1\r\nHost: x\n\r\n",
      std::string("GET /\0 HTTP/1.1\r\n\r\n", 19),
      "\rGET / HTTP/1.1\r\n\r\n",
  };
  for (const std::string& head : bad) {
    CAPTURE(head);
    CHECK(scan(head) == 400);
    CHECK(scan_slowly(head) == 400);
  }
}

TEST_CASE("http_head: a request line of 8 KiB passes, a longer one is refused with 414 at once") {
  const std::string rest = " HTTP/1.1\r\n\r\n";
  const std::string fits = "GET /" + std::string((8 << 10) - 14, 'a') + rest;
  CHECK(fits.find("\r\n") == 8 << 10);
  CHECK(scan(fits) == 0);
  CHECK(scan("GET /a" + std::string((8 << 10) - 14, 'a') + rest) == 414);
  CHECK(scan(std::string((8 << 10) + 3, 'a')) == 414);  // no line end in sight
  CHECK(scan(std::string(8 << 10, 'a')) == 1);
}

TEST_CASE("http_head: a hundred fields pass, and one more is refused with 431") {
  std::string fields;
  for (int i = 0; i < 99; ++i) fields += "X: y\r\n";  // with Host, a hundred
  CHECK(scan(with(fields)) == 0);
  CHECK(scan(with(fields + "X: y\r\n")) == 431);
}

TEST_CASE("http_head: fields of 16 KiB in all pass, and one byte more is refused with 431") {
  // "Host: x" and the empty line have 11 bytes, "X: " and its line end 5.
  const std::size_t room = (16 << 10) - 11 - 5;
  CHECK(scan(with("X: " + std::string(room, 'a') + "\r\n")) == 0);
  CHECK(scan(with("X: " + std::string(room + 1, 'a') + "\r\n")) == 431);
  CHECK(scan("GET / HTTP/1.1\r\nX: " + std::string(16 << 10, 'a')) == 431);
}
