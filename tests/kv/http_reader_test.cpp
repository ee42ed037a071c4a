// http_reader_test.cpp: bytes in, requests out, however the bytes are cut.
#include "kv/http_reader.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <ostream>
#include <random>
#include <string>
#include <vector>

using kv::http_reader;
using kv::http_request;
using state = kv::http_reader::state;

namespace {

void give(http_reader& r, std::string_view text) {
  while (!text.empty()) {
    const auto room = r.room();
    REQUIRE_FALSE(room.empty());
    const auto count = std::min(room.size(), text.size());
    std::ranges::copy(std::as_bytes(std::span(text)).first(count), room.begin());
    r.took(count);
    text.remove_prefix(count);
  }
}

struct outcome {
  std::vector<http_request> requests;
  state last = state::idle;
  unsigned status = 0;
};

/// Feeds `text` in pieces of `piece` bytes and takes every request as it comes.
outcome feed(std::string_view text, std::size_t piece, const kv::reader_limits& limits = {}) {
  http_reader r(limits);
  outcome o;
  for (std::size_t at = 0; at < text.size() && o.last != state::refused; at += piece) {
    give(r, text.substr(at, piece));
    while ((o.last = r.parse()) == state::complete) o.requests.push_back(r.take());
  }
  o.status = r.status();
  return o;
}

std::string post(std::string_view body) {
  return "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + std::string(body);
}

}  // namespace

TEST_CASE("http_reader: pipelined requests come out whole, cut at any size") {
  const std::string text = post("one") +
                           "GET /stats HTTP/1.1\r\n\r\n"
                           "\r\n"  // one line end too many, as old clients send it
                           "DELETE / HTTP/1.0\r\n\r\n"
                           "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "3\r\nabc\r\nA;name=value\r\n0123456789\r\n0\r\nTrailer: t\r\n\r\n" +
                           post("") + "PUT / HTTP/1.1\r\nConnection: close\r\n\r\n";
  for (std::size_t piece = 1; piece <= text.size(); ++piece) {
    const outcome o = feed(text, piece);
    REQUIRE(o.requests.size() == 6);
    CHECK(o.last == state::idle);
    CHECK(o.requests[0].what == http_request::method::post);
    CHECK(o.requests[0].target == "/x");
    CHECK(o.requests[0].body == "one");
    CHECK(o.requests[0].keep_alive);
    CHECK(o.requests[1].what == http_request::method::get);
    CHECK(o.requests[1].target == "/stats");
    CHECK(o.requests[2].what == http_request::method::erase);
    CHECK_FALSE(o.requests[2].keep_alive);
    CHECK(o.requests[3].body == "abc0123456789");
    CHECK(o.requests[4].body.empty());
    CHECK(o.requests[5].what == http_request::method::other);
    CHECK_FALSE(o.requests[5].keep_alive);
  }
}

TEST_CASE("http_reader: its state says what it waits for") {
  http_reader r({});
  CHECK(r.parse() == state::idle);
  give(r, "POST / HT");
  CHECK(r.parse() == state::in_head);
  give(r, "TP/1.1\r\nContent-Length: 4\r\n\r\n");
  CHECK(r.parse() == state::in_body);
  CHECK(r.body_bytes() == 0);
  give(r, "ab");
  CHECK(r.parse() == state::in_body);
  CHECK(r.body_bytes() == 2);
  give(r, "cd");
  CHECK(r.parse() == state::complete);
  CHECK(r.take().body == "abcd");
  CHECK(r.parse() == state::idle);
}

TEST_CASE("http_reader: a client that waits for 100 Continue is told once") {
  http_reader r({});
  give(r, "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  CHECK_FALSE(r.must_continue());
  CHECK(r.parse() == state::in_body);
  CHECK(r.must_continue());
  CHECK_FALSE(r.must_continue());
}

TEST_CASE("http_reader: a body over the limit is refused with 413, announced or not") {
  const kv::reader_limits limits{.body_bytes = 8};
  CHECK(feed(post("12345678"), 1000, limits).requests.size() == 1);
  CHECK(feed(post("123456789"), 1000, limits).status == 413);
  // Announced only: refused before a byte of it came.
  CHECK(feed("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", 1000, limits).status == 413);
  const std::string chunked =
      "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n5\r\n12345\r\n0\r\n\r\n";
  CHECK(feed(chunked, 1000, limits).status == 413);
  CHECK(feed(chunked, 1, limits).status == 413);
}

TEST_CASE("http_reader: what is not a request or not a chunk is refused with 400, and stays so") {
  const std::string chunks = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const std::string& text :
       {std::string("nonsense\r\n\r\n"), std::string("GET /\r\n\r\n"),
        std::string("GET / HTTP/3.0\r\n\r\n"), std::string("GET  / HTTP/1.1\r\n\r\n"),
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        chunks + "x\r\n", chunks + "-1\r\n", chunks + "11111111111111111\r\n",
        chunks + "FFFFFFFFFFFFFFFFF\r\n", chunks + "3\r\nabcd\r\n", chunks + "3\nabc\r\n",
        chunks + "3;" + std::string(20'000, 'x')}) {
    CAPTURE(text.substr(0, 100));
    const outcome at_once = feed(text + post("after"), 40'000);
    CHECK(at_once.last == state::refused);
    CHECK(at_once.status == 400);
    CHECK(at_once.requests.empty());
    CHECK(feed(text + post("after"), 7).status == 400);
  }
}

TEST_CASE("http_reader: a chunked body that others might read differently is refused with 400") {
  const std::string head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (const char* body : {"00000000000000003\r\nabc\r\n0\r\n\r\n", "3\nabc\n0\n\n",
                           "3\r\nabc\r\n0\r\nA: b\n\n", "3\r\nabc\r\n0\r\nA: b\r\n c\r\n\r\n"}) {
    CAPTURE(body);
    for (const std::size_t step : {1, 1000}) {
      const outcome o = feed(head + body, step);
      CHECK(o.status == 400);
      CHECK(o.requests.empty());
    }
  }
}

TEST_CASE("http_reader: any bytes are answered, cut anywhere, with the same outcome") {
  std::mt19937_64 random(3);
  const std::string good = post("Write \"x\" 1") +
                           "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "3\r\nabc\r\n0\r\n\r\n";
  for (int round = 0; round < 3000; ++round) {
    std::string text = good;
    for (auto changes = random() % 4; changes > 0; --changes)
      text[random() % text.size()] = static_cast<char>(random());
    const outcome at_once = feed(text, text.size());
    const outcome cut = feed(text, 1 + random() % 9);
    CAPTURE(text);
    CHECK(at_once.requests.size() == cut.requests.size());
    CHECK(at_once.status == cut.status);
  }
}
