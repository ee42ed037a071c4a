// sim_world.cpp: descriptors, the script, and the record.
//
// Comes from: sim_world.hpp.   Goes to: sim_disk, sim_wire.
#include "runtime/sim_world.hpp"

#include <algorithm>
#include <climits>

namespace coir::detail {

sim_world::sim_world(const sim_settings& s, const sim_disk::image& files)
    : disk(files), settings_(s), dice_(s.seed), crew_(*this, s.start_ns) {}

// -- the script

sim_world& sim_world::rule(const sim_rule& r) {
  rules_.push_back(r);
  return *this;
}

void sim_world::inject(const completion& c, std::int64_t at_ns) { injected_.push_back({c, at_ns}); }

void sim_world::compute(std::int64_t ns) noexcept { crew_.now_ns += ns; }

sim_rule sim_world::fate(const io_uring_sqe& entry) {
  for (sim_rule& r : rules_) {
    if (r.times == 0 || (r.opcode && *r.opcode != entry.opcode) || (r.fd && *r.fd != entry.fd))
      continue;
    if (r.skip != 0) {
      --r.skip;
      continue;
    }
    if (r.times != UINT_MAX) --r.times;
    return r;
  }
  return on_fate ? on_fate(entry, at(entry.fd).get()) : sim_rule();
}

bool sim_world::refuses_submission() noexcept {
  if (refused_submissions_ == 0) return on_entry && on_entry(false);
  --refused_submissions_;
  return true;
}

bool sim_world::refuses_cancel() noexcept {
  if (refused_cancels_ == 0) return on_entry && on_entry(true);
  --refused_cancels_;
  return true;
}

// -- descriptors

std::shared_ptr<sim_open> sim_world::at(int fd) const noexcept {
  const auto index = static_cast<std::size_t>(fd - first_fd);
  return fd < first_fd || index >= open_.size() ? nullptr : open_[index];
}

int sim_world::open(std::shared_ptr<sim_open> what) {
  const auto free = std::ranges::find(open_, nullptr);
  const auto index = static_cast<int>(free - open_.begin());
  if (free == open_.end()) {
    open_.push_back(std::move(what));
  } else {
    *free = std::move(what);
  }
  return first_fd + index;
}

namespace {

std::shared_ptr<sim_open> opened(std::shared_ptr<sim_end> end) {
  auto made = std::make_shared<sim_open>();
  made->is = sim_open::kind::end;
  made->end = std::move(end);
  return made;
}

}  // namespace

std::pair<int, int> sim_world::connection(std::size_t room_bytes) {
  const sim_pair both = make_connection(room_bytes);
  const int one = open(opened(both.one));
  return {one, open(opened(both.other))};
}

std::pair<int, int> sim_world::pipe(std::size_t room_bytes) {
  const sim_pair both = make_pipe(room_bytes);
  const int reader = open(opened(both.other));
  return {reader, open(opened(both.one))};
}

int sim_world::socket() { return open(opened(nullptr)); }

int sim_world::listener(std::uint16_t port) {
  auto made = std::make_shared<sim_open>();
  made->is = sim_open::kind::listener;
  made->listener = std::make_shared<sim_listener>();
  made->listener->port = port;
  return open(std::move(made));
}

int sim_world::connect_to(int listener_fd, std::size_t room_bytes) {
  const auto target = at(listener_fd);
  COIR_ASSERT(target != nullptr && target->listener != nullptr);
  const sim_pair both = make_connection(room_bytes);
  target->listener->waiting.push_back(both.other);
  ++crew_.changes;
  return open(opened(both.one));
}

void sim_world::set_unblocking(int fd, bool on) {
  const auto target = at(fd);
  COIR_ASSERT(target != nullptr);
  target->unblocking = on;
  ++crew_.changes;
}

void sim_world::close(int fd) noexcept {
  if (at(fd) != nullptr) open_[static_cast<std::size_t>(fd - first_fd)].reset();
  ++crew_.changes;
}

std::size_t sim_world::open_fds() const noexcept {
  return open_.size() - static_cast<std::size_t>(std::ranges::count(open_, nullptr));
}

// -- the record

void sim_world::note(sim_event::kind what, token name, std::uint8_t opcode, std::int32_t res,
                     unsigned worker) {
  const std::uint64_t who = std::uint64_t{worker} << 24 | std::uint64_t{opcode} << 16 |
                            static_cast<std::uint64_t>(name.kind()) << 8 |
                            static_cast<std::uint64_t>(what);
  for (const std::uint64_t word :
       {who, static_cast<std::uint64_t>(crew_.now_ns), static_cast<std::uint64_t>(res)}) {
    hash_ = (hash_ ^ word) * 0x9e3779b97f4a7c15u;
    hash_ ^= hash_ >> 32;  // a product moves bits upwards only
  }
  ++events_;
  if (on_event) on_event({what, crew_.now_ns, name, opcode, res, events_, worker});
  if (events_ == crash_event_) cut_power();
}

void sim_world::crash_after(std::uint64_t event, std::function<void()> then) {
  crash_event_ = event;
  on_crash_ = std::move(then);
}

void sim_world::cut_power() {
  if (std::exchange(crashed_, true)) return;
  if (on_crash_) on_crash_();
}

std::string sim_world::describe() const {
  return "seed " + std::to_string(settings_.seed) + ", " + std::to_string(events_) +
         " events, hash " + std::to_string(hash_) + ", " + std::to_string(memory.violations()) +
         " violations " + memory.first_violation();
}

}  // namespace coir::detail
