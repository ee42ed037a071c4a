// loop.cpp: bodies in flight on one thread: which operation belongs to whom, and what its answer
// means.
//
// Always true:
//   - A token names a place and its generation; a completion that finds neither is counted and
//     disposed of.
//   - What EINTR, EAGAIN and the like mean is the same table as on a runtime (classify).
//   - Nothing is freed that the outside may still touch: a cancel, a deadline or a drain waits for
//     the last completion.
//
// Comes from: coir/loop.hpp.   Goes to: coir/backend.hpp, loop_ending.cpp.
#include <linux/io_uring.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "coir/detail/loop_core.hpp"
#include "coir/operations.hpp"
#include "runtime/backend.hpp"
#include "runtime/perform.hpp"

namespace coir::detail {
namespace {

coir::token name_of(const loop_job& job, bool makes_descriptor) noexcept {
  return {token::make(job.slot, job.generation,
                      makes_descriptor ? token_kind::descriptor : token_kind::operation)
              .raw};
}

/// The number that it closes; below zero: it is no close.
int closed_by(const effect_call& call) noexcept {
  if (!call.type->is(type_of<close_operation>)) return -1;
  return static_cast<const close_operation*>(call.op)->fd;
}

bool is_would_block(std::error_code why) noexcept {
  return why == std::errc::operation_would_block ||
         why == std::errc::resource_unavailable_try_again;
}

/// Completions that were not the last of theirs: for these nobody waits here.
bool is_loss(std::error_code why) noexcept {
  return why == std::errc::not_enough_memory && !COIR_MUTANT(loop_ends_by_a_loss);
}

}  // namespace

loop_core::loop_core(coir::backend& outside, unsigned completions_max,
                     std::pmr::memory_resource* memory)
    : outside_(outside), buffer_(completions_max, memory) {}

loop_core::~loop_core() { drain(); }

std::error_code loop_core::refuses() const noexcept {
  if (failed_) return failed_;
  return drained_ ? make_error_code(errc::shutting_down) : std::error_code();
}

void loop_core::make_room() {
  if (!free_.empty()) return;
  places_.emplace_back();
  free_.reserve(places_.size());  // so that finish() finds room
  free_.push_back(static_cast<std::uint32_t>(places_.size() - 1));
}

void loop_core::take(std::shared_ptr<loop_job> job) {
  make_room();
  job->slot = free_.back();
  free_.pop_back();
  loop_job& taken = *job;
  places_[taken.slot].job = std::move(job);
  ++jobs_;
  owes_ = true;
  {
    const inside now(*this);
    if (refuses() && !COIR_MUTANT(drained_loop_takes)) end(taken);
    start(taken);
  }
  settle();
}

/// What nobody else hands over: it was asked for from outside of poll().
void loop_core::hand_over() {
  const inside now(*this);
  give_room();
  owes_ = false;
  outside_.hand_over();
}

// -- one operation of one body

/// The body waits for its next effect: hands it over, or answers it here, until one takes time.
void loop_core::start(loop_job& job) {
  while (!job.body->ended && !job.body->given_up) {
    effect_call& call = *job.body->asks;
    const operation_type& kind = *call.type;
    job.late = job.cancel_wanted = job.looks_for_ready = job.connecting = job.plainly = false;
    job.res = 0;
    job.pauses = {};
    job.at = loop_job::stands::nowhere;
    reply said = reply::refused;
    if (job.ending && !call.must_happen) {
      call.refused = std::make_error_code(std::errc::operation_canceled);
    } else if (kind.is(type_of<sleep_operation>)) {
      job.at = loop_job::stands::asleep;
      return arm(job, std::min(static_cast<const sleep_operation*>(call.op)->until, call.until));
    } else if (kind.fill != nullptr) {
      if (call.until != never) arm(job, call.until);
      if (launch(job)) return;
    } else if (const int closes = closed_by(call); closes >= 0 && is_closing(closes)) {
      call.refused = std::make_error_code(std::errc::bad_file_descriptor);
    } else if (closes >= 0 && is_used(closes)) {
      return close_later(job);
    } else if (kind.outside != nullptr) {
      if (closes >= 0) outside_.forget(closes);
      said = guarded(job, [&] { kind.outside(call.op, call.until, call.answer); });
    } else {
      call.refused = make_error_code(errc::unhandled_effect);
    }
    disarm(job);
    let_go(job);
    ++did_.resumed;
    resume_computation(*job.body, said);
  }
  finish(job);
}

/// True: it is in flight, or in the line for room. False: the outside refuses it, and
/// effect_call::refused says why.
bool loop_core::launch(loop_job& job) {
  effect_call& call = *job.body->asks;
  io_uring_sqe entry{};
  if (guarded(job, [&] { call.type->fill(call.op, entry); }) != reply::answered) return false;
  if (asks_for_many(entry)) {
    call.refused = std::make_error_code(std::errc::invalid_argument);
    return false;
  }
  if (const std::error_code why = hold(job, entry)) {
    call.refused = why;
    return false;
  }
  if (!line_.empty() && job.at != loop_job::stands::in_line) return wait_in_line(job);
  if (job.plainly) make_plain(entry);
  bool descriptor = makes_fd(entry.opcode);
  if (job.looks_for_ready) {
    const unsigned events = readiness_of(entry.opcode);
    const int fd = entry.fd;
    entry = io_uring_sqe{};
    entry.opcode = IORING_OP_POLL_ADD;
    entry.fd = fd;
    entry.poll32_events = events;
    descriptor = false;
  }
  next_generation(job);
  const auto taken = outside_.submit(entry, name_of(job, descriptor));
  if (taken) {
    job.at = loop_job::stands::in_flight;
    job.makes_descriptor = descriptor;
    return true;
  }
  next_generation(job);  // what was refused has no completion
  if (is_would_block(taken.error())) return wait_in_line(job);
  call.refused = taken.error();
  return false;
}

bool loop_core::wait_in_line(loop_job& job) {
  if (job.at == loop_job::stands::in_line) return true;
  job.at = loop_job::stands::in_line;
  line_.push_back(shared(job));
  return true;
}

/// Completions of what went before find nobody.
void loop_core::next_generation(loop_job& job) noexcept {
  std::uint32_t& of_place = places_[job.slot].generation;
  if (++of_place == 0) ++of_place;
  job.generation = of_place;
}

void loop_core::go_on(loop_job& job, reply said) {
  disarm(job);
  let_go(job);
  job.at = loop_job::stands::nowhere;  // it runs
  ++did_.resumed;
  resume_computation(*job.body, said);
  start(job);
}

void loop_core::refuse(loop_job& job, std::error_code why) {
  job.body->asks->refused = why;
  go_on(job, reply::refused);
}

/// The same operation once more.
void loop_core::offer_again(loop_job& job) {
  ++did_.resubmitted;
  if (!launch(job)) go_on(job, reply::refused);
}

/// The last completion of its operation came.
void loop_core::answer(loop_job& job, std::int32_t res) {
  effect_call& call = *job.body->asks;
  call.by_kernel = outside_.is_the_system();
  next_generation(job);
  job.at = loop_job::stands::nowhere;
  io_uring_sqe entry{};
  if (guarded(job, [&] { call.type->fill(call.op, entry); }) != reply::answered)
    return go_on(job, reply::refused);
  if (job.plainly) make_plain(entry);
  const bool looked = std::exchange(job.looks_for_ready, false);
  const verdict means = looked ? verdict::deliver : classify(entry.opcode, res);
  const bool again = looked ? res >= 0 || res == -EINTR
                            : means == verdict::retry || means == verdict::plainly ||
                                  means == verdict::later ||
                                  (means == verdict::wait_ready && !asked_not_to_wait(entry));
  if ((job.late || job.cancel_wanted) && (res == -ECANCELED || interrupted(res) || again)) {
    const bool ends_by_deadline = job.late && (!job.ending || call.must_happen);
    return refuse(job, std::make_error_code(ends_by_deadline ? std::errc::timed_out
                                                             : std::errc::operation_canceled));
  }
  if (again) {
    if (means == verdict::later && !COIR_MUTANT(loop_connect_spins)) return pause(job);
    job.plainly |= means == verdict::plainly;
    job.looks_for_ready =
        !looked && means == verdict::wait_ready && readiness_of(entry.opcode) != 0;
    job.connecting |= job.looks_for_ready && entry.opcode == IORING_OP_CONNECT;
    return offer_again(job);
  }
  const bool done = means == verdict::done || (job.connecting && res == -EISCONN);
  go_on(job, guarded(job, [&] { call.type->complete(call.op, done ? 0 : res, call.answer); }));
}

void loop_core::finish(loop_job& job) {
  const std::shared_ptr<loop_job> kept = std::move(places_[job.slot].job);
  free_.push_back(job.slot);
  --jobs_;
  ++did_.finished;
  job.done = true;
  job.ended();
}

// -- the outside

/// It came for nobody.
void loop_core::put_away(const coir::completion& c) noexcept {
  ++stale_;
  ++did_.stale;
  if (stale_sink_ && !COIR_MUTANT(stale_sink_unheard)) return stale_sink_(c);
  outside_.dispose(c);
}

void loop_core::complete(const coir::completion& c) {
  const token name{c.to.raw};
  place* const at = name.slot() < places_.size() ? &places_[name.slot()] : nullptr;
  if (at == nullptr || at->job == nullptr || at->generation != name.generation() ||
      at->job->at != loop_job::stands::in_flight)
    return put_away(c);
  const std::shared_ptr<loop_job> job = at->job;
  if (c.more()) {  // what was lent is still in use
    job->res = c.res;
    return;
  }
  answer(*job, (c.flags & IORING_CQE_F_NOTIF) != 0 ? job->res : c.res);
}

/// Those in line, and requests to cancel, as far as there is room.
void loop_core::give_room() {
  go_on_closing();
  for (std::size_t tried = line_.size(); tried != 0 && !line_.empty(); --tried) {
    const std::shared_ptr<loop_job> next = line_.front();
    const bool taken = launch(*next);
    if (next->at == loop_job::stands::in_line && taken) break;  // no room yet
    line_.pop_front();  // before it runs: it may cancel others
    if (!taken) go_on(*next, reply::refused);
  }
  std::erase_if(cancels_, [this](const std::shared_ptr<loop_job>& job) {
    if (job->done || job->at != loop_job::stands::in_flight || !job->cancel_wanted) return true;
    const auto asked = outside_.cancel(name_of(*job, job->makes_descriptor));
    return asked.has_value() || !is_would_block(asked.error());
  });
}

/// True: completions came.
result<bool> loop_core::reap_once() {
  give_room();
  const auto n = outside_.reap(buffer_);
  if (!n) {
    if (is_would_block(n.error()) || is_loss(n.error())) return false;
    fail_with(n.error());
    return fail(failed_);
  }
  for (std::size_t i = 0; i < *n; ++i) complete(buffer_[i]);
  more_ = *n != 0 && *n == buffer_.size();
  return *n != 0;
}

result<loop_progress> loop_core::poll(deadline until) {
  if (inside_) return fail(errc::deadlock);  // a body that waits for the loop it runs in
  if (failed_) return fail(failed_);
  const inside now_inside(*this);
  constexpr unsigned rounds_most = 64;
  did_ = {};
  for (unsigned rounds = 1;; ++rounds) {
    fire(outside_.now());
    const auto came = reap_once();
    if (!came) return fail(came.error());
    // What the backend keeps makes no descriptor readable; but who is always ready ends the poll.
    if (*came && more_ && rounds < rounds_most) continue;
    if (jobs_ == 0) break;
    if ((*came || did_.any()) && !COIR_MUTANT(loop_waits_in_between)) break;
    const deadline next = timers_.empty() ? until : std::min(until, timers_.begin()->first);
    const auto now = outside_.now();
    if (until == no_wait || until <= now) break;
    if (next <= now) continue;
    // The reap may have made room.
    if (const std::size_t queued = line_.size() + cancels_.size(); queued != 0) {
      give_room();
      if (line_.size() + cancels_.size() != queued || did_.any()) continue;
    }
    if (const auto waited = outside_.wait(next); !waited && !is_would_block(waited.error())) {
      fail_with(waited.error());
      return fail(failed_);
    }
  }
  give_room();
  owes_ = false;
  outside_.hand_over();
  if (more_) outside_.wake();
  return did_;
}

result<> loop_core::run(deadline until) {
  if (inside_) return fail(errc::deadlock);
  while (jobs_ != 0) {
    if (const auto did = poll(until); !did) return fail(did.error());
    if (jobs_ != 0 && until != never && outside_.now() >= until) return fail(std::errc::timed_out);
  }
  if (failed_) return fail(failed_);
  return {};
}

}  // namespace coir::detail
