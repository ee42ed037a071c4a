// flight.hpp: the operations of one worker that are with the kernel, from the token to the last
// completion.
//
// Always true:
//   - A pending operation lives on its parked fiber's stack until its last completion; nothing else
//     ends it. A lasting one lives for itself, and is told of each completion; that ends a park
//     only where it says so.
//   - An operation is in exactly one state: in line (no submission entry yet), or in flight (token
//     open); a lasting one may also be at rest, which its descriptor knows.
//   - Every operation on a descriptor is counted under its number, per worker, from start to last
//     completion. A number that is being closed takes no new operation here once the closing
//     reached this worker.
//   - A cancel that found no entry is tried again every turn until the operation ends. One that the
//     kernel did not find the operation for (ENOENT) is asked for again with the same turn, and
//     then after pauses that grow, as long as the token is open.
//
// Comes from: perform.   Goes to: backend, and back to worker with the fiber that is ready.
#pragma once

#include <linux/io_uring.h>

#include <algorithm>

#include "runtime/backend.hpp"
#include "runtime/fiber.hpp"
#include "runtime/list.hpp"

namespace coir::detail {

/// One operation in flight. On the stack of the fiber that waits for it.
struct pending : list_node {
  record* fiber = nullptr;
  token name;
  const io_uring_sqe* entry = nullptr;  // the performer's copy; the ring makes its own
  std::int32_t res = 0;
  std::uint32_t flags = 0;
  int fd = -1;    // counted under this number; -1: none
  int also = -1;  // its effect uses this one, too, and counts it
  bool in_flight = false;
  bool cancel_wanted = false;
  bool ended = false;
  bool lasts = false;             // it is a lasting one
  std::uint8_t missed = 0;        // cancels that did not find it
  std::int64_t ask_again_ns = 0;  // in missed_: when
};

struct mover_node : list_node {};  // among those of fibers that may move

/// One that goes on while its fiber does something else. Its descriptor is counted from stand() to
/// stand_down(), however often it is with the kernel in between.
struct lasting : pending, mover_node {
  /// A completion; or, without a token, ECANCELED when it was not let out of the line, and ETIME
  /// when its rest is over. Whom it makes ready; null: nobody.
  record* (*arrived)(lasting& self, const completion& c) noexcept = nullptr;
  bool rests = false;                      // at rest, in the list of those
  std::int64_t rests_until_ns = never_ns;  // then it is told ETIME
};

/// How many operations this worker has on each descriptor. Indexed by number, reserved once,
/// touched where used.
class fd_counts {
 public:
  static constexpr std::uint32_t closing = 1u << 31;
  static constexpr std::uint32_t marked =
      1u << 30;  // this worker is in the runtime's list of users of the number
  static constexpr std::uint32_t resting = 1u << 29;  // some lasting operation may be at rest
  static constexpr std::uint32_t count_mask = resting - 1;

  explicit fd_counts(std::uint32_t fds_max);
  ~fd_counts();
  fd_counts(const fd_counts&) = delete;
  fd_counts& operator=(const fd_counts&) = delete;
  /// Null when `fd` is no number that the process can have.
  std::uint32_t* at(int fd) noexcept {
    return static_cast<std::uint32_t>(fd) < size_ ? words_ + fd : nullptr;
  }

 private:
  std::uint32_t* words_;
  std::uint32_t size_;
};

class flight {
 public:
  /// One enter ends about 20 operations; cancelled ones that have not ended yet lie in the way of
  /// the kernel's search for the next. Ending 10^6 parked reads: 265 s oldest first and 1,024 in a
  /// turn, 5 s youngest first and 16 in a turn.
  static constexpr unsigned cancels_per_turn = 16;
  /// After the second cancel that missed its operation; each further one doubles it.
  static constexpr std::int64_t miss_pause_ns = 50'000;
  static constexpr std::int64_t miss_pause_max_ns = 100'000'000;
  /// After `missed` of them and one more; from 1, and not above 20.
  static constexpr std::int64_t pause_after(unsigned missed) noexcept {
    return std::min(miss_pause_ns << (missed - 1), miss_pause_max_ns);
  }
  /// A cancel of all operations on a number may miss one of them as well. Who still holds up a
  /// close after so long is asked for by name. The look goes through all tokens, hence not sooner.
  static constexpr std::int64_t close_pause_ns = 100'000'000;

  flight(backend& outside, std::uint32_t fds_max) : outside_(outside), fds_(fds_max) {}

  /// Starts `p`; 0, -EBADF when its descriptor is being closed, or -ENOMEM when there is no memory
  /// for a first token. After 0 the fiber parks.
  int start(pending& p) noexcept;
  /// Asks for the end of `p`; its last completion still comes.
  void cancel(pending& p) noexcept;
  /// A completion arrived; the fiber to make ready, null when the operation goes on or nobody owns
  /// it. `stale` ones are counted.
  record* complete(const completion& c) noexcept;
  /// Once per turn, after the backend took entries: those in line and those to be cancelled get
  /// their chance. Gives fibers whose operation ended without the kernel to `ready`.
  template <class Ready>
  void turn(Ready ready) noexcept {
    while (pending* p = line_.front()) {
      if (!p->cancel_wanted && !refused(*p)) {
        if (!launch(*p)) break;
        line_.erase(*p);
        --in_line_;
        continue;
      }
      line_.erase(*p);
      if (record* const fiber = give_up(*p)) ready(*fiber);
    }
    if (next_look_ns() != never_ns) [[unlikely]] {
      look_again();
      while (lasting* const s = rested()) {
        leave_rest(*s);
        if (record* const fiber = s->arrived(*s, {{}, -ETIME, 0})) ready(*fiber);
      }
    }
    cancels_left_ = cancels_per_turn;
    while (pending* p = cancels_.front()) {
      if (cancels_left_ == 0 || !outside_.cancel(p->name)) break;
      --cancels_left_;
      cancels_.erase(*p);
    }
  }
  bool waiting_for_room() const noexcept { return !line_.empty() || !cancels_.empty(); }
  /// A turn is wanted then at the latest; never_ns: not by us.
  std::int64_t next_look_ns() const noexcept {
    return std::min({look_ns_, closed_ns_, rested_ns_});
  }

  // -- lasting operations
  /// Counts the descriptor of `s.entry`, which this worker has entered. -EBADF, -ENOMEM as start().
  int stand(lasting& s) noexcept;
  /// The same for the second number, of one that stands.
  int stand_also(lasting& s, int source) noexcept;
  /// It ends: its fiber may move, as far as it is concerned.
  void forget(lasting& s) noexcept;
  /// A fiber that may move has operations here, and cannot.
  bool keeps(const record& fiber) noexcept;
  void stand_down(lasting& s) noexcept;
  /// To the kernel: at once, or where `later` with the next turn, as from within a completion.
  void set_off(lasting& s, bool later) noexcept;
  /// Neither in line nor in flight, until set_off() or until its descriptor is closed. False: it is
  /// being closed, and the line ends it.
  bool rest(lasting& s) noexcept;
  /// The same, and at `at_ns` it hears ETIME.
  void rest_until(lasting& s, std::int64_t at_ns) noexcept;
  /// The same, and it is nowhere any more.
  void leave_rest(lasting& s) noexcept;
  /// The last completion of this time has come.
  void retire(lasting& s) noexcept;
  /// Who takes buffers back that came for nobody.
  void (*on_stray_buffer)(void* context, unsigned buffer) noexcept = nullptr;
  void* stray_context = nullptr;

  // -- closing a descriptor; the order of the steps is in fds.cpp
  std::uint32_t* fd_word(int fd) noexcept { return fds_.at(fd); }
  /// From now on no operation starts on `fd`; those in flight are asked to end. How many there are.
  std::uint32_t close_begin(int fd) noexcept;
  void close_end(int fd) noexcept;
  /// An effect of several operations counts as one more user of `fd`, from before the first until
  /// after the last.
  void hold(int fd) noexcept { ++*fds_.at(fd); }
  void let_go(int fd) noexcept;
  std::uint32_t count(int fd) noexcept { return *fds_.at(fd) & fd_counts::count_mask; }
  bool is_closing(int fd) noexcept { return (*fds_.at(fd) & fd_counts::closing) != 0; }
  /// Effects on two descriptors: while there are some, a close looks for those that the kernel
  /// knows by the other number.
  void hold_pair() noexcept { ++pairs_; }
  void let_go_pair() noexcept { --pairs_; }

  // -- what may be asked for
  /// From now on only these opcodes.
  void restrict_to(opcodes only) noexcept;
  bool admits(std::uint8_t opcode) const noexcept { return !restricted_ || only_.have(opcode); }
  /// True for nearly all that is asked for: admitted, and of one descriptor at most.
  bool is_straight(std::uint8_t opcode) const noexcept { return straight_.have(opcode); }

  // Any thread may ask these.
  std::uint64_t open_count() const noexcept { return tokens_.open_count() + in_line_.get(); }
  std::uint64_t stale() const noexcept { return stale_.get(); }
  std::uint64_t cancels() const noexcept { return cancels_sent_.get(); }
  /// Called when the last operation on a closing descriptor ended.
  void (*on_drained)(void* context, int fd) noexcept = nullptr;
  void* drained_context = nullptr;

 private:
  friend class audit;
  bool launch(pending& p) noexcept;
  void dispose(const completion& c) noexcept;
  bool refused(const pending& p) noexcept;
  record* end(pending& p, std::int32_t res) noexcept;
  record* give_up(pending& p) noexcept;
  record* complete_apart(const completion& c) noexcept;
  void end_pairs_on(int fd) noexcept;
  void cancel_missed(token target) noexcept;
  void look_again() noexcept;
  void ask_the_missed(std::int64_t now) noexcept;
  void ask_no_more(pending& p) noexcept;
  lasting* rested() noexcept;

  backend& outside_;
  token_table<pending> tokens_;
  fd_counts fds_;
  list<pending> line_;                 // wait for a submission entry
  list<pending> cancels_;              // wait for an entry for their cancel, or for the next turn
  list<pending> missed_;               // wait until they are to be cancelled again
  std::int64_t look_ns_ = never_ns;    // when the first of these is, or somebody before him was
  std::int64_t closed_ns_ = never_ns;  // when closings that have not drained are looked at
  unsigned undrained_ = 0;             // closings that operations hold up
  list<lasting, mover_node> movers_;
  list<pending> resting_;              // lasting ones that the kernel does not have
  std::int64_t rested_ns_ = never_ns;  // when the first of these is to be told, or an earlier one
  unsigned timed_ = 0;                 // of these are to be told
  unsigned cancels_left_ = cancels_per_turn;
  unsigned pairs_ = 0;
  bool restricted_ = false;
  opcodes only_ = opcodes::all();
  opcodes straight_ = opcodes::all().without(of_two_descriptors);
  counter in_line_, stale_, cancels_sent_;
};

// Inlined: every operation takes these steps.

inline void flight::let_go(int fd) noexcept {
  std::uint32_t& word = *fds_.at(fd);
  COIR_ASSERT((word & fd_counts::count_mask) != 0);
  --word;
  if ((word & fd_counts::closing) != 0 && (word & fd_counts::count_mask) == 0) {
    if (--undrained_ == 0) closed_ns_ = never_ns;
    on_drained(drained_context, fd);
  }
}

[[gnu::always_inline]] inline bool flight::launch(pending& p) noexcept {
  const bool brings_fd = makes_fd(p.entry->opcode);
  const token name =
      tokens_.open(p, p.lasts     ? brings_fd ? token_kind::lasting_descriptor : token_kind::lasting
                      : brings_fd ? token_kind::descriptor
                                  : token_kind::operation);
  if (name.raw == 0) return false;
  if (!outside_.submit(*p.entry, name, false)) [[unlikely]] {
    // The turn submits early; only if that gave no room the operation waits in line.
    if (!COIR_MUTANT(full_queue_waits)) outside_.wait(no_wait_ns);
    if (!outside_.submit(*p.entry, name, false)) {
      tokens_.close(name);
      return false;
    }
  }
  p.name = name;
  p.in_flight = true;
  return true;
}

[[gnu::always_inline]] inline int flight::start(pending& p) noexcept {
  // Without a token in flight nothing would ever come to give a place in the line.
  if (!tokens_.have_room()) return -ENOMEM;
  if (uses_fd(*p.entry)) {
    std::uint32_t* const word = fds_.at(p.entry->fd);
    if (word == nullptr) return -EBADF;
    if ((*word & fd_counts::closing) != 0 && !COIR_MUTANT(closing_admits)) return -EBADF;
    ++*word;
    p.fd = p.entry->fd;
  }
  if ((!line_.empty() && !COIR_MUTANT(line_overtaken)) || !launch(p)) {
    if (COIR_MUTANT(failed_submit_ends)) return -EAGAIN;
    line_.push_back(p);
    ++in_line_;
  }
  return 0;
}

inline record* flight::end(pending& p, std::int32_t res) noexcept {
  COIR_ASSERT(!p.ended);
  p.ended = true;
  p.res = res;
  if (p.in_flight) {
    if (p.linked()) [[unlikely]]
      ask_no_more(p);
    tokens_.close(p.name);
    p.in_flight = false;
  } else {
    --in_line_;
  }
  if (p.fd >= 0) let_go(p.fd);
  return p.fiber;
}

inline record* flight::complete(const completion& c) noexcept {
  if (c.to.apart()) [[unlikely]]
    return complete_apart(c);
  pending* const p = tokens_.find(c.to);
  if (p == nullptr) [[unlikely]] {
    dispose(c);
    return nullptr;
  }
  p->flags = c.flags;
  if (c.more() && !COIR_MUTANT(ignore_more)) {  // SEND_ZC and the like: the buffer is still lent
    p->res = c.res;
    return nullptr;
  }
  const bool notification = (c.flags & IORING_CQE_F_NOTIF) != 0;
  return end(*p, notification && !COIR_MUTANT(notification_is_answer) ? p->res : c.res);
}

}  // namespace coir::detail
