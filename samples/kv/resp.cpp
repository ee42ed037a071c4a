// resp.cpp: the life of one connection, and what each command does.
//
// Comes from: resp.hpp.   Goes to: coir/net.hpp, resp_reader.hpp, store.hpp.
#include "kv/resp.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <coir/clock.hpp>
#include <utility>

namespace kv {

namespace {

constexpr std::string_view version = "0.1.0";
constexpr std::size_t echoed_bytes = 128;  // of what a peer sent, in an error

void put_error(std::string& out, std::string_view text) {
  out += '-';
  for (const char c : text) out += c == '\r' || c == '\n' ? ' ' : c;
  out += "\r\n";
}
void put_number(std::string& out, char kind, std::size_t number) {
  out += kind;
  out += std::to_string(number);
  out += "\r\n";
}
void put_bulk(std::string& out, std::string_view text) {
  put_number(out, '$', text.size());
  out += text;
  out += "\r\n";
}

bool same_word(std::string_view a, std::string_view b) noexcept {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

std::string explain(std::error_code why, const journal& log) {
  if (why == std::errc::timed_out) return "ERR the disk took too long, the outcome is not known";
  if (why == std::errc::not_enough_memory)
    return "OOM command not allowed when used memory > 'maxmemory'";
  if (why == std::errc::invalid_argument)
    return "ERR the key is longer than " + std::to_string(key_bytes_max) + " bytes";
  if (why == std::errc::message_size)
    return "ERR the value is longer than " + std::to_string(value_bytes_max) + " bytes";
  if (why == coir::errc::shutting_down || why == std::errc::operation_canceled)
    return "ERR shutting down";
  return (log.failure() ? "MISCONF the journal has failed, nothing is written: "
                        : "MISCONF the disk refused this change, and nothing of it is left: ") +
         why.message();
}

}  // namespace

struct resp_server::conversation {
  coir::net::tcp_stream stream;
  resp_reader reader;
  std::string out = {};              // answers that can be sent
  std::vector<change> changes = {};  // that wait for the store, each a SET that was not answered
  std::size_t changes_bytes = 0;
  std::uint64_t requests = 0;  // since the last send
};

struct resp_server::command {
  std::string_view name;
  bool (resp_server::*run)(conversation&);
  std::size_t least, most;  // arguments, with the name
  int arity;                // as COMMAND tells it: below 0 at least so many
  bool changes, with_key;
};

const resp_server::command* resp_server::find(std::string_view name) noexcept {
  constexpr std::size_t many = SIZE_MAX;
  static constexpr std::array<command, 8> commands = {
      {{"get", &resp_server::get, 2, 2, 2, false, true},
       {"set", &resp_server::set, 3, many, -3, true, true},
       {"del", &resp_server::erase, 2, many, -2, true, true},
       {"ping", &resp_server::ping, 1, 2, -1, false, false},
       {"info", &resp_server::info, 1, many, -1, false, false},
       {"command", &resp_server::describe, 1, many, -1, false, false},
       {"config", &resp_server::config, 2, many, -2, false, false},
       {"quit", &resp_server::quit, 1, many, -1, false, false}}};
  for (const command& c : commands)
    if (same_word(c.name, name)) return &c;
  return nullptr;
}

/// Counts a connection in, if there is room, and out.
class resp_server::visit {
 public:
  visit(resp_server& server, int fd) : server_(server), fd_(fd) {
    const std::lock_guard held(server_.mutex_);
    ++server_.counters_.connections;
    admitted_ = !server_.draining_ && server_.open_.size() < server_.options_.connections_max;
    if (admitted_)
      server_.open_.insert(fd_);
    else
      ++server_.counters_.refused;
  }
  ~visit() {
    if (!admitted_) return;
    const std::lock_guard held(server_.mutex_);
    server_.open_.erase(fd_);
  }
  visit(const visit&) = delete;
  visit& operator=(const visit&) = delete;
  bool admitted() const noexcept { return admitted_; }

 private:
  resp_server& server_;
  const int fd_;
  bool admitted_ = false;
};

void resp_server::converse(coir::net::tcp_stream stream) {
  conversation c{.stream = std::move(stream), .reader = resp_reader(options_.reading)};
  // Ends before the stream closes: drain() must not meet the number of somebody else's file.
  const visit here(*this, c.stream.fd());
  if (!here.admitted()) {
    put_error(c.out, "ERR max number of clients reached");
    (void)send(c);
    return;
  }
  try {
    talk(c);
  } catch (const std::exception&) {
    // Whether what was asked for last was done nobody knows; this peer's connection ends with it.
    put_error(c.out, "ERR internal error");
    (void)send(c);
  }
}

void resp_server::talk(conversation& c) {
  for (;;) {
    const resp_reader::state state = c.reader.parse();
    if (state == resp_reader::state::complete) {
      ++c.requests;
      if (!answer(c)) break;
      if (c.out.size() > options_.answers_bytes_max && !send(c)) return;
      continue;
    }
    // Nothing more is here: what was asked for so far goes to the disk and is answered.
    settle(c);
    if (state == resp_reader::state::refused) {
      put_error(c.out, "ERR " + c.reader.error());
      const std::lock_guard held(mutex_);
      ++counters_.refused;
      break;
    }
    if (!c.out.empty() && !send(c)) return;
    const auto count = c.stream.read_some(c.reader.room(), coir::in(options_.idle_time));
    if (!count || *count == 0) return;
    c.reader.took(*count);
  }
  settle(c);
  if (!send(c) || !c.stream.shutdown_write()) return;
  // Closing with unread bytes would reset the connection, and the peer might lose our last answer.
  std::array<std::byte, 4096> dropped;
  const coir::deadline until = coir::in(std::chrono::seconds(1));
  for (std::size_t bytes = 0; bytes < (4u << 20);) {
    const auto count = c.stream.read_some(dropped, until);
    if (!count || *count == 0) return;
    bytes += *count;
  }
}

/// False: this was the last one.
bool resp_server::answer(conversation& c) {
  const auto& arguments = c.reader.arguments();
  const command* const what = find(arguments[0]);
  // What does not change anything is answered now, so what was asked for before it comes first.
  if (what == nullptr || !what->changes) settle(c);
  if (what == nullptr) {
    put_error(c.out,
              "ERR unknown command '" + std::string(arguments[0].substr(0, echoed_bytes)) + "'");
    return true;
  }
  if (arguments.size() < what->least || arguments.size() > what->most) {
    settle(c);
    put_error(c.out, "ERR wrong number of arguments for '" + std::string(what->name) + "' command");
    return true;
  }
  return (this->*what->run)(c);
}

/// Makes the changes that wait, and answers them.
void resp_server::settle(conversation& c) {
  if (c.changes.empty()) return;
  using list = const std::vector<change>;
  const auto all = std::make_shared<list>(std::exchange(c.changes, {}));
  c.changes_bytes = 0;
  const auto together = change_all(all);
  // Nobody said that they belong together: one that finds no memory leaves the others theirs.
  const bool singly =
      !together && together.error() == std::errc::not_enough_memory && all->size() > 1;
  for (const change& each : *all) {
    const auto done = singly ? change_all(std::make_shared<list>(1, each)) : together;
    if (done)
      c.out += "+OK\r\n";
    else
      put_error(c.out, explain(done.error(), store_.log()));
  }
}

coir::result<std::size_t> resp_server::change_all(
    std::shared_ptr<const std::vector<change>> changes) {
  {
    const std::lock_guard held(mutex_);
    ++counters_.inputs;
  }
  return store_.change_all(std::move(changes), coir::in(options_.answer_time));
}

bool resp_server::send(conversation& c) {
  {
    const std::lock_guard held(mutex_);
    counters_.requests += std::exchange(c.requests, 0);
    ++counters_.writes;
  }
  const auto sent = c.stream.write_all(c.out, coir::in(options_.write_time));
  c.out.clear();
  return sent.has_value();
}

// -- commands -------------------------------------------------------------------------------------

bool resp_server::get(conversation& c) {
  const bool found = store_.values().visit(
      c.reader.arguments()[1], [&c](std::string_view value) { put_bulk(c.out, value); });
  if (!found) c.out += "$-1\r\n";
  return true;
}

bool resp_server::set(conversation& c) {
  const auto& arguments = c.reader.arguments();
  const std::string_view key = arguments[1], value = arguments[2];
  // What the store would refuse must not take its neighbours with it.
  std::error_code why;
  if (key.size() > key_bytes_max) why = std::make_error_code(std::errc::invalid_argument);
  if (value.size() > value_bytes_max) why = std::make_error_code(std::errc::message_size);
  if (arguments.size() > 3 || why) {
    settle(c);
    put_error(c.out,
              why ? explain(why, store_.log()) : "ERR syntax error, SET takes a key and a value");
    return true;
  }
  if (c.changes.size() >= options_.changes_max ||
      c.changes_bytes + key.size() + value.size() > options_.changes_bytes_max)
    settle(c);
  c.changes.push_back(
      {.what = change::kind::write, .key = std::string(key), .value = std::string(value)});
  c.changes_bytes += key.size() + value.size();
  return true;
}

bool resp_server::erase(conversation& c) {
  settle(c);
  const auto& arguments = c.reader.arguments();
  std::vector<change> changes;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    if (arguments[i].size() > key_bytes_max) continue;  // there is no such key
    changes.push_back({.what = change::kind::erase, .key = std::string(arguments[i]), .value = {}});
  }
  // One that is told a number has an input of its own.
  coir::result<std::size_t> done = 0;
  if (!changes.empty())
    done = change_all(std::make_shared<const std::vector<change>>(std::move(changes)));
  if (done)
    put_number(c.out, ':', *done);
  else
    put_error(c.out, explain(done.error(), store_.log()));
  return true;
}

bool resp_server::ping(conversation& c) {
  const auto& arguments = c.reader.arguments();
  if (arguments.size() == 1)
    c.out += "+PONG\r\n";
  else
    put_bulk(c.out, arguments[1]);
  return true;
}

bool resp_server::info(conversation& c) {
  const resp_counters now = counters();
  const store_counters held = store_.counters();
  const journal_counters log = store_.log().counters();
  std::string text = "# Server\r\nredis_version:7.0.0\r\nserver_name:kv\r\nserver_version:";
  text += version;
  const auto add = [&text](std::string_view name, std::uint64_t number) {
    text += "\r\n";
    text += name;
    text += ':';
    text += std::to_string(number);
  };
  text += "\r\n# Clients";
  add("connected_clients", now.open);
  text += "\r\n# Memory";
  add("used_memory", held.memory_bytes);
  text += "\r\n# Persistence";
  add("journal_records", log.records);
  add("journal_syncs", log.syncs);
  add("journal_failed_writes", log.failed_writes);
  add("journal_failed", store_.log().failure() ? 1 : 0);
  text += "\r\n# Stats";
  add("total_connections_received", now.connections);
  add("total_commands_processed", now.requests);
  text += "\r\n# Keyspace\r\ndb0:keys=" + std::to_string(held.keys) + ",expires=0,avg_ttl=0\r\n";
  put_bulk(c.out, text);
  return true;
}

/// COMMAND, COMMAND COUNT, COMMAND DOCS: what clients ask for when they begin.
bool resp_server::describe(conversation& c) {
  static constexpr std::array<std::string_view, 8> names = {"get",  "set",     "del",    "ping",
                                                            "info", "command", "config", "quit"};
  const auto& arguments = c.reader.arguments();
  if (arguments.size() > 1 && same_word(arguments[1], "count")) {
    put_number(c.out, ':', names.size());
  } else if (arguments.size() > 1) {
    c.out += "*0\r\n";
  } else {
    put_number(c.out, '*', names.size());
    for (const std::string_view name : names) {
      const command& known = *find(name);
      c.out += "*6\r\n";
      put_bulk(c.out, name);
      c.out += ':' + std::to_string(known.arity) + "\r\n*1\r\n";
      c.out += known.changes ? "+write\r\n" : "+readonly\r\n";
      const int first = known.with_key ? 1 : 0;
      const int last = name == "del" ? -1 : first;
      for (const int place : {first, last, first}) c.out += ':' + std::to_string(place) + "\r\n";
    }
  }
  return true;
}

bool resp_server::config(conversation& c) {
  const auto& arguments = c.reader.arguments();
  if (!same_word(arguments[1], "get") || arguments.size() < 3) {
    put_error(c.out, "ERR only CONFIG GET is known here");
    return true;
  }
  // What redis-benchmark prints; every write waits for its sync, so this is what they are.
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 2> known = {
      {{"save", ""}, {"appendonly", "yes"}}};
  std::string found;
  std::size_t count = 0;
  for (const auto& [name, value] : known) {
    const auto asked = [&n = name](std::string_view a) { return same_word(a, n) || a == "*"; };
    if (std::none_of(arguments.begin() + 2, arguments.end(), asked)) continue;
    put_bulk(found, name);
    put_bulk(found, value);
    count += 2;
  }
  put_number(c.out, '*', count);
  c.out += found;
  return true;
}

bool resp_server::quit(conversation& c) {
  c.out += "+OK\r\n";
  return false;
}

// -- for the whole server -------------------------------------------------------------------------

void resp_server::drain() {
  const std::lock_guard held(mutex_);
  draining_ = true;
  // Readers find the end of their stream; writers are not disturbed.
  for (const int fd : open_) ::shutdown(fd, SHUT_RD);
}

resp_counters resp_server::counters() const {
  const std::lock_guard held(mutex_);
  resp_counters now = counters_;
  now.open = open_.size();
  return now;
}

}  // namespace kv
