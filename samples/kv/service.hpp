// service.hpp: what the server does with a request: a command for the store, or its statistics.
//
//   POST any path, a command     200 and its answer; 400 when it is none, 409 when the value that
//                                it reads is no integer
//   DELETE any path              200 once memory and journal are empty
//   GET /stats                   200 and one line of JSON
//   anything else                400 "Unsupported method"
//
// Always true:
//   - A write is answered 200 only when it is durable. One that the disk refused is 507 or 503, and
//     the next one is tried; a failed sync is 503 from then on.
//   - Reads are answered whatever the journal does.
//
// Comes from: main.cpp, http.cpp.   Goes to: store.hpp, protocol.hpp.
#pragma once

#include <chrono>
#include <string>

#include "kv/http.hpp"
#include "kv/store.hpp"

namespace kv {

struct service_options {
  std::chrono::milliseconds answer_time{60'000};  ///< for the disk; then 500
};

class service {
 public:
  explicit service(store& s, const service_options& o = {}) : store_(s), options_(o) {}

  /// May park. Fibers only.
  http_response answer(const http_request& request);

  /// One line of JSON: journal, store, and each worker's counts. `http` is added when given.
  std::string stats(const http_counters& http) const;

  /// GET /stats shows the counters of this server.
  void show(const http_server& server) { server_ = &server; }
  void recovered_in(std::chrono::nanoseconds time) { recovery_time_ = time; }

 private:
  http_response execute(const std::string& text);
  http_response erase();
  http_response explain(std::error_code why) const;

  store& store_;
  const service_options options_;
  const http_server* server_ = nullptr;
  std::chrono::nanoseconds recovery_time_{0};
};

}  // namespace kv
