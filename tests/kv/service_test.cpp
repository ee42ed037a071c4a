// service_test.cpp: the whole server over a disk that waits and fails: statuses and words.
#include "kv/service.hpp"

#include <atomic>
#include <chrono>
#include <string>

#include "http_client.hpp"
#include "on_fibers.hpp"
#include "recording_file.hpp"

using kv_test::answer;
using kv_test::disk;
using kv_test::http_client;
using kv_test::http_place;
using kv_test::on_fibers;
using kv_test::post;
using kv_test::request;
using namespace std::chrono_literals;

namespace {

/// A server on a disk of its own.
struct whole_server {
  disk on;
  std::unique_ptr<kv::store> store;
  kv::service service;
  http_place place;

  explicit whole_server(kv::store_options o = {}, kv::service_options how = {})
      : store(kv::store::open(std::make_unique<kv_test::recording_file>(on), o).value()),
        service(*store, how),
        place([this](const kv::http_request& r) { return service.answer(r); }) {
    service.show(place.server());
  }
};

}  // namespace

TEST_CASE("service: C-T10: the words and statuses of the protocol, on one connection") {
  on_fibers([] {
    whole_server s;
    auto client = s.place.client();
    const auto expect = [&client](const std::string& text, unsigned status, std::string_view body) {
      CAPTURE(text);
      const answer a = client.ask(text);
      CHECK(a.status == status);
      CHECK(a.body == body);
      CHECK_FALSE(a.closes());
    };
    expect(post("Read \"x\""), 200, "Result Nothing");
    expect(post("Write \"x\" 1"), 200, "Ok");
    expect(post("Read \"x\""), 200, "Result (Just 1)");
    expect(request("POST", "/any/path", "Write \"x\" (-2)"), 200, "Ok");
    expect(post("Read \"x\""), 200, "Result (Just (-2))");
    expect(request("DELETE", "/"), 200, "");
    expect(post("Read \"x\""), 200, "Result Nothing");
    expect(request("GET", "/"), 400, "Unsupported method");
    expect(request("PUT", "/", "Write \"x\" 1"), 400, "Unsupported method");
    expect(request("OPTIONS", "/stats"), 400, "Unsupported method");
  });
}

TEST_CASE("service: C-T9: malformed input is refused at once, while the disk stands still") {
  on_fibers([] {
    whole_server s;
    s.on.stalled = true;
    auto writer = s.place.client();
    writer.send(post("Write \"x\" 1"));
    REQUIRE(s.on.at_the_sync.wait().has_value());
    auto client = s.place.client();
    for (const char* text : {"Write", "nonsense", "Write \"x\"", "Read \"x", "{}"}) {
      const answer a = client.ask(post(text));
      CHECK(a.status == 400);
      CHECK(a.body.starts_with("Malformed input"));
    }
    CHECK(client.ask(post("Read \"" + std::string(1025, 'k') + "\"")).status == 400);
    CHECK(client.ask(request("POST", "/")).status == 400);
    s.on.stalled = false;
    s.on.go_on.set();
    CHECK(writer.receive().body == "Ok");
  });
}

TEST_CASE("service: C-T3: a read is answered while a write of another client waits for the disk") {
  on_fibers([] {
    whole_server s;
    auto reader = s.place.client();
    CHECK(reader.ask(post("Write \"x\" 1")).body == "Ok");
    s.on.stalled = true;
    auto writer = s.place.client();
    writer.send(post("Write \"x\" 2"));
    REQUIRE(s.on.at_the_sync.wait().has_value());
    CHECK(reader.ask(post("Read \"x\"")).body == "Result (Just 1)");
    s.on.go_on.set();
    CHECK(writer.receive().body == "Ok");
    CHECK(reader.ask(post("Read \"x\"")).body == "Result (Just 2)");
  });
}

TEST_CASE("service: C-T5: Ok means that a power cut right after it loses nothing") {
  on_fibers([] {
    whole_server s;
    auto client = s.place.client();
    for (int i = 0; i < 20; ++i) {
      REQUIRE(client.ask(post("Write \"k\" " + std::to_string(i))).body == "Ok");
      disk after;
      after.cached = s.on.durable;
      auto again = kv::store::open(std::make_unique<kv_test::recording_file>(after)).value();
      CHECK(again->read("k") == i);
    }
  });
}

TEST_CASE("service: C-T7: a failed disk is 503 for writers and resets, and readers go on") {
  on_fibers([] {
    whole_server s;
    auto client = s.place.client();
    CHECK(client.ask(post("Write \"x\" 1")).body == "Ok");
    s.on.next_fault = disk::fault::lasting_error;
    const answer a = client.ask(post("Write \"x\" 2"));
    CHECK(a.status == 503);
    CHECK(a.body.find("journal has failed") != a.body.npos);
    s.on.next_fault = disk::fault::none;
    CHECK(client.ask(post("Write \"y\" 3")).status == 503);
    CHECK(client.ask(request("DELETE", "/")).status == 503);
    CHECK(client.ask(post("Read \"x\"")).body == "Result (Just 1)");
    CHECK(client.ask(post("Read \"y\"")).body == "Result Nothing");
    CHECK(s.on.calls_after_failure == 0);
  });
}

TEST_CASE("service: C-T7: a disk that is full for a while costs the changes that it refused") {
  on_fibers([] {
    whole_server s;
    auto client = s.place.client(), other = s.place.client();
    CHECK(client.ask(post("Write \"x\" 1")).body == "Ok");
    s.on.next_fault = disk::fault::write_error;
    const answer a = client.ask(post("Write \"x\" 2"));
    CHECK(a.status == 507);
    CHECK(a.body.find("nothing of it is left") != a.body.npos);
    CHECK(other.ask(post("Read \"x\"")).body == "Result (Just 1)");
    s.on.next_fault = disk::fault::none;
    CHECK(other.ask(post("Write \"x\" 3")).body == "Ok");
    CHECK(client.ask(post("Read \"x\"")).body == "Result (Just 3)");
    CHECK(client.ask(request("GET", "/stats")).body.find("\"failed_writes\":1") !=
          std::string::npos);
    s.on.lose_power();
    disk after;
    after.cached = s.on.durable;
    CHECK(kv::store::open(std::make_unique<kv_test::recording_file>(after)).value()->read("x") ==
          3);
  });
}

TEST_CASE("service: a full store answers 507, and a disk that takes too long 500") {
  on_fibers([] {
    whole_server s({.memory_max = 1 + kv::key_overhead_bytes}, {});
    auto client = s.place.client();
    CHECK(client.ask(post("Write \"x\" 1")).body == "Ok");
    CHECK(client.ask(post("Write \"y\" 1")).status == 507);
  });
  on_fibers([] {
    whole_server s({}, {.answer_time = 20ms});
    auto client = s.place.client();
    s.on.stalled = true;
    const answer late = client.ask(post("Write \"x\" 2"));
    CHECK(late.status == 500);
    CHECK(late.body == "Timeout due to overload or bug");
    s.on.stalled = false;
    s.on.go_on.set();
  });
}

TEST_CASE("service: C-T13: a write whose client left is finished for everyone else") {
  on_fibers([] {
    whole_server s;
    s.on.stalled = true;
    auto leaver = s.place.client();
    leaver.send(post("Write \"x\" 1"));
    REQUIRE(s.on.at_the_sync.wait().has_value());
    leaver.close();
    s.on.stalled = false;
    s.on.go_on.set();
    s.place.wait_until_open(0);
    CHECK(s.store->read("x") == 1);
  });
}

TEST_CASE("service: C-T16: a drain waits for the disk, answers, and leaves a whole journal") {
  on_fibers([] {
    whole_server s;
    s.on.stalled = true;
    auto client = s.place.client();
    client.send(post("Write \"x\" 1"));
    REQUIRE(s.on.at_the_sync.wait().has_value());
    std::atomic<bool> begun{false};
    auto stopping = coir::spawn([&] {
      begun = true;
      s.place.stop();
      return s.store->close();
    });
    while (!begun) coir::this_fiber::yield();
    CHECK_FALSE(stopping.done());  // the disk is still at work
    s.on.stalled = false;
    s.on.go_on.set();
    CHECK(client.receive().body == "Ok");
    CHECK(stopping.join().has_value());
    CHECK_FALSE(s.on.durable.empty());
    CHECK(s.on.durable == s.on.cached);
  });
}

TEST_CASE("service: GET /stats is one line of JSON with what was counted") {
  on_fibers([] {
    whole_server s;
    auto client = s.place.client();
    CHECK(client.ask(post("Write \"x\" 1")).body == "Ok");
    const answer a = client.ask(request("GET", "/stats"));
    CHECK(a.status == 200);
    CHECK(a.head.find("application/json") != a.head.npos);
    CHECK(a.body.find("\"backend\":\"" + std::string(coir::snapshot().backend) + "\",") !=
          a.body.npos);
    CHECK(a.body.find("\"keys\":1,") != a.body.npos);
    CHECK(a.body.find("\"journal\":{\"records\":1,\"batches\":1,\"writes\":1,\"syncs\":1,") !=
          a.body.npos);
    CHECK(a.body.find("\"workers\":[{\"spawned\":") != a.body.npos);
    CHECK(a.body.find('\n') == a.body.size() - 1);
  });
}
