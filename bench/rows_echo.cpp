// rows_echo.cpp: what an echo server spends on one message of 64 bytes.
//
// Always true:
//   - Server and client have a CPU each. The client sends the next message of a connection only
//     when the last came back, and checks every byte.
//   - CPU is the server's own clock (user and system, all threads), read after a warm-up run and
//     after the measured one: starting and ending the program is not in it, accepting and closing
//     the connections is.
//
// Comes from: coir_bench.cpp.   Goes to: samples/echo, echo_epoll, echo_uring, peer_go, load.
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

row echo_row(const settings& chosen, drive d) {
  const auto server = [&](const char* who, role as, const char* program,
                          std::vector<std::string> more, const char* package = "") {
    std::vector<std::string> words{chosen.folder + program};
    words.insert(words.end(), more.begin(), more.end());
    const bool there = ::access(words[0].c_str(), X_OK) == 0;
    return entry{who, as, [=] { return echo_cpu(chosen, words, d); }, there ? "" : package};
  };
  const std::string number = std::to_string(d.connections);
  row one{
      "echo/" + number,
      "echo of 64 bytes, " + number + (d.connections == 1 ? " connection" : " connections"),
      {{"server CPU per message", "ns"}, {"messages/s", "", false}, {"p99", "us", false}},
      {server("coir, samples/echo", role::ours, "/echo_coir", {"--port", "0", "--workers", "1"}),
       server("epoll by hand", role::raw, "/echo_epoll", {"--port", "0"}),
       server("io_uring by hand", role::raw, "/echo_uring", {"--port", "0"}),
       server("Go", role::peer, "/peer_go", {"echo"}, "golang-go")},
      {{reach::kind::of_raw, 1.05}}};
  one.entries.back().rounds_most = 3;
  return one;
}

}  // namespace

void add_echo(rows& to, const settings& chosen) {
  const unsigned part = chosen.quick ? 10 : 1;
  for (const drive full : {drive{1, 10'000}, drive{50, 100'000}, drive{1'000, 100'000}})
    to.push_back(echo_row(chosen, {full.connections, full.messages / part}));
}

}  // namespace bench
