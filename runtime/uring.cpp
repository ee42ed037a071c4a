// uring.cpp: entries in, one io_uring_enter per turn, completions out.
//
// Always true:
//   - EINTR, EAGAIN, EBUSY and ENOMEM of an enter are not errors: what was not taken stays queued
//     and goes with the next one. A worker with nothing else to do tries again after a moment.
//   - EBADR means that the kernel lost a completion; a fiber would wait for ever, so the process
//     stops.
//
// Comes from: uring.hpp.   Goes to: the kernel.
#include "runtime/uring.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "arch/sanitizers.hpp"
#include "runtime/asking.hpp"
#include "runtime/futex.hpp"

namespace coir::detail {
namespace {
// Linux 6.15; the headers of Debian 12 are older.
constexpr unsigned feature_no_iowait = 1u << 17;
constexpr unsigned enter_no_iowait = 1u << 7;
}  // namespace

uring::uring(const io_uring& ring, int bell_fd) noexcept
    : ring_(ring),
      bell_fd_(bell_fd),
      kept_for_cancels_(ring.sq.ring_entries >= 64 ? 8 : ring.sq.ring_entries / 4) {}

uring::~uring() {
  io_uring_queue_exit(&ring_);
  if (lent_ != nullptr) ::munmap(lent_, lent_count_ * sizeof(io_uring_buf));
  if (!COIR_MUTANT(bell_left_open)) ::close(bell_fd_);
  if (told_by_ >= 0) ::close(told_by_);
}

// -- what goes on after its first completion, and the buffers it takes

bool uring::goes_on(std::uint8_t opcode) const noexcept {
  // All but the last since 6.0 at the latest; a timer since 6.4, and before it answers EINVAL.
  constexpr opcodes known(IORING_OP_ACCEPT, IORING_OP_RECV, IORING_OP_POLL_ADD, IORING_OP_TIMEOUT);
  return known.have(opcode);
}

int uring::lend_buffers(std::byte* first, unsigned count, unsigned bytes) noexcept {
  COIR_ASSERT(lent_ == nullptr);
  const std::size_t whole = count * sizeof(io_uring_buf);
  void* const place =
      ::mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) return -ENOMEM;
  io_uring_buf_reg asked{};
  asked.ring_addr = reinterpret_cast<std::uintptr_t>(place);
  asked.ring_entries = count;
  asked.bgid = 0;
  if (const int made = io_uring_register_buf_ring(&ring_, &asked, 0); made < 0) {
    ::munmap(place, whole);
    return made;
  }
  lent_ = static_cast<io_uring_buf*>(place);
  lent_first_ = first;
  lent_count_ = count;
  lent_bytes_ = bytes;
  for (unsigned i = 0; i < count; ++i) return_buffer(i);
  return 0;
}

/// By hand, since in C++ the kernel's own header places the entries 8 bytes into io_uring_buf_ring
/// (an empty struct has a size there), where liburing's does not.
void uring::return_buffer(unsigned buffer) noexcept {
  std::uint16_t& tail = lent_[0].resv;  // laid over the first entry by the kernel
  io_uring_buf& free = lent_[tail & (lent_count_ - 1)];
  free.addr = reinterpret_cast<std::uintptr_t>(lent_first_ + std::size_t{buffer} * lent_bytes_);
  free.len = lent_bytes_;
  free.bid = static_cast<std::uint16_t>(buffer);
  // release: whoever sees the new tail sees the entry.
  __atomic_store_n(&tail, static_cast<std::uint16_t>(tail + 1), __ATOMIC_RELEASE);
}

int uring::attach() noexcept {
  const int enabled = io_uring_enable_rings(&ring_);
  if (enabled < 0) return enabled;
  // Entering by an index of this thread spares the kernel the look for the descriptor in a table
  // that threads share. Refused (a restricted ring, an older kernel), the descriptor serves.
  registered_ = io_uring_register_ring_fd(&ring_) == 1;
  arm_bell();
  return 0;
}

void uring::detach() noexcept {
  if (registered_) io_uring_unregister_ring_fd(&ring_);
  registered_ = false;
}

/// The next free entry, as io_uring_get_sqe() finds it, but that some are kept for what is urgent.
inline io_uring_sqe* uring::entry(bool urgent) noexcept {
  io_uring_sq& queue = ring_.sq;
  const unsigned kept = urgent && !COIR_MUTANT(cancels_have_no_reserve) ? 0 : kept_for_cancels_;
  // acquire: the kernel has read the entries that it says it took.
  const unsigned used = queue.sqe_tail - __atomic_load_n(queue.khead, __ATOMIC_ACQUIRE);
  if (used + kept >= queue.ring_entries) [[unlikely]]
    return nullptr;
  ++counts_.sqes;
  return &queue.sqes[queue.sqe_tail++ & queue.ring_mask];
}

/// An entry for what liburing prepares, whose newer versions leave alone what they do not need.
inline io_uring_sqe* uring::own_entry() noexcept {
  io_uring_sqe* const e = entry(true);
  if (e != nullptr) *e = io_uring_sqe{};
  return e;
}

bool uring::submit(const io_uring_sqe& from, token t, bool urgent) noexcept {
  io_uring_sqe* const e = entry(urgent);
  if (e == nullptr) return false;
  std::memcpy(e, &from, sizeof *e);
  if (!COIR_MUTANT(users_flags_kept))
    e->flags &= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT | IOSQE_ASYNC;
  e->personality = 0;
  e->user_data = t.raw;
  if (!fixed_.empty()) [[unlikely]]
    use_fixed(*e);
  return true;
}

/// A read or write of one buffer in memory that the kernel knows says so.
void uring::use_fixed(io_uring_sqe& e) const noexcept {
  const bool reads = e.opcode == IORING_OP_READ;
  if ((!reads && e.opcode != IORING_OP_WRITE) || (e.flags & IOSQE_BUFFER_SELECT) != 0) return;
  const int piece = COIR_MUTANT(fixed_unused) ? -1 : fixed_.index_of(e.addr, e.len);
  if (piece < 0) return;
  e.opcode = reads ? IORING_OP_READ_FIXED : IORING_OP_WRITE_FIXED;
  e.buf_index = static_cast<std::uint16_t>(piece);
}

std::int32_t uring::send_now(const io_uring_sqe& entry) noexcept {
  const int saved = errno;
  const auto sent = ::send(entry.fd, reinterpret_cast<const void*>(entry.addr), entry.len,
                           // A ring never raises SIGPIPE, whatever the entry says.
                           static_cast<int>(entry.msg_flags) | MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent >= 0) [[likely]]
    return static_cast<std::int32_t>(sent);
  const int why = std::exchange(errno, saved);
  return why == EINTR ? -EAGAIN : -why;
}

bool uring::waits_inside(int fd) const noexcept { return splices_with_waits(fd); }

bool uring::cancel(token target) noexcept {
  io_uring_sqe* const e = own_entry();
  if (e == nullptr) return false;
  io_uring_prep_cancel64(e, target.raw, COIR_MUTANT(cancel_anybody) ? IORING_ASYNC_CANCEL_ANY : 0);
  e->user_data = token::make(target.slot(), target.generation(), token_kind::cancel).raw;
  return true;
}

bool uring::cancel_fd(int fd) noexcept {
  io_uring_sqe* const e = own_entry();
  if (e == nullptr) return false;
  io_uring_prep_cancel_fd(e, fd, IORING_ASYNC_CANCEL_ALL);
  e->user_data = token::make(0, 0, token_kind::cancel).raw;
  return true;
}

void uring::arm_bell() noexcept {
  io_uring_sqe* const e = own_entry();
  if (e == nullptr) return;  // tried again before the next sleep
  io_uring_prep_poll_add(e, bell_fd_, POLLIN);
  // It tells of each ring anew, and nobody reads what they add up to: one that is read has to be
  // asked for again, which is an entry and a look for each ring.
  if (!COIR_MUTANT(bell_rings_once)) e->len = IORING_POLL_ADD_MULTI;
  e->user_data = token::make(0, 0, token_kind::bell).raw;
  bell_armed_ = true;
}

unsigned uring::flags_of_queue() const noexcept {
  // relaxed: a hint; whoever acts on it enters the kernel, which orders the rest.
  return __atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED);
}

bool uring::ready() const noexcept {
  if (io_uring_cq_ready(&ring_) != 0) return true;
  const unsigned flags = flags_of_queue();
  if ((flags & IORING_SQ_CQ_OVERFLOW) != 0) return true;
  return (flags & IORING_SQ_TASKRUN) != 0 && !stale_taskrun_ && !COIR_MUTANT(taskrun_unwatched);
}

bool uring::pending() const noexcept {
  if (io_uring_sq_ready(&ring_) != 0 || ready()) return true;
  // A stale flag may hide a fresh one, so a worker that never sleeps looks now and then.
  return stale_taskrun_ && (flags_of_queue() & IORING_SQ_TASKRUN) != 0 && ++stale_looks_ % 16 == 0;
}

void uring::wait(std::int64_t until_ns) noexcept {
  if (told_by_ >= 0) [[unlikely]] {  // heard; what comes from here on rings anew
    std::uint64_t rings = 0;
    (void)!::read(told_by_, &rings, sizeof rings);
  }
  if (!bell_armed_) [[unlikely]]
    arm_bell();
  ++counts_.enters;
  woke_early_ = false;
  int n = 0;
  if (until_ns == no_wait_ns || !bell_armed_ || io_uring_cq_ready(&ring_) != 0) {
    n = io_uring_submit_and_get_events(&ring_);
  } else if (until_ns == never_ns) {
    n = sleep(nullptr);
  } else if (const std::int64_t left = until_ns - now_ns(); left <= 0) {
    n = io_uring_submit_and_get_events(&ring_);
  } else {
    const __kernel_timespec limit{left / 1'000'000'000, left % 1'000'000'000};
    n = sleep(&limit);
    woke_early_ = io_uring_cq_ready(&ring_) != 0;
  }
  const bool came = io_uring_cq_ready(&ring_) != 0;
  const unsigned flags = flags_of_queue();
  if ((flags & IORING_SQ_CQ_OVERFLOW) != 0) [[unlikely]]
    ++counts_.overflows;
  // The kernel may set the flag after it has taken the work that the flag announced, and an enter
  // that finds no work does not clear it (seen on Linux 6.18): then it announces nothing.
  stale_taskrun_ = (flags & IORING_SQ_TASKRUN) != 0 && !came;
  if (n < 0) [[unlikely]]
    enter_failed(n, until_ns, came);
}

void uring::enter_failed(int n, std::int64_t until_ns, bool came) noexcept {
  COIR_ASSERT(n != -EBADR);
  COIR_ASSERT(n == -EINTR || n == -EAGAIN || n == -EBUSY || n == -ETIME || n == -ENOMEM);
  if (until_ns != no_wait_ns && n != -EINTR && n != -ETIME && !came &&
      !COIR_MUTANT(refused_sleep_spins))
    back_off(until_ns);
}

/// Not the ring's own: poll(2) is not told of everything that one with DEFER_TASKRUN has to do. An
/// eventfd that is registered with it is.
int uring::native_fd() const noexcept {
  if (told_by_ >= 0) return told_by_;
  const int made = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (made < 0) return -1;
  if (io_uring_register_eventfd(const_cast<io_uring*>(&ring_), made) < 0) {
    ::close(made);
    return -1;
  }
  told_by_ = made;
  // What came before it was there is told of, too.
  const std::uint64_t one = 1;
  (void)!::write(made, &one, sizeof one);
  return told_by_;
}

/// The kernel has refused to let us sleep in the ring: sleeps beside it, until the bell rings at
/// the latest.
void uring::back_off(std::int64_t until_ns) noexcept {
  constexpr std::int64_t moment_ns = 1'000'000;
  const std::int64_t left =
      until_ns == never_ns ? moment_ns : std::min(until_ns - now_ns(), moment_ns);
  if (left <= 0) return;
  const timespec limit{0, static_cast<long>(left)};
  std::uint64_t rings = 0;
  (void)!::read(bell_fd_, &rings, sizeof rings);  // so that it is heard here; the ring heard these
  (void)io_uring_submit_and_get_events(&ring_);
  if (io_uring_cq_ready(&ring_) != 0) return;
  pollfd bell{bell_fd_, POLLIN, 0};
  if (::ppoll(&bell, 1, &limit, nullptr) > 0) (void)io_uring_submit_and_get_events(&ring_);
}

/// Where nobody may sleep in io_uring_enter: the ring is looked at every few milliseconds, because
/// poll(2) is not told of everything that a ring with DEFER_TASKRUN has to do.
int uring::sleep_elsewhere(const __kernel_timespec* limit) noexcept {
  const int n = io_uring_submit_and_get_events(&ring_);
  if (n < 0 || io_uring_cq_ready(&ring_) != 0) return n;
  constexpr long look_ns = 5'000'000;
  timespec pause{0, look_ns};
  if (limit != nullptr && limit->tv_sec == 0 && limit->tv_nsec < look_ns)
    pause.tv_nsec = limit->tv_nsec;
  ::nanosleep(&pause, nullptr);
  return io_uring_submit_and_get_events(&ring_);
}

/// io_uring_submit_and_wait with a flag that liburing 2.3 cannot give: the poll of the bell is
/// under way all the time, so to the kernel an idle worker waits for I/O, and a server that does
/// nothing looks like one whose disk is too slow.
int uring::sleep(const __kernel_timespec* limit) noexcept {
  if (arch::under_valgrind()) [[unlikely]]
    return sleep_elsewhere(limit);
  io_uring_sq& queue = ring_.sq;
  if (queue.sqe_head != queue.sqe_tail) {
    queue.sqe_head = queue.sqe_tail;
    // relaxed: this thread enters the kernel afterwards, and no other one reads the tail.
    __atomic_store_n(queue.ktail, queue.sqe_tail, __ATOMIC_RELAXED);
  }
  const bool kernel_knows =
      (ring_.features & feature_no_iowait) != 0 && !COIR_MUTANT(idle_as_iowait);
  constexpr unsigned wanted = 1;
  const unsigned flags = IORING_ENTER_GETEVENTS | (kernel_knows ? enter_no_iowait : 0) |
                         (registered_ ? IORING_ENTER_REGISTERED_RING : 0) |
                         (limit != nullptr ? IORING_ENTER_EXT_ARG : 0);
  const unsigned entries = io_uring_sq_ready(&ring_);
  if (limit == nullptr)
    return io_uring_enter2(ring_.enter_ring_fd, entries, wanted, flags, nullptr, _NSIG / 8);
  io_uring_getevents_arg with{};
  with.sigmask_sz = _NSIG / 8;
  with.ts = reinterpret_cast<std::uintptr_t>(limit);
  return io_uring_enter2(ring_.enter_ring_fd, entries, wanted, flags,
                         reinterpret_cast<sigset_t*>(&with), sizeof with);
}

unsigned uring::reap(completion_sink sink) noexcept {
  unsigned head = 0;
  unsigned taken = 0;
  io_uring_cqe* c = nullptr;
  io_uring_for_each_cqe(&ring_, head, c) {
    ++taken;
    const token to{c->user_data};
    if (to.kind() == token_kind::bell) {
      bell_armed_ = (c->flags & IORING_CQE_F_MORE) != 0 || COIR_MUTANT(bell_rings_once);
      continue;
    }
    sink.deliver(sink.context, {to, c->res, c->flags});
  }
  io_uring_cq_advance(&ring_, taken);
  counts_.cqes += taken;
  return taken;
}

void uring::wake() noexcept {
  const int saved = errno;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(bell_fd_, &one, sizeof one);
  errno = saved;
}

std::int64_t uring::now_ns() const noexcept { return monotonic_ns(); }

}  // namespace coir::detail
