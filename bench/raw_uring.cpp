// raw_uring.cpp: the same operations straight on liburing, by a loop that knows they are all there
// is to do.
//
// Always true:
//   - One io_uring_enter submits a batch and waits for all of it; of reads from a device, for the
//     first of those under way.
//
// Comes from: rows_io.cpp, rows_file.cpp.   Goes to: raw_ring.hpp.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <system_error>
#include <vector>

#include "bench/aligned_blocks.hpp"
#include "bench/measure.hpp"
#include "bench/peers.hpp"
#include "bench/raw_ring.hpp"

namespace bench {

using raw::must;

double raw_nop_cpu_ns(unsigned batch, unsigned batches) {
  raw::ring r(1024);
  return fastest_cpu_ns(double{1} * batch * batches, [&] {
    for (unsigned i = 0; i < batches; ++i) {
      for (unsigned n = 0; n < batch; ++n) io_uring_prep_nop(r.next());
      r.turn(batch, [](const io_uring_cqe& cqe) { must("nop", cqe.res); });
    }
  });
}

int cached_file(const std::string& folder) {
  const int file = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  const std::array<char, 64> bytes{};
  if (file < 0 || ::write(file, bytes.data(), bytes.size()) != 64)
    throw std::system_error(errno, std::system_category(), folder);
  return file;
}

double raw_read_ns(const std::string& folder, unsigned reads, limit kind) {
  raw::ring r(8);
  std::array<char, 64> bytes{};
  const int file = cached_file(folder);
  __kernel_timespec far_away{100, 0};
  const double ns = fastest_ns(reads, [&] {
    for (unsigned i = 0; i < reads; ++i) {
      io_uring_sqe* const read = r.next();
      io_uring_prep_read(read, file, bytes.data(), bytes.size(), 0);
      if (kind == limit::none) {
        r.turn(1, [](const io_uring_cqe& cqe) { must("read", cqe.res); });
        continue;
      }
      read->flags = IOSQE_IO_LINK;
      io_uring_prep_link_timeout(r.next(), &far_away, 0);
      // The timeout's own completion says that it was cancelled.
      r.turn(2, [](const io_uring_cqe& cqe) {
        if (cqe.res != -ECANCELED) must("read", cqe.res);
      });
    }
  });
  ::close(file);
  return ns;
}

namespace {

/// One of the reads under way, and what it still has to do.
struct walker {
  block_numbers blocks;
  std::byte* into;
  unsigned left;
};

void read_all(raw::ring& r, int file, bool fixed, std::vector<walker>& walkers) {
  unsigned under_way = 0;
  const auto go_on = [&](walker& w) {
    if (w.left == 0) return;
    --w.left;
    ++under_way;
    io_uring_sqe* const sqe = r.next();
    const std::uint64_t at = w.blocks.next() * block_bytes;
    if (fixed)
      io_uring_prep_read_fixed(sqe, file, w.into, block_bytes, at, 0);
    else
      io_uring_prep_read(sqe, file, w.into, block_bytes, at);
    sqe->user_data = reinterpret_cast<std::uint64_t>(&w);
  };
  for (walker& w : walkers) go_on(w);
  while (under_way > 0)
    r.turn(1, [&](const io_uring_cqe& cqe) {
      if (must("read", cqe.res) != block_bytes) throw std::logic_error("a short read");
      --under_way;
      go_on(*reinterpret_cast<walker*>(cqe.user_data));
    });
}

}  // namespace

sample raw_file_read(const read_plan& plan) {
  raw::ring r(1024);
  const int file = ::open(plan.path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (file < 0) throw std::system_error(errno, std::system_category(), plan.path);
  const aligned_blocks buffers(plan.depth);
  if (plan.fixed) r.know(buffers.all());
  const sample got = measure_reads(plan, [&](unsigned reads, unsigned seed) {
    std::vector<walker> walkers;
    for (unsigned i = 0; i < plan.depth; ++i)
      walkers.push_back({block_numbers(seed + i, plan.blocks), buffers.at(i), reads});
    read_all(r, file, plan.fixed, walkers);
  });
  ::close(file);
  return got;
}

}  // namespace bench
