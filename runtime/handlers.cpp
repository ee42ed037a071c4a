// handlers.cpp: the chain of those who answer the effects of a body, and the order in which they
// are asked.
//
// Always true:
//   - The chain of a fiber begins in the head of its stack, that of a plain thread in a
//   thread-local
//     word; `asks` in the record says whether a fiber has one, so that an effect without handlers
//     looks nowhere else.
//   - While one is asked, the chain begins behind it; when ask_handlers is left, by an exception
//     too, it is what it was.
//   - A body that is to end is told so before anybody is asked.
//   - What must happen is asked for, and waited for, whether or not the fiber is cancelled.
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

/// The chain of whoever is asking begins behind `at` for as long as this lives.
class asking_from {
 public:
  explicit asking_from(handler_frame* at) noexcept : before_(exchange_handlers(at)) {}
  ~asking_from() { exchange_handlers(before_); }
  handler_frame* innermost() const noexcept { return before_; }
  asking_from(const asking_from&) = delete;
  asking_from& operator=(const asking_from&) = delete;

 private:
  handler_frame* before_;
};

bool is_to_end(const handler_frame* from) noexcept {
  for (; from != nullptr; from = from->outer) {
    if (from->ending && !COIR_MUTANT(ended_body_goes_on)) return true;
  }
  return false;
}

std::error_code wait_for_descriptor(const wait_hint& hint, deadline until, bool heed_cancel) {
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
    ended = wait_for_event(*hint.gate, next, heeds);
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

}  // namespace

// A call in every build: what it finds of the thread is found anew each time.
[[gnu::noinline]] handler_frame* exchange_handlers(handler_frame* innermost) noexcept {
  if (record* const me = current_fiber()) {
    me->asks = innermost != nullptr;
    return std::exchange(me->head().handlers, innermost);
  }
  return std::exchange(of_thread, innermost);
}

handler_frame* innermost_handler() noexcept {
  record* const me = current_fiber();
  return me != nullptr ? me->head().handlers : of_thread;
}

bool handlers_are_there() noexcept {
  const record* const me = current_fiber();
  return me != nullptr ? me->asks : of_thread != nullptr;
}

void enter_handler(handler_frame& frame) noexcept { frame.outer = exchange_handlers(&frame); }

void leave_handler(handler_frame& frame) noexcept {
  handler_frame* const innermost = exchange_handlers(frame.outer);
  COIR_ASSERT(innermost == &frame);
}

reply ask_handlers(effect_call& call) {
  const auto refused = [&call](std::error_code why) {
    call.refused = why;
    return reply::refused;
  };
  const asking_from all(nullptr);
  handler_frame* const innermost = all.innermost();
  record* const me = current_fiber();
  if (!call.must_happen && (is_to_end(innermost) || (me != nullptr && is_cancelled(*me)))) {
    if (me != nullptr) worker::current()->count_ignored(*me);
    return refused(std::make_error_code(std::errc::operation_canceled));
  }
  const unsigned most = call.policy != nullptr ? call.policy->attempts_max : UINT32_MAX;
  unsigned attempts = 0;
  std::optional<backoff> pauses;
  for (handler_frame* asked = innermost; asked != nullptr;) {
    exchange_handlers(COIR_MUTANT(handler_asks_itself) ? innermost : asked->outer);
    const reply said = asked->ask(*asked, call);
    if (said == reply::forward) {
      asked = asked->outer;
      continue;
    }
    if (said != reply::would_block) return said;
    if (++attempts >= most && !COIR_MUTANT(asked_without_end))
      return refused(std::make_error_code(std::errc::resource_unavailable_try_again));
    if (!pauses) {
      const retry_policy policy = call.policy != nullptr ? *call.policy : retry_policy();
      pauses.emplace(policy.pause, policy.pause_max);
    }
    if (const std::error_code ended = wait_for(call, *pauses)) return refused(ended);
  }
  return reply::forward;
}

reply ask_everybody(effect_call& call) {
  if (handlers_are_there()) {
    const reply said = ask_handlers(call);
    if (said != reply::forward) return said;
  }
  const operation_type& kind = *call.type;
  if (kind.fill != nullptr) {
    kind.complete(call.op, perform_outside(kind.fill, call.op, call.until), call.answer);
  } else if (kind.outside != nullptr) {
    kind.outside(call.op, call.until, call.answer);
  } else {
    call.refused = make_error_code(errc::unhandled_effect);
    return reply::refused;
  }
  return reply::answered;
}

}  // namespace coir::detail
