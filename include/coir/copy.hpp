// copy.hpp: bytes from whatever gives some to whatever takes some: counts first, semantics second.
//
// Always true:
//   - What was moved is told whatever else happened: an error, "not now" and "there is more" come
//     beside the count, never in place of it.
//   - No byte is lost: what was read and not written goes back into a source that can seek, and
//     else to the caller, as copy_result::leftover.
//   - A read of 0 bytes that is ok is the end. A write may be short; the rest follows.
//
// Comes from: the user.   Goes to: coir/copy_policy.hpp, coir/tee.hpp stands beside it.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "coir/copy_policy.hpp"
#include "coir/io.hpp"

namespace coir::io {

/// What one read or write did. From a result<std::size_t>: its count and ok, or none and what
/// classify() says of its error.
struct moved {
  std::size_t count = 0;
  outcome how = outcome::ok;
  std::error_code error = {};

  moved() = default;
  moved(std::size_t n, outcome o = outcome::ok, std::error_code why = {}) noexcept
      : count(n), how(o), error(why) {}
  moved(const result<std::size_t>& answer) noexcept
      : count(answer.value_or(0)),
        how(answer ? outcome::ok : classify(answer.error())),
        error(answer ? std::error_code() : answer.error()) {}
};

/// Something that gives bytes: s.read_some(into, until), or s(into, until), which answers with a
/// result<std::size_t> or with a `moved`. tcp_stream, unix_stream and descriptor are some.
template <class S>
concept source = requires(S& s, std::span<std::byte> into, deadline until) {
  { s.read_some(into, until) } -> std::convertible_to<moved>;
}
|| requires(S& s, std::span<std::byte> into, deadline until) {
  { s(into, until) } -> std::convertible_to<moved>;
};

/// Something that takes bytes, likewise by write_some.
template <class S>
concept sink = requires(S& s, std::span<const std::byte> from, deadline until) {
  { s.write_some(from, until) } -> std::convertible_to<moved>;
}
|| requires(S& s, std::span<const std::byte> from, deadline until) {
  { s(from, until) } -> std::convertible_to<moved>;
};

/// A source that can be read again: seek_back(n) makes the last n bytes the next ones. An error of
/// it says that it could not, and that nothing has changed.
template <class S>
concept seekable = requires(S& s, std::size_t n) {
  { s.seek_back(n) } -> std::same_as<result<>>;
};

/// A descriptor as source and sink, at the file's own position. Owns nothing. Fibers only.
class COIR_API descriptor {
 public:
  explicit descriptor(int fd) noexcept : fd_(fd) {}
  explicit descriptor(const unique_fd& fd) noexcept : fd_(fd.get()) {}
  [[nodiscard]] result<std::size_t> read_some(std::span<std::byte> into, deadline until = never);
  /// As io::write, and after a short one the position is where the next byte belongs.
  [[nodiscard]] result<std::size_t> write_some(std::span<const std::byte> from,
                                               deadline until = never);
  /// Regular files and block devices; invalid_seek for others, and where a handler has answered the
  /// last read or write of this.
  [[nodiscard]] result<> seek_back(std::size_t bytes);

 private:
  int fd_;
  bool by_kernel_ = true;  // answered the last read or write
};

/// Where copied bytes lie on their way: a buffer of the caller, or one that the copy makes.
class copy_buffer {
 public:
  static constexpr std::size_t own_bytes = 64 << 10;
  copy_buffer() = default;
  template <class Range>
  requires std::constructible_from<std::span<std::byte>, Range&> copy_buffer(Range&& range)
      : bytes_(range), given_(true) {}
  std::span<std::byte> bytes() const noexcept { return bytes_; }
  bool given() const noexcept { return given_; }

 private:
  std::span<std::byte> bytes_;
  bool given_ = false;
};

/// How a copy ended. Move-only.
struct copy_result {
  std::uint64_t written = 0;  ///< bytes that the sink has taken
  /// ok: the source has ended, or all bytes of a copy_n are there. would_block, more: a side said
  /// so, and the policy did not go on. failure: `error` says why.
  outcome how = outcome::ok;
  std::error_code error = {};  ///< of a failure; of would_block what the side gave, if it gave any
  /// Read, not written, and not given back to the source: they come before all that the source
  /// gives next. Lies in the caller's buffer, or in `held`.
  std::span<const std::byte> leftover = {};
  std::unique_ptr<std::byte[]> held = {};
};

namespace copying {

/// Memory for a buffer; null when there is none.
COIR_API std::unique_ptr<std::byte[]> make_copy_buffer() noexcept;

template <class S>
moved ask_source(S& s, std::span<std::byte> into, deadline until) {
  if constexpr (requires { s.read_some(into, until); }) {
    return s.read_some(into, until);
  } else {
    return s(into, until);
  }
}

template <class S>
moved ask_sink(S& s, std::span<const std::byte> from, deadline until) {
  if constexpr (requires { s.write_some(from, until); }) {
    return s.write_some(from, until);
  } else {
    return s(from, until);
  }
}

/// What is wrong with an answer by itself. More than was asked for: the count cannot be true.
inline std::error_code fault_of(const moved& m, std::size_t asked) noexcept {
  if (m.count > asked) return std::make_error_code(std::errc::result_out_of_range);
  if (m.how != outcome::failure) return {};
  return m.error ? m.error : std::make_error_code(std::errc::io_error);
}

/// Writes all of `left`, which becomes what is not written. Empty: nothing stands in the way of
/// more; else how it stopped.
template <class To, class Policy>
moved write_out(To& to, std::span<const std::byte>& left, copy_step step, Policy& policy,
                deadline until) {
  std::size_t done = 0;
  while (!left.empty()) {
    const moved out = ask_sink(to, left, until);
    if (const auto fault = fault_of(out, left.size())) {
      const std::size_t true_count = out.count > left.size() ? 0 : out.count;
      left = left.subspan(true_count);
      return {done + true_count, outcome::failure, fault};
    }
    done += out.count;
    left = left.subspan(out.count);
    if (out.how == outcome::ok) {
      // It takes nothing and says nothing: to ask again would be for ever.
      if (out.count == 0)
        return {done, outcome::failure, std::make_error_code(std::errc::io_error)};
      continue;
    }
    if (policy(step, out.how) == decision::stop) return {done, out.how, out.error};
    if (const auto ended = why_not_again(until)) return {done, outcome::failure, ended};
  }
  return {done};
}

template <class From>
void give_back(From& from, std::span<const std::byte> left, copy_result& r) {
  if (left.empty()) return;
  if constexpr (seekable<From>) {
    if (from.seek_back(left.size())) return;
  }
  r.leftover = left;
}

/// One read and all its writes. False: the copy has ended, and `r` says how.
template <class From, class To, class Policy>
bool copy_some(From& from, To& to, std::span<std::byte> room, bool to_the_last_byte, bool last,
               Policy& policy, deadline until, copy_result& r) {
  const moved in = ask_source(from, room, until);
  const std::error_code fault = fault_of(in, room.size());
  const auto end = [&r](outcome how, std::error_code why) {
    r.how = how;
    r.error = why;
    return false;
  };
  if (in.count > room.size()) return end(outcome::failure, fault);
  // Counts first.
  std::span<const std::byte> left = room.first(in.count);
  const moved out = write_out(to, left, copy_step::write, policy, until);
  r.written += out.count;
  give_back(from, left, r);
  if (out.how == outcome::failure) return end(out.how, out.error);
  if (fault) return end(outcome::failure, fault);
  if (last && out.count == room.size()) return false;
  if (out.how != outcome::ok) return end(out.how, out.error);
  // Then what the source said beside them.
  if (in.how == outcome::ok) {
    if (in.count != 0) return true;
    return to_the_last_byte ? end(outcome::failure, make_error_code(errc::unexpected_end)) : false;
  }
  if (policy(copy_step::read, in.how) == decision::stop) return end(in.how, in.error);
  if (const auto ended = why_not_again(until)) return end(outcome::failure, ended);
  return true;
}

template <class From, class To, class Policy>
copy_result copy_bytes(From& from, To& to, const std::uint64_t* exactly, copy_buffer between,
                       Policy& policy, deadline until) {
  copy_result r;
  const auto refuse = [&r](std::errc why) {
    r.how = outcome::failure;
    r.error = std::make_error_code(why);
  };
  std::span<std::byte> buffer = between.bytes();
  if (!between.given()) {
    r.held = make_copy_buffer();
    buffer = {r.held.get(), r.held ? copy_buffer::own_bytes : 0};
  }
  if (buffer.empty()) {
    refuse(between.given() ? std::errc::invalid_argument : std::errc::not_enough_memory);
    return r;
  }
  for (;;) {
    const std::uint64_t wanted = exactly != nullptr ? *exactly - r.written : UINT64_MAX;
    if (wanted == 0) break;
    const auto room = buffer.first(std::min<std::uint64_t>(wanted, buffer.size()));
    if (!copy_some(from, to, room, exactly != nullptr, wanted == room.size(), policy, until, r))
      break;
  }
  if (r.leftover.empty()) r.held.reset();
  return r;
}

}  // namespace copying

/// Copies until `from` has ended. `between`: a buffer to use, or {} for one of 64 KiB; an empty one
/// is refused with invalid_argument. `policy` decides what follows a "not now" or a "more": by
/// default the copy returns, and can be called again. `until` goes to every read and write. Parks
/// where the two do; on a plain thread if they can be used there. Fails with what they fail with,
/// io_error for a sink that takes nothing and says nothing, result_out_of_range for a count that is
/// larger than what was asked for, timed_out and operation_canceled where the policy would go on,
/// and not_enough_memory.
template <source From, sink To, copy_policy Policy>
[[nodiscard]] copy_result copy(From&& from, To&& to, copy_buffer between, Policy&& policy,
                               deadline until = never) {
  return copying::copy_bytes(from, to, nullptr, between, policy, until);
}
template <source From, sink To>
[[nodiscard]] copy_result copy(From&& from, To&& to, copy_buffer between, deadline until = never) {
  return copy(from, to, between, return_policy(), until);
}
template <source From, sink To>
[[nodiscard]] copy_result copy(From&& from, To&& to, deadline until = never) {
  return copy(from, to, copy_buffer(), return_policy(), until);
}

/// Copies `bytes` bytes and reads not one more. errc::unexpected_end when the source has ended
/// before. When all are there, a "not now" or "more" beside the last of them is not told; a failure
/// is.
template <source From, sink To, copy_policy Policy>
[[nodiscard]] copy_result copy_n(From&& from, To&& to, std::uint64_t bytes, copy_buffer between,
                                 Policy&& policy, deadline until = never) {
  return copying::copy_bytes(from, to, &bytes, between, policy, until);
}
template <source From, sink To>
[[nodiscard]] copy_result copy_n(From&& from, To&& to, std::uint64_t bytes, copy_buffer between,
                                 deadline until = never) {
  return copy_n(from, to, bytes, between, return_policy(), until);
}
template <source From, sink To>
[[nodiscard]] copy_result copy_n(From&& from, To&& to, std::uint64_t bytes,
                                 deadline until = never) {
  return copy_n(from, to, bytes, copy_buffer(), return_policy(), until);
}

}  // namespace coir::io
