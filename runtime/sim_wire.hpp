// sim_wire.hpp: bytes on their way from one descriptor to another: pipes, sockets, listeners.
//
// Always true:
//   - Bytes come out once, in the order in which they went in, and never more than `room` wait.
//   - The end of a stream is seen only after its last byte.
//   - An end counts as gone when the last descriptor and the last operation that hold it are gone.
//
// Comes from: sim_execute.   Goes to: nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "runtime/base.hpp"

namespace coir::detail {

/// One direction.
class sim_channel {
 public:
  explicit sim_channel(std::size_t room_bytes) : room_(room_bytes) {}

  std::size_t waiting() const noexcept { return bytes_.size(); }
  std::size_t room() const noexcept { return room_ - bytes_.size(); }
  /// How many bytes went in.
  std::size_t push(std::span<const std::byte> from);
  /// How many bytes came out.
  std::size_t pull(std::span<std::byte> into) noexcept;
  /// The same, and they stay.
  std::size_t peek(std::span<std::byte> into) const noexcept;

  /// The writer will send nothing more.
  void end() noexcept { ended_ = true; }
  /// The reader is gone: what is sent goes nowhere.
  void leave() noexcept { left_ = true; }
  /// The connection is broken: what was on its way is lost.
  void break_off() noexcept {
    bytes_.clear();
    broken_ = true;
  }
  bool ended() const noexcept { return ended_; }
  bool left() const noexcept { return left_; }
  bool broken() const noexcept { return broken_; }

 private:
  std::size_t room_;
  std::deque<std::byte> bytes_;
  bool ended_ = false;
  bool left_ = false;
  bool broken_ = false;
};

/// One end of a connection or a pipe; `in` or `out` may be null for a pipe.
class sim_end {
 public:
  sim_end(std::shared_ptr<sim_channel> in, std::shared_ptr<sim_channel> out) noexcept
      : in_(std::move(in)), out_(std::move(out)) {}
  sim_end(const sim_end&) = delete;
  sim_end& operator=(const sim_end&) = delete;
  ~sim_end();

  sim_channel* in() noexcept { return in_.get(); }
  sim_channel* out() noexcept { return out_.get(); }
  void break_off() noexcept {
    if (in_ != nullptr) in_->break_off();
    if (out_ != nullptr) out_->break_off();
  }

 private:
  std::shared_ptr<sim_channel> in_;
  std::shared_ptr<sim_channel> out_;
};

struct sim_pair {
  std::shared_ptr<sim_end> one, other;
};

/// Connected in both directions.
sim_pair make_connection(std::size_t room_bytes);
/// From `one` to `other`.
sim_pair make_pipe(std::size_t room_bytes);

/// Connections that wait to be accepted.
struct sim_listener {
  std::uint16_t port = 0;
  std::deque<std::shared_ptr<sim_end>> waiting;
};

}  // namespace coir::detail
