// loop_core.hpp: what coir::loop does without knowing types.
//
// Always true:
//   - A job is in exactly one place: in flight (its token is open), in the line for room, asleep,
//     at a pause, closing, or ended.
//   - What a job lent to the backend lies on its own stack, which ends only after the operation's
//     last completion.
//   - A number is closed when no job holds it any more, and none takes it meanwhile.
//
// Comes from: coir/loop.hpp.   Goes to: runtime/loop.cpp, runtime/loop_ending.cpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <memory_resource>
#include <utility>
#include <vector>

#include "coir/backend.hpp"
#include "coir/detail/computation.hpp"

namespace coir::detail {

/// One body in a loop. Shared by the loop and whoever submitted it.
struct loop_job {
  virtual ~loop_job() = default;
  /// The computation has ended: keeps its answer and gives its stack back.
  virtual void ended() noexcept = 0;

  /// `pausing`: it is to be offered again then. `closing`: others still use the number.
  enum class stands : std::uint8_t { nowhere, in_flight, in_line, asleep, pausing, closing };
  computation* body = nullptr;
  std::uint32_t slot = 0;
  std::uint32_t generation = 0;
  std::int32_t res = 0;  // of a completion that was not the last
  int fd = -1;           // what its operation is on: held from its first offer to its answer
  int also = -1;         // the other one of two
  backoff pauses = {};   // of this operation
  stands at = stands::nowhere;
  bool plainly = false;           // the outside knows no zero copy for it
  bool looks_for_ready = false;   // in flight is a poll, after which the operation is tried again
  bool connecting = false;        // it was, before; already connected is what it asked for
  bool makes_descriptor = false;  // what is in flight
  bool ending = false;
  bool timed = false;  // stands among the timers
  bool late = false;   // its deadline came
  bool cancel_wanted = false;
  bool done = false;
  std::exception_ptr thrown;  // by the operation's own code, on its way into the body
  std::multimap<deadline, std::shared_ptr<loop_job>>::iterator timer;
};

struct loop_progress {
  unsigned finished = 0;     ///< bodies that ended
  unsigned resumed = 0;      ///< effects that were answered
  unsigned resubmitted = 0;  ///< operations that were handed over once more
  unsigned stale = 0;        ///< completions for nobody
  bool any() const noexcept { return (finished | resumed | resubmitted | stale) != 0; }
};

using stale_sink = std::function<void(const coir::completion&)>;

class COIR_API loop_core {
 public:
  loop_core(coir::backend& outside, unsigned completions_max, std::pmr::memory_resource* memory);
  ~loop_core();
  loop_core(const loop_core&) = delete;
  loop_core& operator=(const loop_core&) = delete;

  /// Why nothing may be submitted; empty: it may.
  std::error_code refuses() const noexcept;
  /// So that take() cannot fail for want of memory for a place.
  void make_room();
  /// Lives while bodies run, and completions are dealt out: whoever comes in again from inside may
  /// only ask.
  class inside {
   public:
    explicit inside(loop_core& in) noexcept : in_(in), before_(std::exchange(in.inside_, true)) {}
    ~inside() { in_.inside_ = before_; }
    inside(const inside&) = delete;
    inside& operator=(const inside&) = delete;

   private:
    loop_core& in_;
    bool before_;
  };
  /// After a body that ended in its first stretch: hands over what it asked for in place of others.
  void settle() {
    if (owes_ && !inside_) hand_over();
  }
  /// Takes a job whose body waits for its first answer. One that drained the loop is to end.
  void take(std::shared_ptr<loop_job> job);
  void cancel(loop_job& job);
  [[nodiscard]] result<loop_progress> poll(deadline until);
  [[nodiscard]] result<> run(deadline until);
  std::size_t drain();
  std::size_t pending() const noexcept { return jobs_; }
  std::error_code failed() const noexcept { return failed_; }
  std::uint64_t stale() const noexcept { return stale_; }
  void on_stale(stale_sink sink) noexcept { stale_sink_ = std::move(sink); }
  deadline next_deadline() const noexcept {
    const deadline outside = outside_.next_deadline();
    return timers_.empty() ? outside : std::min(outside, timers_.begin()->first);
  }
  int native_fd() const noexcept { return outside_.native_fd(); }
  coir::backend& outside() noexcept { return outside_; }

 private:
  struct place {
    std::shared_ptr<loop_job> job;  // null: free
    std::uint32_t generation = 0;
  };

  void start(loop_job& job);
  bool launch(loop_job& job);
  bool wait_in_line(loop_job& job);
  void next_generation(loop_job& job) noexcept;
  void offer_again(loop_job& job);
  template <class Do>
  static reply guarded(loop_job& job, Do what);
  void hand_over();
  std::error_code hold(loop_job& job, const io_uring_sqe& entry) noexcept;
  void let_go(loop_job& job) noexcept;
  std::uint32_t& users_of(int fd);
  bool is_closing(int fd) const noexcept;
  bool is_used(int fd);
  template <class Do>
  void for_users_of(int fd, Do what);
  void close_later(loop_job& job);
  void go_on_closing();
  void pause(loop_job& job);
  void end(loop_job& job) noexcept;
  void stop(loop_job& job, std::error_code why);
  void go_on(loop_job& job, reply said);
  void answer(loop_job& job, std::int32_t res);
  void refuse(loop_job& job, std::error_code why);
  void finish(loop_job& job);
  void arm(loop_job& job, deadline at);
  void disarm(loop_job& job) noexcept;
  void complete(const coir::completion& c);
  void put_away(const coir::completion& c) noexcept;
  void give_room();
  void fire(clock::time_point now);
  [[nodiscard]] result<bool> reap_once();
  void fail_with(std::error_code why);
  void end_all();
  std::shared_ptr<loop_job> shared(loop_job& job) { return places_[job.slot].job; }

  static constexpr std::uint32_t users_max = 1u << 20;
  coir::backend& outside_;
  std::pmr::vector<coir::completion> buffer_;
  std::vector<place> places_;
  std::vector<std::uint32_t> free_;
  std::deque<std::shared_ptr<loop_job>> line_;
  std::vector<std::shared_ptr<loop_job>> cancels_;
  std::vector<std::shared_ptr<loop_job>> closings_;
  std::vector<std::uint32_t> users_;  // of each number, or of those that share its place
  std::multimap<deadline, std::shared_ptr<loop_job>> timers_;
  std::size_t jobs_ = 0;
  std::uint64_t stale_ = 0;
  stale_sink stale_sink_;
  std::error_code failed_;
  loop_progress did_;
  bool drained_ = false;
  bool inside_ = false;       // bodies run, or completions are dealt out
  bool owes_ = false;         // something was asked for from inside, and is not handed over
  deadline fired_ = no_wait;  // of the timers, last
  bool more_ = false;         // the last reap filled the buffer
};

/// What the operation's own code throws leaves perform() in its body, and no other.
template <class Do>
reply loop_core::guarded(loop_job& job, Do what) {
  try {
    what();
    return reply::answered;
  } catch (...) {
    job.thrown = std::current_exception();
    job.body->throws = &job.thrown;
    return reply::refused;
  }
}

}  // namespace coir::detail
