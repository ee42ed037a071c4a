// resp_test.cpp: the port for Redis clients over a disk that waits and fails: answers and order.
#include "kv/resp.hpp"

#include <string>
#include <vector>

#include "kv/service.hpp"
#include "on_fibers.hpp"
#include "recording_file.hpp"

using kv_test::disk;
using kv_test::on_fibers;

namespace {

class resp_client {
 public:
  explicit resp_client(std::uint16_t port)
      : stream_(coir::net::tcp_stream::connect("127.0.0.1", port).value()) {}
  void send(std::string_view text) { REQUIRE(stream_.write_all(text).has_value()); }
  /// Exactly `text` comes next.
  void expect(std::string_view text) {
    std::string got(text.size(), '\0');
    const auto read = stream_.read_exact(std::as_writable_bytes(std::span(got)));
    CHECK(read.has_value());
    CHECK(got == text);
  }
  void ask(std::string_view text, std::string_view answer) {
    CAPTURE(text);
    send(text);
    expect(answer);
  }
  /// A bulk string.
  std::string bulk() {
    std::string head;
    for (std::byte one{}; !head.ends_with("\r\n"); head += static_cast<char>(one))
      REQUIRE(stream_.read_exact(std::span(&one, 1)).has_value());
    std::string text(std::stoul(head.substr(1)) + 2, '\0');
    REQUIRE(stream_.read_exact(std::as_writable_bytes(std::span(text))).has_value());
    return text;
  }
  bool is_closed() {
    std::byte one;
    const auto got = stream_.read_some(std::span(&one, 1));
    return !got || *got == 0;
  }
  void close() { (void)stream_.close(); }

 private:
  coir::net::tcp_stream stream_;
};

struct whole_server {
  disk on;
  std::unique_ptr<kv::store> store;
  kv::resp_server resp;
  coir::net::tcp_listener listener = coir::net::tcp_listener::listen().value();
  coir::handle<void> serving;

  explicit whole_server(kv::resp_options how = {}, kv::store_options o = {})
      : store(kv::store::open(std::make_unique<kv_test::recording_file>(on), o).value()),
        resp(*store, how),
        serving(coir::spawn([this] {
          return listener.serve([this](coir::net::tcp_stream s) { resp.converse(std::move(s)); });
        })) {}
  ~whole_server() {
    (void)listener.close();
    resp.drain();
    CHECK(serving.join().has_value());
  }
  resp_client client() const { return resp_client(listener.port()); }
};

std::string set(std::string_view key, std::string_view value) {
  return "*3\r\n$3\r\nSET\r\n$" + std::to_string(key.size()) + "\r\n" + std::string(key) + "\r\n$" +
         std::to_string(value.size()) + "\r\n" + std::string(value) + "\r\n";
}

}  // namespace

TEST_CASE("resp: of changes asked for at once, one that finds no memory leaves the others theirs") {
  on_fibers([] {
    whole_server s({}, {.memory_max = 2 * (1 + kv::key_overhead_bytes)});
    auto c = s.client();
    c.ask(set("a", "1"), "+OK\r\n");
    c.ask(set("a", "2") + set("b", "3") + set("c", "4") + set("b", "5"),
          "+OK\r\n+OK\r\n-OOM command not allowed when used memory > 'maxmemory'\r\n+OK\r\n");
    c.ask("*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "$1\r\n2\r\n");
    c.ask("*2\r\n$3\r\nGET\r\n$1\r\nb\r\n", "$1\r\n5\r\n");
    c.ask("*2\r\n$3\r\nGET\r\n$1\r\nc\r\n", "$-1\r\n");
  });
}

TEST_CASE("resp: each command has its answer") {
  on_fibers([] {
    whole_server s;
    auto c = s.client();
    c.ask("PING\r\n", "+PONG\r\n");
    c.ask("*2\r\n$4\r\nping\r\n$2\r\nhi\r\n", "$2\r\nhi\r\n");
    c.ask("GET x\r\n", "$-1\r\n");
    c.ask(set("x", "hello"), "+OK\r\n");
    c.ask("GET x\r\n", "$5\r\nhello\r\n");
    c.ask(set("x", ""), "+OK\r\n");
    c.ask("GET x\r\n", "$0\r\n\r\n");
    c.ask("DEL x y x\r\n", ":1\r\n");
    c.ask("GET x\r\n", "$-1\r\n");
    c.ask("CONFIG GET save\r\n", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n");
    c.ask("CONFIG GET appendonly\r\n", "*2\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n");
    c.ask("CONFIG GET nothing\r\n", "*0\r\n");
    c.ask("COMMAND COUNT\r\n", ":8\r\n");
    c.ask("COMMAND DOCS\r\n", "*0\r\n");
    c.ask("COMMAND\r\n", "*8\r\n*6\r\n$3\r\nget\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n");
    auto other = s.client();
    other.send("INFO\r\n");
    const std::string info = other.bulk();
    CHECK(info.find("redis_version:") != info.npos);
    CHECK(info.find("db0:keys=0,") != info.npos);
    other.ask("QUIT\r\n", "+OK\r\n");
    CHECK(other.is_closed());
  });
}

TEST_CASE("resp: what is unknown, or has the wrong number of arguments, is an error and no end") {
  on_fibers([] {
    whole_server s;
    auto c = s.client();
    c.ask("FLY x\r\n", "-ERR unknown command 'FLY'\r\n");
    c.ask("GET\r\n", "-ERR wrong number of arguments for 'get' command\r\n");
    c.ask("GET a b\r\n", "-ERR wrong number of arguments for 'get' command\r\n");
    c.ask("SET a\r\n", "-ERR wrong number of arguments for 'set' command\r\n");
    c.ask("SET a b EX 3\r\n", "-ERR syntax error, SET takes a key and a value\r\n");
    c.ask("CONFIG SET save x\r\n", "-ERR only CONFIG GET is known here\r\n");
    c.ask(set(std::string(1025, 'k'), "v"), "-ERR the key is longer than 1024 bytes\r\n");
    c.ask(set("k", std::string(kv::value_bytes_max + 1, 'v')),
          "-ERR the value is longer than " + std::to_string(kv::value_bytes_max) + " bytes\r\n");
    c.ask("DEL " + std::string(1025, 'k') + "\r\n", ":0\r\n");
    c.ask(set("k", std::string(kv::value_bytes_max, 'v')), "+OK\r\n");
    c.ask("PING\r\n", "+PONG\r\n");
  });
}

TEST_CASE(
    "resp: C-T9: malformed input is a protocol error and the end of the connection, at once") {
  on_fibers([] {
    whole_server s;
    s.on.stalled = true;
    auto writer = s.client();
    writer.send(set("x", "1"));
    REQUIRE(s.on.at_the_sync.wait().has_value());
    auto c = s.client();
    c.ask("*1\r\n!\r\n", "-ERR Protocol error: expected '$', got '!'\r\n");
    CHECK(c.is_closed());
    auto long_one = s.client();
    long_one.ask("*1\r\n$9999999\r\n",
                 "-ERR Protocol error: invalid bulk length, at most 1048576\r\n");
    CHECK(long_one.is_closed());
    CHECK(s.resp.counters().refused == 2);
    s.on.stalled = false;
    s.on.go_on.set();
    writer.expect("+OK\r\n");
  });
}

TEST_CASE("resp: many requests at once are answered in order, by few writes and few syncs") {
  on_fibers([] {
    whole_server s;
    auto c = s.client();
    std::string text, answers;
    for (int i = 0; i < 100; ++i) {
      text += set("k" + std::to_string(i), std::to_string(i));
      answers += "+OK\r\n";
    }
    c.ask(text, answers);
    CHECK(s.resp.counters().requests == 100);
    // The bytes may arrive in several pieces, each of which may be a batch.
    CHECK(s.resp.counters().writes <= 10);
    CHECK(s.resp.counters().inputs <= 10);
    CHECK(s.on.syncs <= 10);
    CHECK(s.store->counters().keys == 100);
    text.clear();
    answers.clear();
    for (int i = 0; i < 50; ++i) {
      const std::string value = std::to_string(i);
      text += set("a", value) + "GET a\r\nDEL a\r\nGET a\r\nPING\r\nFLY\r\n";
      answers += "+OK\r\n$" + std::to_string(value.size()) + "\r\n" + value +
                 "\r\n:1\r\n$-1\r\n+PONG\r\n-ERR unknown command 'FLY'\r\n";
    }
    c.ask(text, answers);
  });
}

TEST_CASE("resp: a request that is refused leaves those around it alone") {
  on_fibers([] {
    whole_server s;
    auto c = s.client();
    c.ask(set("a", "1") + set(std::string(1025, 'k'), "v") + set("b", "2"),
          "+OK\r\n-ERR the key is longer than 1024 bytes\r\n+OK\r\n");
    c.ask("GET a\r\nGET b\r\n", "$1\r\n1\r\n$1\r\n2\r\n");
  });
}

TEST_CASE("resp: C-T3: a read is answered while a change of another client waits for the disk") {
  on_fibers([] {
    whole_server s;
    auto reader = s.client();
    reader.ask(set("x", "old"), "+OK\r\n");
    s.on.stalled = true;
    auto writer = s.client();
    writer.send(set("x", "new"));
    REQUIRE(s.on.at_the_sync.wait().has_value());
    reader.ask("GET x\r\n", "$3\r\nold\r\n");
    s.on.stalled = false;
    s.on.go_on.set();
    writer.expect("+OK\r\n");
    reader.ask("GET x\r\n", "$3\r\nnew\r\n");
  });
}

TEST_CASE("resp: C-T5: OK and a count mean that a power cut right after them loses nothing") {
  on_fibers([] {
    whole_server s;
    auto c = s.client();
    const auto after_a_cut = [&s] {
      disk after;
      after.cached = s.on.durable;
      return kv::store::open(std::make_unique<kv_test::recording_file>(after)).value()->find("k");
    };
    for (const char* value : {"one", "2", "\xFF\r\n"}) {
      c.ask(set("k", value), "+OK\r\n");
      CHECK(after_a_cut() == value);
    }
    c.ask("DEL k\r\n", ":1\r\n");
    CHECK_FALSE(after_a_cut().has_value());
  });
}

TEST_CASE("resp: C-T7: a failed disk is an error for changes, and reads go on") {
  on_fibers([] {
    whole_server s;
    auto c = s.client();
    c.ask(set("x", "1"), "+OK\r\n");
    s.on.next_fault = disk::fault::write_error;
    c.send(set("x", "2"));
    c.expect("-MISCONF the disk refused this change, and nothing of it is left: ");
    auto other = s.client();
    other.ask("GET x\r\n", "$1\r\n1\r\n");
    s.on.next_fault = disk::fault::none;
    other.ask(set("x", "3"), "+OK\r\n");
    s.on.next_fault = disk::fault::lasting_error;
    other.send(set("x", "4"));
    other.expect("-MISCONF the journal has failed, nothing is written: ");
    CHECK_FALSE(other.is_closed());
    auto third = s.client();
    third.ask("GET x\r\n", "$1\r\n3\r\n");
    CHECK(s.on.calls_after_failure == 0);
  });
}

TEST_CASE("resp: C-T12, C-T13: over the cap a client is told; one that left takes nothing along") {
  on_fibers([] {
    whole_server s({.connections_max = 1});
    auto first = s.client();
    first.ask("PING\r\n", "+PONG\r\n");
    auto second = s.client();
    second.expect("-ERR max number of clients reached\r\n");
    CHECK(second.is_closed());
    s.on.stalled = true;
    first.send(set("x", "1"));
    REQUIRE(s.on.at_the_sync.wait().has_value());
    first.close();
    s.on.stalled = false;
    s.on.go_on.set();
    while (s.resp.counters().open != 0) coir::this_fiber::yield();
    CHECK(s.store->find("x") == "1");
  });
}

TEST_CASE("resp: both doors lead to one store") {
  on_fibers([] {
    whole_server s;
    kv::service service(*s.store);
    const auto post = [&service](std::string body) {
      return service.answer({.what = kv::http_request::method::post, .target = "/", .body = body});
    };
    auto c = s.client();
    CHECK(post("Write \"x\" (-7)").body == "Ok");
    c.ask("GET x\r\n", "$2\r\n-7\r\n");
    c.ask(set("x", "12"), "+OK\r\n");
    CHECK(post("Read \"x\"").body == "Result (Just 12)");
    c.ask(set("x", "twelve"), "+OK\r\n");
    CHECK(post("Read \"x\"").status == 409);
    c.ask("DEL x\r\n", ":1\r\n");
    CHECK(post("Read \"x\"").body == "Result Nothing");
  });
}
