// sim_wire.cpp: bytes in, bytes out, and who is still there.
//
// Comes from: sim_wire.hpp.   Goes to: nothing.
#include "runtime/sim_wire.hpp"

#include <algorithm>

namespace coir::detail {

std::size_t sim_channel::push(std::span<const std::byte> from) {
  const std::size_t count = std::min(from.size(), room());
  bytes_.insert(bytes_.end(), from.begin(), from.begin() + static_cast<std::ptrdiff_t>(count));
  return count;
}

std::size_t sim_channel::peek(std::span<std::byte> into) const noexcept {
  const std::size_t count = std::min(into.size(), bytes_.size());
  std::copy_n(bytes_.begin(), count, into.begin());
  return count;
}

std::size_t sim_channel::pull(std::span<std::byte> into) noexcept {
  const std::size_t count = peek(into);
  bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(count));
  return count;
}

sim_end::~sim_end() {
  if (out_ != nullptr) out_->end();
  if (in_ != nullptr) in_->leave();
}

sim_pair make_connection(std::size_t room_bytes) {
  auto there = std::make_shared<sim_channel>(room_bytes);
  auto back = std::make_shared<sim_channel>(room_bytes);
  return {std::make_shared<sim_end>(back, there), std::make_shared<sim_end>(there, back)};
}

sim_pair make_pipe(std::size_t room_bytes) {
  auto through = std::make_shared<sim_channel>(room_bytes);
  return {std::make_shared<sim_end>(nullptr, through), std::make_shared<sim_end>(through, nullptr)};
}

}  // namespace coir::detail
