// loop_ending.cpp: what ends before its time: deadlines, cancels, closes, a backend that failed,
// and the loop itself.
//
// Always true:
//   - What is in flight ends with its last completion, unless the backend is dead.
//   - What must happen all the same (a close) is not cancelled.
//   - A close waits until no operation of this loop is on the number; none begins meanwhile.
//
// Comes from: loop.cpp.   Goes to: coir/backend.hpp, io::close.
#include <linux/io_uring.h>

#include <algorithm>
#include <bit>
#include <iterator>
#include <new>
#include <utility>

#include "coir/detail/loop_core.hpp"
#include "coir/operations.hpp"
#include "runtime/backend.hpp"

namespace coir::detail {

// -- deadlines

void loop_core::arm(loop_job& job, deadline at) {
  // Not before what is due already, so that those who were due before have had their turn.
  job.timer = timers_.emplace(std::max(at, fired_), shared(job));
  job.timed = true;
}

void loop_core::disarm(loop_job& job) noexcept {
  if (!std::exchange(job.timed, false)) return;
  timers_.erase(job.timer);
}

/// Those that are due now. What is armed meanwhile has its turn in the next poll.
void loop_core::fire(clock::time_point now) {
  fired_ = now;
  auto left = std::distance(timers_.begin(), timers_.upper_bound(now));
  for (; left > 0 && !timers_.empty() && timers_.begin()->first <= now; --left) {
    const std::shared_ptr<loop_job> due = timers_.begin()->second;
    disarm(*due);
    switch (due->at) {
      case loop_job::stands::asleep: {
        const effect_call& call = *due->body->asks;
        const auto& sleep = *static_cast<const sleep_operation*>(call.op);
        if (call.until < sleep.until) {
          refuse(*due, std::make_error_code(std::errc::timed_out));
        } else {
          static_cast<std::optional<result<>>*>(call.answer)->emplace();
          go_on(*due, reply::answered);
        }
        break;
      }
      case loop_job::stands::pausing: {
        const deadline until = due->body->asks->until;
        if (until <= now) {
          refuse(*due, std::make_error_code(std::errc::timed_out));
          break;
        }
        due->at = loop_job::stands::nowhere;
        if (until != never) arm(*due, until);
        offer_again(*due);
        break;
      }
      default:
        due->late = true;
        stop(*due, std::make_error_code(std::errc::timed_out));
        break;
    }
  }
}

/// Nothing tells when it can be done (verdict::later): the operation is offered again later.
void loop_core::pause(loop_job& job) {
  job.at = loop_job::stands::pausing;
  disarm(job);
  arm(job, std::min<deadline>(job.body->asks->until, outside_.now() + job.pauses.next()));
}

// -- cancels

void loop_core::cancel(loop_job& job) {
  owes_ = true;
  {
    const inside now(*this);
    end(job);
    const effect_call* const asks = job.body->asks;
    const bool must_happen = asks != nullptr && asks->must_happen;
    if (!must_happen || COIR_MUTANT(loop_cancels_what_must_happen))
      stop(job, std::make_error_code(std::errc::operation_canceled));
  }
  settle();
}

/// From now on its effects answer operation_canceled.
void loop_core::end(loop_job& job) noexcept {
  if (!std::exchange(job.ending, true)) end_computation(*job.body, true);
}

/// Its effect shall end. What is in flight ends with its last completion; who runs hears of it at
/// its next effect.
void loop_core::stop(loop_job& job, std::error_code why) {
  const std::shared_ptr<loop_job> kept = shared(job);
  switch (job.at) {
    case loop_job::stands::in_line:
      std::erase(line_, kept);
      return refuse(job, why);
    case loop_job::stands::asleep:
    case loop_job::stands::pausing:
      return refuse(job, why);
    case loop_job::stands::in_flight:
      if (std::exchange(job.cancel_wanted, true)) return;
      cancels_.push_back(kept);
      return;
    case loop_job::stands::closing:
    case loop_job::stands::nowhere:
      return;
  }
}

// -- closes

/// Of a number beyond the table's end it is that of another one, too: who finds it 0 knows enough.
std::uint32_t& loop_core::users_of(int fd) {
  const std::uint32_t at = static_cast<std::uint32_t>(fd) % users_max;
  if (at >= users_.size()) users_.resize(std::bit_ceil(at + 1));
  return users_[at];
}

/// From its first offer on an operation holds what it is on, so that a retry never meets the
/// number's next owner.
std::error_code loop_core::hold(loop_job& job, const io_uring_sqe& entry) noexcept {
  const bool held = job.fd >= 0 || job.also >= 0;
  let_go(job);
  const int fd = uses_fd(entry) ? entry.fd : -1;
  const int also = source_of(entry);
  if (is_closing(fd) || is_closing(also))
    return std::make_error_code(held ? std::errc::operation_canceled
                                     : std::errc::bad_file_descriptor);
  try {
    if (fd >= 0) {
      ++users_of(fd);
      job.fd = fd;
    }
    if (also >= 0) {
      ++users_of(also);
      job.also = also;
    }
  } catch (const std::bad_alloc&) {
    let_go(job);
    return std::make_error_code(std::errc::not_enough_memory);
  }
  return {};
}

void loop_core::let_go(loop_job& job) noexcept {
  for (int* const fd : {&job.fd, &job.also})
    if (*fd >= 0) --users_[static_cast<std::uint32_t>(std::exchange(*fd, -1)) % users_max];
}

bool loop_core::is_closing(int fd) const noexcept {
  if (closings_.empty()) return false;
  return fd >= 0 && std::ranges::any_of(closings_, [fd](const std::shared_ptr<loop_job>& job) {
           return static_cast<const close_operation*>(job->body->asks->op)->fd == fd;
         });
}

template <class Do>
void loop_core::for_users_of(int fd, Do what) {
  const std::uint32_t at = static_cast<std::uint32_t>(fd) % users_max;
  if (fd < 0 || at >= users_.size() || users_[at] == 0) return;
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (const std::shared_ptr<loop_job> job = places_[i].job)
      if (job->fd == fd || job->also == fd) what(*job);
}

bool loop_core::is_used(int fd) {
  bool used = false;
  for_users_of(fd, [&used](loop_job&) { used = true; });
  return used && !COIR_MUTANT(loop_closes_at_once);
}

/// Once those that are on the number have ended. The kernel is asked for that at once; those that
/// it does not have end in go_on_closing(), as here they would run within each other.
void loop_core::close_later(loop_job& job) {
  const int fd = static_cast<const close_operation*>(job.body->asks->op)->fd;
  job.at = loop_job::stands::closing;
  closings_.push_back(shared(job));
  for_users_of(fd, [this](loop_job& user) {
    if (user.at == loop_job::stands::in_flight)
      stop(user, std::make_error_code(std::errc::operation_canceled));
  });
}

void loop_core::go_on_closing() {
  for (std::size_t i = 0; i < closings_.size();) {
    const std::shared_ptr<loop_job> job = closings_[i];
    const effect_call& call = *job->body->asks;
    const int fd = static_cast<const close_operation*>(call.op)->fd;
    for_users_of(fd, [this](loop_job& user) {
      stop(user, std::make_error_code(std::errc::operation_canceled));
    });
    if (is_used(fd)) {
      ++i;
      continue;
    }
    outside_.forget(fd);
    const reply said = guarded(*job, [&] { call.type->outside(call.op, call.until, call.answer); });
    std::erase(closings_, job);  // only now: until then nobody may take the number
    go_on(*job, said);
  }
}

// -- the end of all

void loop_core::fail_with(std::error_code why) {
  if (!failed_) failed_ = why;
  end_all();
}

/// The backend is dead: nothing is touched by it any more, so every body may end at once.
void loop_core::end_all() {
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const std::shared_ptr<loop_job> job = places_[i].job;
    if (job == nullptr || job->body->asks == nullptr || job->at == loop_job::stands::closing)
      continue;
    if (job->at == loop_job::stands::in_line) std::erase(line_, job);
    end(*job);
    next_generation(*job);
    refuse(*job, job->at == loop_job::stands::in_flight
                     ? failed_
                     : std::make_error_code(std::errc::operation_canceled));
  }
  go_on_closing();
}

/// Only what it counts is of the first call: a body may have asked before, and nobody waited.
std::size_t loop_core::drain() {
  const std::size_t left = std::exchange(drained_, true) ? 0 : jobs_;
  if (left == 0 && COIR_MUTANT(drains_once)) return 0;
  for (std::size_t i = 0; i < places_.size(); ++i)
    if (const std::shared_ptr<loop_job> job = places_[i].job) cancel(*job);
  if (inside_) return left;  // asked for by a body: whoever polls sees the others end
  if (!failed_) (void)run(never);
  buffer_.clear();
  buffer_.shrink_to_fit();
  return left;
}

}  // namespace coir::detail
