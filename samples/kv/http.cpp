// http.cpp: the life of one connection.
//
// Comes from: http.hpp.   Goes to: coir/net.hpp, http_reader.hpp.
#include "kv/http.hpp"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <coir/clock.hpp>
#include <exception>
#include <utility>

namespace kv {

namespace {

constexpr std::size_t answers_bytes_max = 64 << 10;
constexpr std::size_t linger_bytes_max = 4 << 20;

std::string peer_of(int fd) {
  sockaddr_storage address = {};
  socklen_t bytes = sizeof address;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &bytes) != 0) return {};
  if (address.ss_family == AF_INET6) {
    const auto& a = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
    return {reinterpret_cast<const char*>(&a), sizeof a};
  }
  const auto& a = reinterpret_cast<const sockaddr_in&>(address).sin_addr;
  return {reinterpret_cast<const char*>(&a), sizeof a};
}

void append_response(std::string& out, const http_response& r, bool with_body, bool close) {
  out += "HTTP/1.1 ";
  out += std::to_string(r.status);
  out += ' ';
  out += status_text(r.status);
  out += "\r\nContent-Type: ";
  out += r.type;
  out += "\r\nContent-Length: ";
  out += std::to_string(r.body.size());
  out += close ? "\r\nConnection: close\r\n\r\n" : "\r\n\r\n";
  if (with_body) out += r.body;
}

}  // namespace

std::string_view status_text(unsigned status) noexcept {
  struct text {
    unsigned status;
    std::string_view words;
  };
  static constexpr std::array<text, 11> texts = {{{200, "OK"},
                                                  {400, "Bad Request"},
                                                  {404, "Not Found"},
                                                  {408, "Request Timeout"},
                                                  {409, "Conflict"},
                                                  {413, "Content Too Large"},
                                                  {414, "URI Too Long"},
                                                  {431, "Request Header Fields Too Large"},
                                                  {500, "Internal Server Error"},
                                                  {503, "Service Unavailable"},
                                                  {507, "Insufficient Storage"}}};
  const auto* at = std::ranges::find(texts, status, &text::status);
  return at == texts.end() ? "Unknown" : at->words;
}

struct http_server::conversation {
  coir::net::tcp_stream stream;
  http_reader reader;
  std::string out = {};
  unsigned unsent = 0;                    // answers in `out`
  coir::deadline patience = coir::never;  // of the phase below
  http_reader::state phase = http_reader::state::complete;
  coir::deadline body_began = coir::never;
};

/// Counts a connection in, if there is room, and out.
class http_server::visit {
 public:
  visit(http_server& server, int fd) : server_(server), fd_(fd), peer_(peer_of(fd)) {
    const std::lock_guard held(server_.mutex_);
    ++server_.counters_.connections;
    admitted_ = !server_.draining_ && server_.open_.size() < server_.limits_.connections_max;
    unsigned& of_peer = server_.peers_[peer_];
    admitted_ = admitted_ && of_peer < server_.limits_.connections_per_peer_max;
    if (admitted_) {
      ++of_peer;
      server_.open_.insert(fd_);
    } else {
      ++server_.counters_.turned_away;
      if (of_peer == 0) server_.peers_.erase(peer_);
    }
  }
  ~visit() {
    if (!admitted_) return;
    const std::lock_guard held(server_.mutex_);
    server_.open_.erase(fd_);
    const auto at = server_.peers_.find(peer_);
    if (--at->second == 0) server_.peers_.erase(at);
  }
  visit(const visit&) = delete;
  visit& operator=(const visit&) = delete;
  bool admitted() const noexcept { return admitted_; }

 private:
  http_server& server_;
  const int fd_;
  const std::string peer_;
  bool admitted_ = false;
};

void http_server::converse(coir::net::tcp_stream stream) {
  conversation c{.stream = std::move(stream), .reader = http_reader(limits_.reading)};
  // Ends before the stream closes: drain() must not meet the number of somebody else's file.
  const visit here(*this, c.stream.fd());
  if (!here.admitted()) return refuse(c, 503, "too many connections");
  try {
    talk(c);
  } catch (const std::exception&) {
    // What it says is ours to know; the answers before it are still the peer's.
    refuse(c, 500, "internal error");
  }
}

void http_server::talk(conversation& c) {
  for (;;) {
    if (read_request(c) != next::request) return;
    const http_request request = c.reader.take();
    const http_response response = answer_(request);
    const bool close = response.close || !request.keep_alive || draining();
    append_response(c.out, response, request.what != http_request::method::head, close);
    ++c.unsent;
    if (close) {
      if (send(c)) part(c);
      return;
    }
    if (c.unsent >= limits_.pipeline_max || c.out.size() > answers_bytes_max)
      if (!send(c)) return;
  }
}

http_server::next http_server::read_request(conversation& c) {
  for (;;) {
    const http_reader::state state = c.reader.parse();
    if (state == http_reader::state::complete) {
      c.phase = state;
      return next::request;
    }
    if (state == http_reader::state::refused) {
      refuse(c, c.reader.status(), c.reader.reason());
      return next::refused;
    }
    if (const next n = read_more(c, state); n != next::request) return n;
  }
}

/// Waits for bytes; next::request means: parse again.
http_server::next http_server::read_more(conversation& c, http_reader::state state) {
  using phase = http_reader::state;
  if (c.reader.must_continue()) c.out += "HTTP/1.1 100 Continue\r\n\r\n";
  if (!c.out.empty() && !send(c)) return next::close;
  if (state != c.phase) {
    c.phase = state;
    if (state == phase::in_body) c.body_began = coir::clock::now() + limits_.body_grace;
    c.patience = coir::in(state == phase::idle ? limits_.idle_time : limits_.head_time);
  }
  if (state == phase::in_body)
    c.patience = c.body_began + std::chrono::milliseconds(
                                    c.reader.body_bytes() * 1000 /
                                    std::max<std::uint64_t>(limits_.body_bytes_per_second, 1));
  if (state == phase::idle && draining()) return next::close;

  auto count = c.stream.read_some(c.reader.room(), c.patience);
  if (!count && count.error() == std::errc::timed_out && state != phase::idle) {
    refuse(c, 408, state == phase::in_head ? "the head took too long" : "the body came too slowly");
    return next::refused;
  }
  if (!count || *count == 0) return next::close;
  c.reader.took(*count);
  return next::request;
}

bool http_server::send(conversation& c) {
  {
    const std::lock_guard held(mutex_);
    counters_.requests += c.unsent;
  }
  c.unsent = 0;
  const auto sent = c.stream.write_all(c.out, coir::in(limits_.write_time));
  c.out.clear();
  return sent.has_value();
}

void http_server::refuse(conversation& c, unsigned status, std::string_view reason) {
  {
    const std::lock_guard held(mutex_);
    ++counters_.refused;
  }
  append_response(c.out, {.status = status, .body = std::string(reason)}, true, true);
  if (send(c)) part(c);
}

/// Closing a socket with unread bytes resets the connection, and the peer may lose our last answer.
/// So: say that we are done, and drop what still comes, for a while.
void http_server::part(conversation& c) {
  if (!c.stream.shutdown_write()) return;
  const coir::deadline until = coir::in(limits_.linger_time);
  std::array<std::byte, 4096> dropped;
  for (std::size_t bytes = 0; bytes < linger_bytes_max;) {
    auto count = c.stream.read_some(dropped, until);
    if (!count || *count == 0) return;
    bytes += *count;
  }
}

void http_server::drain() {
  const std::lock_guard held(mutex_);
  draining_ = true;
  // Readers find the end of their stream; writers are not disturbed.
  for (const int fd : open_) ::shutdown(fd, SHUT_RD);
}

bool http_server::draining() const {
  const std::lock_guard held(mutex_);
  return draining_;
}

http_counters http_server::counters() const {
  const std::lock_guard held(mutex_);
  http_counters now = counters_;
  now.open = open_.size();
  return now;
}

}  // namespace kv
