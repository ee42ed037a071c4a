// load.cpp: the closed-loop client of an echo server, or of one that speaks the protocol of Redis.
// Each connection sends a message, waits for its answer, checks every byte, and only then sends the
// next.
//
// Always true:
//   - Every byte that arrives is compared with the one that is expected: that which was sent, or
//     with --set `+OK`; a byte that nobody asked for is an error too. Any error, or no message at
//     all, makes the exit code 1.
//   - Messages in flight at the end are waited for, so a stalled one appears in the latencies; the
//     rate counts only those that end inside the measured time.
//   - Nothing lasts for ever: connecting takes at most 5 s, and 5 s without any event end the run.
//   - The threads share only what is constant while they run.
//
// Comes from: the driver, or a person.   Goes to: a server on loopback, figures on stdout.
#include <sys/epoll.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <deque>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "bench/bench_text.hpp"
#include "bench/histogram.hpp"

namespace {

using bench::die;
using bench::must;
using bench::now_ns;
using bench::patience_ns;
using bench::second_ns;

constexpr std::string_view end_of_line = "\r\n";
constexpr std::string_view set_answer = "+OK\r\n";
constexpr std::int64_t endless = std::numeric_limits<std::int64_t>::max();

struct plan {
  std::uint16_t port = 0;
  unsigned conns = 1;
  unsigned threads = 1;
  double seconds = 2;
  double warmup = 0;
  std::uint64_t messages = 0;  // 0: the time decides
  std::size_t bytes = 64;
  bool sets = false;  // values of so many bytes are set, instead of messages echoed
  bool json = false;
};

/// Random bytes, of which each message is a window. Windows of neighbouring connections lie far
/// apart and each message starts one byte later, so an answer that belongs to another connection
/// or to an older message differs, and nothing is copied to make a message.
class pattern {
 public:
  explicit pattern(std::size_t bytes) : pool_(windows + bytes) {
    std::mt19937_64 random(42);
    for (char& c : pool_) c = static_cast<char>(random());
  }
  const char* window(std::uint64_t connection, std::uint64_t message) const {
    return pool_.data() + (connection * 4099 + message) % windows;
  }

 private:
  static constexpr std::size_t windows = 65521;  // a prime, so no stride repeats early
  std::vector<char> pool_;
};

struct connection {
  int fd;
  unsigned number;
  std::uint64_t message = 0;      // messages begun
  std::string command = {};       // what a SET consists of, its value at the end
  std::string_view request = {};  // the bytes of the current one
  std::string_view answer = {};   // what comes back
  std::size_t sent = 0;
  std::size_t received = 0;
  std::int64_t began_ns = 0;
  bool in_flight = false;
  bool watches_room = false;
};

struct span_of_time {
  std::int64_t from_ns;  // messages that began earlier are warm-up
  std::int64_t stop_ns;  // none begins later
};

struct figures {
  bench::histogram latency;
  std::uint64_t messages = 0;  // all that came back right
  std::uint64_t measured = 0;  // those that ended inside the measured time
  std::uint64_t errors = 0;
  std::int64_t last_ns = 0;
};

/// One thread's share of the connections.
class client {
 public:
  client(const plan& p, const pattern& bytes, std::uint64_t budget)
      : plan_(p), pattern_(bytes), budget_(budget) {}
  client(const client&) = delete;
  client& operator=(const client&) = delete;
  ~client() {
    for (const connection& c : connections_)
      if (c.fd >= 0) ::close(c.fd);
    ::close(epoll_);
  }

  void adopt(int fd, unsigned number) {
    connections_.push_back(connection{.fd = fd, .number = number});
    if (plan_.sets) connections_.back().command = set_command(number);
    watch(EPOLL_CTL_ADD, connections_.back(), false);
  }

  void run(span_of_time when) {
    when_ = when;
    for (connection& c : connections_) begin(c, now_ns());
    std::array<epoll_event, 512> events;
    while (in_flight_ > 0) {
      const int ready = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()),
                                     static_cast<int>(patience_ns / 1'000'000));
      if (ready == -1 && errno != EINTR) die("epoll_wait", errno);
      if (ready == 0) return give_up();
      for (int i = 0; i < ready; ++i) {
        auto& c = *static_cast<connection*>(events[static_cast<std::size_t>(i)].data.ptr);
        if (c.watches_room) push(c);
        if (c.fd >= 0) pull(c);
      }
    }
  }

  const figures& result() const { return figures_; }

 private:
  void begin(connection& c, std::int64_t now) {
    if (now >= when_.stop_ns || budget_ == 0) return;
    --budget_;
    const std::string_view window(pattern_.window(c.number, c.message++), plan_.bytes);
    c.request = c.answer = window;
    if (plan_.sets) {
      window.copy(c.command.data() + c.command.size() - end_of_line.size() - window.size(),
                  window.size());
      c.request = c.command;
      c.answer = set_answer;
    }
    c.sent = c.received = 0;
    c.began_ns = now;
    c.in_flight = true;
    ++in_flight_;
    push(c);
  }

  void push(connection& c) {
    while (c.sent < c.request.size()) {
      const ssize_t sent = ::send(c.fd, c.request.data() + c.sent, c.request.size() - c.sent,
                                  MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) {
        c.sent += static_cast<std::size_t>(sent);
        continue;
      }
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return fail(c, std::strerror(errno));
      if (!c.watches_room) watch(EPOLL_CTL_MOD, c, true);
      return;
    }
    if (c.watches_room) watch(EPOLL_CTL_MOD, c, false);
  }

  /// Reads also while the message is still being sent: a server may stop reading until we do.
  void pull(connection& c) {
    for (;;) {
      const ssize_t got = ::recv(c.fd, scratch_.data(), scratch_.size(), MSG_DONTWAIT);
      if (got == -1 && errno == EINTR) continue;
      if (got == -1 && errno == EAGAIN) return;
      if (got == -1) return fail(c, std::strerror(errno));
      if (got == 0) return fail(c, "closed by the server");
      const auto bytes = static_cast<std::size_t>(got);
      if (bytes > may_have_come(c) - c.received) return fail(c, "more bytes than were asked for");
      if (std::memcmp(scratch_.data(), c.answer.data() + c.received, bytes) != 0)
        return fail(c, "a wrong byte");
      c.received += bytes;
      if (c.received == c.answer.size()) return finish(c);
      if (bytes < scratch_.size()) return;
    }
  }

  /// An echo begins before the end, a SET is answered when it is complete.
  std::size_t may_have_come(const connection& c) const {
    if (!plan_.sets) return c.sent;
    return c.sent == c.request.size() ? c.answer.size() : 0;
  }

  static std::string bulk(const std::string& text) {
    return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
  }
  /// Each connection has a key of its own.
  std::string set_command(unsigned number) const {
    return "*3\r\n" + bulk("SET") + bulk("load:" + std::to_string(number)) +
           bulk(std::string(plan_.bytes, 'x'));
  }

  void finish(connection& c) {
    const std::int64_t now = now_ns();
    ++figures_.messages;
    if (c.began_ns >= when_.from_ns) figures_.latency.add(now - c.began_ns);
    if (now >= when_.from_ns && now <= when_.stop_ns) ++figures_.measured;
    figures_.last_ns = now;
    c.in_flight = false;
    --in_flight_;
    begin(c, now);
  }

  [[gnu::cold]] void fail(connection& c, const char* why) {
    if (figures_.errors++ == 0)
      std::fprintf(stderr, "connection %u, message %llu, byte %zu: %s\n", c.number,
                   static_cast<unsigned long long>(c.message), c.received, why);
    if (c.in_flight) --in_flight_;
    c.in_flight = false;
    ::close(c.fd);
    c.fd = -1;
  }

  [[gnu::cold]] void give_up() {
    for (connection& c : connections_)
      if (c.in_flight) fail(c, "no answer for 5 s");
  }

  void watch(int act, connection& c, bool room) {
    c.watches_room = room;
    epoll_event event{};
    event.events = room ? EPOLLIN | EPOLLOUT : EPOLLIN;
    event.data.ptr = &c;
    must("epoll_ctl", ::epoll_ctl(epoll_, act, c.fd, &event));
  }

  const plan& plan_;
  const pattern& pattern_;
  std::uint64_t budget_;
  span_of_time when_{};
  std::size_t in_flight_ = 0;
  int epoll_ = must("epoll_create1", ::epoll_create1(EPOLL_CLOEXEC));
  figures figures_;
  std::deque<connection> connections_;  // epoll holds their addresses
  std::array<char, 64 << 10> scratch_;
};

using clients = std::vector<std::unique_ptr<client>>;

clients connect_all(const plan& p, const pattern& bytes) {
  clients all;
  for (unsigned i = 0; i < p.threads; ++i) {
    const std::uint64_t share = p.messages / p.threads + (i < p.messages % p.threads ? 1 : 0);
    all.push_back(std::make_unique<client>(p, bytes, p.messages == 0 ? ~std::uint64_t{0} : share));
  }
  const std::int64_t until_ns = now_ns() + patience_ns;
  for (unsigned i = 0; i < p.conns; ++i)
    all[i % p.threads]->adopt(bench::connect_to(p.port, until_ns), i);
  return all;
}

void run_all(const clients& all, span_of_time when) {
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < all.size(); ++i)
    others.emplace_back([&c = *all[i], when] { c.run(when); });
  all[0]->run(when);
  for (auto& thread : others) thread.join();
}

figures sum_of(const clients& all) {
  figures sum;
  for (const auto& c : all) {
    const figures& part = c->result();
    sum.latency.add(part.latency);
    sum.messages += part.messages;
    sum.measured += part.measured;
    sum.errors += part.errors;
    sum.last_ns = std::max(sum.last_ns, part.last_ns);
  }
  return sum;
}

void say(const plan& p, const figures& f, double elapsed_s) {
  const double rate = elapsed_s > 0 ? static_cast<double>(f.measured) / elapsed_s : 0;
  const bench::histogram& l = f.latency;
  if (p.json) {
    const nlohmann::ordered_json line = {
        {"conns", p.conns},
        {"bytes", p.bytes},
        {"threads", p.threads},
        {"elapsed_s", elapsed_s},
        {"messages", f.messages},
        {"measured", f.measured},
        {"messages_per_s", rate},
        {"p50_us", l.quantile_us(0.5)},
        {"p90_us", l.quantile_us(0.9)},
        {"p99_us", l.quantile_us(0.99)},
        {"p999_us", l.quantile_us(0.999)},
        {"max_us", l.max_us()},
        {"errors", f.errors},
        {"cpu_us", bench::cpu_used_us()},
    };
    std::printf("%s\n", line.dump().c_str());
    return;
  }
  std::printf("%.0f messages/s (%llu in %.3f s, %u connections x %zu bytes, %u threads)\n", rate,
              static_cast<unsigned long long>(f.measured), elapsed_s, p.conns, p.bytes, p.threads);
  std::printf("latency us: p50 %.1f  p90 %.1f  p99 %.1f  p999 %.1f  max %.1f\n", l.quantile_us(0.5),
              l.quantile_us(0.9), l.quantile_us(0.99), l.quantile_us(0.999), l.max_us());
  std::printf("errors: %llu\n", static_cast<unsigned long long>(f.errors));
}

}  // namespace

int main(int argc, char** argv) {
  plan p;
  CLI::App app{"Closed-loop client on 127.0.0.1 that checks every byte that comes back."};
  app.add_option("--port", p.port, "port of the server")->required()->check(CLI::Range(1, 65535));
  app.add_option("--conns", p.conns, "connections")->check(CLI::Range(1, 1'000'000));
  app.add_option("--threads", p.threads, "threads that share them")->check(CLI::Range(1, 256));
  app.add_option("--bytes", p.bytes, "size of a message, or of a value")
      ->check(CLI::Range(1, 64 << 20));
  app.add_option("--seconds", p.seconds, "measured time")->check(CLI::Range(0.01, 3600.0));
  app.add_option("--warmup", p.warmup, "seconds before it")->check(CLI::Range(0.0, 3600.0));
  app.add_option("--messages", p.messages, "stop after so many in all, whatever the time");
  app.add_flag("--set", p.sets, "each message is a SET in the protocol of Redis");
  app.add_flag("--json", p.json, "one JSON object");
  CLI11_PARSE(app, argc, argv);
  if (p.conns + 16 > bench::raise_fd_limit()) die("--conns", EMFILE);

  const pattern bytes(p.bytes);
  const clients all = connect_all(p, bytes);
  const auto ns = [](double s) { return static_cast<std::int64_t>(s * double{second_ns}); };
  const std::int64_t start_ns = now_ns();
  span_of_time when{start_ns, endless};
  if (p.messages == 0) {
    when.from_ns = start_ns + ns(p.warmup);
    when.stop_ns = when.from_ns + ns(p.seconds);
  }
  run_all(all, when);

  const figures sum = sum_of(all);
  const std::int64_t end_ns = p.messages == 0 ? when.stop_ns : sum.last_ns;
  say(p, sum, static_cast<double>(std::max<std::int64_t>(end_ns - when.from_ns, 0)) / second_ns);
  return sum.errors == 0 && sum.messages > 0 ? 0 : 1;
}
