// sim_faults.cpp: which fault fits which operation, and what it does.
//
// Always true:
//   - Who repeats a close that was only interrupted would close somebody else's number, so it is
//     done all the same.
//   - What comes twice brings no descriptor and no buffer: a kernel that gave one twice would have
//     two owners.
//
// Comes from: sim_faults.hpp.   Goes to: sim_dice.
#include "runtime/sim_faults.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

namespace coir::detail {
namespace {

using chance_of = unsigned fault_chances::*;
using kind = sim_open::kind;

constexpr opcodes reads(IORING_OP_READ, IORING_OP_READV, IORING_OP_RECV);
constexpr opcodes writes(IORING_OP_WRITE, IORING_OP_WRITEV, IORING_OP_SEND);

/// What is asked about.
struct asked {
  const io_uring_sqe& entry;
  const sim_open* on;

  bool is(std::uint8_t opcode) const noexcept { return entry.opcode == opcode; }
  bool on_file() const noexcept { return on != nullptr && on->is == kind::file; }
  bool on_end() const noexcept { return on != nullptr && on->is == kind::end; }
  bool on_socket() const noexcept {
    return on_end() && on->end != nullptr && on->end->in() != nullptr && on->end->out() != nullptr;
  }
  bool moves_bytes() const noexcept {
    return reads.have(entry.opcode) || writes.have(entry.opcode);
  }
  bool goes_on() const noexcept {
    return (is(IORING_OP_ACCEPT) && (entry.ioprio & IORING_ACCEPT_MULTISHOT) != 0) ||
           (is(IORING_OP_RECV) && (entry.ioprio & IORING_RECV_MULTISHOT) != 0) ||
           (is(IORING_OP_TIMEOUT) && (entry.timeout_flags & timeout_multishot) != 0);
  }
  bool takes_lent_buffer() const noexcept { return (entry.flags & IOSQE_BUFFER_SELECT) != 0; }
  bool waits() const noexcept {
    return (moves_bytes() && on_end()) || is(IORING_OP_ACCEPT) || is(IORING_OP_POLL_ADD);
  }
};

struct fault_row {
  chance_of chance;
  bool (*fits)(const asked&);
  void (*apply)(const asked&, sim_rule&, sim_dice&);
};

void answer(sim_rule& fate, std::int32_t res) { fate.result = res; }

constexpr fault_row menu[] = {
    // -- the answer
    {&fault_chances::short_transfer, [](const asked& a) { return a.moves_bytes(); },
     [](const asked&, sim_rule& fate, sim_dice& dice) { fate.bytes_max = 1 + dice.below(8); }},
    {&fault_chances::try_again,
     [](const asked& a) {
       return !a.goes_on() &&
              ((a.moves_bytes() && a.on_end()) || (a.is(IORING_OP_ACCEPT) && a.on != nullptr));
     },
     [](const asked&, sim_rule& fate, sim_dice&) { answer(fate, -EAGAIN); }},
    {&fault_chances::interrupted,
     [](const asked& a) {
       constexpr opcodes slow(IORING_OP_ACCEPT, IORING_OP_OPENAT, IORING_OP_FSYNC, IORING_OP_CLOSE,
                              IORING_OP_POLL_ADD);
       return !a.goes_on() && (a.moves_bytes() || slow.have(a.entry.opcode));
     },
     [](const asked& a, sim_rule& fate, sim_dice&) {
       if (a.is(IORING_OP_CLOSE)) fate.bytes_max = 0;  // closes, and answers that
       answer(fate, -EINTR);
     }},
    {&fault_chances::cancelled, [](const asked& a) { return a.waits(); },
     [](const asked&, sim_rule& fate, sim_dice&) { answer(fate, -ECANCELED); }},
    {&fault_chances::io_error,
     [](const asked& a) { return a.on_file() && (a.moves_bytes() || a.is(IORING_OP_FSYNC)); },
     [](const asked&, sim_rule& fate, sim_dice&) { answer(fate, -EIO); }},
    {&fault_chances::disk_full,
     [](const asked& a) {
       if (a.is(IORING_OP_OPENAT)) return (a.entry.open_flags & O_CREAT) != 0;
       return a.on_file() && writes.have(a.entry.opcode);
     },
     [](const asked&, sim_rule& fate, sim_dice&) { answer(fate, -ENOSPC); }},
    {&fault_chances::no_buffers,
     [](const asked& a) {
       return (a.is(IORING_OP_SEND) && a.on_end()) ||
              (a.is(IORING_OP_RECV) && a.takes_lent_buffer());
     },
     [](const asked&, sim_rule& fate, sim_dice&) { answer(fate, -ENOBUFS); }},
    {&fault_chances::no_descriptors,
     [](const asked& a) { return a.is(IORING_OP_ACCEPT) || a.is(IORING_OP_OPENAT); },
     [](const asked&, sim_rule& fate, sim_dice&) { answer(fate, -EMFILE); }},
    {&fault_chances::no_memory,
     [](const asked& a) { return a.waits() || a.is(IORING_OP_OPENAT) || a.is(IORING_OP_CONNECT); },
     [](const asked&, sim_rule& fate, sim_dice&) { answer(fate, -ENOMEM); }},
    {&fault_chances::reset,
     [](const asked& a) {
       return (a.moves_bytes() && a.on_socket()) || a.is(IORING_OP_ACCEPT) ||
              a.is(IORING_OP_CONNECT);
     },
     [](const asked& a, sim_rule& fate, sim_dice&) {
       if (a.is(IORING_OP_ACCEPT)) return answer(fate, -ECONNABORTED);
       if (a.is(IORING_OP_CONNECT)) return answer(fate, -ECONNREFUSED);
       fate.resets = true;
     }},
    {&fault_chances::stream_ends, [](const asked& a) { return a.goes_on(); },
     [](const asked&, sim_rule& fate, sim_dice& dice) {
       fate.items_max = 1 + static_cast<unsigned>(dice.below(3));
     }},
    // -- when, and what else is seen
    {&fault_chances::delayed, [](const asked&) { return true; },
     [](const asked&, sim_rule& fate, sim_dice& dice) {
       fate.delay_ns = dice.between(0, sim_faults::delay_max_ns);
     }},
    {&fault_chances::held, [](const asked&) { return true; },
     [](const asked&, sim_rule& fate, sim_dice& dice) {
       fate.hold_ns = dice.between(1, sim_faults::delay_max_ns);
     }},
    {&fault_chances::cancel_missed, [](const asked& a) { return !a.goes_on(); },
     [](const asked&, sim_rule& fate, sim_dice& dice) {
       fate.cancel_answer = dice.below(2) == 0 ? -EALREADY : -ENOENT;
     }},
    {&fault_chances::cancel_first, [](const asked&) { return true; },
     [](const asked&, sim_rule& fate, sim_dice&) { fate.cancel_first = true; }},
    {&fault_chances::duplicate,
     [](const asked& a) { return !makes_fd(a.entry.opcode) && !a.takes_lent_buffer(); },
     [](const asked&, sim_rule& fate, sim_dice&) { fate.duplicates = 1; }},
    {&fault_chances::late,
     [](const asked& a) { return !makes_fd(a.entry.opcode) && !a.takes_lent_buffer(); },
     [](const asked&, sim_rule& fate, sim_dice& dice) {
       fate.late_ns = dice.between(1, sim_faults::delay_max_ns);
     }},
};
// The rest of all_faults follows the rows.
enum : std::size_t { unknown = std::size(menu), entry_refused, cancel_refused, paused, power_cut };
static_assert(power_cut + 1 == std::size(::coir::sim::all_faults));
constexpr unsigned timing_first = 11;  // where the second half begins
static_assert(menu[timing_first].chance == &fault_chances::delayed);

}  // namespace

sim_faults::sim_faults(sim_world& world) : world_(world) {
  world.on_fate = [this](const io_uring_sqe& entry, const sim_open* on) { return draw(entry, on); };
  world.on_entry = [this](bool cancel) { return refuses(cancel); };
  world.on_pause = [this](unsigned) { return pause_ns(); };
}

/// Never for the decision 0, however certain it is.
bool sim_faults::comes(unsigned chance) noexcept {
  return world_.dice().chance(std::min(chance, 999u));
}

/// At most one of the rows from `first` to `end`.
void sim_faults::draw_from(unsigned first, unsigned end, const io_uring_sqe& entry,
                           const sim_open* on, sim_rule& fate) {
  const asked a{entry, on};
  unsigned sum = 0;
  unsigned chance[std::size(menu)] = {};
  for (unsigned i = first; i < end; ++i) {
    if (now_.*menu[i].chance == 0 || !menu[i].fits(a)) continue;
    sum += chance[i] = now_.*menu[i].chance;
  }
  if (!comes(sum)) return;
  std::uint64_t which = world_.dice().below(sum);
  for (unsigned i = first; i < end; ++i) {
    if (which < chance[i]) {
      ++count_[i];
      return menu[i].apply(a, fate, world_.dice());
    }
    which -= chance[i];
  }
}

sim_rule sim_faults::draw(const io_uring_sqe& entry, const sim_open* on) {
  sim_rule fate;
  draw_from(0, timing_first, entry, on, fate);
  draw_from(timing_first, std::size(menu), entry, on, fate);
  sim_dice& dice = world_.dice();
  if (comes(now_.unknown)) {
    ++count_[unknown];
    // A generation that no table reaches in a run.
    const auto slot = static_cast<std::uint32_t>(dice.below(8));
    world_.inject({token::make(slot, 0xffff'fff0u, token_kind::operation),
                   static_cast<std::int32_t>(dice.between(-2, 2)), 0});
  }
  if (comes(now_.power_cut)) {
    ++count_[power_cut];
    world_.cut_power();
  }
  return fate;
}

bool sim_faults::refuses(bool cancel) noexcept {
  const unsigned chance = cancel ? now_.cancel_refused : now_.entry_refused;
  if (!comes(chance)) return false;
  ++count_[cancel ? cancel_refused : entry_refused];
  return true;
}

std::int64_t sim_faults::pause_ns() noexcept {
  if (!comes(now_.worker_paused)) return 0;
  ++count_[paused];
  return world_.dice().between(1, delay_max_ns);
}

fault_chances drawn_chances(const fault_chances& most, sim_dice& dice) noexcept {
  fault_chances f;
  if (dice.below(4) == 0) return f;
  for (const chance_of one : ::coir::sim::all_faults) {
    if (most.*one == 0) continue;
    f.*one = static_cast<unsigned>(most.*one * dice.below(4) / 3);
  }
  return f;
}

}  // namespace coir::detail
