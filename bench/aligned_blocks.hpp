// aligned_blocks.hpp: what every reader of a device needs: aligned buffers, random block numbers,
// and the two passes that are measured.
//
// Always true:
//   - All entries read the same blocks in the same order per reader: the seeds are the same.
//   - The file was written, not only made long: reading a hole would not reach the device.
//
// Comes from: rows_file.cpp, raw_uring.cpp.   Goes to: nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>

#include "bench/measure.hpp"
#include "bench/peers.hpp"

namespace bench {

constexpr int block_bytes = 4096;

class block_numbers {
 public:
  block_numbers(std::uint64_t seed, std::uint64_t below)
      : state_(seed * 0x9E3779B97F4A7C15 + 1), below_(below) {}
  std::uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % below_;
  }

 private:
  std::uint64_t state_;
  std::uint64_t below_;
};

class aligned_blocks {
 public:
  explicit aligned_blocks(std::size_t count)
      : bytes_(count * block_bytes),
        memory_(static_cast<std::byte*>(std::aligned_alloc(block_bytes, count * block_bytes))) {
    if (!memory_) throw std::bad_alloc();
  }
  std::byte* at(std::size_t i) const { return memory_.get() + i * block_bytes; }
  std::span<std::byte> all() const { return {memory_.get(), bytes_}; }

 private:
  struct freed {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::size_t bytes_;
  std::unique_ptr<std::byte, freed> memory_;
};

/// By each of the plan's readers, before anything counts.
inline unsigned warm_up_reads(const read_plan& plan) { return plan.reads / 8 + 1; }

/// pass(reads, seed) does so many reads by each of the plan's readers. Gives CPU ns per read, and
/// reads per second.
template <class Pass>
sample measure_reads(const read_plan& plan, Pass pass) {
  pass(warm_up_reads(plan), 1'000'000);
  const std::int64_t cpu = cpu_used_ns();
  const std::int64_t wall = now_ns();
  pass(plan.reads, 1);
  const double reads = double{1} * plan.reads * plan.depth;
  return {static_cast<double>(cpu_used_ns() - cpu) / reads,
          reads / (static_cast<double>(now_ns() - wall) / 1e9)};
}

}  // namespace bench
