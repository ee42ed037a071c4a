// http_test.cpp: conversations on loopback: order, bounds, deadlines, and how they end.
#include "kv/http.hpp"

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "http_client.hpp"
#include "on_fibers.hpp"

using kv::http_request;
using kv::http_response;
using kv_test::answer;
using kv_test::http_client;
using kv_test::http_place;
using kv_test::on_fibers;
using kv_test::post;
using kv_test::request;
using namespace std::chrono_literals;

namespace {

http_response echo(const http_request& r) { return {.body = r.body}; }

}  // namespace

TEST_CASE("http: one connection carries request after request") {
  on_fibers([] {
    http_place place(echo);
    auto client = place.client();
    for (int i = 0; i < 50; ++i) {
      const answer a = client.ask(post("body " + std::to_string(i)));
      CHECK(a.status == 200);
      CHECK(a.body == "body " + std::to_string(i));
      CHECK_FALSE(a.closes());
    }
    CHECK(place.server().counters().connections == 1);
    CHECK(place.server().counters().requests == 50);
  });
}

TEST_CASE("http: pipelined requests are answered in order, more of them than the depth") {
  on_fibers([] {
    http_place place(echo, {.pipeline_max = 4});
    auto client = place.client();
    std::string all;
    for (int i = 0; i < 50; ++i) all += post(std::to_string(i));
    client.send(all);
    for (int i = 0; i < 50; ++i) CHECK(client.receive().body == std::to_string(i));
  });
}

TEST_CASE("http: a request may come a byte at a time") {
  on_fibers([] {
    http_place place(echo);
    auto client = place.client();
    for (const char letter : post("slow")) client.send(std::string_view(&letter, 1));
    CHECK(client.receive().body == "slow");
  });
}

TEST_CASE("http: who says close, or speaks HTTP/1.0, gets an answer and the end") {
  on_fibers([] {
    http_place place(echo);
    for (const std::string& text : {request("POST", "/", "x", "Connection: close\r\n"),
                                    std::string("POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx")}) {
      auto client = place.client();
      const answer a = client.ask(text);
      CHECK(a.status == 200);
      CHECK(a.body == "x");
      CHECK(a.closes());
      CHECK(client.is_closed());
    }
  });
}

TEST_CASE("http: an answer to HEAD has no body") {
  on_fibers([] {
    http_place place([](const http_request&) { return http_response{.body = "seen"}; });
    auto client = place.client();
    client.send(request("HEAD", "/") + post("x"));
    std::byte answers[400];
    const auto wanted = std::string_view(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; "
        "charset=utf-8\r\nContent-Length: 4\r\n\r\n");
    REQUIRE(
        client.stream().read_exact(std::span(answers).first(2 * wanted.size() + 4)).has_value());
    const std::string_view text(reinterpret_cast<const char*>(answers), 2 * wanted.size() + 4);
    CHECK(text == std::string(wanted) + std::string(wanted) + "seen");
  });
}

TEST_CASE("http: a refused request gets its status, and the connection ends") {
  on_fibers([] {
    http_place place(echo, {.reading = {.body_bytes = 100}});
    struct row {
      unsigned status;
      std::string text;
    };
    const row rows[] = {
        {400, "nonsense\r\n\r\n"},
        {400, request("POST", "/", "abc", "Transfer-Encoding: chunked\r\n")},
        {400, request("POST", "/", "", "X : y\r\n")},
        {413, request("POST", "/", "", "Content-Length: 101\r\n")},
        {413, post(std::string(200'000, 'x'))},
        {414, "GET /" + std::string(10'000, 'a')},
        {431, request("GET", "/", "", "X: " + std::string(20'000, 'a') + "\r\n")},
    };
    for (const row& r : rows) {
      CAPTURE(r.text.substr(0, 80));
      auto client = place.client();
      const answer a = client.ask(r.text);
      CHECK(a.status == r.status);
      CHECK(a.closes());
      CHECK_FALSE(a.body.empty());
      CHECK(client.is_closed());
    }
    CHECK(place.server().counters().refused == std::size(rows));
  });
}

TEST_CASE("http: what came before a refused request is still answered") {
  on_fibers([] {
    http_place place(echo);
    auto client = place.client();
    client.send(post("good") + "nonsense\r\n\r\n" + post("never"));
    CHECK(client.receive().body == "good");
    CHECK(client.receive().status == 400);
    CHECK(client.is_closed());
  });
}

TEST_CASE("http: a client that waits for 100 Continue gets it, and then its answer") {
  on_fibers([] {
    http_place place(echo);
    auto client = place.client();
    client.send("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    CHECK(client.receive().status == 100);
    client.send("ok");
    CHECK(client.receive().body == "ok");
  });
}

TEST_CASE("http: a head or a body that does not come is refused with 408; silence just ends") {
  on_fibers([] {
    // A place for each, so that no other time ends it first.
    http_place heads(echo, {.head_time = 20ms, .idle_time = 1h});
    auto slow_head = heads.client();
    CHECK(slow_head.ask("POST / HT").status == 408);
    CHECK(slow_head.is_closed());
    http_place bodies(echo, {.head_time = 1h, .body_grace = 20ms, .idle_time = 1h});
    auto slow_body = bodies.client();
    CHECK(slow_body.ask("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab").status == 408);
    CHECK(slow_body.is_closed());
    http_place silences(echo, {.idle_time = 20ms});
    auto silent = silences.client();
    CHECK(silent.is_closed());
    // Its first byte must come within that time.
    http_place later(echo, {.idle_time = 1s});
    auto silent_later = later.client();
    CHECK(silent_later.ask(post("x")).status == 200);
    CHECK(silent_later.is_closed());
  });
}

TEST_CASE("http: the time for a head is one for all its bytes") {
  on_fibers([] {
    http_place place(echo, {.head_time = 20ms, .idle_time = 1h});
    auto client = place.client();
    // More bytes every millisecond, for ever: only a deadline that bytes do not move ends this.
    auto drip = coir::spawn([&client]() -> coir::result<> {
      if (auto sent = client.stream().write_all("GET / HTTP/1.1\r\nX: "); !sent) return sent;
      for (;;) {
        if (auto slept = coir::this_fiber::sleep_for(1ms); !slept) return slept;
        if (auto sent = client.stream().write_all("y"); !sent) return sent;
      }
    });
    CHECK(client.receive().status == 408);
    CHECK(client.is_closed());
    drip.cancel();
    CHECK_FALSE(drip.join().has_value());
  });
}

TEST_CASE("http: C-T12: connections over the caps are answered 503 and closed") {
  for (const auto& limits :
       {kv::http_limits{.connections_max = 3}, kv::http_limits{.connections_per_peer_max = 3}}) {
    on_fibers([&limits] {
      http_place place(echo, limits);
      std::vector<http_client> inside;
      for (int i = 0; i < 3; ++i) {
        inside.push_back(place.client());
        CHECK(inside.back().ask(post("in")).status == 200);
      }
      auto outside = place.client();
      CHECK(outside.receive().status == 503);
      CHECK(outside.is_closed());
      CHECK(place.server().counters().turned_away == 1);
      inside.pop_back();
      place.wait_until_open(2);
      auto next = place.client();
      CHECK(next.ask(post("in")).status == 200);
    });
  }
}

TEST_CASE("http: C-T13: a client that left does not disturb anyone, and nothing of it stays") {
  on_fibers([] {
    coir::event at_work, go_on;
    http_place place([&](const http_request& r) {
      if (r.body == "wait") {
        at_work.set();
        CHECK(go_on.wait().has_value());
      }
      return http_response{.body = std::string(1 << 20, 'x')};
    });
    auto leaver = place.client();
    leaver.send(post("wait"));
    CHECK(at_work.wait().has_value());
    leaver.close();
    auto other = place.client();
    CHECK(other.ask(post("x")).body.size() == 1 << 20);
    go_on.set();
    place.wait_until_open(1);
    CHECK(other.ask(post("x")).status == 200);
  });
}

TEST_CASE("http: C-T16: a drain answers what is being worked on, and lets go of who waits") {
  on_fibers([] {
    coir::event at_work, go_on;
    http_place place([&](const http_request&) {
      at_work.set();
      CHECK(go_on.wait().has_value());
      return http_response{.body = "done"};
    });
    auto idle = place.client();
    auto half = place.client();
    half.send("POST / HT");
    auto busy = place.client();
    busy.send(post("work"));
    CHECK(at_work.wait().has_value());
    place.wait_until_open(3);

    auto stopping = coir::spawn([&place] { place.stop(); });
    CHECK(idle.is_closed());
    CHECK(half.is_closed());
    CHECK_FALSE(stopping.done());
    go_on.set();
    const answer a = busy.receive();
    CHECK(a.body == "done");
    CHECK(a.closes());
    CHECK(busy.is_closed());
    CHECK(stopping.join().has_value());
  });
}

TEST_CASE("http: an exception of the handler ends its own connection with 500") {
  on_fibers([] {
    http_place place([](const http_request& r) -> http_response {
      if (r.body == "throw") throw std::runtime_error("thrown");
      return {.body = r.body};
    });
    auto unlucky = place.client();
    auto other = place.client();
    unlucky.send(post("before") + post("throw"));
    CHECK(unlucky.receive().body == "before");
    CHECK(unlucky.receive().status == 500);
    CHECK(unlucky.is_closed());
    CHECK(other.ask(post("fine")).body == "fine");
  });
}
