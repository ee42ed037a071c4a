// fixed.cpp: cuts what the program gave into pieces that the kernel takes, and finds them again.
//
// Always true:
//   - Nothing here touches the memory itself.
//
// Comes from: fixed.hpp.   Goes to: nothing.
#include "runtime/fixed.hpp"

#include <algorithm>

#include "runtime/base.hpp"

namespace coir::detail {
namespace {

std::uintptr_t first_of(const iovec& piece) noexcept {
  return reinterpret_cast<std::uintptr_t>(piece.iov_base);
}

std::string name_of(std::size_t index) {
  return "options::fixed_buffers[" + std::to_string(index) + "]";
}

}  // namespace

std::string fixed_refusal(memory_ranges all) {
  std::size_t pieces = 0;
  std::vector<std::size_t> by_address;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].empty()) return name_of(i) + " is empty: leave it out";
    pieces += (all[i].size() - 1) / fixed_piece_bytes + 1;
    by_address.push_back(i);
  }
  if (pieces > fixed_pieces_max)
    return "options::fixed_buffers are " + std::to_string(pieces) +
           " pieces of 1 GiB at most: " + "they may be " + std::to_string(fixed_pieces_max);
  std::ranges::sort(by_address, {}, [&](std::size_t i) { return all[i].data(); });
  for (std::size_t i = 1; i < by_address.size(); ++i) {
    const std::span<std::byte> before = all[by_address[i - 1]];
    if (before.data() + before.size() > all[by_address[i]].data())
      return name_of(by_address[i - 1]) + " and [" + std::to_string(by_address[i]) +
             "] overlap: give each byte once";
  }
  return {};
}

fixed_map::fixed_map(memory_ranges all) {
  for (std::span<std::byte> left : all)
    while (!left.empty()) {
      const std::size_t bytes = std::min(left.size(), fixed_piece_bytes);
      pieces_.push_back({left.data(), bytes});
      left = left.subspan(bytes);
    }
  std::ranges::sort(pieces_, {}, first_of);
}

int fixed_map::index_of(std::uint64_t first, std::uint32_t bytes) const noexcept {
  const auto after = std::ranges::upper_bound(pieces_, first, {}, first_of);
  if (after == pieces_.begin() || bytes == 0) return -1;
  const iovec& piece = *(after - 1);
  const std::uint64_t offset = first - first_of(piece);
  if (offset >= piece.iov_len) return -1;
  if (bytes > piece.iov_len - offset && !COIR_MUTANT(fixed_reaches_beyond)) return -1;
  return static_cast<int>(after - 1 - pieces_.begin());
}

}  // namespace coir::detail
