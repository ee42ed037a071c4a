// raw_ring.hpp: a ring as coir's, used straight.
//
// Always true:
//   - The flags are those of coir's: one issuer, deferred task work, the taskrun flag.
//
// Comes from: raw_uring.cpp, raw_parked.cpp, raw_pingpong.cpp.   Goes to: liburing.
#pragma once

#include <liburing.h>

#include <cstddef>
#include <span>
#include <system_error>

namespace bench::raw {

inline int must(const char* what, int answer) {
  if (answer < 0) throw std::system_error(-answer, std::system_category(), what);
  return answer;
}

class ring {
 public:
  /// `completions` 0: twice the entries.
  explicit ring(unsigned entries, unsigned completions = 0) {
    io_uring_params params{};
    params.flags =
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    if (completions != 0) {
      params.flags |= IORING_SETUP_CQSIZE;
      params.cq_entries = completions;
    }
    must("io_uring_queue_init", io_uring_queue_init_params(entries, &ring_, &params));
    // Saves looking the ring up at each enter; it works without, so a refusal is no error.
    io_uring_register_ring_fd(&ring_);
  }
  ring(const ring&) = delete;
  ring& operator=(const ring&) = delete;
  ~ring() { io_uring_queue_exit(&ring_); }

  /// As buffer 0.
  void know(std::span<std::byte> all) {
    const iovec piece{all.data(), all.size()};
    must("io_uring_register", io_uring_register_buffers(&ring_, &piece, 1));
  }
  int fd() const { return ring_.ring_fd; }
  io_uring_sqe* next() { return io_uring_get_sqe(&ring_); }
  void submit() { must("io_uring_enter", io_uring_submit(&ring_)); }

  /// Submits what there is, waits for `wanted` completions and calls seen(cqe) for each one there.
  template <class Seen>
  unsigned turn(unsigned wanted, Seen seen) {
    must("io_uring_enter", io_uring_submit_and_wait(&ring_, wanted));
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      seen(*cqe);
      ++count;
    }
    io_uring_cq_advance(&ring_, count);
    return count;
  }

 private:
  io_uring ring_{};
};

}  // namespace bench::raw
