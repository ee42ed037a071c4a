// http.hpp: conversations over HTTP/1.1: one fiber per connection, request after request, with a
// bound on everything a peer can make us keep or wait for.
//
// Always true:
//   - Answers go out in the order of the requests, at most pipeline_max of them in one send.
//   - Every wait for the peer has a deadline; every refusal has a status and ends the connection.
//   - After drain() a connection ends with the answer that is being worked on.
//
// Comes from: main.cpp.   Goes to: http_reader.hpp, coir/net.hpp, a handler such as service.cpp.
#pragma once

#include <chrono>
#include <coir/net.hpp>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "kv/http_reader.hpp"

namespace kv {

struct http_response {
  unsigned status = 200;
  std::string body;
  std::string_view type = "text/plain; charset=utf-8";  ///< of static life
  bool close = false;
};

struct http_limits {
  reader_limits reading = {};
  std::chrono::milliseconds head_time{10'000};   ///< of a whole head; else 408
  std::chrono::milliseconds body_grace{5'000};   ///< before the rate counts
  std::uint64_t body_bytes_per_second = 1024;    ///< else 408
  std::chrono::milliseconds idle_time{60'000};   ///< between requests; then the connection ends
  std::chrono::milliseconds write_time{30'000};  ///< to take answers; then the connection ends
  std::chrono::milliseconds linger_time{1'000};  ///< to take a refusal, while we drop what it sends
  unsigned pipeline_max = 16;
  unsigned connections_max = 65'536;           ///< else 503
  unsigned connections_per_peer_max = 16'384;  ///< by address; else 503
};

struct http_counters {
  std::uint64_t connections = 0, open = 0, requests = 0, refused = 0, turned_away = 0;
};

class http_server {
 public:
  using handler = std::function<http_response(const http_request&)>;

  /// `answer` is called on the connections' fibers, of every worker at once, and may park.
  http_server(handler answer, const http_limits& limits)
      : answer_(std::move(answer)), limits_(limits) {}

  /// Talks with one peer until it ends. Fibers only; give it to tcp_listener::serve.
  void converse(coir::net::tcp_stream stream);

  /// From now on every connection ends once it has answered what it has; waiting ones at once. Any
  /// thread.
  void drain();

  http_counters counters() const;

 private:
  class visit;
  struct conversation;
  enum class next { request, close, refused };

  void talk(conversation& c);
  next read_request(conversation& c);
  next read_more(conversation& c, http_reader::state state);
  bool send(conversation& c);
  void refuse(conversation& c, unsigned status, std::string_view reason);
  void part(conversation& c);
  bool draining() const;

  const handler answer_;
  const http_limits limits_;
  mutable std::mutex mutex_;  // held for a look-up, never across a park; guards everything below
  bool draining_ = false;
  std::unordered_set<int> open_;
  std::unordered_map<std::string, unsigned> peers_;
  http_counters counters_;
};

/// The text of a status, as in "404 Not Found"; "Unknown" when it has none here.
std::string_view status_text(unsigned status) noexcept;

}  // namespace kv
