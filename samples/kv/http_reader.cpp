// http_reader.cpp: the one file that includes Boost.Beast.
//
// Comes from: http_reader.hpp.   Goes to: Boost.Beast.
#include "kv/http_reader.hpp"

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/version.hpp>
#include <utility>

namespace kv {

namespace http = boost::beast::http;

struct http_reader::parser : http::request_parser<http::string_body> {
  explicit parser(const reader_limits& limits) {
    eager(true);
    body_limit(limits.body_bytes);
    // The scanner has its own, tighter bounds; this one is for the trailer of a chunked body.
    header_limit(static_cast<std::uint32_t>(limits.head.request_line_bytes +
                                            limits.head.fields_bytes + 1024));
  }
};

namespace {

http_request::method method_of(http::verb verb) {
  switch (verb) {
    case http::verb::get:
      return http_request::method::get;
    case http::verb::head:
      return http_request::method::head;
    case http::verb::post:
      return http_request::method::post;
    case http::verb::delete_:
      return http_request::method::erase;
    default:
      return http_request::method::other;
  }
}

}  // namespace

http_reader::http_reader(const reader_limits& limits) : limits_(limits), scanner_(limits.head) {}
http_reader::~http_reader() = default;

std::string_view http_reader::unread() const noexcept {
  return std::string_view(buffer_).substr(begin_, end_ - begin_);
}

void http_reader::drop(std::size_t bytes) noexcept {
  begin_ += bytes;
  if (begin_ == end_) begin_ = end_ = 0;
}

std::span<std::byte> http_reader::room() {
  if (begin_ > 0) {
    std::ranges::copy(unread(), buffer_.begin());
    end_ -= std::exchange(begin_, 0);
  }
  // Small at first: most connections only ever send small requests, and many only wait.
  const std::size_t wanted = buffer_.empty() ? limits_.read_bytes / 8 : limits_.read_bytes;
  if (buffer_.size() - end_ < wanted / 2) buffer_.resize(end_ + wanted);
  return std::as_writable_bytes(std::span(buffer_).subspan(end_));
}

void http_reader::took(std::size_t bytes) { end_ += bytes; }

http_reader::state http_reader::refuse(unsigned status, std::string_view reason) {
  status_ = status;
  reason_ = reason;
  return state_ = state::refused;
}

http_reader::state http_reader::parse() {
  if (state_ == state::complete || state_ == state::refused) return state_;
  if (state_ == state::idle) {
    // Some clients end a body with a line end that belongs to nothing.
    if (unread().starts_with("\r\n")) drop(2);
    if (unread().empty() || unread() == "\r") return state_;
    state_ = state::in_head;
  }
  if (state_ == state::in_head && scan_head() != state::in_body) return state_;
  return feed();
}

http_reader::state http_reader::scan_head() {
  switch (scanner_.scan(unread())) {
    case head_scanner::state::incomplete:
      return state_;
    case head_scanner::state::refused:
      return refuse(scanner_.status(), scanner_.reason());
    case head_scanner::state::complete:
      break;
  }
  parser_ = std::make_unique<parser>(limits_);
  boost::system::error_code error;
  // Only the head, so that what the client expects is known before its body is read.
  parser_->eager(false);
  const std::string_view head = unread().substr(0, scanner_.head_bytes());
  std::size_t used = 0;
  while (!error && used < head.size() && !parser_->is_header_done())
    used += parser_->put(boost::asio::const_buffer(head.data() + used, head.size() - used), error);
  parser_->eager(true);
  drop(head.size());
  if (error == http::error::body_limit) return refuse(413, "body too large");
  if (error || !parser_->is_header_done()) return refuse(400, "malformed head");
  wants_continue_ = boost::beast::iequals(parser_->get()[http::field::expect], "100-continue");
  body_bytes_ = 0;
  scanned_ = 0;
  if (parser_->chunked()) chunks_ = std::make_unique<chunk_scanner>(limits_.head);
  return state_ = state::in_body;
}

/// False when what came since the last look is no chunked body.
bool http_reader::scan_chunks() {
  const bool whole = chunks_->scan(unread().substr(scanned_)) != chunk_scanner::state::refused;
  scanned_ += chunks_->taken();
  return whole;
}

http_reader::state http_reader::feed() {
  if (chunks_ && !scan_chunks()) return refuse(chunks_->status(), chunks_->reason());
  while (!parser_->is_done()) {
    boost::system::error_code error;
    const std::string_view bytes = unread();
    const std::size_t used =
        parser_->put(boost::asio::const_buffer(bytes.data(), bytes.size()), error);
    drop(used);
    body_bytes_ += used;
    scanned_ -= std::min(used, scanned_);
    if (error == http::error::body_limit) return refuse(413, "body too large");
    if (error && error != http::error::need_more) return refuse(400, "malformed body");
    if (parser_->is_done()) break;
    if (unread().size() >= limits_.read_bytes) return refuse(400, "chunk header too long");
    if (used == 0 || unread().empty()) return state_;
  }
  return state_ = state::complete;
}

bool http_reader::must_continue() {
  return state_ == state::in_body && std::exchange(wants_continue_, false);
}

http_request http_reader::take() {
  http_request request;
  auto& message = parser_->get();
  request.what = method_of(message.method());
  request.target = std::string(message.target());
  request.body = std::move(message.body());
  request.keep_alive = parser_->keep_alive();
  parser_.reset();
  chunks_.reset();
  wants_continue_ = false;
  scanner_ = head_scanner(limits_.head);
  state_ = state::idle;
  return request;
}

}  // namespace kv
