// echo_streams.cpp: samples/echo with streams in place of calls: connections come as one stream,
// and with --receive all the bytes of each connection, too.
//
// Always true:
//   - As in samples/echo each connection is a fiber, and its end ends nobody else. What it got lies
//     in buffers of the worker, and goes back before the next is asked for.
//   - One that does not fit into the arena is closed.
//
// Comes from: load.cpp over loopback.   Goes to: coir/coir.hpp.
#include <CLI/CLI.hpp>
#include <array>
#include <coir/coir.hpp>
#include <csignal>
#include <cstdio>
#include <string>
#include <utility>

namespace {

void echo_stream(coir::net::tcp_stream peer) {
  auto messages = peer.incoming_bytes();
  for (;;) {
    const auto got = messages.next();
    if (!got || !*got) return;
    if (!peer.write_all((**got).bytes())) return;
  }
}

void echo_calls(coir::net::tcp_stream peer) {
  std::array<std::byte, 16384> buffer;
  for (;;) {
    const auto got = peer.read_some(buffer);
    if (!got || *got == 0) return;
    if (!peer.write_all(std::span(buffer).first(*got))) return;
  }
}

using echo_function = void (*)(coir::net::tcp_stream);

void take_all(const coir::net::tcp_listener& listener, coir::scope& connections,
              echo_function echo) {
  auto incoming = listener.incoming();
  for (auto peer : incoming) {
    if (!peer) continue;  // one that failed while it waited, or the end
    connections.spawn([p = *std::move(peer), echo]() mutable { echo(std::move(p)); },
                      {.name = "connection"});
  }
}

coir::result<int> serve(std::uint16_t port, echo_function echo) {
  auto stop = coir::signals::create({SIGTERM, SIGINT});
  if (!stop) return coir::fail(stop.error());
  auto listener = coir::net::tcp_listener::listen({.port = port});
  if (!listener) return coir::fail(listener.error());
  coir::scope connections;
  auto server = coir::spawn([&] { take_all(*listener, connections, echo); }, {.name = "serve"});
  std::printf("listening on 127.0.0.1:%u\n", unsigned{listener->port()});
  std::fflush(stdout);
  const auto signal = stop->next();
  server.cancel();
  (void)server.join();
  connections.cancel();
  (void)connections.join();
  if (!signal) return coir::fail(signal.error());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::uint16_t port = 0;
  std::string receive = "all";
  unsigned buffers = coir::options().stream_buffers;
  CLI::App app{"Echo server on coir's streams, one worker: a variant for the benchmarks."};
  app.add_option("--port", port, "port on 127.0.0.1; 0 lets the kernel choose")->required();
  app.add_option("--receive", receive,
                 "`all`: one operation for a connection; `once`: for a message")
      ->check(CLI::IsMember({"all", "once"}));
  app.add_option("--buffers", buffers, "for what streams receive")->check(CLI::Range(1, 32768));
  CLI11_PARSE(app, argc, argv);
  const echo_function echo = receive == "all" ? echo_stream : echo_calls;
  return coir::run_main([&] { return serve(port, echo); },
                        {.workers = 1, .stream_buffers = buffers});
}
