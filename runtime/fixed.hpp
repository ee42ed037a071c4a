// fixed.hpp: memory of the program that a ring knows beforehand ("fixed" or registered buffers),
// and which piece of it a buffer lies in.
//
// Always true:
//   - Pieces do not overlap and are kept by address, so a buffer lies in one at most; one that
//     reaches beyond its piece lies in none.
//
// Comes from: outside, uring_setup.   Goes to: uring.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace coir::detail {

using memory_ranges = std::span<const std::span<std::byte>>;

/// What the kernel takes: of one ring, and in one piece (IORING_MAX_REG_BUFFERS and
/// io_buffer_validate() of Linux 6.1).
inline constexpr std::size_t fixed_pieces_max = 16'384;
inline constexpr std::size_t fixed_piece_bytes = std::size_t{1} << 30;

/// Why these may not be options::fixed_buffers; empty: they may.
std::string fixed_refusal(memory_ranges all);

class fixed_map {
 public:
  fixed_map() = default;
  /// Of what fixed_refusal() has nothing against. Throws bad_alloc.
  explicit fixed_map(memory_ranges all);

  bool empty() const noexcept { return pieces_.empty(); }
  /// In the order of their numbers.
  std::span<const iovec> pieces() const noexcept { return pieces_; }
  /// The number of the piece that all of this buffer lies in; below 0: there is none.
  int index_of(std::uint64_t first, std::uint32_t bytes) const noexcept;

 private:
  std::vector<iovec> pieces_;
};

}  // namespace coir::detail
