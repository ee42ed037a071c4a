// echo.cpp: a TCP server that sends back what it gets: echo [--port N] [--workers N]
// Always true: one fiber per connection, written as if it blocked; SIGTERM or SIGINT ends them all.
// Comes from: a shell.   Goes to: coir/coir.hpp.
#include <array>
#include <charconv>
#include <coir/coir.hpp>
#include <csignal>
#include <cstdio>
#include <string_view>

namespace {

/// The number after `name` on the command line; `otherwise` when it is not there, -1 for nonsense.
long number_after(int argc, char** argv, std::string_view name, long otherwise) {
  for (int i = 1; i < argc; ++i) {
    if (argv[i] != name) continue;
    const std::string_view text = i + 1 < argc ? argv[i + 1] : "";
    long value = -1;
    const auto [end, bad] = std::from_chars(text.begin(), text.end(), value);
    return bad == std::errc() && end == text.end() && value < 65536 ? value : -1;
  }
  return otherwise;
}

void echo(coir::net::tcp_stream peer) {
  std::array<std::byte, 16384> buffer;
  for (;;) {
    const auto got = peer.read_some(buffer);
    if (!got || *got == 0) return;
    if (!peer.write_all(std::span(buffer).first(*got))) return;
  }
}

coir::result<int> serve(std::uint16_t port) {
  auto stop = coir::signals::create({SIGTERM, SIGINT});
  if (!stop) return coir::fail(stop.error());
  auto listener = coir::net::tcp_listener::listen({.port = port});
  if (!listener) return coir::fail(listener.error());
  auto server = coir::spawn([&] { return listener->serve(echo); }, {.name = "serve"});
  std::printf("listening on 127.0.0.1:%u\n", unsigned{listener->port()});
  std::fflush(stdout);
  const auto signal = stop->next();
  server.cancel();  // and with it every connection's fiber
  const auto served = server.join();
  if (!signal) return coir::fail(signal.error());
  if (!served && served.error() != std::errc::operation_canceled) return coir::fail(served.error());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const long port = number_after(argc, argv, "--port", 7007);
  const long workers = number_after(argc, argv, "--workers", 0);
  if (port < 0 || workers < 0)
    return std::fputs("usage: echo [--port N] [--workers N]\n", stderr), 2;
  return coir::run_main([&] { return serve(static_cast<std::uint16_t>(port)); },
                        {.workers = static_cast<unsigned>(workers)});
}
