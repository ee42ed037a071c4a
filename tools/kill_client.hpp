// kill_client.hpp: many connections that write as fast as they are answered, and one that asks
// afterwards. Plain sockets and poll: a fault of the runtime must not hide behind itself.
//
// Always true:
//   - One request per connection is on its way at a time, so it is known which answer is missing.
//   - After the kill every socket is read to its end: an answer that was sent counts.
//
// Comes from: kill_test.cpp.   Goes to: sockets of the loopback interface.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kill_server.hpp"

namespace kill_test {

/// A number that tells its key.
inline std::int64_t value_of(const std::string& key) {
  std::uint64_t hash = 14695981039346656037u;
  for (const char letter : key) hash = (hash ^ static_cast<unsigned char>(letter)) * 1099511628211u;
  return static_cast<std::int64_t>(hash);
}

inline std::string post(const std::string& body) {
  return "POST / HTTP/1.1\r\nHost: kv\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

inline int connect_to(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) give_up("socket");
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    give_up("connect");
  const int yes = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  return fd;
}

/// Takes the first whole answer out of `bytes` and gives its body; nothing when it is not whole.
/// `status` is its status.
inline std::optional<std::string> take_answer(std::string& bytes, int& status) {
  constexpr std::string_view mark = "Content-Length: ";
  const auto head_end = bytes.find("\r\n\r\n");
  const auto length_at = bytes.find(mark);
  if (head_end == bytes.npos || length_at == bytes.npos || length_at > head_end) return {};
  const auto length = std::strtoul(bytes.c_str() + length_at + mark.size(), nullptr, 10);
  if (bytes.size() < head_end + 4 + length) return {};
  status = std::atoi(bytes.c_str() + std::string_view("HTTP/1.1 ").size());
  std::string body = bytes.substr(head_end + 4, length);
  bytes.erase(0, head_end + 4 + length);
  return body;
}

struct counter {
  std::string key;
  std::int64_t acked = 0, sent = 0;
};

/// What was written, as the clients know it.
struct written {
  std::vector<std::string> acked, unanswered;
  std::vector<counter> counters;
};

class load {
 public:
  load(std::uint16_t port, unsigned connections, std::uint64_t name) {
    for (unsigned i = 0; i < connections; ++i) {
      client c;
      c.fd = connect_to(port);
      ::fcntl(c.fd, F_SETFL, O_NONBLOCK);
      c.name = std::to_string(name) + "-" + std::to_string(i);
      c.count.key = "counter " + c.name;
      clients_.push_back(std::move(c));
    }
  }
  ~load() {
    for (const client& c : clients_)
      if (c.fd >= 0) ::close(c.fd);
  }
  load(const load&) = delete;
  load& operator=(const load&) = delete;

  void run_for(std::chrono::nanoseconds time) {
    const auto until = std::chrono::steady_clock::now() + time;
    for (client& c : clients_) write_next(c);
    for (;;) {
      const auto left = until - std::chrono::steady_clock::now();
      if (left.count() <= 0) return;
      if (!turn(left, true)) return;
    }
  }

  /// After the kill.
  written finish() {
    while (turn(std::chrono::seconds(10), false)) {
    }
    for (client& c : clients_) {
      if (!c.key.empty()) result_.unanswered.push_back(c.key);
      result_.counters.push_back(c.count);
    }
    return std::move(result_);
  }

 private:
  struct client {
    int fd = -1;
    std::string name;
    std::string key;  // on its way; empty: the counter is
    counter count;
    std::uint64_t round = 0;
    std::string bytes;
  };

  // Every fourth write goes to the same key again.
  static void write_next(client& c) {
    std::string body;
    if (++c.round % 4 == 0) {
      c.key.clear();
      body = "Write \"" + c.count.key + "\" " + std::to_string(++c.count.sent);
    } else {
      c.key = c.name + "-" + std::to_string(c.round);
      body = "Write \"" + c.key + "\" (" + std::to_string(value_of(c.key)) + ")";
    }
    const std::string text = post(body);
    // One small request always fits into an empty socket buffer; a broken one is seen by reading.
    (void)!::send(c.fd, text.data(), text.size(), MSG_NOSIGNAL);
  }

  /// False when no connection is left, or nothing came in `patience`.
  bool turn(std::chrono::nanoseconds patience, bool go_on) {
    std::vector<pollfd> ready;
    for (const client& c : clients_)
      if (c.fd >= 0) ready.push_back({c.fd, POLLIN, 0});
    if (ready.empty()) return false;
    const timespec wait{patience.count() / 1'000'000'000, patience.count() % 1'000'000'000};
    const int count = ::ppoll(ready.data(), ready.size(), &wait, nullptr);
    std::size_t at = 0;
    for (client& c : clients_)
      if (c.fd >= 0 && ready[at++].revents != 0) receive(c, go_on);
    return go_on || count > 0;
  }

  void receive(client& c, bool go_on) {
    char piece[4096];
    const ssize_t count = ::recv(c.fd, piece, sizeof piece, 0);
    if (count > 0) c.bytes.append(piece, static_cast<std::size_t>(count));
    int status = 0;
    if (const auto body = take_answer(c.bytes, status)) {
      if (status == 200 && *body == "Ok") {
        if (c.key.empty())
          c.count.acked = c.count.sent;
        else
          result_.acked.push_back(c.key);
        c.key.clear();
      }
      if (go_on) write_next(c);
    }
    if (count <= 0) {
      ::close(c.fd);
      c.fd = -1;
    }
  }

  std::vector<client> clients_;
  written result_;
};

/// Asks a server that has no other clients.
class asker {
 public:
  explicit asker(std::uint16_t port) : fd_(connect_to(port)) {}
  ~asker() { ::close(fd_); }
  asker(const asker&) = delete;
  asker& operator=(const asker&) = delete;

  using answers = std::vector<std::pair<std::string, std::optional<std::int64_t>>>;
  answers values(const std::vector<std::string>& keys) const {
    constexpr std::size_t window = 64;
    answers all;
    for (std::size_t at = 0; at < keys.size(); at += window) {
      const std::size_t end = std::min(at + window, keys.size());
      std::string text;
      for (std::size_t i = at; i < end; ++i) text += post("Read \"" + keys[i] + "\"");
      send(text);
      for (std::size_t i = at; i < end; ++i) all.emplace_back(keys[i], number_in(receive()));
    }
    return all;
  }
  /// A number of the server's report about its recovery.
  std::uint64_t recovery(const std::string& name) const {
    send("GET /stats HTTP/1.1\r\nHost: kv\r\n\r\n");
    const std::string json = receive();
    const auto part = json.find("\"recovery\":{");
    const auto at = json.find("\"" + name + "\":", part);
    if (part == json.npos || at == json.npos) return 0;
    return std::strtoull(json.c_str() + at + name.size() + 3, nullptr, 10);
  }

 private:
  void send(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t count = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (count <= 0) give_up("send");
      text.remove_prefix(static_cast<std::size_t>(count));
    }
  }
  std::string receive() const {
    for (;;) {
      int status = 0;
      if (auto body = take_answer(bytes_, status)) return *body;
      char piece[1 << 16];
      const ssize_t count = ::recv(fd_, piece, sizeof piece, 0);
      if (count <= 0) give_up("the server closed the connection");
      bytes_.append(piece, static_cast<std::size_t>(count));
    }
  }
  static std::optional<std::int64_t> number_in(const std::string& answer) {
    if (answer == "Result Nothing") return {};
    const auto at = answer.find_first_of("-0123456789");
    if (!answer.starts_with("Result (Just ") || at == answer.npos) give_up("not an answer");
    return std::strtoll(answer.c_str() + at, nullptr, 10);
  }

  int fd_;
  mutable std::string bytes_;
};

}  // namespace kill_test
