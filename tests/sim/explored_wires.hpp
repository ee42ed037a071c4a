// explored_wires.hpp: parts of a generated program that move bytes and connections.
//
// Always true:
//   - Each byte carries its place, so one that is lost, doubled or swapped is seen at once.
//   - Who was cancelled or timed out either has the bytes or left them where they were.
//
// Comes from: explorer.hpp.   Goes to: explored.hpp.
#pragma once

#include <tuple>

#include "explored.hpp"

namespace explored {

/// One direction of a connection or a pipe, as both sides see it.
struct wire {
  int in = -1, out = -1;
  bool broken = false;
  std::uint64_t sent = 0, received = 0;
  unsigned tag = 0;

  void take(std::span<const std::byte> bytes) {
    for (const std::byte b : bytes) check(b == pattern(received++, tag), "a byte is another one");
  }
};

inline wire wire_of_few_bytes(const part& p) {
  wire line;
  line.tag = p.id;
  std::tie(line.in, line.out) = p.w.connection(p.choose(1, 63));
  return line;
}

/// Sends `total` bytes and closes.
inline void send_all(const part& p, wire& to, std::uint64_t total) {
  std::array<std::byte, 40> data{};
  while (to.sent < total && !to.broken) {
    const std::size_t count = std::min<std::size_t>(p.choose(1, 39), total - to.sent);
    for (std::size_t i = 0; i < count; ++i) data[i] = pattern(to.sent + i, to.tag);
    const auto part = std::span<const std::byte>(data).first(count);
    const coir::deadline until = p.deadline();
    const auto n =
        p.maybe() ? coir::io::write(to.out, part, until) : coir::io::send(to.out, part, 0, until);
    if (n) {
      to.sent += *n;
    } else if (is_broken(n.error())) {
      to.broken = true;
    } else {
      check(is_passing(n.error()), "send");
      if (coir::this_fiber::cancelled()) break;
      p.pass_time();
    }
    if (p.w.choose(8) == 7) p.pass_time();
  }
  close(to.out);
}

/// One receive; true: the end.
inline bool receive_once(const part& p, wire& from) {
  std::array<std::byte, 32> buffer{};
  const auto into = std::span(buffer).first(p.choose(1, 31));
  const coir::deadline until = p.deadline();
  coir::result<std::size_t> n;
  if (p.maybe()) {
    auto begun = coir::start(coir::recv_operation{from.in, into});
    p.pass_time();
    n = begun.get(until);
    if (!n && n.error() == std::errc::timed_out) {
      begun.cancel();
      n = begun.get();
    }
  } else {
    n = coir::io::recv(from.in, into, 0, until);
  }
  if (n) {
    from.take(into.first(*n));
    return *n == 0;
  }
  if (is_broken(n.error())) return from.broken = true;
  check(is_passing(n.error()), "recv");
  return false;
}

/// Readers that are cancelled now and then, and one after the other read all there is.
inline void talk(const part& p) {
  wire line = wire_of_few_bytes(p);
  const std::uint64_t total = p.choose(0, 300);
  bool over = false;
  coir::scope own;  // ends before what its fibers use
  auto sending = own.spawn([&] { send_all(p, line, total); }, p.anywhere("sender"));
  while (!over) {
    auto reading = own.spawn(
        [&] {
          for (std::uint64_t left = p.choose(1, 6); left != 0 && !over; --left)
            over = receive_once(p, line);
        },
        p.anywhere("reader"));
    if (p.w.choose(4) == 3) {
      (void)coir::this_fiber::sleep_for(p.moment());
      reading.cancel();
    }
    const auto joined = reading.join();
    check(joined.has_value() || joined.error() == std::errc::operation_canceled, "join a reader");
  }
  check(sending.join().has_value(), "join the sender");
  check(line.broken || line.received == line.sent, "bytes sent are bytes received");
  check(line.broken || line.sent == total, "everything is sent");
  close(line.in);
}

/// From one stream, until it ends, or is cancelled and has given what had come. True: the end.
inline bool pull_some(const part& p, wire& from) {
  const auto capacity = static_cast<unsigned>(p.choose(1, 3));
  auto bytes = coir::perform(coir::recv_stream{from.in}, {.capacity = capacity, .low_water = 0});
  bool whole = true;
  for (std::uint64_t left = p.choose(1, 9);; left -= left != 0) {
    if (left == 0) bytes.cancel();
    whole = whole && left != 0;
    auto next = bytes.next(p.deadline());
    if (next && !next->has_value()) return whole;
    if (next) {
      from.take((*next)->bytes());
      if (p.maybe()) p.pass_time();
    } else if (is_broken(next.error())) {
      return from.broken = true;
    } else {
      check(is_passing(next.error()), "a stream");
      if (coir::this_fiber::cancelled()) return true;
      if (next.error() != std::errc::timed_out) whole = false;
      if (!bytes) return false;
    }
  }
}

/// The same by a stream, with buffers of the worker.
inline void listen_to_stream(const part& p) {
  wire line;
  line.tag = p.id;
  std::tie(line.out, line.in) = p.w.connection(p.choose(8, 56));
  const std::uint64_t total = p.choose(0, 300);
  coir::scope own;
  auto sending = own.spawn([&] { send_all(p, line, total); }, p.anywhere("sender"));
  auto reading = own.spawn(
      [&] {
        while (!pull_some(p, line)) continue;
      },
      p.anywhere("streamer"));
  check(reading.join().has_value(), "join the streamer");
  check(sending.join().has_value(), "join the sender");
  check(line.broken || line.received == line.sent, "bytes sent are bytes received, by a stream");
  close(line.in);
}

inline unsigned take_one(const part& p, int listening) {
  const auto one = coir::io::accept(listening, nullptr, nullptr, p.deadline());
  if (!one) {
    check(is_passing(one.error()), "accept");
    p.pass_time();
    return 0;
  }
  p.pass_time();
  close(*one);
  return 1;
}

inline unsigned take_by_stream(const part& p, int listening) {
  auto all = coir::perform(coir::accept_stream{listening});
  unsigned taken = 0;
  for (auto one : all) {
    taken += one.has_value();
    if (!one) check(is_passing(one.error()), "an accept of a stream");
  }
  p.pass_time();
  return taken;
}

/// Connections from outside: each is taken once, and those that nobody takes are closed.
inline void accept_all(const part& p) {
  const int listening = p.w.listener(static_cast<std::uint16_t>(80 + p.id));
  const std::uint64_t count = p.choose(0, 5);
  std::vector<int> peers;
  std::uint64_t taken = 0;
  coir::scope own;
  auto taking = own.spawn(
      [&] {
        const bool by_stream = p.maybe();
        while (!coir::this_fiber::cancelled())
          taken += by_stream ? take_by_stream(p, listening) : take_one(p, listening);
      },
      p.anywhere("taker"));
  for (std::uint64_t i = 0; i < count; ++i) {
    peers.push_back(p.w.connect_to(listening));
    p.pass_time();
  }
  taking.cancel();
  const auto joined = taking.join();
  check(joined.has_value() || joined.error() == std::errc::operation_canceled, "join a taker");
  check(taken <= count, "no connection is taken twice");
  for (const int fd : peers) p.w.close(fd);
  close(listening);
}

/// One receives, another closes; the next owner of the number never sees what was meant for the
/// first.
inline void close_under_reader(const part& p) {
  for (std::uint64_t round = p.choose(1, 2); round != 0; --round) {
    const auto [one, other] = p.w.connection();
    const int mine = one, theirs = other;
    bool closing = false;  // from then on the number may be anybody's, for who has not begun
    coir::scope own;
    auto reading = own.spawn(
        [&] {
          std::array<std::byte, 8> buffer{};
          while (!closing) {
            const auto n = coir::io::recv(mine, buffer);
            if (!n || *n == 0) return;
            for (const std::byte b : std::span(buffer).first(*n))
              check(b == static_cast<std::byte>(round), "a byte of another connection");
          }
        },
        p.anywhere("reader"));
    auto sending = own.spawn(
        [&] {
          const std::array<std::byte, 3> data{static_cast<std::byte>(round),
                                              static_cast<std::byte>(round),
                                              static_cast<std::byte>(round)};
          for (std::uint64_t i = p.choose(0, 3); i != 0; --i) {
            (void)coir::io::send(theirs, data);
            p.pass_time();
          }
          close(theirs);
        },
        p.anywhere("sender"));
    p.pass_time();
    closing = true;
    close(mine);
    check(sending.join().has_value(), "join the sender");
    check(reading.join().has_value(), "who reads from what is closed is told");
  }
}

}  // namespace explored
