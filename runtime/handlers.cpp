// handlers.cpp: the chain of those who answer the effects of a body, and the order in which they
// are asked.
//
// Always true:
//   - The chain of a fiber begins in the head of its stack, that of a plain thread in a
//     thread-local word; `asks` in the record says whether a fiber has one, so that an effect
//     without handlers looks nowhere else.
//   - While one is asked, the chain begins behind it; when ask_handlers is left, by an exception
//     too, it is what it was.
//   - A body that is to end is told so before anybody is asked.
//   - What must happen is asked for, and waited for, whether or not the fiber is cancelled.
//   - A computation waits for "not now" and "later" by whoever steps it, whose thread may have
//     others to serve.
//
// Comes from: coir/detail/effect_call.hpp.   Goes to: whoever stands in the chain.
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "coir/backoff.hpp"
#include "coir/operations.hpp"
#include "coir/sync.hpp"
#include "runtime/handlers.hpp"
#include "runtime/perform.hpp"

namespace coir::detail {
namespace {

[[gnu::tls_model("initial-exec")]] thread_local constinit handler_frame* of_thread = nullptr;

/// While this lives the chain of whoever asks is empty, or begins behind the one that is asked.
class asking {
 public:
  asking() noexcept : here_(handlers_here()), innermost_(here_.exchange(nullptr)) {}
  ~asking() {
    find_again();
    here_.exchange(innermost_);
  }
  asking(const asking&) = delete;
  asking& operator=(const asking&) = delete;

  handler_frame* innermost() const noexcept { return innermost_; }
  record* fiber() const noexcept { return here_.of; }
  reply ask(handler_frame& one, effect_call& call) {
    find_again();
    here_.exchange(COIR_MUTANT(handler_asks_itself) ? innermost_ : one.outer);
    elsewhere_ = innermost_->comes_back_elsewhere;
    return one.ask(one, call);
  }

 private:
  void find_again() noexcept {
    if (std::exchange(elsewhere_, false)) here_ = handlers_here();
  }

  handler_chain here_;
  handler_frame* const innermost_;
  bool elsewhere_ = false;  // who was asked may have come back on another fiber
};

/// Whose body is to end; null: nobody's.
handler_frame* ending_among(handler_frame* from) noexcept {
  while (from != nullptr && (!from->ending || COIR_MUTANT(ended_body_goes_on)))
    from = from->outer != nullptr || COIR_MUTANT(stepped_goes_on) ? from->outer : from->steps;
  return from;
}

/// Nothing where it says that nobody could wait for it there.
std::optional<std::error_code> known(std::error_code why) noexcept {
  if (why == errc::unhandled_effect || why == errc::not_in_fiber) return std::nullopt;
  return why;
}

/// What whoever steps says of a wait of a handler; nothing: he does not know it.
template <class Op>
std::optional<std::error_code> wait_outside(handler_frame& stepped, const Op& op, deadline until,
                                            bool heed_cancel) {
  std::optional<result<typename Op::value_type>> answer;
  effect_call call{&type_of<Op>, &op, &answer, until, nullptr, !heed_cancel};
  const reply said = stepped.ask(stepped, call);
  if (said == reply::answered)
    return *answer ? std::optional(std::error_code()) : known(answer->error());
  return known(call.why_refused());
}

// A call: what it finds of the thread is found anew each time.
[[gnu::noinline]] handler_frame* stepped_here() noexcept {
  return stepped_around(innermost_handler());
}

std::error_code wait_for_descriptor(const wait_hint& hint, deadline until, bool heed_cancel) {
  if (handler_frame* const stepped = stepped_here())
    if (const auto ended =
            wait_outside(*stepped, poll_operation(hint.fd, hint.events), until, heed_cancel))
      return *ended;
  if (current_fiber() == nullptr) {
    pollfd one{hint.fd, static_cast<short>(hint.events), 0};
    timespec left{};
    const bool bounded = until != never;
    if (bounded) {
      const auto ns = std::max<std::int64_t>(0, (until - clock::now()).count());
      left = {ns / 1'000'000'000, ns % 1'000'000'000};
    }
    const int n = ::ppoll(&one, 1, bounded ? &left : nullptr, nullptr);
    if (n > 0 || (n < 0 && errno == EINTR)) return {};
    return n == 0 ? std::make_error_code(std::errc::timed_out) : system_error(-errno);
  }
  io_uring_sqe entry{};
  entry.opcode = IORING_OP_POLL_ADD;
  entry.fd = hint.fd;
  entry.poll32_events = hint.events;
  const std::int32_t res =
      heed_cancel ? perform_entry(entry, ns_of(until)) : perform_to_the_end(entry, ns_of(until));
  return res < 0 ? io_error(res) : std::error_code();
}

std::error_code pause_until(deadline until, bool heed_cancel) {
  if (handler_frame* const stepped = stepped_here())
    if (const auto ended = wait_outside(*stepped, sleep_operation{until}, never, heed_cancel))
      return *ended;
  if (heed_cancel) {
    const auto slept = sleep_operation{until}.outside(never);
    return slept ? std::error_code() : slept.error();
  }
  event never_set;
  const std::error_code ended = wait_for_event(never_set, until, false);
  return ended == std::errc::timed_out ? std::error_code() : ended;
}

/// Until what `hint` names has come. timed_out only when that is the deadline of the effect.
std::error_code wait_for(const effect_call& call, backoff& pauses) {
  const wait_hint& hint = call.hint;
  const bool heeds = !call.must_happen || COIR_MUTANT(close_waits_like_others);
  deadline next = hint.until;
  std::error_code ended;
  if (hint.gate != nullptr) {
    next = std::min(next, call.until);
    ended = wait_in_handler(*hint.gate, next, heeds);
  } else if (hint.fd >= 0) {
    next = std::min(next, call.until);
    ended = wait_for_descriptor(hint, next, heeds);
  } else {
    if (next == never) next = in(pauses.next());
    next = std::min(next, call.until);
    if (next <= clock::now() && next == call.until)
      return std::make_error_code(std::errc::timed_out);
    ended = pause_until(next, heeds);
  }
  const bool over = call.until != never && clock::now() >= call.until;
  if (ended == std::errc::timed_out && !over) return {};
  if (!ended && over) return std::make_error_code(std::errc::timed_out);
  return ended;
}

reply refuse(effect_call& call, std::error_code why) noexcept {
  call.refused = why;
  return reply::refused;
}

/// An effect of `fiber` (null: of a thread), whose chain begins with `innermost`, is not to be
/// asked: the fiber is cancelled, or a body that it runs is to end. That is told and counted.
bool is_to_end(handler_frame* innermost, record* fiber) noexcept {
  handler_frame* const ends = ending_among(innermost);
  if (ends == nullptr && (fiber == nullptr || !is_cancelled(*fiber))) return false;
  if (ends != nullptr && ends->ignored != nullptr) ends->ignored(*ends);
  if (fiber != nullptr) worker::current()->count_ignored(*fiber);
  return true;
}

/// From `asked` outward, to the first who does not forward.
inline reply ask_from(asking& all, handler_frame*& asked, effect_call& call) {
  reply said = reply::forward;
  while (asked != nullptr && (said = all.ask(*asked, call)) == reply::forward) asked = asked->outer;
  return said;
}

/// `asked` said "not now": waits and asks, as often as may be.
[[gnu::noinline]] reply ask_again(asking& all, handler_frame* asked, effect_call& call) {
  const retry_policy policy = call.policy != nullptr ? *call.policy : retry_policy();
  backoff pauses(policy.pause, policy.pause_max);
  reply said = reply::would_block;
  for (unsigned attempts = 1; said == reply::would_block; ++attempts) {
    if (attempts >= policy.attempts_max && !COIR_MUTANT(asked_without_end))
      return refuse(call, std::make_error_code(std::errc::resource_unavailable_try_again));
    if (const std::error_code ended = wait_for(call, pauses)) return refuse(call, ended);
    said = ask_from(all, asked, call);
  }
  return said;
}

}  // namespace

/// A computation cannot tell its loop whom an event wakes, so it looks again and again.
std::error_code wait_in_handler(event& gate, deadline until, bool heed_cancel) {
  backoff pauses(std::chrono::microseconds(50), std::chrono::milliseconds(10));
  while (handler_frame* const stepped = stepped_here()) {
    // Under its lock, which sees off who sets it; whoever has closed it again is not waited for.
    if (gate.is_set() && !wait_for_event(gate, no_wait, false)) return {};
    if (until != never && clock::now() >= until) return std::make_error_code(std::errc::timed_out);
    const sleep_operation a_little{std::min(until, in(pauses.next()))};
    const auto ended = wait_outside(*stepped, a_little, never, heed_cancel);
    if (!ended) break;
    if (*ended) return *ended;
  }
  return wait_for_event(gate, until, heed_cancel);
}

// A call in every build: what it finds of the thread is found anew each time.
[[gnu::noinline]] handler_chain handlers_here() noexcept {
  record* const me = current_fiber();
  return {me != nullptr ? &me->head().handlers : &of_thread, me};
}

handler_frame* innermost_handler() noexcept {
  record* const me = current_fiber();
  return me != nullptr ? me->head().handlers : of_thread;
}

bool handlers_are_there() noexcept {
  const record* const me = current_fiber();
  return me != nullptr ? me->asks : of_thread != nullptr;
}

void enter_handler(handler_frame& frame) noexcept {
  frame.outer = handlers_here().exchange(&frame);
  frame.comes_back_elsewhere = frame.outer != nullptr && frame.outer->comes_back_elsewhere &&
                               !COIR_MUTANT(handler_returns_here);
}

void leave_handler(handler_frame& frame) noexcept {
  handler_frame* const innermost = handlers_here().exchange(frame.outer);
  COIR_ASSERT(innermost == &frame);
}

reply ask_handlers(effect_call& call) {
  asking all;
  if (all.innermost() == nullptr) return reply::forward;
  if (!call.must_happen && is_to_end(all.innermost(), all.fiber())) [[unlikely]]
    return refuse(call, std::make_error_code(std::errc::operation_canceled));
  handler_frame* asked = all.innermost();
  const reply said = ask_from(all, asked, call);
  return said == reply::would_block ? ask_again(all, asked, call) : said;
}

namespace {

/// What the handler of a close waits for inside a computation, and whoever steps that is asked for:
/// it heeds no cancel there either. False: it is another effect.
bool wait_regardless(effect_call& call) {
  if (!call.must_happen || COIR_MUTANT(stepped_close_heeds)) return false;
  if (call.type->is(type_of<sleep_operation>)) {
    const auto& pause = *static_cast<const sleep_operation*>(call.op);
    const std::error_code ended = pause_until(pause.until, false);
    auto& answer = *static_cast<std::optional<result<>>*>(call.answer);
    ended ? answer.emplace(fail(ended)) : answer.emplace();
    return true;
  }
  if (!call.type->is(type_of<poll_operation>) || current_fiber() == nullptr) return false;
  io_uring_sqe entry{};
  call.type->fill(call.op, entry);
  call.type->complete(call.op, perform_to_the_end(entry, ns_of(call.until)), call.answer);
  return true;
}

}  // namespace

reply ask_everybody(effect_call& call) {
  if (handlers_are_there()) {
    const reply said = ask_handlers(call);
    if (said != reply::forward) return said;
  }
  if (wait_regardless(call)) return reply::answered;
  const operation_type& kind = *call.type;
  if (kind.fill != nullptr) {
    kind.complete(call.op, perform_outside(kind.fill, call.op, call.until), call.answer);
    call.by_kernel = true;
  } else if (kind.outside != nullptr) {
    kind.outside(call.op, call.until, call.answer);
  } else {
    call.refused = make_error_code(errc::unhandled_effect);
    return reply::refused;
  }
  return reply::answered;
}

}  // namespace coir::detail
