// rows_kv.cpp: what a durable SET and a GET cost a client of samples/kv, beside Debian's Redis that
// syncs as often as it must, and beside the same kv without group commit.
//
// Always true:
//   - Every server answers a SET only when it is on the disk, and all of them write to one file
//     system, in the folder of the bench. A server has one thread of its own for requests.
//   - The times are the client's: the whole run divided by its requests, the connections are open
//     by then.
//   - There is one server at a time; what a killed one left behind is removed by the next.
//   - Redis keeps its log alone: no snapshots, no rewriting. Its server is started from the program
//     that redis-tools has under another name, so nobody needs a service of that name running.
//
// Comes from: coir_bench.cpp.   Goes to: samples/kv, redis-server, redis-benchmark, load.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "bench/peers.hpp"
#include "bench/programs.hpp"
#include "bench/rows.hpp"

namespace bench {

namespace {

namespace fs = std::filesystem;

constexpr const char* driver_path = "/usr/bin/redis-benchmark";
// Redis looks at the name that it is started by: this is redis-server as well.
constexpr const char* redis_path = "/usr/bin/redis-check-rdb";
constexpr std::size_t value_bytes = 64;
constexpr unsigned keys = 10'000;

enum class server_kind { coir, coir_one_sync_each, redis };

std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  const bool good = fd >= 0 &&
                    ::bind(fd, reinterpret_cast<const sockaddr*>(&address), length) == 0 &&
                    ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  const int error = errno;
  ::close(fd);
  if (!good) throw std::system_error(error, std::system_category(), "a free port");
  return ntohs(address.sin_port);
}

/// A server with data of its own, which ends with it.
class kv_server {
 public:
  kv_server(const settings& chosen, server_kind kind)
      : data_(chosen.folder + "/kv-data"), program_(words(chosen, kind), chosen.cpu) {
    const std::string ready = kind == server_kind::redis ? "Ready to accept" : "listening on";
    for (std::string said; said.find(ready) == std::string::npos;) {
      said = program_.line();
      const std::size_t colon = said.rfind(':');
      if (said.rfind("redis protocol on ", 0) == 0) port_ = said.substr(colon + 1);
    }
  }
  kv_server(const kv_server&) = delete;
  kv_server& operator=(const kv_server&) = delete;
  ~kv_server() {
    std::error_code ignored;
    fs::remove_all(data_, ignored);
  }
  const std::string& port() const { return port_; }
  std::int64_t cpu_ns() const { return program_.cpu_ns(); }
  void end() { program_.end(); }

 private:
  std::vector<std::string> words(const settings& chosen, server_kind kind) {
    fs::remove_all(data_);
    fs::create_directory(data_);
    if (kind == server_kind::redis) return redis_words(chosen);
    std::vector<std::string> all{chosen.folder + "/kv_coir",
                                 "--port",
                                 "0",
                                 "--resp",
                                 "0",
                                 "--data",
                                 data_ + "/d",
                                 "--workers",
                                 "1"};
    if (kind == server_kind::coir_one_sync_each) {
      all.push_back("--batch-records");
      all.push_back("1");
    }
    return all;
  }
  std::vector<std::string> redis_words(const settings& chosen) {
    const std::string name = chosen.folder + "/redis-server";
    std::error_code there;
    fs::create_symlink(redis_path, name, there);
    if (there && there != std::errc::file_exists) throw std::system_error(there, name);
    port_ = std::to_string(free_port());
    return {name,        "--port",
            port_,       "--bind",
            "127.0.0.1", "--dir",
            data_,       "--save",
            "",          "--appendonly",
            "yes",       "--appendfsync",
            "always",    "--auto-aof-rewrite-percentage",
            "0",         "--daemonize",
            "no"};
  }

  std::string data_;
  std::string port_;
  program program_;
};

struct drive {
  const char* command;  // "set", "get"
  unsigned connections;
  unsigned requests;
};

struct said_by_driver {
  double per_s = no_figure, p99_ms = no_figure;
};

/// One run of redis-benchmark.
said_by_driver redis_benchmark(const settings& chosen, const std::string& port, drive d,
                               unsigned pipelined = 1) {
  program client(
      {driver_path, "-h", "127.0.0.1", "-p", port, "-t", d.command, "-c",
       std::to_string(d.connections), "-n", std::to_string(d.requests), "-r", std::to_string(keys),
       "-d", std::to_string(value_bytes), "-P", std::to_string(pipelined), "--csv"},
      chosen.client_cpu);
  // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_","p99_","max_"
  said_by_driver got;
  while (client.another_line()) {
    const std::string said = client.line();
    if (said.rfind("\"SET\"", 0) != 0 && said.rfind("\"GET\"", 0) != 0) continue;
    std::vector<double> figures;
    for (std::size_t at = said.find(",\""); at != std::string::npos; at = said.find(",\"", at + 2))
      figures.push_back(std::strtod(said.c_str() + at + 2, nullptr));
    if (figures.size() == 7) got = {figures[0], figures[5]};
  }
  client.wait();
  return got;
}

sample by_redis_benchmark(const settings& chosen, server_kind kind, drive d) {
  kv_server server(chosen, kind);
  if (std::string_view(d.command) == "get")
    redis_benchmark(chosen, server.port(), {"set", 50, 5 * keys}, 100);
  redis_benchmark(chosen, server.port(), {d.command, d.connections, d.requests / 10});
  const std::int64_t before = server.cpu_ns();
  const said_by_driver got = redis_benchmark(chosen, server.port(), d);
  const auto cpu_us = static_cast<double>(server.cpu_ns() - before) / 1000;
  server.end();
  return {1e6 / got.per_s, got.per_s, cpu_us / d.requests, got.p99_ms};
}

sample by_load(const settings& chosen, server_kind kind, drive d) {
  kv_server server(chosen, kind);
  const auto load = [&](unsigned requests) {
    program client({chosen.folder + "/load", "--port", server.port(), "--conns",
                    std::to_string(d.connections), "--messages", std::to_string(requests),
                    "--bytes", std::to_string(value_bytes), "--set", "--json"},
                   chosen.client_cpu);
    auto said = nlohmann::json::parse(client.line());
    client.wait();
    return said;
  };
  load(std::max(d.requests / 10, d.connections));
  const std::int64_t before = server.cpu_ns();
  const auto said = load(d.requests);
  const auto cpu_us = static_cast<double>(server.cpu_ns() - before) / 1000;
  server.end();
  const double per_s = said.at("messages_per_s").get<double>();
  return {1e6 / per_s, per_s, cpu_us / d.requests, said.at("p99_us").get<double>() / 1000};
}

/// `connections` answers for each sync: what the disk would allow.
sample by_disk(const settings& chosen, unsigned connections, std::size_t bytes) {
  const double us = raw_fdatasync_us(chosen.folder, bytes);
  return {us / connections, 1e6 * connections / us};
}

std::vector<figure> figures_of(const std::string& name) {
  return {{"wall per " + name, "us"},
          {name + "/s", "", false},
          {"server CPU per " + name, "us"},
          {"p99", "ms", false}};
}

}  // namespace

void add_kv(rows& to, const settings& chosen) {
  const unsigned part = chosen.quick ? 10 : 1;
  const auto entry_of = [&chosen](const char* who, role as, server_kind kind, drive d,
                                  auto* measured) {
    const bool driven = measured == &by_load || ::access(driver_path, X_OK) == 0;
    const bool there = kind != server_kind::redis || ::access(redis_path, X_OK) == 0;
    return entry{who, as, [=] { return measured(chosen, kind, d); },
                 driven && there ? "" : "redis-tools"};
  };
  const char* const redis = "redis-server, appendfsync always";
  const char* const one_each = "coir, samples/kv, one sync for each SET";

  const drive set{"set", 64, 60'000 / part};
  const drive slow{"set", 64, 4'000 / part};
  to.push_back(
      {"kv/set/64",
       "a durable SET of 64 bytes, 64 connections, redis-benchmark",
       figures_of("SET"),
       {entry_of("coir, samples/kv", role::ours, server_kind::coir, set, &by_redis_benchmark),
        entry_of(one_each, role::base, server_kind::coir_one_sync_each, slow, &by_redis_benchmark),
        entry_of(redis, role::peer, server_kind::redis, set, &by_redis_benchmark)},
       {{reach::kind::times_peer, 1}, {reach::kind::of_base, 0.05}}});
  to.back().note = "plain: kv --batch-records 1; 0.05x its time is 20x its rate";

  const drive get{"get", 64, 100'000 / part};
  to.push_back(
      {"kv/get/64",
       "a GET of 64 bytes, 64 connections, redis-benchmark",
       figures_of("GET"),
       {entry_of("coir, samples/kv", role::ours, server_kind::coir, get, &by_redis_benchmark),
        entry_of(redis, role::peer, server_kind::redis, get, &by_redis_benchmark)},
       {{reach::kind::times_peer, 1}}});

  const drive crowd{"set", 1'000, 200'000 / part};
  constexpr std::size_t record = 16 + 2 + 8 + value_bytes;  // its head, and a key with its length
  to.push_back({"kv/set/1000",
                "a durable SET of 64 bytes, 1000 connections, load",
                figures_of("SET"),
                {entry_of("coir, samples/kv", role::ours, server_kind::coir, crowd, &by_load),
                 {"fdatasync p50 / connections, 1000 records", role::raw,
                  [=] { return by_disk(chosen, 1'000, 1'000 * record); }},
                 {"fdatasync p50 / connections, 1 record", role::variant,
                  [=] { return by_disk(chosen, 1'000, record); }},
                 entry_of(redis, role::peer, server_kind::redis, crowd, &by_load)},
                {{reach::kind::of_raw, 1.25}}});
  to.back().note = "by hand: nothing but the syncs; 1.25x the time is 0.8 of the rate";

  const drive slow_crowd{"set", 1'000, 6'000 / part};
  to.push_back(
      {"kv/grouped/1000",
       "a durable SET of 64 bytes, 1000 connections, load, beside one sync for each",
       figures_of("SET"),
       {entry_of("coir, samples/kv", role::ours, server_kind::coir, crowd, &by_load),
        entry_of(one_each, role::base, server_kind::coir_one_sync_each, slow_crowd, &by_load)},
       {{reach::kind::of_base, 0.05}}});
  to.back().note = "plain: kv --batch-records 1; 0.05x its time is 20x its rate";
  for (auto row = to.end() - 4; row != to.end(); ++row) row->rounds_most = 5;
}

}  // namespace bench
