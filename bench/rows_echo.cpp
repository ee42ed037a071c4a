// rows_echo.cpp: what an echo server spends on one message of 64 bytes.
//
// Always true:
//   - Server and client have a CPU each. The client sends the next message of a connection only
//     when the last came back, and checks every byte.
//   - CPU is the server's own clock (user and system, all threads), read after a warm-up run and
//     after the measured one: starting and ending the program is not in it, accepting and closing
//     the connections is.
//
// Comes from: coir_bench.cpp.   Goes to: samples/echo, echo_epoll, echo_uring, load.
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
  return {ns / 1000 / client.at("messages").get<double>(), client.at("p50_us").get<double>()};
}

}  // namespace

void add_echo(tables& to, const settings& chosen) {
  const unsigned part = chosen.quick ? 10 : 1;
  for (const drive full : {drive{1, 10'000}, drive{50, 100'000}, drive{1'000, 100'000}}) {
    const drive d{full.connections, full.messages / part};
    const auto server = [&](const char* who, std::vector<std::string> words) {
      words[0] = chosen.folder + words[0];
      return entry{who, [=] { return echo_cpu(chosen, words, d); }};
    };
    table one{"echo, " + std::to_string(d.connections) +
                  (d.connections == 1 ? " connection" : " connections") + " x 64 bytes",
              "us of server CPU per message",
              {server("coir, samples/echo", {"/../samples/echo", "--port", "0", "--workers", "1"}),
               server("epoll by hand", {"/echo_epoll", "--port", "0"}),
               server("io_uring by hand", {"/echo_uring", "--port", "0"})}};
    one.aside = "p50 round trip, us";
    to.push_back(std::move(one));
  }
}

}  // namespace bench
