// main.cpp: kv, a durable key-value server: opens its store, listens, serves until SIGTERM, drains.
//
//   kv --port N --data DIR --workers N [--resp N] [--batch-records N] [--stats-json FILE]
//
// Always true:
//   - "listening on 127.0.0.1:PORT" is printed when a connection would be accepted, and not before;
//     with --resp also "redis protocol on 127.0.0.1:PORT", in front of it.
//   - SIGTERM loses nothing: requests that are here are answered, then the journal is closed.
//   - --batch-records says how many changes one sync covers at most, those of one input apart; 1 is
//     what a server without group commit does.
//   - The exit code is 0 only when the journal never failed.
//
// Comes from: a shell.   Goes to: store.hpp, service.hpp, http.hpp.
#include <getopt.h>
#include <signal.h>

#include <algorithm>
#include <charconv>
#include <coir/coir.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kv/http.hpp"
#include "kv/resp.hpp"
#include "kv/service.hpp"
#include "kv/store.hpp"

namespace {

constexpr std::chrono::seconds drain_time{5};

struct settings {
  std::uint16_t port = 8080;
  std::string data = "kv-data";
  unsigned workers = 0;
  std::string stats_json;
  std::optional<std::uint16_t> resp;  // a port for the protocol of Redis; 0: the system picks one
  kv::store_options store;
};

[[noreturn]] void usage(const char* wrong) {
  std::fprintf(
      stderr,
      "kv: %s\nusage: kv [--port N] [--resp N] [--data DIR] [--workers N] [--batch-records N]\n"
      "          [--stats-json FILE]\n",
      wrong);
  std::exit(2);
}

template <class Number>
Number number(const char* text) {
  Number value = 0;
  const char* end = text + std::strlen(text);
  const auto [after, error] = std::from_chars(text, end, value);
  if (error != std::errc() || after != end)
    usage((std::string("not a number in range: ") + text).c_str());
  return value;
}

settings read_settings(int argc, char** argv) {
  static const option known[] = {{"port", required_argument, nullptr, 'p'},
                                 {"data", required_argument, nullptr, 'd'},
                                 {"workers", required_argument, nullptr, 'w'},
                                 {"stats-json", required_argument, nullptr, 's'},
                                 {"resp", required_argument, nullptr, 'r'},
                                 {"batch-records", required_argument, nullptr, 'b'},
                                 {nullptr, 0, nullptr, 0}};
  settings s;
  for (int letter; (letter = ::getopt_long(argc, argv, "", known, nullptr)) != -1;) {
    if (letter == 'p')
      s.port = number<std::uint16_t>(optarg);
    else if (letter == 'd')
      s.data = optarg;
    else if (letter == 'w')
      s.workers = number<unsigned>(optarg);
    else if (letter == 's')
      s.stats_json = optarg;
    else if (letter == 'r')
      s.resp = number<std::uint16_t>(optarg);
    else if (letter == 'b')
      s.store.journal.batch_records_max = std::max(number<std::uint32_t>(optarg), 1u);
    else
      usage("unknown option");
  }
  if (optind != argc) usage("unexpected argument");
  return s;
}

int failed(const char* what, std::error_code why) {
  std::fprintf(stderr, "kv: %s: %s\n", what, why.message().c_str());
  return 1;
}

/// A port, who talks with those that come, and who accepts them.
struct door {
  coir::net::tcp_listener& listener;
  std::function<void(coir::net::tcp_stream)> converse;
  std::function<void()> drain;
  coir::handle<void> serving = {};
};

/// Accepts until a signal comes; then gives what is being answered its time.
void serve_until_signal(std::span<door> doors, coir::signals& stop) {
  for (door& d : doors)
    d.serving = coir::spawn([&d] { return d.listener.serve(d.converse, {.name = "connection"}); },
                            {.name = "accept"});
  (void)stop.next();
  for (door& d : doors) {
    (void)d.listener.close();
    d.drain();
  }
  const coir::deadline until = coir::in(drain_time);
  for (door& d : doors) {
    const auto ended = d.serving.join(until);
    if (ended || ended.error() != std::errc::timed_out) continue;
    std::fprintf(stderr, "kv: some requests took longer than the time to drain; they are cut\n");
    d.serving.cancel();
    (void)d.serving.join();
  }
}

int run_server(const settings& s) {
  // First of all, so that a signal during a long recovery is not lost.
  auto stop = coir::signals::create({SIGTERM, SIGINT});
  if (!stop) return failed("signals", stop.error());

  const auto began = coir::clock::now();
  auto store = kv::store::open(s.data, s.store);
  if (!store && store.error() == std::errc::device_or_resource_busy) {
    std::fprintf(stderr, "kv: %s: another server has this folder; give this one its own --data\n",
                 s.data.c_str());
    return 1;
  }
  if (!store) return failed(s.data.c_str(), store.error());
  const auto recovery_time = coir::clock::now() - began;
  const kv::recovery& found = (*store)->log().recovered();
  std::fprintf(stderr, "kv: recovered %llu records, %llu bytes; cut %llu bytes\n",
               static_cast<unsigned long long>(found.records),
               static_cast<unsigned long long>(found.bytes),
               static_cast<unsigned long long>(found.cut_bytes));

  auto listener = coir::net::tcp_listener::listen({.port = s.port});
  if (!listener) return failed("listen", listener.error());
  kv::service service(**store);
  kv::http_server server([&](const kv::http_request& r) { return service.answer(r); }, {});
  service.show(server);
  service.recovered_in(recovery_time);
  kv::resp_server resp(**store);
  std::vector<door> doors;
  doors.push_back(
      {.listener = *listener,
       .converse = [&](coir::net::tcp_stream stream) { server.converse(std::move(stream)); },
       .drain = [&] { server.drain(); }});
  coir::net::tcp_listener second;
  if (s.resp) {
    auto made = coir::net::tcp_listener::listen({.port = *s.resp});
    if (!made) return failed("listen", made.error());
    second = std::move(*made);
    doors.push_back(
        {.listener = second,
         .converse = [&](coir::net::tcp_stream stream) { resp.converse(std::move(stream)); },
         .drain = [&] { resp.drain(); }});
    std::printf("redis protocol on 127.0.0.1:%u\n", second.port());
  }
  std::printf("listening on 127.0.0.1:%u\n", listener->port());
  std::fflush(stdout);

  serve_until_signal(doors, *stop);

  const std::string stats = service.stats(server.counters());
  if (!s.stats_json.empty()) std::ofstream(s.stats_json) << stats;
  auto closed = (*store)->close();
  return closed ? 0 : failed("journal", closed.error());
}

}  // namespace

int main(int argc, char** argv) {
  const settings s = read_settings(argc, argv);
  return coir::run_main([&] { return run_server(s); }, {.workers = s.workers});
}
