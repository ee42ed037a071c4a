// perform.cpp: the road of every operation from a fiber to the kernel and back.
//
// Always true:
//   - This is the only place where a fiber waits for the kernel.
//
// Comes from: perform.hpp.   Goes to: flight, worker::park.
#include "runtime/perform.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "arch/sanitizers.hpp"
#include "coir/backoff.hpp"
#include "coir/effects.hpp"
#include "coir/io.hpp"
#include "coir/operations.hpp"

namespace coir {

void nop::fill(io_uring_sqe& sqe) const noexcept {
  sqe.opcode = IORING_OP_NOP;
  sqe.fd = -1;
}

namespace detail {
namespace {

/// What would be the death of the performer's memory: going on before the last completion.
bool frees_early(woken why) noexcept {
  return COIR_MUTANT(return_before_completion) ||
         (COIR_MUTANT(deadline_frees_early) && why == woken::by_deadline);
}

/// A park that ends by the last completion only; a deadline or a cancel asks the kernel to hurry.
struct operation_park : park_site {
  explicit operation_park(pending& p) noexcept : what(p) { stop = &hurry; }
  pending& what;

 private:
  static void hurry(park_site& self, record& fiber, woken why) noexcept {
    auto& me = static_cast<operation_park&>(self);
    if (me.what.ended) return;
    if (me.why == woken::by_item) me.why = why;  // the first reason is the one that is told
    if (frees_early(why)) return worker::current()->make_ready(fiber);
    worker::current()->operations().cancel(me.what);
  }
};

fd_users& users_of(worker& here) noexcept {
  return static_cast<runtime_core&>(here.shared()).descriptors();
}

bool enter_in(std::uint64_t era, worker& here, int fd) noexcept {
  std::uint32_t* const word = here.operations().fd_word(fd);
  fd_users& users = users_of(here);
  for (;;) {
    if ((*word & fd_counts::closing) != 0) return false;
    switch (users.enter(fd, era, here.index())) {
      case entrance::open:
        *word |= fd_counts::marked;
        return true;
      case entrance::closing:
        return false;
      case entrance::later:
        users.wait_for_end(fd);
    }
  }
}

}  // namespace

bool enter_for_the_first_time(worker& here, int fd) noexcept {
  return enter_in(users_of(here).era(fd), here, fd);
}

std::uint64_t era_of(worker& here, int fd) noexcept {
  return users_of(here).knows(fd) ? users_of(here).era(fd) : 0;
}

bool enter_descriptor_of(worker& here, int fd, std::uint64_t era) noexcept {
  const std::uint32_t* const word = here.operations().fd_word(fd);
  if (word == nullptr) return false;
  // Marked: what this worker has entered is what the number is now, and stays while we stand here.
  if ((*word & (fd_counts::marked | fd_counts::closing)) == fd_counts::marked)
    return users_of(here).era(fd) == era || COIR_MUTANT(later_part_met);
  return enter_in(era, here, fd);
}

namespace {

/// An effect may be several operations (the second after EINTR, or after waiting for readiness). A
/// close waits until the whole effect has left, so the later ones never meet the next owner of the
/// number. Nor does the first: `owner`, whose number it is, is asked again once we have entered.
class effect_on_descriptor {
 public:
  effect_on_descriptor(worker& here, int fd, const io::unique_fd* owner,
                       const std::uint64_t* era = nullptr) noexcept
      : operations_(here.operations()) {
    if (fd < 0) return;
    refused_ = era != nullptr ? !enter_descriptor_of(here, fd, *era)
                              : operations_.fd_word(fd) == nullptr || !enter_descriptor(here, fd);
    if (refused_) return;
    operations_.hold(fd);
    // A close takes the number from its owner first. One that ended before we entered is seen here,
    // because entering acquires what it released; one that comes later waits for us.
    if (owner != nullptr && owner->get() != fd && !COIR_MUTANT(owner_asked_once)) {
      operations_.let_go(fd);
      refused_ = true;
      return;
    }
    fd_ = fd;
  }
  ~effect_on_descriptor() {
    if (fd_ >= 0) operations_.let_go(fd_);
  }
  effect_on_descriptor(const effect_on_descriptor&) = delete;
  effect_on_descriptor& operator=(const effect_on_descriptor&) = delete;
  bool refused() const noexcept { return refused_; }

 private:
  flight& operations_;
  int fd_ = -1;
  bool refused_ = false;
};

}  // namespace

bool asked_not_to_wait(const io_uring_sqe& entry) noexcept {
  switch (entry.opcode) {
    case IORING_OP_RECV:
    case IORING_OP_SEND:
    case IORING_OP_SEND_ZC:
    case IORING_OP_RECVMSG:
    case IORING_OP_SENDMSG:
    case IORING_OP_SENDMSG_ZC:
      return (entry.msg_flags & MSG_DONTWAIT) != 0;
    case IORING_OP_SPLICE:
      return (entry.splice_flags & SPLICE_F_NONBLOCK) != 0;
    default:
      return false;
  }
}

bool asks_for_many(const io_uring_sqe& entry) noexcept {
  if (COIR_MUTANT(anybody_asks_for_many)) return false;
  // Of newer headers than Debian 12 has.
  constexpr unsigned ticks = 1 << 6;           // IORING_TIMEOUT_MULTISHOT
  constexpr std::uint8_t read_multishot = 49;  // IORING_OP_READ_MULTISHOT
  if ((entry.flags & IOSQE_BUFFER_SELECT) != 0) return true;
  switch (entry.opcode) {
    case IORING_OP_ACCEPT:
      return (entry.ioprio & IORING_ACCEPT_MULTISHOT) != 0;
    case IORING_OP_RECV:
    case IORING_OP_RECVMSG:
      return (entry.ioprio & IORING_RECV_MULTISHOT) != 0;
    case IORING_OP_POLL_ADD:
      return (entry.len & IORING_POLL_ADD_MULTI) != 0;
    case IORING_OP_TIMEOUT:
      return (entry.timeout_flags & ticks) != 0;
    default:
      return entry.opcode == read_multishot;
  }
}

namespace {

template <class T>
T* lent_at(std::uint64_t address) noexcept {
  return reinterpret_cast<T*>(static_cast<std::uintptr_t>(address));
}

void note_parts(const iovec* parts, std::size_t count, std::size_t bytes) noexcept {
  for (; count != 0 && bytes != 0; --count, ++parts) {
    const std::size_t here = std::min(parts->iov_len, bytes);
    arch::note_written(parts->iov_base, here);
    bytes -= here;
  }
}

}  // namespace

void note_answer(const io_uring_sqe& entry, std::int32_t res) noexcept {
  const auto bytes = static_cast<std::size_t>(res);
  switch (entry.opcode) {
    case IORING_OP_READ:
    case IORING_OP_RECV:
      return arch::note_written(lent_at<void>(entry.addr), bytes);
    case IORING_OP_READV:
      return note_parts(lent_at<iovec>(entry.addr), entry.len, bytes);
    case IORING_OP_RECVMSG: {
      const auto& m = *lent_at<msghdr>(entry.addr);
      arch::note_written(m.msg_name, m.msg_namelen);
      arch::note_written(m.msg_control, m.msg_controllen);
      return note_parts(m.msg_iov, m.msg_iovlen, bytes);
    }
    case IORING_OP_ACCEPT:
      if (entry.addr2 == 0) return;
      arch::note_written(lent_at<void>(entry.addr2), sizeof(socklen_t));
      return arch::note_written(lent_at<void>(entry.addr), *lent_at<socklen_t>(entry.addr2));
    case IORING_OP_STATX:
      return arch::note_written(lent_at<void>(entry.off), sizeof(struct statx));
    default:
      return;
  }
}

namespace {

bool stopped(worker& here, bool heed_cancel) noexcept {
  return heed_cancel && is_cancelled(*here.self()) && !COIR_MUTANT(cancelled_fiber_performs);
}

/// `also`: the effect's other descriptor, or -1.
[[gnu::always_inline]] inline std::int32_t once(worker& here, const io_uring_sqe& entry,
                                                std::int64_t until_ns, bool heed_cancel,
                                                int also = -1) noexcept {
  if (stopped(here, heed_cancel)) return -ECANCELED;
  // As for the descriptor of the entry, which start() looks at.
  if (also >= 0 && here.operations().is_closing(also)) return -ECANCELED;
  pending p;
  p.fiber = here.self();
  p.entry = &entry;
  p.also = also;
  if (const int refused = here.operations().start(p); refused < 0) {
    // Of a descriptor: a close began between two operations of this effect.
    return refused == -EBADF ? -ECANCELED : refused;
  }
  operation_park site(p);
  const woken why = here.park(site, until_ns, heed_cancel);
  COIR_ASSERT(p.ended || frees_early(why));
  if (COIR_MUTANT(success_loses_to_cancel) && why != woken::by_item) return -ECANCELED;
  // EINTR is how the kernel's own threads answer to the cancel of an operation that they run.
  if (p.res >= 0) [[likely]] {
    if constexpr (arch::kernel_writes_are_noted) note_answer(entry, p.res);
    return p.res;
  }
  const bool ended_early = p.res == -ECANCELED || (interrupted(p.res) && why != woken::by_item);
  if (!ended_early) return p.res;
  return why == woken::by_deadline ? -ETIMEDOUT : -ECANCELED;
}

[[gnu::noinline]] std::int32_t wait_until_ready(worker& here, int fd, unsigned events,
                                                std::int64_t until_ns, bool heed_cancel,
                                                int also = -1) noexcept {
  io_uring_sqe poll{};
  poll.opcode = IORING_OP_POLL_ADD;
  poll.fd = fd;
  poll.poll32_events = events;
  for (;;) {
    const std::int32_t res = once(here, poll, until_ns, heed_cancel, also);
    if (res != -EINTR) return res;
  }
}

/// 0 when the pause is over, and it may be asked for again.
[[gnu::noinline]] std::int32_t wait_for_pause(worker& here, backoff& pauses,
                                              std::int64_t until_ns) noexcept {
  if (park_refused(*here.self())) return -ECANCELED;
  const std::int64_t again_ns = std::min(until_ns, here.outside().now_ns() + pauses.next().count());
  if (here.sleep(again_ns) == woken::by_cancel) return -ECANCELED;
  return again_ns == until_ns ? -ETIMEDOUT : 0;
}

std::int32_t perform_plainly(worker& here, const io_uring_sqe& entry, std::int64_t until_ns,
                             bool heed_cancel) noexcept;

/// What was answered, `res`, is below zero, and need not be the end.
[[gnu::noinline]] std::int32_t carry_on(worker& here, const io_uring_sqe& entry, std::int32_t res,
                                        std::int64_t until_ns, bool heed_cancel,
                                        int also) noexcept {
  bool connecting = false;
  backoff pauses;
  do {
    switch (classify(entry.opcode, res)) {
      case verdict::deliver:
        return connecting && res == -EISCONN ? 0 : res;
      case verdict::done:
        return 0;
      case verdict::retry:
        break;
      case verdict::wait_ready:
        if (asked_not_to_wait(entry)) return res;
        if (const std::int32_t waited = wait_until_ready(here, entry.fd, readiness_of(entry.opcode),
                                                         until_ns, heed_cancel, also);
            waited < 0)
          return waited;
        connecting = entry.opcode == IORING_OP_CONNECT;
        break;
      case verdict::later:
        if (const std::int32_t waited = wait_for_pause(here, pauses, until_ns); waited < 0)
          return waited;
        break;
      case verdict::plainly:
        return perform_plainly(here, entry, until_ns, heed_cancel);
      case verdict::fatal:
        COIR_ASSERT(!"the kernel lost a completion (EBADR)");
    }
    res = once(here, entry, until_ns, heed_cancel, also);
  } while (res < 0);
  return res;
}

/// Until it was answered: an effect on descriptors that it holds.
[[gnu::always_inline]] inline std::int32_t carry_out(worker& here, const io_uring_sqe& entry,
                                                     std::int64_t until_ns, bool heed_cancel,
                                                     int also = -1) noexcept {
  const std::int32_t res = once(here, entry, until_ns, heed_cancel, also);
  if (res >= 0) [[likely]]
    return res;
  return carry_on(here, entry, res, until_ns, heed_cancel, also);
}

[[gnu::noinline]] std::int32_t perform_plainly(worker& here, const io_uring_sqe& entry,
                                               std::int64_t until_ns, bool heed_cancel) noexcept {
  io_uring_sqe plain{};
  std::memcpy(&plain, &entry, sizeof plain);
  make_plain(plain);
  return carry_out(here, plain, until_ns, heed_cancel);
}

// -- what is not straight

/// A splice that waits does so inside of the kernel, on one of its threads. So it is not let wait:
/// what is not ready is waited for beside it.
std::int32_t splice(worker& here, const io_uring_sqe& entry, std::int64_t until_ns) noexcept {
  const int source = entry.splice_fd_in;
  io_uring_sqe at_once{};
  std::memcpy(&at_once, &entry, sizeof at_once);
  at_once.splice_flags |= SPLICE_F_NONBLOCK;
  bool look = here.outside().waits_inside(source) || here.outside().waits_inside(entry.fd);
  for (;;) {
    if (look) {
      std::int32_t ready = wait_until_ready(here, source, POLLIN, until_ns, true, entry.fd);
      if (ready >= 0) ready = wait_until_ready(here, entry.fd, POLLOUT, until_ns, true, source);
      if (ready < 0) return ready;
    }
    const std::int32_t res = carry_out(here, at_once, until_ns, true, source);
    if (res != -EAGAIN) return res;
    look = true;
  }
}

[[gnu::noinline]] std::int32_t perform_apart(worker& here, const io_uring_sqe& entry,
                                             std::int64_t until_ns,
                                             const io::unique_fd* owner) noexcept {
  flight& operations = here.operations();
  if (!operations.admits(entry.opcode) && !COIR_MUTANT(any_opcode_admitted))
    return -(io_own_base + static_cast<int>(errc::opcode_refused));
  const int source = source_of(entry);
  const std::uint64_t source_era = source >= 0 ? era_of(here, source) : 0;
  const effect_on_descriptor effect(here, uses_fd(entry) ? entry.fd : -1, owner);
  // To enter the first may have taken a park.
  const effect_on_descriptor on_source(here, source, nullptr, &source_era);
  if (effect.refused() || on_source.refused()) return -EBADF;
  if (source < 0 || !uses_fd(entry)) return carry_out(here, entry, until_ns, true);
  operations.hold_pair();
  const bool waits = entry.opcode == IORING_OP_SPLICE && !asked_not_to_wait(entry);
  const std::int32_t res =
      waits ? splice(here, entry, until_ns) : carry_out(here, entry, until_ns, true, source);
  operations.let_go_pair();
  return res;
}

/// One that send(2) can do as well: to no address, with nothing that only a ring knows, and not of
/// all bytes or none, for which the ring goes on where we would have to come back.
bool is_plain_send(const io_uring_sqe& entry) noexcept {
  return entry.opcode == IORING_OP_SEND && entry.flags == 0 && entry.ioprio == 0 &&
         entry.addr2 == 0 && (entry.msg_flags & MSG_WAITALL) == 0 &&
         !COIR_MUTANT(sends_are_submitted);
}

[[gnu::always_inline]] inline std::int32_t perform(const io_uring_sqe& entry, std::int64_t until_ns,
                                                   bool heed_cancel,
                                                   const io::unique_fd* owner = nullptr) noexcept {
  worker* const here = worker::current();
  if (here == nullptr || here->self() == nullptr)
    return -(io_own_base + static_cast<int>(errc::not_in_fiber));
  if (stopped(*here, heed_cancel)) {
    here->count_ignored(*here->self());
    return -ECANCELED;
  }
  // What must happen is asked for by the runtime itself, and by nobody else.
  if (heed_cancel && !here->operations().is_straight(entry.opcode)) [[unlikely]]
    return perform_apart(*here, entry, until_ns, owner);
  const effect_on_descriptor effect(*here, uses_fd(entry) ? entry.fd : -1, owner);
  if (effect.refused()) return -EBADF;
  if (is_plain_send(entry) && here->may_speak()) {
    if (const std::int32_t sent = here->outside().send_now(entry); sent != -EAGAIN) return sent;
  }
  return carry_out(*here, entry, until_ns, heed_cancel);
}

}  // namespace

std::int32_t perform_entry(const io_uring_sqe& entry, std::int64_t until_ns,
                           const io::unique_fd* owner) noexcept {
  const std::int32_t res = perform(entry, until_ns, true, owner);
  forced_move();  // only now: the effect holds its worker's count of the descriptor
  return res;
}

std::int32_t perform_part(const io_uring_sqe& entry, std::int64_t until_ns,
                          std::uint64_t era) noexcept {
  worker* const here = worker::current();
  if (here == nullptr || here->self() == nullptr) return perform_entry(entry, until_ns);
  if (stopped(*here, true)) {
    here->count_ignored(*here->self());
    return -ECANCELED;
  }
  std::int32_t res = -EBADF;
  if (const effect_on_descriptor whole(*here, entry.fd, nullptr, &era); !whole.refused())
    res = perform(entry, until_ns, true);
  forced_move();
  return res;
}

std::int32_t perform_to_the_end(const io_uring_sqe& entry, std::int64_t until_ns) noexcept {
  const std::int32_t res = perform(entry, until_ns, false);
  forced_move();
  return res;
}

std::int32_t perform_outside(fill_function fill, const void* op, deadline until) {
  io_uring_sqe entry{};
  fill(op, entry);
  if (asks_for_many(entry)) [[unlikely]]
    return -EINVAL;
  return perform_entry(entry, ns_of(until));
}

std::int32_t perform_io(fill_function fill, const void* op, deadline until) {
  if (handlers_are_there()) [[unlikely]]
    return handlers_first;
  return perform_outside(fill, op, until);
}

}  // namespace detail
}  // namespace coir
