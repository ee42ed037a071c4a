// outcome.hpp: what became of one attempt: the four kinds of answer, and what may be made of them.
//
// Always true:
//   - Zero is failure, so that nothing forgotten looks like success.
//   - `more` is a kind of answer and never an error: there was progress, and what was asked for
//     goes on. The end of a file is progress too: a read of 0 bytes that is ok.
//   - `would_block` says that nothing happened yet; who waits and asks again loses nothing.
//
// Comes from: the user, handlers, copy.   Goes to: whoever decides what to do next.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <system_error>
#include <utility>

namespace coir {

enum class outcome : std::uint8_t { failure, ok, would_block, more };

/// Something was done.
constexpr bool is_progress(outcome o) noexcept { return o == outcome::ok || o == outcome::more; }
/// It says how things stand, and is no failure: would_block or more.
constexpr bool is_semantic(outcome o) noexcept {
  return o == outcome::would_block || o == outcome::more;
}
/// The name of the enumerator; "failure" for what is none.
constexpr std::string_view to_string(outcome o) noexcept {
  switch (o) {
    case outcome::ok:
      return "ok";
    case outcome::would_block:
      return "would_block";
    case outcome::more:
      return "more";
    case outcome::failure:
      break;
  }
  return "failure";
}

/// What an error code says of the attempt: no error is ok; whatever is equivalent to
/// std::errc::operation_would_block or resource_unavailable_try_again, in any category, is
/// would_block; everything else is failure. An error code is never `more`.
inline outcome classify(const std::error_code& code) noexcept {
  if (!code) return outcome::ok;
  const bool later =
      code == std::errc::operation_would_block || code == std::errc::resource_unavailable_try_again;
  return later ? outcome::would_block : outcome::failure;
}

/// What goes on after an answer that is not the last one. Ends it, once, when destroyed. Move-only.
class live_operation {
 public:
  live_operation() = default;
  /// `end` is called once: by end(), or when this is destroyed. It must not throw.
  explicit live_operation(std::function<void()> end) noexcept : end_(std::move(end)) {}
  live_operation(live_operation&& from) noexcept {
    if (from) end_.swap(from.end_);
  }
  live_operation& operator=(live_operation&& from) noexcept {
    if (this != &from) {
      end();
      if (from) end_.swap(from.end_);
    }
    return *this;
  }
  ~live_operation() { end(); }
  explicit operator bool() const noexcept { return end_ != nullptr; }
  void end() noexcept {
    if (end_ == nullptr) return;
    std::function<void()> last;
    last.swap(end_);
    last();
  }

 private:
  std::function<void()> end_;
};

}  // namespace coir
