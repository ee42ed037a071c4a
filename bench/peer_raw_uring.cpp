// peer_raw_uring.cpp: the same operations straight on liburing, by a loop that knows they are all
// there is to do.
//
// Always true:
//   - The ring has the flags of coir's: one issuer, deferred task work, the taskrun flag.
//   - One io_uring_enter submits a batch and waits for all of it.
//
// Comes from: rows_io.cpp.   Goes to: nothing.
#include <liburing.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "bench/measure.hpp"
#include "bench/peers.hpp"

namespace bench {

namespace {

constexpr unsigned repeats = 5;

int must(const char* what, int answer) {
  if (answer < 0) throw std::system_error(-answer, std::system_category(), what);
  return answer;
}

class ring {
 public:
  explicit ring(unsigned entries) {
    must("io_uring_queue_init",
         io_uring_queue_init(
             entries, &ring_,
             IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG));
  }
  ring(const ring&) = delete;
  ring& operator=(const ring&) = delete;
  ~ring() { io_uring_queue_exit(&ring_); }

  io_uring_sqe* next() { return io_uring_get_sqe(&ring_); }

  /// Submits what there is, waits for `wanted` completions and calls seen(cqe) for each.
  template <class Seen>
  void turn(unsigned wanted, Seen seen) {
    must("io_uring_enter", io_uring_submit_and_wait(&ring_, wanted));
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      seen(*cqe);
      ++count;
    }
    io_uring_cq_advance(&ring_, count);
  }

 private:
  io_uring ring_{};
};

}  // namespace

double raw_nop_ns(unsigned batch, unsigned batches) {
  ring r(1024);
  return fastest_ns(repeats, double{1} * batch * batches, [&] {
    for (unsigned i = 0; i < batches; ++i) {
      for (unsigned n = 0; n < batch; ++n) io_uring_prep_nop(r.next());
      r.turn(batch, [](const io_uring_cqe& cqe) { must("nop", cqe.res); });
    }
  });
}

double raw_read_ns(unsigned reads, limit kind) {
  ring r(8);
  std::array<char, 64> bytes{};
  const int file = ::memfd_create("bench", MFD_CLOEXEC);
  if (::write(file, bytes.data(), bytes.size()) != 64)
    throw std::system_error(errno, std::system_category(), "memfd");
  __kernel_timespec far_away{100, 0};
  const double ns = fastest_ns(repeats, reads, [&] {
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

}  // namespace bench
