// failures_life.hpp: what one life of a runtime does, so that everything it asks for can be
// refused.
//
// Always true:
//   - What was refused is the answer, and nothing else is: who waits for an answer that cannot come
//     waits with a deadline.
//
// Comes from: failures.cpp.   Goes to: coir/coir.hpp.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <string_view>

#include "coir/coir.hpp"

namespace life {

using namespace std::chrono_literals;

inline coir::options small() {
  coir::options o;
  o.workers = 2;
  o.fibers_max = 64;
  o.ring_entries = 8;
  o.stack_bytes = 64 << 10;
  o.log = [](const coir::log_record&) {};
  return o;
}

struct large {
  std::array<char, 256> bytes{};
};

/// What a fiber does with the world; the first error it meets.
inline coir::result<> use_io() {
  auto listener = coir::net::tcp_listener::listen();
  if (!listener) return coir::fail(listener.error());
  auto server = coir::spawn([&listener]() -> coir::result<> {
    auto peer = listener->accept(coir::in(5s));
    if (!peer) return coir::fail(peer.error());
    std::array<std::byte, 16> some{};
    const auto got = peer->read_some(some, coir::in(5s));
    if (!got) return coir::fail(got.error());
    return peer->write_all(std::span(some).first(*got));
  });
  const auto client = [&]() -> coir::result<> {
    auto stream = coir::net::tcp_stream::connect("127.0.0.1", listener->port(), coir::in(5s));
    if (!stream) return coir::fail(stream.error());
    if (auto sent = stream->write_all("hello"); !sent) return sent;
    std::array<std::byte, 5> back{};
    return stream->read_exact(back, coir::in(5s));
  };
  const auto asked_for = client();
  if (!asked_for) server.cancel();
  const auto served = server.join();
  if (!asked_for) return asked_for;
  return served;
}

/// Operations that outlive a park, with buffers that the kernel picks.
inline coir::result<> use_streams() {
  int both[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both) != 0)
    return coir::fail(std::error_code(errno, std::generic_category()));
  const coir::io::unique_fd one(both[0]), other(both[1]);
  const std::string_view text = "leased";
  auto sends = coir::start(coir::send_operation(one.get(), std::as_bytes(std::span(text))));
  auto comes = coir::perform(coir::recv_stream{other.get()});
  if (auto sent = sends.get(coir::in(5s)); !sent) return coir::fail(sent.error());
  auto came = comes.next(coir::in(5s));
  if (!came) return coir::fail(came.error());
  if (!came->has_value() || (**came).text() != text) return coir::fail(std::errc::bad_message);
  return {};
}

struct told {
  using value_type = int;
  static constexpr std::string_view name = "told";
};

/// A handler that answers, and a computation that is stepped.
inline coir::result<> use_effects() {
  const auto asks = [] { return *coir::perform(told{}); };
  const auto handled = coir::handle_effects(
      asks, coir::on<told>([](const told&) { return coir::dispatched<int>::done(3); }));
  if (handled != 3) return coir::fail(std::errc::bad_message);
  auto stopped = coir::step(asks);
  if (!stopped.is_suspended()) return coir::fail(stopped.error());
  auto next = stopped.waiting().resume<told>(4);
  if (!next) return coir::fail(next.error());
  return next->value() == 4 ? coir::result<>() : coir::fail(std::errc::bad_message);
}

inline coir::result<> use_all() {
  if (auto io = use_io(); !io) return io;
  if (auto streamed = use_streams(); !streamed) return streamed;
  if (auto effects = use_effects(); !effects) return effects;
  if (auto slept = coir::this_fiber::sleep_for(1us); !slept) return slept;
  auto boxed = coir::spawn([l = large{}] { return l; }, {.worker = 1});
  const auto box = boxed.join();
  if (!box) return coir::fail(box.error());
  const auto length = coir::blocking([] { return 5; });
  if (!length) return coir::fail(length.error());
  coir::scope children;
  coir::mutex lock;
  for (int i = 0; i < 8; ++i)
    children.spawn([&lock, l = large{}] {
      (void)l.bytes;
      const std::lock_guard held(lock);
      coir::this_fiber::yield();
    });
  return children.join();
}

}  // namespace life
