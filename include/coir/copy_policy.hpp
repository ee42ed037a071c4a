// copy_policy.hpp: what a copy or a tee does when a side says "not now" or "there is more".
//
// Always true:
//   - A policy is asked per step and per side, and it does the waiting itself, if there is any.
//   - Going on keeps the place: the rest of what was read is written, nothing is read twice.
//   - Nobody goes on for ever: before each further attempt the deadline and the fiber's cancel are
//     looked at.
//
// Comes from: coir/copy.hpp, coir/tee.hpp.   Goes to: this_fiber.
#pragma once

#include <concepts>
#include <cstdint>

#include "coir/backoff.hpp"
#include "coir/clock.hpp"
#include "coir/fiber.hpp"
#include "coir/outcome.hpp"

namespace coir::io {

/// Which attempt it was.
enum class copy_step : std::uint8_t {
  read,
  write,
  tee_reader_read,
  tee_reader_side,
  tee_writer_primary,
  tee_writer_side,
};

constexpr bool is_read(copy_step s) noexcept {
  return s == copy_step::read || s == copy_step::tee_reader_read;
}

enum class decision : std::uint8_t { stop, retry };

/// Called with would_block or more.
template <class P>
concept copy_policy = requires(P& p, copy_step step, outcome how) {
  { p(step, how) } -> std::same_as<decision>;
};

/// Every "not now" and every "more" goes to the caller.
struct return_policy {
  decision operator()(copy_step, outcome) const noexcept { return decision::stop; }
};

/// "Not now": other fibers run, and it is tried again. "More" goes to the caller.
struct yield_policy {
  decision operator()(copy_step, outcome how) const noexcept {
    if (how != outcome::would_block) return decision::stop;
    this_fiber::yield();
    return decision::retry;
  }
};

/// The same for writes; a read that would block goes to the caller, who has lost nothing by then.
struct yield_on_write_policy {
  decision operator()(copy_step step, outcome how) const noexcept {
    return is_read(step) ? decision::stop : yield_policy()(step, how);
  }
};

/// Goes on in every case; before a retry of "not now" it sleeps, longer each time until something
/// moves on.
class pause_policy {
 public:
  pause_policy() = default;
  explicit pause_policy(backoff pause) noexcept : pause_(pause) {}
  decision operator()(copy_step, outcome how) noexcept {
    if (how != outcome::would_block) {
      pause_.reset();
      return decision::retry;
    }
    (void)this_fiber::sleep_for(pause_.next());  // a cancel is seen before the next attempt
    return decision::retry;
  }

 private:
  backoff pause_;
};

namespace copying {
/// timed_out or operation_canceled; empty: nothing is against one more attempt.
COIR_API std::error_code why_not_again(deadline until) noexcept;
}  // namespace copying

}  // namespace coir::io
