// echo_epoll.cpp: the echo server a careful person writes by hand on epoll. A peer to measure
// against: the least work that readiness and one read and one write per message allow.
//
// Always true:
//   - A thread shares nothing with another: own listener, own epoll, own connections, own buffer.
//   - A connection with unsent bytes is not read, so what it holds is bounded by one buffer.
//   - EPOLLOUT is watched only while bytes are unsent; a message that fits costs no epoll_ctl.
//
// Comes from: load.cpp over loopback, bench_text.hpp.   Goes to: the driver, on stdout.
#include <sys/epoll.h>

#include <CLI/CLI.hpp>
#include <array>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bench/bench_text.hpp"

namespace {

using bench::die;
using bench::must;

constexpr std::size_t buffer_bytes = 64 << 10;

struct connection {
  int fd = -1;
  std::string unsent;  // empty unless the socket took less than was read
};

class server {
 public:
  server(int listener, int signals)
      : listener_(listener), signals_(signals), epoll_(must("epoll_create1", ::epoll_create1(0))) {
    watch(EPOLL_CTL_ADD, listener_, EPOLLIN, &listener_);
    watch(EPOLL_CTL_ADD, signals_, EPOLLIN, &signals_);
  }
  server(const server&) = delete;
  server& operator=(const server&) = delete;
  ~server() {
    for (const auto& c : connections_)
      if (c) ::close(c->fd);
    ::close(epoll_);
    ::close(listener_);
  }

  void run() {
    std::array<epoll_event, 512> events;
    while (!ending_) {
      const int ready = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
      if (ready == -1 && errno != EINTR) die("epoll_wait", errno);
      for (int i = 0; i < ready; ++i) dispatch(events[static_cast<std::size_t>(i)]);
    }
  }

  std::uint64_t messages() const { return messages_; }

 private:
  void dispatch(const epoll_event& event) {
    if (event.data.ptr == &listener_) return accept_all();
    if (event.data.ptr == &signals_) {
      ending_ = true;
      return;
    }
    auto& c = *static_cast<connection*>(event.data.ptr);
    if (c.unsent.empty())
      echo(c);
    else
      flush(c);
  }

  void accept_all() {
    for (;;) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd == -1) {
        if (errno == EAGAIN) return;
        if (errno == EINTR || errno == ECONNABORTED) continue;
        die("accept4", errno);  // without this a full fd table would spin on a ready listener
      }
      const auto slot = static_cast<std::size_t>(fd);
      if (slot >= connections_.size()) connections_.resize(slot + 1);
      connections_[slot] = std::make_unique<connection>(connection{fd, {}});
      watch(EPOLL_CTL_ADD, fd, EPOLLIN, connections_[slot].get());
    }
  }

  /// Reads until a short read, and writes each piece straight back. A short read means drained:
  /// level triggering reports whatever arrives later, so the read that would say EAGAIN is saved.
  void echo(connection& c) {
    for (;;) {
      const ssize_t got = ::recv(c.fd, buffer_.data(), buffer_.size(), 0);
      if (got == -1 && errno == EINTR) continue;
      if (got == -1 && errno == EAGAIN) return;
      if (got <= 0) return close(c);
      ++messages_;
      const auto bytes = static_cast<std::size_t>(got);
      const ssize_t sent = send_some(c.fd, buffer_.data(), bytes);
      if (sent < 0) return close(c);
      if (static_cast<std::size_t>(sent) < bytes) [[unlikely]] {
        c.unsent.assign(buffer_.data() + sent, bytes - static_cast<std::size_t>(sent));
        return watch(EPOLL_CTL_MOD, c.fd, EPOLLOUT, &c);
      }
      if (bytes < buffer_.size()) return;
    }
  }

  void flush(connection& c) {
    const ssize_t sent = send_some(c.fd, c.unsent.data(), c.unsent.size());
    if (sent < 0) return close(c);
    c.unsent.erase(0, static_cast<std::size_t>(sent));
    if (c.unsent.empty()) watch(EPOLL_CTL_MOD, c.fd, EPOLLIN, &c);
  }

  /// The count the socket took, 0 when it is full, -1 when the connection is lost.
  static ssize_t send_some(int fd, const char* from, std::size_t bytes) {
    for (;;) {
      const ssize_t sent = ::send(fd, from, bytes, MSG_NOSIGNAL);
      if (sent >= 0) return sent;
      if (errno == EAGAIN) return 0;
      if (errno != EINTR) return -1;
    }
  }

  void watch(int act, int fd, std::uint32_t wanted, void* owner) {
    epoll_event event{};
    event.events = wanted;
    event.data.ptr = owner;
    must("epoll_ctl", ::epoll_ctl(epoll_, act, fd, &event));
  }

  /// One epoll_wait reports a connection at most once, so no later event of the batch names it.
  void close(connection& c) {
    const int fd = c.fd;
    connections_[static_cast<std::size_t>(fd)].reset();
    ::close(fd);
  }

  int listener_;
  int signals_;
  int epoll_;
  bool ending_ = false;
  std::uint64_t messages_ = 0;
  std::vector<std::unique_ptr<connection>> connections_;  // by fd
  std::array<char, buffer_bytes> buffer_;
};

}  // namespace

int main(int argc, char** argv) {
  std::uint16_t port = 0;
  unsigned threads = 1;
  CLI::App app{"Echo server on epoll, by hand: a peer for the benchmarks."};
  app.add_option("--port", port, "port on 127.0.0.1; 0 lets the kernel choose")->required();
  app.add_option("--threads", threads, "threads; the kernel divides connections by hash")
      ->check(CLI::Range(1, 256));
  CLI11_PARSE(app, argc, argv);

  bench::raise_fd_limit();
  const int signals = bench::end_signals();
  std::vector<std::unique_ptr<server>> servers;
  for (unsigned i = 0; i < threads; ++i) {
    const int listener = bench::listen_on(port, threads > 1);
    port = bench::port_of(listener);
    servers.push_back(std::make_unique<server>(listener, signals));
  }
  bench::say_listening(port);

  std::vector<std::thread> others;
  for (unsigned i = 1; i < threads; ++i) others.emplace_back([&s = *servers[i]] { s.run(); });
  servers[0]->run();
  for (auto& thread : others) thread.join();

  std::uint64_t messages = 0;
  for (const auto& s : servers) messages += s->messages();
  bench::say_end(messages);
}
