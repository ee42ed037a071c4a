// lasting.hpp: an operation that outlives a park: it goes to the kernel again and again, collects
// what comes, and says when somebody who waits may go on.
//
//   at rest --set_off--> away (in line or in flight) --completions--> away | at rest | over
//
// Who may touch what: everything belongs to the worker whose ring holds the operation. Its fiber
// calls from its own stack; completions come in the worker's loop, while that fiber runs, is parked
// here, or is parked in something else. Only a fiber that is parked here (`watched_by_`) is made
// ready by them, so no other park is ever ended.
//
// Always true:
//   - It is over once, and then the kernel has nothing of it: no token is open, and its descriptor
//     is let go. Until then its memory stays.
//   - An item is delivered, or disposed of and counted: a descriptor closed, a buffer given back.
//   - Items that wait in buffers of the worker are known to it, so that what nobody comes for stops
//     no other stream.
//   - While `capacity` items wait the kernel is asked to stop (or was not asked to begin); what was
//     on its way by then is kept.
//   - Without the kernel's help (backend::goes_on) it is submitted anew after each item; who pulls
//     sees no difference.
//
// Comes from: coir/started.hpp, coir/multishot.hpp.   Goes to: flight, buffers.
#pragma once

#include <cerrno>
#include <memory>
#include <utility>

#include "coir/backoff.hpp"
#include "coir/detail/lasting.hpp"
#include "runtime/buffers.hpp"
#include "runtime/waiting.hpp"

namespace coir::detail {

/// Where a fiber waits that an item or the end shall wake.
struct watcher {
  record* fiber = nullptr;
  shared_park* shared = nullptr;  // others may end this park too: it has to be claimed
};

class lasting_operation : public lasting, private buffer_pool::hungry, private buffer_pool::keeper {
 public:
  lasting_operation(const lasting_kind& kind, const lasting_bounds& bounds, worker& home,
                    record& fiber) noexcept;
  lasting_operation(const lasting_operation&) = delete;
  lasting_operation& operator=(const lasting_operation&) = delete;
  ~lasting_operation() = default;

  static lasting_operation* make(const lasting_kind& kind, const lasting_bounds& bounds,
                                 const void* op, worker& home, record& fiber);
  /// The memory goes; it is over.
  void free() noexcept;
  /// 0, or as io_error() reads it. Throws what its description does, and then nothing has begun.
  std::int32_t begin(const io::unique_fd* owner);
  void cancel() noexcept;
  /// Nobody wants what comes from here on.
  void let_go() noexcept;
  /// Nobody waits for the end either: it frees itself.
  void orphan() noexcept { orphan_ = true; }
  bool over() const noexcept { return over_; }
  /// What the end was: an errno, the answer of a single one, or 0.
  std::int32_t end() const noexcept { return end_; }
  std::int32_t take_end() noexcept;
  /// Of one that answers once: the answer, which is the caller's; nothing is left to dispose of.
  std::int32_t take_answer() noexcept { return std::exchange(end_, -ECANCELED); }
  bool take(item& out) noexcept;
  bool anything() const noexcept { return count_ != 0 || over_; }
  /// When somebody who waits has to look again; never_ns: not before he is woken.
  std::int64_t next_tick_ns() const noexcept { return tick_ns_; }
  /// Somebody wants an item, and none is there.
  void ask() noexcept;
  bool is_of(const record* fiber) const noexcept {
    return fiber == pending::fiber &&
           generation_ == fiber->generation.load(std::memory_order_relaxed);
  }
  worker& home() const noexcept { return home_; }
  const void* op() const noexcept { return op_; }
  bool many() const noexcept { return kind_.many; }
  void watch(watcher* by) noexcept { watched_by_ = by; }
  bool watched_by(const watcher& by) const noexcept { return watched_by_ == &by; }
  bool cancelled() const noexcept { return cancelled_; }
  /// Nobody took it.
  void dispose_answer() noexcept { dispose({end_, 0}); }
  lasting_counts counts() const noexcept { return {count_, rearmed_, dropped_}; }

 private:
  enum class reason : std::uint8_t { none, full, starved, unasked, later };

  static record* on_completion(lasting& self, const completion& c) noexcept;
  void tick_by_clock() noexcept;
  void catch_up() noexcept;
  static void on_fed(buffer_pool::hungry& self) noexcept;
  static void make_room(buffer_pool::keeper& self) noexcept;
  void left_none() noexcept;
  bool is_full() const noexcept;
  void judge(const completion& c) noexcept;
  void judge_answer(const completion& c) noexcept;
  void item_came(const completion& c, std::int32_t res) noexcept;
  void ended_with(std::int32_t res) noexcept;
  void keep(item what) noexcept;
  bool grow() noexcept;
  void throttle(bool in_flight_still) noexcept;
  void again(bool counts) noexcept;
  void stay(reason why) noexcept;
  void go(bool later) noexcept;
  bool provide_buffer() noexcept;
  void finish(std::int32_t res) noexcept;
  void dispose(item what) noexcept;
  void prepare() noexcept;
  completion with_own_buffer(const completion& c) noexcept;
  bool picks_buffer() const noexcept;
  buffer_pool* pool() const noexcept;
  record* wake() noexcept;
  io_uring_sqe& sqe() noexcept { return *std::launder(reinterpret_cast<io_uring_sqe*>(raw_)); }

  const lasting_kind& kind_;
  const lasting_bounds bounds_;
  worker& home_;
  const std::uint64_t generation_;
  void* op_ = nullptr;
  watcher* watched_by_ = nullptr;
  item* items_ = nullptr;  // room_ of them, a power of two
  std::size_t room_ = 0;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  std::uint64_t rearmed_ = 0;
  std::uint64_t dropped_ = 0;
  std::int32_t end_ = 0;
  std::int32_t early_ = 0;  // the answer of one whose notification is still to come
  int buffer_ = -1;         // taken for the operation that is under way
  reason rests_for_ = reason::none;
  bool goes_on_ = false;    // the kernel is asked for more than one completion
  bool readiness_ = false;  // what is under way only says that the other may begin
  bool answered_ = false;   // something came since the beginning
  bool pausing_ = false;    // its end was asked for because it is full
  bool cancelled_ = false;  // by its fiber
  bool unwanted_ = false;
  bool orphan_ = false;
  bool over_ = false;
  bool connecting_ = false;
  bool plainly_ = false;     // its socket knows no zero copy
  bool broken_ = false;      // an item was lost for want of memory
  bool look_again_ = false;  // who waits does so for the wrong thing
  std::uint8_t opcode_ = 0;
  std::int64_t tick_ns_ = never_ns;  // of a timer that the backend does not know: when it is due
  std::int64_t period_ns_ = 0;
  bool own_items_ = false;   // items_ was allocated apart
  bool spared_ = false;      // others starved already when the last item was taken
  std::size_t cleared_ = 0;  // of the first items: they hold no buffer of the pool
  // Seeded on its fiber, as runs of one seed repeat.
  backoff pauses_{backoff::default_base, backoff::default_max, backoff_seed(this)};
  alignas(io_uring_sqe) std::byte raw_[sizeof(io_uring_sqe)] = {};
};

/// Parks the calling fiber until an item or the end of `one`, a deadline or a cancel.
woken park_for(lasting_operation& one, std::int64_t until_ns, bool heeds) noexcept;
/// 0 when the caller is the fiber that `one` is bound to; else as io_error() reads it.
std::int32_t not_its_own(const lasting_operation& one) noexcept;

}  // namespace coir::detail
