// resp.hpp: conversations in the protocol of Redis: one fiber per connection, many requests at
// once.
//
//   GET SET DEL PING INFO COMMAND CONFIG GET, and QUIT; what else is asked for is an error
//
// Always true:
//   - Answers come in the order of the requests. Those that are here together are answered by few
//     writes, and the changes among them that follow each other are one input of the store: they
//     reach the disk together, and none is answered before it is there.
//   - A request sees what the requests before it on the same connection did.
//   - What cannot be parsed is answered by one "-ERR Protocol error", and the connection ends.
//
// Comes from: main.cpp.   Goes to: resp_reader.hpp, store.hpp, coir/net.hpp.
#pragma once

#include <chrono>
#include <coir/net.hpp>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "kv/resp_reader.hpp"
#include "kv/store.hpp"

namespace kv {

struct resp_options {
  resp_limits reading = {};
  std::chrono::milliseconds answer_time{60'000};  ///< for the disk; then an error
  std::chrono::milliseconds idle_time{300'000};   ///< between requests; then the connection ends
  std::chrono::milliseconds write_time{30'000};   ///< to take answers; then the connection ends
  std::size_t changes_max = 256;                  ///< in one input of the store
  std::size_t changes_bytes_max = 2 << 20;        ///< likewise
  std::size_t answers_bytes_max = 64 << 10;       ///< kept before they are written
  unsigned connections_max = 65'536;              ///< else an error, and the end
};

struct resp_counters {
  std::uint64_t connections = 0, open = 0, requests = 0, refused = 0, writes = 0, inputs = 0;
};

class resp_server {
 public:
  explicit resp_server(store& s, const resp_options& o = {}) : store_(s), options_(o) {}

  /// Talks with one peer until it ends. Fibers only; give it to tcp_listener::serve.
  void converse(coir::net::tcp_stream stream);

  /// From now on every connection ends once it has answered what it has. Any thread.
  void drain();

  resp_counters counters() const;

 private:
  class visit;
  struct conversation;
  struct command;

  static const command* find(std::string_view name) noexcept;
  void talk(conversation& c);
  bool answer(conversation& c);
  void settle(conversation& c);
  coir::result<std::size_t> change_all(std::shared_ptr<const std::vector<change>> changes);
  bool send(conversation& c);

  bool get(conversation& c);
  bool set(conversation& c);
  bool erase(conversation& c);
  bool ping(conversation& c);
  bool info(conversation& c);
  bool describe(conversation& c);
  bool config(conversation& c);
  bool quit(conversation& c);

  store& store_;
  const resp_options options_;
  mutable std::mutex mutex_;  // held for a look-up, never across a park; guards everything below
  bool draining_ = false;
  std::unordered_set<int> open_;
  resp_counters counters_;
};

}  // namespace kv
