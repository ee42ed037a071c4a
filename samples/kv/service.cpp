// service.cpp: requests into commands, errors into statuses, counters into JSON.
//
// Comes from: service.hpp.   Goes to: store.hpp, coir/runtime.hpp (snapshot).
#include "kv/service.hpp"

#include <coir/runtime.hpp>
#include <utility>

#include "kv/protocol.hpp"

namespace kv {

http_response service::answer(const http_request& request) {
  using method = http_request::method;
  if (request.what == method::post) return execute(request.body);
  if (request.what == method::erase) return erase();
  if (request.what == method::get && request.target == "/stats")
    return {.body = stats(server_ ? server_->counters() : http_counters()),
            .type = "application/json"};
  return {.status = 400, .body = "Unsupported method"};
}

http_response service::execute(const std::string& text) {
  auto command = parse(text);
  if (!command)
    return {.status = 400,
            .body = command.error() == std::errc::message_size
                        ? "Malformed input: the key is longer than 1024 bytes"
                        : "Malformed input: want Write \"key\" 1 or Read \"key\""};
  if (command->what == command::kind::read) {
    const auto value = store_.find(command->key);
    if (!value) return {.body = print_result({})};
    const auto number = integer_in(*value);
    // Written through the other door, whose values are any bytes.
    if (!number) return {.status = 409, .body = "The value is not an integer"};
    return {.body = print_result(number)};
  }
  auto written = store_.write(command->key, command->value, coir::in(options_.answer_time));
  if (!written) return explain(written.error());
  return {.body = std::string(print_ok())};
}

http_response service::erase() {
  auto done = store_.reset(coir::in(options_.answer_time));
  if (!done) return explain(done.error());
  return {};
}

http_response service::explain(std::error_code why) const {
  if (why == std::errc::timed_out) return {.status = 500, .body = "Timeout due to overload or bug"};
  if (why == std::errc::not_enough_memory)
    return {.status = 507, .body = "OOM: the store is full; delete it or raise its cap"};
  if (why == coir::errc::shutting_down || why == std::errc::operation_canceled)
    return {.status = 503, .body = "Shutting down", .close = true};
  if (store_.log().failure())
    return {.status = 503, .body = "The journal has failed, nothing is written: " + why.message()};
  return {.status = why == std::errc::no_space_on_device ? 507u : 503u,
          .body = "The disk refused this change, and nothing of it is left: " + why.message()};
}

namespace {

/// Puts "name":number pairs between braces.
class json_object {
 public:
  void add(std::string_view name, std::uint64_t number) { begin(name) += std::to_string(number); }
  void add(std::string_view name, const std::string& json) { begin(name) += json; }
  std::string end() { return std::move(text_) + "}"; }

 private:
  std::string& begin(std::string_view name) {
    text_ += text_.size() > 1 ? ",\"" : "\"";
    text_ += name;
    return text_ += "\":";
  }
  std::string text_ = "{";
};

std::string json_of(const journal& log) {
  const journal_counters c = log.counters();
  json_object o;
  o.add("records", c.records);
  o.add("batches", c.batches);
  o.add("writes", c.writes);
  o.add("syncs", c.syncs);
  o.add("bytes", c.bytes);
  o.add("resets", c.resets);
  o.add("failed_writes", c.failed_writes);
  o.add("failed", static_cast<std::uint64_t>(log.failure() ? 1 : 0));
  return o.end();
}

std::string json_of(const recovery& r, std::chrono::nanoseconds time) {
  json_object o;
  o.add("records", r.records);
  o.add("bytes", r.bytes);
  o.add("cut_bytes", r.cut_bytes);
  o.add("microseconds", static_cast<std::uint64_t>(
                            std::chrono::duration_cast<std::chrono::microseconds>(time).count()));
  return o.end();
}

std::string json_of(const http_counters& c) {
  json_object o;
  o.add("connections", c.connections);
  o.add("open", c.open);
  o.add("requests", c.requests);
  o.add("refused", c.refused);
  o.add("turned_away", c.turned_away);
  return o.end();
}

std::string json_of(const coir::worker_stats& w) {
  json_object o;
  o.add("spawned", w.spawned);
  o.add("finished", w.finished);
  o.add("live", w.live);
  o.add("switches", w.switches);
  o.add("parks", w.parks);
  o.add("sqes", w.sqes);
  o.add("cqes", w.cqes);
  o.add("enters", w.enters);
  o.add("wakes_sent", w.wakes_sent);
  o.add("sleeps", w.sleeps);
  return o.end();
}

}  // namespace

std::string service::stats(const http_counters& http) const {
  const store_counters held = store_.counters();
  const coir::stats all = coir::snapshot();
  std::string workers = "[";
  for (const coir::worker_stats& w : all.workers) {
    if (workers.size() > 1) workers += ',';
    workers += json_of(w);
  }
  json_object o;
  o.add("backend", '"' + std::string(all.backend) + '"');
  o.add("keys", held.keys);
  o.add("memory_bytes", held.memory_bytes);
  o.add("journal", json_of(store_.log()));
  o.add("recovery", json_of(store_.log().recovered(), recovery_time_));
  o.add("http", json_of(http));
  o.add("workers", workers + "]");
  return o.end() + "\n";
}

}  // namespace kv
