// sim_public.cpp: the world as a user's test sees it.
//
// Comes from: coir/sim.hpp.   Goes to: sim_run.
#include <algorithm>
#include <climits>
#include <stdexcept>

#include "runtime/sim_run.hpp"

namespace coir::sim {

using detail::sim_run;

std::string_view name_of(verdict v) noexcept {
  switch (v) {
    case verdict::ok:
      return "ok";
    case verdict::failed_check:
      return "failed check";
    case verdict::exception:
      return "exception";
    case verdict::deadlock:
      return "deadlock";
    case verdict::invariant:
      return "broken invariant";
    case verdict::too_many_steps:
      return "too many steps";
    case verdict::died:
      return "died";
  }
  return "?";
}

std::string report::to_text() const {
  std::string all = "coir::sim: " + std::string(name_of(is)) + ", seed " + std::to_string(seed);
  if (seeds != 1) all += ", number " + std::to_string(seeds);
  all += ": " + text + "\n" + std::to_string(steps) + " steps, " + std::to_string(events) +
         " events, " + std::to_string(decided) + " decisions, " + std::to_string(decisions.size()) +
         " of them not 0, hash " + std::to_string(hash);
  if (ok()) return all;
  all += "\nrepeat it:\n  coir::sim::replay(settings, {";
  const char* between = "";
  for (const decision& d : decisions) {
    all += between + ("{" + std::to_string(d.index)) + ", " + std::to_string(d.value) + "}";
    between = ", ";
  }
  return all + "}, program)";
}

void check(bool condition, std::string_view text, const site& where) {
  sim_run* const in = sim_run::current();
  if (in == nullptr) throw std::logic_error("coir::sim::check outside of a simulated run");
  if (condition) return;
  in->fail(verdict::failed_check,
           std::string(text) + " (" + where.file + ":" + std::to_string(where.line) + ")");
  throw detail::run_has_failed();
}

bool world::run(std::function<void()> body, const site& where) {
  const bool whole = in_.live(std::move(body), where);
  if (in_.failed()) throw detail::run_has_failed();
  return whole;
}

options& world::next_life() noexcept { return in_.options_of_life; }

// -- files

void world::put_file(const std::string& path, std::string_view content) {
  const auto bytes = std::as_bytes(std::span(content));
  in_.fresh().disk.put(path, {bytes.begin(), bytes.end()});
}

std::optional<std::string> world::file(const std::string& path) const {
  const auto found = in_.fresh().disk.find(path);
  if (found == nullptr) return std::nullopt;
  const auto bytes = found->content();
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

std::map<std::string, std::string> world::files() const {
  std::map<std::string, std::string> all;
  for (const auto& [path, bytes] : in_.fresh().disk.content())
    all[path] = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  return all;
}

// -- descriptors

std::pair<int, int> world::connection(std::size_t room_bytes) {
  return in_.fresh().connection(room_bytes);
}
std::pair<int, int> world::pipe(std::size_t room_bytes) { return in_.fresh().pipe(room_bytes); }
int world::listener(std::uint16_t port) { return in_.fresh().listener(port); }
int world::connect_to(int listener_fd, std::size_t room_bytes) {
  return in_.fresh().connect_to(listener_fd, room_bytes);
}
void world::close(int fd) noexcept { in_.outside->close(fd); }
std::size_t world::open_descriptors() const noexcept { return in_.outside->open_fds(); }

// -- what happens

std::uint64_t world::choose(std::uint64_t count) { return in_.outside->dice().below(count); }

void world::add(const rule& r) {
  detail::sim_rule inner;
  inner.opcode = r.opcode;
  inner.fd = r.fd;
  inner.skip = r.skip;
  inner.times = r.times;
  inner.result = r.result;
  inner.bytes_max = r.bytes_max;
  if (r.delay) inner.delay_ns = r.delay->count();
  inner.hold_ns = r.hold.count();
  inner.until_cancelled = r.until_cancelled;
  in_.fresh().rule(inner);
}

void world::stop_faults() noexcept { in_.stop_faults(); }

std::uint64_t world::steps() const noexcept { return in_.told.steps; }

std::uint64_t world::decided() const noexcept { return in_.outside->dice().made(); }

std::vector<std::uint64_t> world::faults_seen() const { return in_.faults_seen(); }

void world::crash() { in_.crash(); }

}  // namespace coir::sim
