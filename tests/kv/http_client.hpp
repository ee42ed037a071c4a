// http_client.hpp: a client that sends exactly the bytes it is given, and a server to send them to.
#pragma once

#include <doctest/doctest.h>

#include <charconv>
#include <coir/coir.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "kv/http.hpp"

namespace kv_test {

struct answer {
  unsigned status = 0;
  std::string head, body;
  bool closes() const { return head.find("Connection: close") != head.npos; }
};

inline std::string request(std::string_view method, std::string_view target,
                           std::string_view body = {}, std::string_view fields = {}) {
  std::string text;
  text.append(method).append(" ").append(target).append(" HTTP/1.1\r\nHost: test\r\n");
  text.append(fields);
  if (!body.empty()) text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
  return text.append("\r\n").append(body);
}
inline std::string post(std::string_view body) { return request("POST", "/", body); }

class http_client {
 public:
  explicit http_client(std::uint16_t port) {
    auto stream = coir::net::tcp_stream::connect("127.0.0.1", port);
    REQUIRE(stream.has_value());
    stream_ = std::move(*stream);
  }
  void send(std::string_view text) { REQUIRE(stream_.write_all(text).has_value()); }
  /// The next answer; status 0 when the server closed instead.
  answer receive() {
    answer a;
    std::size_t head_end = 0;
    while ((head_end = buffer_.find("\r\n\r\n")) == buffer_.npos)
      if (!read_more()) return a;
    a.head = buffer_.substr(0, head_end + 4);
    buffer_.erase(0, head_end + 4);
    number_behind(a.head, "HTTP/1.1 ", a.status);
    std::size_t length = 0;
    number_behind(a.head, "Content-Length: ", length);
    while (buffer_.size() < length)
      if (!read_more()) return a;
    a.body = buffer_.substr(0, length);
    buffer_.erase(0, length);
    return a;
  }
  answer ask(std::string_view text) {
    send(text);
    return receive();
  }
  /// True when the server ends the connection and sends nothing before.
  bool is_closed() { return buffer_.empty() && !read_more(); }
  void close() { (void)stream_.close(); }
  coir::net::tcp_stream& stream() { return stream_; }

 private:
  bool read_more() {
    std::byte piece[4096];
    auto count = stream_.read_some(piece);
    if (!count || *count == 0) return false;
    buffer_.append(reinterpret_cast<const char*>(piece), *count);
    return true;
  }
  template <class Number>
  static void number_behind(const std::string& text, std::string_view mark, Number& out) {
    const auto at = text.find(mark);
    if (at == text.npos) return;
    std::from_chars(text.data() + at + mark.size(), text.data() + text.size(), out);
  }

  coir::net::tcp_stream stream_;
  std::string buffer_;
};

/// Listens on a port of its own and serves until it ends.
class http_place {
 public:
  http_place(kv::http_server::handler answer, const kv::http_limits& limits = {})
      : server_(std::move(answer), limits),
        listener_(coir::net::tcp_listener::listen().value()),
        serving_(coir::spawn([this] {
          return listener_.serve(
              [this](coir::net::tcp_stream s) { server_.converse(std::move(s)); });
        })) {}
  ~http_place() { stop(); }
  http_place(const http_place&) = delete;
  http_place& operator=(const http_place&) = delete;

  /// As SIGTERM does: returns when every connection has ended.
  void stop() {
    if (!serving_) return;
    (void)listener_.close();
    server_.drain();
    CHECK(serving_.join().has_value());
  }
  http_client client() const { return http_client(listener_.port()); }
  kv::http_server& server() { return server_; }
  void wait_until_open(std::uint64_t count) const {
    while (server_.counters().open != count) coir::this_fiber::yield();
  }

 private:
  kv::http_server server_;
  coir::net::tcp_listener listener_;
  coir::handle<void> serving_;
};

}  // namespace kv_test
