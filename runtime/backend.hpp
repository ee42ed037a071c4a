// backend.hpp: the seam to the outside world: operations go in with a token, completions come out
// with it.
//
// Always true:
//   - One backend per worker. After attach() everything but wake() and counts() is called by that
//     worker alone.
//   - submit copies the entry; what the entry points to stays lent until the token's last
//     completion was reaped.
//   - Every accepted token gets exactly one completion without `more`, cancelled or not.
//   - Nothing outside the seam reads a clock; wait() returns when a completion is there, wake() was
//     called, or `until` came.
//
// Comes from: flight, worker.   Goes to: uring and poll (the kernel), sim (a script).
#pragma once

#include <linux/io_uring.h>

#include <cstddef>
#include <cstdint>

#include "runtime/base.hpp"
#include "runtime/counter.hpp"
#include "runtime/fixed.hpp"
#include "runtime/token.hpp"

namespace coir::detail {

struct completion {
  token to;
  std::int32_t res = 0;
  std::uint32_t flags = 0;
  bool more() const noexcept { return (flags & IORING_CQE_F_MORE) != 0; }
};

/// Of a timer: it fires again and again (Linux 6.4; newer than some headers).
inline constexpr std::uint32_t timeout_multishot = 1u << 6;

/// What a backend did since it was made. Any thread may read it.
struct backend_counts {
  counter sqes, cqes, enters, overflows;
};

/// Called once per completion. Plain function and context, so that reap costs no allocation.
struct completion_sink {
  void (*deliver)(void* context, const completion& c) noexcept;
  void* context;
};

inline constexpr std::int64_t no_wait_ns = INT64_MIN;

class backend {
 public:
  virtual ~backend() = default;

  /// The worker's thread takes the backend over. A negative errno on failure.
  virtual int attach() noexcept = 0;
  /// The same thread lets go of it, after the last wait; also when attach failed.
  virtual void detach() noexcept {}
  /// False: no room now; call wait(no_wait_ns) and try again. `urgent` may use the entries kept for
  /// cancels.
  virtual bool submit(const io_uring_sqe& entry, token t, bool urgent) noexcept = 0;
  /// What the kernel answers to a SEND that does not wait, or -EAGAIN: it has to be submitted.
  virtual std::int32_t send_now(const io_uring_sqe& entry) noexcept;
  /// True when an operation that is not to wait would do so all the same inside of the kernel, for
  /// this descriptor: whether it is ready has to be asked first.
  virtual bool waits_inside(int) const noexcept { return false; }
  /// Whether an operation may go on after its first completion (F_MORE) when asked to; what is not
  /// known is submitted again after each one.
  virtual bool goes_on(std::uint8_t opcode) const noexcept;
  /// `count` buffers of `bytes` each, one behind the other from `first` on, a power of two of them,
  /// for operations that take one when their data is there; after attach(), once. They stay until
  /// the backend's end. A negative errno: it can take none, and nothing was kept.
  virtual int lend_buffers(std::byte* first, unsigned count, unsigned bytes) noexcept;
  /// Reads and writes in this memory shall cost less from now on; before attach(), once. It stays
  /// as it is until the backend's end. 1: nothing is gained by that here; or a negative errno.
  virtual int fix_buffers(memory_ranges) noexcept { return 1; }
  /// One that a completion brought may be used again.
  virtual void return_buffer(unsigned buffer) noexcept;
  /// Asks for the end of `target`; an answer may come as a completion of kind cancel and means
  /// nothing by itself. False: no room.
  virtual bool cancel(token target) noexcept = 0;
  /// The same for every operation on `fd`. False: no room.
  virtual bool cancel_fd(int fd) noexcept = 0;
  /// The number is about to be closed, and no operation of ours is on it.
  virtual void forget(int) noexcept {}
  /// Hands over what was submitted; sleeps until a completion, wake() or `until_ns` (no_wait_ns:
  /// not at all).
  virtual void wait(std::int64_t until_ns) noexcept = 0;
  /// True when the last wait() is known to have ended before its time came. False says nothing.
  virtual bool woke_early() const noexcept { return false; }
  /// Delivers every completion there is; how many.
  virtual unsigned reap(completion_sink sink) noexcept = 0;
  /// True when wait would find something: entries to hand over, or completions that are ready.
  virtual bool pending() const noexcept = 0;
  /// True when completions are known to be there without asking the kernel; for a worker that
  /// spins.
  virtual bool ready() const noexcept = 0;
  /// Ends a wait(), now or the next one. Any thread.
  virtual void wake() noexcept = 0;
  /// Closes a descriptor that a completion brought for nobody.
  virtual void discard(int fd) noexcept;
  virtual std::int64_t now_ns() const noexcept = 0;
  virtual const backend_counts& counts() const noexcept = 0;
  virtual const char* name() const noexcept = 0;
  /// True when an accept or a connect costs a thread, unless the socket is a non-blocking one.
  virtual bool threads_for_blocking_sockets() const noexcept { return false; }
  /// Readable while wait() would find something; -1: there is none.
  virtual int native_fd() const noexcept { return -1; }
  /// Simulated time: waiting costs nothing, and there is nothing to spin for.
  virtual bool simulated() const noexcept { return false; }
  /// Nothing is in flight and nothing can come from outside: whoever waits now waits for ever. Only
  /// sim knows.
  virtual bool exhausted() const noexcept { return false; }
};

/// What a result of the kernel means for the operation that got it. One table for all backends
/// (outcome.cpp's tests name each row).
/// `done` is a success that the result does not show.
/// `later`: nothing will tell when it can be done, so it is asked for again after a pause.
/// `plainly`: the same is to be asked without what this socket, or this kernel, does not know.
enum class verdict : std::uint8_t { deliver, done, retry, wait_ready, later, plainly, fatal };
verdict classify(std::uint8_t opcode, std::int32_t res) noexcept;
/// Makes a SEND of a SEND_ZC: the answer is the same, but that the kernel copies the bytes.
void make_plain(io_uring_sqe& entry) noexcept;
/// True when a signal, or the cancel of an operation that a kernel thread runs, ended it.
bool interrupted(std::int32_t res) noexcept;
/// The poll events that `opcode` waits for when its descriptor is non-blocking; 0: it cannot be
/// waited for.
unsigned readiness_of(std::uint8_t opcode) noexcept;

/// A set of opcodes; all that exist are below 64.
class opcodes {
 public:
  template <class... Opcode>
  constexpr explicit opcodes(Opcode... each) noexcept : bits_((... | (1ull << each))) {}
  constexpr bool have(std::uint8_t opcode) const noexcept {
    return opcode < 64 && (bits_ >> opcode & 1) != 0;
  }
  constexpr opcodes with(opcodes more) const noexcept { return of(bits_ | more.bits_); }
  constexpr opcodes without(opcodes some) const noexcept { return of(bits_ & ~some.bits_); }
  static constexpr opcodes all() noexcept { return of(~std::uint64_t{0}); }

 private:
  static constexpr opcodes of(std::uint64_t bits) noexcept {
    opcodes made(0);
    made.bits_ = bits;
    return made;
  }
  std::uint64_t bits_;
};

/// True when a result of zero or more is a new descriptor.
inline bool makes_fd(std::uint8_t opcode) noexcept {
  constexpr opcodes makers(IORING_OP_ACCEPT, IORING_OP_OPENAT, IORING_OP_OPENAT2, IORING_OP_SOCKET);
  return makers.have(opcode);
}

/// True when the entry's fd field names a descriptor that the operation uses.
inline bool uses_fd(const io_uring_sqe& entry) noexcept {
  // The fd of a SOCKET is a domain; that of 50, WAITID (Linux 6.7), a process; those of 51 to 53,
  // FUTEX_WAIT, FUTEX_WAKE and FUTEX_WAITV, are flags.
  constexpr opcodes others(IORING_OP_NOP, IORING_OP_TIMEOUT, IORING_OP_TIMEOUT_REMOVE,
                           IORING_OP_ASYNC_CANCEL, IORING_OP_POLL_REMOVE, IORING_OP_MADVISE,
                           IORING_OP_MSG_RING, IORING_OP_CLOSE, IORING_OP_SOCKET, 50, 51, 52, 53);
  if ((entry.flags & IOSQE_FIXED_FILE) != 0 || entry.fd < 0) return false;
  return !others.have(entry.opcode);
}

/// The operations that move bytes between two descriptors.
inline constexpr opcodes of_two_descriptors(IORING_OP_SPLICE, IORING_OP_TEE);

/// The descriptor that such an entry reads from; below zero: none that has a number.
inline int source_of(const io_uring_sqe& entry) noexcept {
  const bool numbered =
      of_two_descriptors.have(entry.opcode) && (entry.splice_flags & SPLICE_F_FD_IN_FIXED) == 0;
  return numbered ? entry.splice_fd_in : -1;
}

}  // namespace coir::detail
