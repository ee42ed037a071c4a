// bench_text.hpp: what the raw benchmark programs tell the driver that runs them: their lines, and
// the socket steps that must be the same in all of them.
//
// Always true:
//   - Nothing here, and nothing that includes it, uses coir: a peer must not depend on what it is
//     compared with.
//   - A server says `listening on 127.0.0.1:PORT` only after the kernel queues connections for it,
//     and its last line is `cpu_us=N messages=N`.
//   - A call that cannot fail in a sound run ends the program with its name and errno.
//
// Comes from: echo_epoll.cpp, echo_uring.cpp, load.cpp.   Goes to: the driver, on stdout.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace bench {

/// Ends the program; `error` is an errno value.
[[noreturn]] inline void die(const char* what, int error) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(error));
  std::exit(1);
}

/// Passes on the answer of a system call, or ends the program when it is -1.
inline int must(const char* what, int answer) {
  if (answer == -1) [[unlikely]]
    die(what, errno);
  return answer;
}

inline sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

inline void set_option(int fd, int level, int name) {
  const int on = 1;
  must("setsockopt", ::setsockopt(fd, level, name, &on, sizeof on));
}

/// Lets the program hold as many connections as the hard limit permits; returns that limit.
inline std::uint64_t raise_fd_limit() {
  rlimit limit{};
  must("getrlimit", ::getrlimit(RLIMIT_NOFILE, &limit));
  limit.rlim_cur = limit.rlim_max;
  must("setrlimit", ::setrlimit(RLIMIT_NOFILE, &limit));
  return limit.rlim_cur;
}

/// A listening socket on loopback; port 0 lets the kernel choose. `shared` lets several listeners
/// of one program divide the connections of one port. Linux hands TCP_NODELAY of a listener down
/// to what it accepts, which saves a system call per connection.
inline int listen_on(std::uint16_t port, bool shared) {
  const int fd = must("socket", ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  set_option(fd, SOL_SOCKET, SO_REUSEADDR);
  if (shared) set_option(fd, SOL_SOCKET, SO_REUSEPORT);
  set_option(fd, IPPROTO_TCP, TCP_NODELAY);
  const sockaddr_in address = loopback(port);
  must("bind", ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address));
  must("listen", ::listen(fd, 4096));
  return fd;
}

constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::int64_t patience_ns = 5 * second_ns;

inline std::int64_t now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

/// A connected socket; while the server refuses because it is still starting, tries again until
/// `until_ns`.
inline int connect_to(std::uint16_t port, std::int64_t until_ns) {
  const sockaddr_in address = loopback(port);
  const timeval patience{patience_ns / second_ns, 0};
  for (;;) {
    const int fd = must("socket", ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    // A server that never accepts fills its queue; connect then ends by this limit.
    must("setsockopt", ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience));
    set_option(fd, IPPROTO_TCP, TCP_NODELAY);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
    const int error = errno;
    ::close(fd);
    if (error != ECONNREFUSED || now_ns() >= until_ns) die("connect", error);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

inline std::uint16_t port_of(int fd) {
  sockaddr_in address{};
  socklen_t length = sizeof address;
  must("getsockname", ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length));
  return ntohs(address.sin_port);
}

/// SIGTERM and SIGINT become readable on the returned fd. Call it before any thread starts, so
/// that all inherit the mask; nobody reads the fd, so it stays readable for every thread.
inline int end_signals() {
  sigset_t wanted;
  sigemptyset(&wanted);
  sigaddset(&wanted, SIGTERM);
  sigaddset(&wanted, SIGINT);
  must("sigprocmask", ::sigprocmask(SIG_BLOCK, &wanted, nullptr));
  return must("signalfd", ::signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC));
}

/// User and system time of all threads of this process so far.
inline std::uint64_t cpu_used_us() {
  rusage used{};
  must("getrusage", ::getrusage(RUSAGE_SELF, &used));
  const auto us = [](const timeval& t) {
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(t.tv_usec);
  };
  return us(used.ru_utime) + us(used.ru_stime);
}

/// Flushed at once: the driver reads it through a pipe and starts the load then.
inline void say_listening(std::uint16_t port) {
  std::printf("listening on 127.0.0.1:%u\n", static_cast<unsigned>(port));
  std::fflush(stdout);
}

/// `messages` counts the reads that brought data.
inline void say_end(std::uint64_t messages) {
  std::printf("cpu_us=%llu messages=%llu\n", static_cast<unsigned long long>(cpu_used_us()),
              static_cast<unsigned long long>(messages));
  std::fflush(stdout);
}

}  // namespace bench
