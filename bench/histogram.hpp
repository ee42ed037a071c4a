// histogram.hpp: how long many things took, in little memory and to 1/64 of each value.
//
// Always true:
//   - Nothing here uses coir: a peer must not depend on what it is compared with.
//
// Comes from: load.cpp, lateness.hpp.   Goes to: nothing.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace bench {

/// Counts durations in buckets whose width is at most 1/64 of their value: each power of two is
/// divided into 64 equal parts, and values below 128 ns are exact.
class histogram {
 public:
  void add(std::int64_t ns) {
    const auto value = static_cast<std::uint64_t>(std::max<std::int64_t>(ns, 0));
    ++counts_[bucket_of(value)];
    ++total_;
    max_ = std::max(max_, value);
  }

  void add(const histogram& other) {
    for (std::size_t i = 0; i < buckets; ++i) counts_[i] += other.counts_[i];
    total_ += other.total_;
    max_ = std::max(max_, other.max_);
  }

  /// The least value that `share` of all durations do not exceed, rounded up to its bucket's end
  /// and never above the true maximum; 0 when there are none.
  double quantile_us(double share) const {
    const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(total_)));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < buckets; ++i) {
      seen += counts_[i];
      if (seen >= wanted && seen > 0) return static_cast<double>(std::min(last_of(i), max_)) / 1000;
    }
    return 0;
  }
  double max_us() const { return static_cast<double>(max_) / 1000; }

  static constexpr std::size_t buckets = 59 * 64;
  static constexpr std::size_t bucket_of(std::uint64_t value) {
    const int shift = std::max(static_cast<int>(std::bit_width(value)) - 7, 0);
    return static_cast<std::size_t>(shift) * 64 + static_cast<std::size_t>(value >> shift);
  }
  static constexpr std::uint64_t last_of(std::size_t bucket) {
    const std::size_t shift = bucket < 128 ? 0 : bucket / 64 - 1;
    return ((bucket - shift * 64 + std::uint64_t{1}) << shift) - 1;
  }

 private:
  std::vector<std::uint64_t> counts_ = std::vector<std::uint64_t>(buckets);
  std::uint64_t total_ = 0;
  std::uint64_t max_ = 0;
};
static_assert(histogram::bucket_of(~std::uint64_t{0}) == histogram::buckets - 1);
static_assert(histogram::last_of(histogram::bucket_of(127)) == 127);
static_assert(histogram::last_of(histogram::bucket_of(128)) == 129);
static_assert(histogram::bucket_of(histogram::last_of(1000)) == 1000);
static_assert(histogram::bucket_of(histogram::last_of(1000) + 1) == 1001);

}  // namespace bench
