// http_reader.hpp: bytes in, requests out; no socket, no fiber, no clock. Boost.Beast reads them,
// after http_head and http_chunks looked at what it would let pass.
//
// Always true:
//   - Memory per connection is bounded: one head, one body, and read_bytes of what follows.
//   - After a refusal nothing more is parsed: where the next request begins is not known.
//
// Comes from: http.cpp.   Goes to: http_head.hpp, http_chunks.hpp, Boost.Beast (in http_reader.cpp
// only).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "kv/http_chunks.hpp"
#include "kv/http_head.hpp"

namespace kv {

struct http_request {
  enum class method { get, head, post, erase, other } what = method::other;
  std::string target;
  std::string body;
  bool keep_alive = false;
};

struct reader_limits {
  head_limits head = {};
  std::uint64_t body_bytes = 1 << 20;  ///< else 413
  std::size_t read_bytes = 16 << 10;   ///< asked of the socket at a time
};

class http_reader {
 public:
  enum class state {
    idle,      ///< nothing of a request is here
    in_head,   ///< the head has begun and not ended
    in_body,   ///< the head is complete, the body is not
    complete,  ///< take() gives a request
    refused    ///< answer status() with reason() and close
  };

  explicit http_reader(const reader_limits& limits);
  ~http_reader();
  http_reader(const http_reader&) = delete;
  http_reader& operator=(const http_reader&) = delete;

  /// Where to put the next bytes; then say how many they were.
  std::span<std::byte> room();
  void took(std::size_t bytes);

  /// Goes as far as the bytes go.
  state parse();
  /// The request that is complete. The next parse() begins the one behind it.
  http_request take();

  /// Bytes of the body that arrived so far.
  std::uint64_t body_bytes() const noexcept { return body_bytes_; }
  /// True once, when the client waits for "100 Continue" before it sends its body.
  bool must_continue();
  unsigned status() const noexcept { return status_; }
  const std::string& reason() const noexcept { return reason_; }

 private:
  struct parser;
  std::string_view unread() const noexcept;
  void drop(std::size_t bytes) noexcept;
  state scan_head();
  bool scan_chunks();
  state feed();
  state refuse(unsigned status, std::string_view reason);

  const reader_limits limits_;
  std::string buffer_;
  std::size_t begin_ = 0, end_ = 0;  // of the bytes in buffer_ that nobody read
  head_scanner scanner_;
  std::unique_ptr<parser> parser_;         // while a request is being read
  std::unique_ptr<chunk_scanner> chunks_;  // while its body comes in chunks
  std::size_t scanned_ = 0;                // of the unread bytes, by chunks_
  state state_ = state::idle;
  std::uint64_t body_bytes_ = 0;
  bool wants_continue_ = false;
  unsigned status_ = 0;
  std::string reason_;
};

}  // namespace kv
