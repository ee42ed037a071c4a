// echo_uring.cpp: the echo server a careful person writes by hand on io_uring. A peer to measure
// against: one thread, one ring, one io_uring_enter per turn, one completion per message.
//
// Always true:
//   - A connection has at most one send and one recv with the kernel, and the recv is linked behind
//     the send: it starts when all bytes are sent, so both may use the one buffer.
//   - A pair posts exactly one completion: the recv's; or, when the send fails or stays short, the
//     send's, and then the recv never starts and stays silent (that is what CQE_SKIP_SUCCESS does
//     to a broken link).
//   - A connection is freed only at that completion: the kernel never writes into freed memory.
//
// Comes from: load.cpp over loopback, bench_text.hpp.   Goes to: the driver, on stdout.
#include <liburing.h>
#include <poll.h>

#include <CLI/CLI.hpp>
#include <array>
#include <memory>
#include <vector>

#include "bench/bench_text.hpp"

namespace {

using bench::die;

constexpr unsigned ring_entries = 1024;
constexpr unsigned completion_entries = 8192;
constexpr std::size_t buffer_bytes = 64 << 10;

// Only the touched pages of a buffer become resident. The fd in front makes the size no multiple
// of a page, so the starts of many buffers do not compete for the same cache sets.
struct connection {
  explicit connection(int of) : fd(of) {}
  int fd;
  alignas(64) std::array<char, buffer_bytes> buffer;
};
static_assert(sizeof(connection) % 4096 != 0);

// Other completions carry the address of their connection; a send adds `send_mark` to it.
constexpr std::uint64_t accept_token = 1;
constexpr std::uint64_t signal_token = 2;
constexpr std::uint64_t send_mark = 4;
static_assert(alignof(connection) > (accept_token | signal_token | send_mark));

class server {
 public:
  server(int listener, int signals) : listener_(listener), signals_(signals) {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
    params.cq_entries = completion_entries;
    const int made = io_uring_queue_init_params(ring_entries, &ring_, &params);
    if (made < 0) die("io_uring_queue_init_params", -made);
    // Saves looking the ring up in the fd table at each enter; it works without, so a refusal is
    // no error.
    io_uring_register_ring_fd(&ring_);
  }
  server(const server&) = delete;
  server& operator=(const server&) = delete;
  ~server() {
    io_uring_queue_exit(&ring_);
    ::close(listener_);
  }

  void run() {
    accept_more();
    watch_signals();
    while (!ending_) turn();
    // Every recv now answers 0, so each buffer comes back before it is freed.
    for (const auto& c : connections_)
      if (c) ::shutdown(c->fd, SHUT_RDWR);
    while (live_ > 0) turn();
  }

  std::uint64_t messages() const { return messages_; }

 private:
  void turn() {
    const int submitted = io_uring_submit_and_wait(&ring_, 1);
    // EAGAIN and EBUSY mean that completions must be reaped first, which the next lines do.
    if (submitted < 0 && submitted != -EINTR && submitted != -EAGAIN && submitted != -EBUSY)
      die("io_uring_enter", -submitted);
    unsigned head = 0;
    unsigned seen = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      dispatch(*cqe);
      ++seen;
    }
    io_uring_cq_advance(&ring_, seen);
  }

  void dispatch(const io_uring_cqe& cqe) {
    switch (cqe.user_data) {
      case accept_token:
        return accepted(cqe);
      case signal_token:
        ending_ = true;
        return;
      default:
        break;
    }
    auto& c = *reinterpret_cast<connection*>(cqe.user_data & ~send_mark);
    if ((cqe.user_data & send_mark) != 0) return close(c);  // only a failed send is heard of
    received(c, cqe);
  }

  void received(connection& c, const io_uring_cqe& cqe) {
    if (cqe.res <= 0) return close(c);
    ++messages_;
    reserve(2);
    io_uring_sqe* send = io_uring_get_sqe(&ring_);
    io_uring_prep_send(send, c.fd, c.buffer.data(), static_cast<std::size_t>(cqe.res),
                       MSG_NOSIGNAL | MSG_WAITALL);
    send->flags = IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
    send->user_data = reinterpret_cast<std::uint64_t>(&c) | send_mark;
    receive(c, (cqe.flags & IORING_CQE_F_SOCK_NONEMPTY) != 0);
  }

  /// Unless bytes are known to wait, a recv that tries first would only find the socket empty.
  void receive(connection& c, bool bytes_wait) {
    reserve(1);
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_recv(sqe, c.fd, c.buffer.data(), c.buffer.size(), 0);
    if (!bytes_wait) sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
    sqe->user_data = reinterpret_cast<std::uint64_t>(&c);
  }

  void accepted(const io_uring_cqe& cqe) {
    if (cqe.res >= 0) welcome(cqe.res);
    if (cqe.res < 0 && cqe.res != -EINTR && cqe.res != -ECONNABORTED && cqe.res != -EAGAIN)
      die("accept", -cqe.res);
    if ((cqe.flags & IORING_CQE_F_MORE) == 0) accept_more();
  }

  void welcome(int fd) {
    if (ending_) {
      ::close(fd);
      return;
    }
    const auto slot = static_cast<std::size_t>(fd);
    if (slot >= connections_.size()) connections_.resize(slot + 1);
    connections_[slot] = std::make_unique<connection>(fd);
    ++live_;
    receive(*connections_[slot], false);
  }

  void accept_more() {
    reserve(1);
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_multishot_accept(sqe, listener_, nullptr, nullptr, SOCK_CLOEXEC);
    sqe->user_data = accept_token;
  }

  void watch_signals() {
    reserve(1);
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    io_uring_prep_poll_add(sqe, signals_, POLLIN);
    sqe->user_data = signal_token;
  }

  /// Room for `entries` SQEs, so that a link is never cut by a full queue. Only a turn with more
  /// messages than the queue holds enters the kernel twice.
  void reserve(unsigned entries) {
    while (io_uring_sq_space_left(&ring_) < entries) [[unlikely]] {
        const int submitted = io_uring_submit(&ring_);
        if (submitted < 0 && submitted != -EINTR) die("io_uring_enter", -submitted);
      }
  }

  void close(connection& c) {
    const int fd = c.fd;
    connections_[static_cast<std::size_t>(fd)].reset();
    ::close(fd);
    --live_;
  }

  int listener_;
  int signals_;
  io_uring ring_{};
  bool ending_ = false;
  std::size_t live_ = 0;
  std::uint64_t messages_ = 0;
  std::vector<std::unique_ptr<connection>> connections_;  // by fd
};

}  // namespace

int main(int argc, char** argv) {
  std::uint16_t port = 0;
  CLI::App app{"Echo server on io_uring, by hand: a peer for the benchmarks."};
  app.add_option("--port", port, "port on 127.0.0.1; 0 lets the kernel choose")->required();
  CLI11_PARSE(app, argc, argv);

  bench::raise_fd_limit();
  const int signals = bench::end_signals();
  const int listener = bench::listen_on(port, false);
  server echo(listener, signals);
  bench::say_listening(bench::port_of(listener));
  echo.run();
  bench::say_end(echo.messages());
}
