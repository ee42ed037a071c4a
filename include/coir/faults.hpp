// faults.hpp: what may go wrong in a simulated world, and how often.
//
// Always true:
//   - Each is a chance of 1,000: 0 is never, 999 the most. It is asked for each operation (or
//     request, or visit of a worker) that it can happen to, and only answers come that a kernel may
//     give to that one.
//
// Comes from: coir/sim.hpp.   Goes to: runtime/sim_faults.hpp.
#pragma once

namespace coir::sim {

struct faults {
  // -- the answer
  unsigned short_transfer = 0;  ///< a read or a write moves a few bytes only
  unsigned try_again = 0;       ///< EAGAIN where one can wait for readiness: pipes and sockets
  unsigned interrupted = 0;     ///< EINTR; a close so interrupted closes all the same
  unsigned cancelled = 0;       ///< ECANCELED that nobody asked for
  unsigned io_error = 0;        ///< EIO of files: read, write, fsync (whose writes may be lost)
  unsigned disk_full = 0;       ///< ENOSPC of files: write, and open that creates
  unsigned no_buffers = 0;      ///< ENOBUFS: send, and receive into lent buffers
  unsigned no_descriptors = 0;  ///< EMFILE: accept, open
  unsigned no_memory = 0;       ///< ENOMEM: pipes, sockets, open
  unsigned reset = 0;           ///< the connection breaks, for both sides (ECONNRESET, EPIPE); an
                                ///< accept finds it aborted, a connect nobody who listens
  unsigned stream_ends = 0;     ///< what goes on (a multishot operation) stops after some items

  // -- when, and what else is seen
  unsigned delayed = 0;        ///< done much later than others
  unsigned held = 0;           ///< done, but seen much later
  unsigned cancel_missed = 0;  ///< a cancel is told ENOENT or EALREADY, and the operation ends in
                               ///< its own way
  unsigned cancel_first = 0;   ///< the answer to a cancel is seen before the operation's own end
  unsigned duplicate = 0;      ///< the completion comes twice
  unsigned late = 0;           ///< and once more, when its token may be another's
  unsigned unknown = 0;        ///< a completion that belongs to nobody

  // -- requests
  unsigned entry_refused = 0;   ///< no room for an operation
  unsigned cancel_refused = 0;  ///< no room for a cancel

  // -- workers
  unsigned worker_paused = 0;  ///< it does nothing for a while, as a thread that gets no processor;
                               ///< asked at each of its visits to the outside

  // -- the end
  unsigned power_cut = 0;  ///< at this operation; see coir::sim::world::crash()

  /// Everything but the power cut, equally often.
  static constexpr faults every(unsigned per_mille) noexcept;
  /// Everything but what a program must answer for by itself (errors, resets, the power cut): a
  /// correct program does the same as without.
  static constexpr faults harmless(unsigned per_mille) noexcept;
};

/// In the order of their declaration.
inline constexpr unsigned faults::*all_faults[] = {
    &faults::short_transfer, &faults::try_again,      &faults::interrupted,
    &faults::cancelled,      &faults::io_error,       &faults::disk_full,
    &faults::no_buffers,     &faults::no_descriptors, &faults::no_memory,
    &faults::reset,          &faults::stream_ends,    &faults::delayed,
    &faults::held,           &faults::cancel_missed,  &faults::cancel_first,
    &faults::duplicate,      &faults::late,           &faults::unknown,
    &faults::entry_refused,  &faults::cancel_refused, &faults::worker_paused,
    &faults::power_cut,
};
static_assert(sizeof all_faults / sizeof *all_faults == sizeof(faults) / sizeof(unsigned));

constexpr faults faults::every(unsigned per_mille) noexcept {
  faults f;
  for (unsigned faults::*one : all_faults) f.*one = per_mille;
  f.power_cut = 0;
  return f;
}

constexpr faults faults::harmless(unsigned per_mille) noexcept {
  faults f = every(per_mille);
  for (unsigned faults::*one :
       {&faults::cancelled, &faults::io_error, &faults::disk_full, &faults::no_buffers,
        &faults::no_descriptors, &faults::no_memory, &faults::reset})
    f.*one = 0;
  return f;
}

}  // namespace coir::sim
