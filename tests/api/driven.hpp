// driven.hpp: those who drive a random program, each in a way of its own, and what one sees of it.
//
// Always true:
//   - What a driver answers is what random_program::dispatcher says; they differ in where a
//     question waits, and in how a program is given up: ended by its handler, discarded, cancelled
//     in a loop, or cancelled as a fiber.
//
// Comes from: drivers_test.cpp, sim/drivers_test.cpp.   Goes to: random_program.hpp.
#pragma once

#include <doctest/doctest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <utility>

#include "random_program.hpp"
#include "scripted_outside.hpp"

namespace driven {

using coir::errc;
using random_program::answer;
using random_program::ask_number;
using random_program::give_up;
using random_program::memory;
using random_program::trouble;

/// All that one can see of a run.
struct seen {
  answer gave;
  std::vector<std::string> trace;
  friend bool operator==(const seen&, const seen&) = default;
};

/// `gave`: what the driver got for it; nothing where it was given up without an answer.
inline seen all_of(const memory& m, const std::optional<answer>& gave) {
  const answer never_ended = tl::unexpected(trouble{-2});
  const bool lost = m.given_up && (!gave || *gave == random_program::in_its_place);
  return {lost ? m.ended.value_or(never_ended) : *gave, m.trace};
}

// -- who answers ----------------------------------------------------------------------------------

template <class F>
seen by_exec(F body, memory& m) {
  random_program::dispatcher by(m);
  return all_of(m, coir::exec(by, body));
}

/// On whatever fiber or thread this is; what nobody handles goes to the backend.
template <class F>
seen by_handlers(F body, memory& m) {
  random_program::dispatcher by(m);
  return all_of(m, coir::handle_effects(body, by));
}

enum class flaw {
  none,
  not_now_is_an_error,
  exceptions_are_errors,
  asks_twice,
  errors_are_dropped,
  gives_up_one_effect
};

template <flaw Flaw = flaw::none, class F>
seen by_hand(F body, memory& m) {
  random_program::dispatcher by(m);
  auto at = coir::step(std::move(body), {.stack_bytes = 128 << 10});
  while (at.is_suspended()) {
    auto held = std::move(at.waiting());
    if (held.op().template is<give_up>()) {
      m.leaves();
      if (Flaw == flaw::gives_up_one_effect) {
        at = held.resume_failing(std::make_error_code(std::errc::operation_canceled));
        continue;
      }
      held.discard();
      return all_of(m, {});
    }
    std::exception_ptr thrown;
    std::optional<coir::advanced<answer>> next;
    if (Flaw == flaw::asks_twice) ++by.asked;
    try {
      next.emplace(coir::advance(by, std::move(held)));
    } catch (...) {
      thrown = std::current_exception();
    }
    if (thrown != nullptr) {
      at = Flaw == flaw::exceptions_are_errors ? held.resume_failing(errc::finished)
                                               : held.resume_throwing(std::move(thrown));
    } else if (next->last == coir::outcome::failure && Flaw != flaw::errors_are_dropped) {
      at = next->state.waiting().resume_failing(next->error);
    } else if (next->last == coir::outcome::failure) {
      at = next->state.waiting().resume_failing({});
    } else if (next->last == coir::outcome::would_block && Flaw == flaw::not_now_is_an_error) {
      at = next->state.waiting().resume_failing(errc::finished);
    } else {
      at = std::move(next->state);
    }
  }
  return all_of(m, at.value());
}

/// To a backend and back: each number that was an answer is one of its completions.
struct wire {
  using value_type = long;
  static constexpr std::string_view name = "random.wire";
  void fill(io_uring_sqe& entry) const {
    entry.opcode = IORING_OP_NOP;
    entry.len = static_cast<unsigned>(value);
  }
  long complete(std::int32_t res) const { return res; }
  long value;
};
struct wired : random_program::dispatcher {
  using dispatcher::dispatch;
  using dispatcher::dispatcher;
  coir::dispatched<long> dispatch(const ask_number& op, coir::dispatch_context<ask_number>& c) {
    auto said = dispatcher::dispatch(op, c);
    if (said.kind() == coir::outcome::would_block) {
      opened.reset();
      return coir::dispatched<long>::would_block({.gate = &opened});
    }
    if (said.kind() != coir::outcome::ok) return said;
    const auto got = coir::perform(wire{said.value()});
    return got ? coir::dispatched<long>::done(*got) : coir::dispatched<long>::failed(got.error());
  }
  /// Waits for what does not come until whoever drives cancels.
  coir::dispatched<void> dispatch(const give_up&, coir::dispatch_context<give_up>&) {
    told.leaves();
    const auto got = coir::perform(wire{no_answer});
    return got ? coir::dispatched<void>::done() : coir::dispatched<void>::failed(got.error());
  }
  static constexpr long no_answer = 1'000'000;
  coir::event opened;  // by another body of the loop
};

/// In a loop, whose backend answers what is added to `off`; 0, or it is a broken one. What a
/// handler waits for comes from another body, and time goes on as far as somebody sleeps.
template <long Off = 0, class F>
seen by_loop(F body, memory& m) {
  test::scripted_outside outside;
  auto loop = coir::loop::make(outside);
  wired by(m);
  outside.at = coir::clock::now();
  auto one = loop->submit([&] { return coir::handle_effects(body, by); });
  auto opens = loop->submit([&] {
    while (coir::this_fiber::sleep_until(outside.at + std::chrono::milliseconds(1)))
      by.opened.set();
  });
  while (!one.done()) {
    if (outside.flying.empty()) {
      outside.at = std::max(loop->next_deadline(), coir::clock::now());
      REQUIRE(loop->poll());
      continue;
    }
    REQUIRE(outside.flying.size() == 1);
    const auto asked = outside.flying.front();
    if (asked.about == wired::no_answer) {
      one.cancel();
    } else {
      outside.answer(asked.name, asked.about + static_cast<std::int32_t>(Off));
    }
    REQUIRE(loop->poll());
  }
  opens.cancel();
  return all_of(m, *one.get());
}

/// To whoever drives and back, through two pipes: of each number that was an answer one waits until
/// it comes again.
class pipes {
 public:
  pipes() : owned_(true) {
    REQUIRE(::pipe(to_.data()) == 0);
    REQUIRE(::pipe(from_.data()) == 0);
  }
  /// Each a read end and a write end, of somebody else.
  pipes(std::pair<int, int> to, std::pair<int, int> from)
      : to_{to.first, to.second}, from_{from.first, from.second} {}
  ~pipes() {
    for (const int one : {to_[0], to_[1], from_[0], from_[1]})
      if (owned_) ::close(one);
  }
  pipes(const pipes&) = delete;
  pipes& operator=(const pipes&) = delete;

  static constexpr long cancel_me = -1, ended = -2;
  std::error_code send(long what) {
    const auto n = coir::io::write_all(to_[1], std::as_bytes(std::span(&what, 1)));
    return n ? std::error_code() : n.error();
  }
  coir::result<long> receive() {
    long what = 0;
    const auto n = coir::io::read_exact(from_[0], std::as_writable_bytes(std::span(&what, 1)));
    return n ? coir::result<long>(what) : coir::fail(n.error());
  }
  /// For whoever drives: on a fiber, which waits; and on a thread, which does not.
  long sent() {
    long what = 0;
    CHECK(coir::io::read_exact(to_[0], std::as_writable_bytes(std::span(&what, 1))) == sizeof what);
    return what;
  }
  void send_back(long what) {
    CHECK(coir::io::write_all(from_[1], std::as_bytes(std::span(&what, 1))));
  }
  std::optional<long> sent_already() {
    pollfd one{to_[0], POLLIN, 0};
    long what = 0;
    if (::poll(&one, 1, 0) != 1) return {};
    CHECK(::read(to_[0], &what, sizeof what) == sizeof what);
    return what;
  }
  void send_back_already(long what) { CHECK(::write(from_[1], &what, sizeof what) == sizeof what); }

 private:
  bool owned_ = false;
  std::array<int, 2> to_{}, from_{};
};

struct piped : random_program::dispatcher {
  piped(memory& m, pipes& p) : dispatcher(m), through(p) {}
  using dispatcher::dispatch;
  coir::dispatched<long> dispatch(const ask_number& op, coir::dispatch_context<ask_number>& c) {
    auto said = dispatcher::dispatch(op, c);
    if (said.kind() != coir::outcome::ok) return said;
    if (const auto why = through.send(said.value())) return coir::dispatched<long>::failed(why);
    const auto got = through.receive();
    return got ? coir::dispatched<long>::done(*got) : coir::dispatched<long>::failed(got.error());
  }
  coir::dispatched<void> dispatch(const give_up&, coir::dispatch_context<give_up>&) {
    told.leaves();
    if (const auto why = through.send(pipes::cancel_me)) return coir::dispatched<void>::failed(why);
    const auto got = through.receive();
    return got ? coir::dispatched<void>::done() : coir::dispatched<void>::failed(got.error());
  }
  pipes& through;
};

/// Another fiber, on which each of its questions waits for the outside; this one sends the numbers
/// back, with `Off` added, and cancels it when it shall.
template <long Off = 0, class F>
seen by_fiber(F body, memory& m, pipes& through, unsigned worker) {
  piped by(m, through);
  auto asks = coir::spawn(
      [&] {
        const answer gave = coir::handle_effects(body, by);
        if (!m.given_up) CHECK_FALSE(through.send(pipes::ended));
        return gave;
      },
      {.worker = worker});
  for (long what; (what = through.sent()) != pipes::ended;) {
    if (what == pipes::cancel_me) {
      asks.cancel();
      break;
    }
    through.send_back(what + Off);
  }
  return all_of(m, *asks.join());
}

/// The same in a loop over a backend of the system's.
template <class F>
seen by_backend(F body, memory& m, pipes& through, coir::backend& outside) {
  auto loop = coir::loop::make(outside);
  piped by(m, through);
  auto one = loop->submit([&] { return coir::handle_effects(body, by); });
  while (!one.done()) {
    REQUIRE(loop->poll(coir::never));
    const auto what = through.sent_already();
    if (!what) continue;
    if (*what == pipes::cancel_me) {
      one.cancel();
    } else {
      through.send_back_already(*what);
    }
  }
  return all_of(m, *one.get());
}

}  // namespace driven
