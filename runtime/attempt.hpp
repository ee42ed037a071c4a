// attempt.hpp: what a submission entry asks for, done with a system call: one that never waits, or
// one that may, for a thread that has nothing else to do.
//
// Always true:
//   - try_now() does not wait, whatever the flags of the descriptor are, and changes none of them:
//     MSG_DONTWAIT, RWF_NOWAIT, SPLICE_F_NONBLOCK, poll(2) with no time, or the call as it is where
//     the descriptor is non-blocking already. What can do none of these is left to a thread.
//   - Neither is EINTR an answer, nor does any of them touch errno.
//   - An answer is what the ring would give: a count, a new descriptor, or a negative errno. An
//     opcode that is not known here is answered with -EOPNOTSUPP,
//     one that nobody knows with -EINVAL.
//
// Two calls have no form that cannot wait. accept4(2) on a blocking listener: somebody else may
// take the connection between the look and the call. connect(2) on a blocking socket. Both go to a
// thread, like a read of what has neither RWF_NOWAIT nor O_NONBLOCK (a terminal). There the look
// comes once more, right before the call, and of all reads of this process from one number, as
// of all writes to it, at most one is made at a time: then only another process can have us wait,
// and no longer than until the next connection or byte comes.
//
// Comes from: poll, offload.   Goes to: the kernel.
#pragma once

#include <linux/io_uring.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

namespace coir::detail {

/// An entry on its way: what it asks for, and how far it came.
struct effort {
  std::int32_t done = 0;  // bytes of an entry that goes on until it has all (MSG_WAITALL, a file)
  bool begun = false;     // a connect is under way in the kernel
  int waits_on = -1;      // after `not_ready`: the descriptor, and the poll events of it
  std::uint32_t events = 0;

  void begin(const io_uring_sqe& from) noexcept {
    done = 0;
    begun = false;
    std::memcpy(copy_.data(), &from, sizeof from);
  }
  // The copy of bytes above began its life. As a member it would be a pedant's error: newer ones
  // end in an array of no size.
  io_uring_sqe& entry() noexcept { return *std::launder(reinterpret_cast<io_uring_sqe*>(&copy_)); }
  const io_uring_sqe& entry() const noexcept {
    return *std::launder(reinterpret_cast<const io_uring_sqe*>(&copy_));
  }

 private:
  alignas(io_uring_sqe) std::array<std::byte, sizeof(io_uring_sqe)> copy_{};
};

/// Not answers of the kernel, which end at -4095.
inline constexpr std::int32_t not_ready = INT32_MIN;  // wait as `waits_on` and `events` say
inline constexpr std::int32_t for_a_thread = INT32_MIN + 1;

inline std::int32_t wait_for(effort& e, int fd, std::uint32_t events) noexcept {
  e.waits_on = fd;
  e.events = events;
  return not_ready;
}

/// SPLICE and TEE, as try_now() and do_now() (attempt_splice.cpp).
std::int32_t try_splice(effort& e) noexcept;
std::int32_t do_splice(effort& e) noexcept;

/// `polled`: the descriptor is known to be one that can be waited for, so no file.
std::int32_t try_now(effort& e, bool polled) noexcept;
/// May wait for as long as it takes. Any thread. `not_ready`: try again.
std::int32_t do_now(effort& e) noexcept;
/// SEND with nothing but flags. Or -EAGAIN.
std::int32_t send_at_once(const io_uring_sqe& entry) noexcept;
/// A receive that takes what there is away, and asks for nothing else.
inline bool is_plain_receive(const io_uring_sqe& s) noexcept {
  return s.opcode == IORING_OP_RECV && s.msg_flags == 0 && s.ioprio == 0 && s.flags == 0;
}
/// A stream, and whoever waits is told as soon as anything is there (SO_RCVLOWAT).
bool tells_of_each_byte(int fd) noexcept;
/// The answer of an entry that is given up: what it has done so far, or -ECANCELED.
inline std::int32_t given_up(const effort& e, int why) noexcept {
  return e.done > 0 ? e.done : -why;
}
/// A thread that is in a connect(2) comes back soon; not from the full backlog of a Unix socket,
/// which only the other side ends.
void hurry(const effort& e) noexcept;

}  // namespace coir::detail
