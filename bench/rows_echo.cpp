// rows_echo.cpp: what an echo server spends on one message of 64 bytes.
//
// Always true:
//   - Server and client have a CPU each. The client sends the next message of a connection only
//     when the last came back, and checks every byte.
//   - CPU is the server's own clock (user and system, all threads), read after a warm-up run and
//     after the measured one: starting and ending the program is not in it, accepting and closing
//     the connections is.
//   - Calls and streams, and both backends, stand in rows of their own beside the servers by hand,
//     whose figures belong to that row's rounds.
//
// Comes from: coir_bench.cpp.   Goes to: samples/echo, echo_streams, echo_epoll, echo_uring,
// peer_go, load.
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "bench/programs.hpp"
#include "bench/rows.hpp"

namespace bench {

namespace {

struct drive {
  unsigned connections;
  unsigned messages;
};

nlohmann::json load(const settings& chosen, const std::string& port, drive d) {
  program client({chosen.folder + "/load", "--port", port, "--conns", std::to_string(d.connections),
                  "--messages", std::to_string(d.messages), "--json"},
                 chosen.client_cpu);
  auto said = nlohmann::json::parse(client.line());
  client.wait();
  return said;
}

sample echo_cpu(const settings& chosen, const std::vector<std::string>& words, drive d) {
  program server(words, chosen.cpu);
  const std::string said = server.line();
  const std::size_t colon = said.rfind(':');
  if (said.rfind("listening on ", 0) != 0 || colon == std::string::npos)
    throw std::runtime_error(words[0] + " said: " + said);
  const std::string port = said.substr(colon + 1);
  load(chosen, port, {d.connections, std::max(d.messages / 10, d.connections)});
  const std::int64_t before = server.cpu_ns();
  const auto client = load(chosen, port, d);
  const double ns = static_cast<double>(server.cpu_ns() - before);
  server.end();
  return {ns / client.at("messages").get<double>(), client.at("messages_per_s").get<double>(),
          client.at("p99_us").get<double>()};
}

/// The entries of one row: each server is driven alike.
class servers {
 public:
  servers(const settings& chosen, drive d) : chosen_(chosen), drive_(d) {}

  /// `program` lies in the folder of the bench.
  entry of(const char* who, role as, const char* program, std::vector<std::string> more,
           const char* package = "") const {
    const std::string path = chosen_.folder + program;
    const bool there = ::access(path.c_str(), X_OK) == 0;
    more.insert(more.begin(), path);
    return {who, as, [chosen = chosen_, d = drive_, more] { return echo_cpu(chosen, more, d); },
            there ? "" : package};
  }
  entry calls(role as) const {
    return of("coir, samples/echo", as, "/echo_coir", {"--port", "0", "--workers", "1"});
  }
  entry epoll() const { return of("epoll by hand", role::raw, "/echo_epoll", {"--port", "0"}); }
  entry uring() const { return of("io_uring by hand", role::raw, "/echo_uring", {"--port", "0"}); }
  entry with_streams(const char* who, role as, const char* receive) const {
    return of(who, as, "/echo_streams", {"--port", "0", "--receive", receive});
  }
  /// The sample where it is told to do without io_uring. env(1) becomes the server.
  entry on_poll() const {
    const std::vector<std::string> words{"/usr/bin/env",
                                         "COIR_BACKEND=poll",
                                         chosen_.folder + "/echo_coir",
                                         "--port",
                                         "0",
                                         "--workers",
                                         "1"};
    return {"coir, samples/echo, no io_uring", role::ours,
            [chosen = chosen_, d = drive_, words] { return echo_cpu(chosen, words, d); }};
  }

 private:
  settings chosen_;
  drive drive_;
};

row row_of(const std::string& name, drive d, const std::string& how, std::vector<entry> entries,
           std::vector<reach> reaches) {
  const std::string number = std::to_string(d.connections);
  return {
      name + "/" + number,
      "echo of 64 bytes, " + number + (d.connections == 1 ? " connection" : " connections") + how,
      {{"server CPU per message", "ns"}, {"messages/s", "", false}, {"p99", "us", false}},
      std::move(entries),
      std::move(reaches)};
}

row echo_row(const settings& chosen, drive d) {
  const servers by(chosen, d);
  row one = row_of("echo", d, "",
                   {by.calls(role::ours), by.epoll(), by.uring(),
                    by.of("Go", role::peer, "/peer_go", {"echo"}, "golang-go")},
                   {{reach::kind::of_raw, 1.05}});
  one.entries.back().rounds_most = 3;
  return one;
}

/// Whether net should accept and receive by streams: both ways in one row, beside those by hand.
row streams_row(const settings& chosen, drive d) {
  const servers by(chosen, d);
  row one =
      row_of("echo_streams", d, ", connections and bytes as streams",
             {by.with_streams("coir, accept and receive as streams", role::ours, "all"),
              by.with_streams("coir, accept as a stream, receive by calls", role::variant, "once"),
              by.calls(role::base), by.epoll(), by.uring()},
             {});
  one.note = "plain: samples/echo, which accepts and receives by calls";
  return one;
}

row poll_row(const settings& chosen, drive d) {
  const servers by(chosen, d);
  return row_of("echo_poll", d, ", COIR_BACKEND=poll", {by.on_poll(), by.epoll()},
                {{reach::kind::of_raw, 1.10}});
}

}  // namespace

void add_echo(rows& to, const settings& chosen) {
  const unsigned part = chosen.quick ? 10 : 1;
  for (const auto make : {echo_row, streams_row, poll_row})
    for (const drive full : {drive{1, 10'000}, drive{50, 100'000}, drive{1'000, 100'000}})
      to.push_back(make(chosen, {full.connections, full.messages / part}));
}

}  // namespace bench
