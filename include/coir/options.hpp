// options.hpp: every bound and choice of a runtime, with its unit, its range and its default.
//
// Always true:
//   - Each bound has one written outcome when it is reached (docs/design.md, section 3).
//   - A value out of range is refused by runtime::create with std::errc::invalid_argument and one
//     log line that names the field; nothing is clamped silently.
//
// Comes from: runtime::create.   Goes to: every room that has a bound.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "coir/result.hpp"

namespace coir {

/// Where operations go. `uring`: io_uring. `poll`: epoll, system calls that do not wait, and the
/// threads of `offload_threads` for files. `sim`: a simulated world around the real descriptors of
/// the process. There is no thread: whoever waits for something of the runtime on a plain thread
/// (run, join, shutdown) runs all its workers meanwhile, and calls of blocking() run where they are
/// made. Time is virtual: it begins at the real one, stands still while fibers run, and a sleep
/// costs none of it. `automatic`: what the environment variable COIR_BACKEND says (uring, poll or
/// sim); without it io_uring, and where the kernel refuses that (EPERM, EACCES, ENOSYS, ENOMEM, or
/// one below 6.1) poll, with one line of the log that names the cause. One that was asked for by
/// name and is refused is an error.
enum class backend_kind { automatic, uring, poll, sim };

/// What lies under the stacks: nothing, one guard under each group of 16, or one under every stack.
enum class guard { none, grouped, every };

/// How far workers are from each other. `mesh`: as the machine says, and work goes to the nearest
/// that has less. `global`: all are equally far, and a fiber with an affinity stays where it is.
enum class topology { mesh, global };

/// One line for the person who runs the program. `text` is valid during the call only.
struct log_record {
  enum class level { note, warning, error } severity = level::note;
  std::string_view text;
};

struct options {
  unsigned workers = 0;  ///< threads, 1 to 256; 0: the processors this process may use (affinity,
                         ///< quota of its control groups, version 1 and 2), at most 256; where
                         ///< sched_getaffinity(2) is refused: 1, and a line of the log says so
  std::uint32_t fibers_max = 1u << 20;  ///< live fibers, 1 to 2^24
  std::size_t stack_bytes = 256 << 10;  ///< of a stack slot with its guard, 16 KiB to 8 MiB
  guard guards = guard::every;     ///< COIR_GUARD=madvise|mprotect|none forces the way it is made
  topology topo = topology::mesh;  ///< processors of which the kernel tells nothing are far away
  bool pin_workers = false;  ///< worker i runs on the i-th processor of the process and no other;
                             ///< where the kernel refuses that, start() answers with its errno, and
                             ///< where it does not tell which processors there are, create(). On
                             ///< sim workers have no threads: nobody is pinned, and the log says so
  bool numa_placement = false;  ///< rings, queues, records and stacks of a worker lie on its NUMA
                                ///< node; needs pin_workers. A kernel without set_mempolicy(2), or
                                ///< a container that refuses it: its errno, of create() or start().
                                ///< Where /sys names no node: records and stacks only, since the
                                ///< kernel keeps them near who touches them first; the log says so
  bool scrub_on_exit = false;   ///< a stack is cleared before another fiber gets it
  /// Operations are those of coir's own calls and of `ring_opcodes`, and no others: an operation of
  /// a user's own with another opcode answers errc::opcode_refused before any backend hears of it,
  /// and the kernel is told to refuse it, too (io_uring_register(2), restrictions of the ring).
  bool hardened_ring = false;
  std::vector<std::uint8_t> ring_opcodes = {};  ///< of a hardened ring: IORING_OP_..., 0 to 62 each
  /// Memory of the program's that every ring shall know ("fixed buffers"): a read or write of one
  /// buffer that lies in one of these spans spares the kernel the look for its pages. It pays where
  /// many reads or writes with O_DIRECT are under way; elsewhere little or nothing. Anonymous
  /// memory or huge pages, not of a file (before Linux 6.5 a static array counts as one); each byte
  /// once; 16384 pieces of 1 GiB in all at most. Its pages are locked, for each worker apart
  /// (RLIMIT_MEMLOCK), and must stay the same until the runtime has ended: no munmap(2), no
  /// madvise(2) that gives them back. A file that takes ordinary memory only refuses reads and
  /// writes in it (/dev/fuse EINVAL, ublk EACCES): keep its buffers elsewhere. What the kernel
  /// refuses to know is an error of create(), with a line of the log. On poll and sim nothing is
  /// gained, and the log says so.
  std::vector<std::span<std::byte>> fixed_buffers = {};
  backend_kind backend = backend_kind::automatic;
  unsigned ring_entries = 1024;     ///< submission queue of each worker, 1 to 32768
  unsigned mailbox_slots = 1024;    ///< mails on their way to one worker, 1 to 65536: a fiber each,
                                    ///< or up to 64 that are given away together
  unsigned run_budget = 256;        ///< switches before a worker visits its loop, 1 to 65536
  unsigned deflect_threshold = 64;  ///< unstarted fibers from which on a worker gives some away,
                                    ///< 1 to 1024; adapts from there, within this range
                                    ///< (runtime::set_deflection_threshold pins any number)
  unsigned stream_buffers = 256;    ///< of each worker, for what streams receive, 1 to 32768,
                                    ///< rounded up to a power of two; made at first use. An item
                                    ///< that nobody has pulled yet holds one; where a stream finds
                                    ///< none it is moved into memory of its own, up to
                                    ///< stream_options::capacity of each stream and 32768 of a
                                    ///< worker
  std::size_t stream_buffer_bytes = 4096;  ///< of each, 64 to 1M
  unsigned offload_threads = 16;  ///< threads of blocking(), and of files where there is no
                                  ///< io_uring, at most, 1 to 1024
  unsigned offload_queue = 4096;  ///< calls of blocking() that may wait for a thread, from 1;
                                  ///< the next ones wait for a place
  std::chrono::microseconds idle_spin{50};  ///< a worker looks for work this long before it sleeps
                                            ///< at most, 0 to a second; not at all where there is
                                            ///< one worker, who has no other to wait for, nor on
                                            ///< sim, nor while the runtimes of the process have
                                            ///< together more workers than it may use processors
  /// A worker that stays with one fiber for longer is named in the log, with the fiber and the
  /// place where it stands; 1 ms to an hour. 0: nobody watches. Costs a thread, and SIGURG, which
  /// the workers then take: a call that blocks may end with EINTR. On sim nobody watches, and the
  /// log says so.
  std::chrono::milliseconds stall_after{0};
  /// Gets every line of the log; empty: one line to stderr. Called from any thread, must not park.
  std::function<void(const log_record&)> log = {};

  /// Options from a file, the environment or a command line: "workers=4,stack=256K,capacity=1024".
  /// A comma or a new line separates, # begins a comment that goes to the end of the line, blanks
  /// around names and values do not count. A name is that of a field here; `stack` is stack_bytes,
  /// `capacity` is fibers_max. A number may end in K, M or G (1,024 of them, and so on); a duration
  /// has a unit, us, ms, s or min; a flag is on, off, true, false, 1 or 0; guards, topo and
  /// backend are written as their enumerators, opcodes as numbers with blanks between. What the
  /// text does not name is as in `base`, else the default; a name that comes twice is refused.
  /// Ranges are those above. Errors: invalid_argument. What was refused, where, and what to write
  /// instead is put into
  /// `*why` unless null, else it is one line of base.log. Any thread, with or without a runtime.
  [[nodiscard]] COIR_API static result<options> parse(std::string_view text,
                                                      std::string* why = nullptr);
  [[nodiscard]] COIR_API static result<options> parse(std::string_view text, const options& base,
                                                      std::string* why = nullptr);
  /// All but the log and the fixed buffers, by their names, for a log or a file; parse() reads it.
  /// Values out of range are written as they are.
  COIR_API std::string to_text() const;
};

}  // namespace coir
