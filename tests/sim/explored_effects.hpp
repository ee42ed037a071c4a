// explored_effects.hpp: parts of a generated program whose effects are answered by others than the
// world: by handlers, by whoever steps, by the first of several, and by a machine.
//
// Always true:
//   - The right answer follows from the question, so one that reaches another asker is seen.
//   - An answer that was accepted reaches its asker; one that was refused reaches nobody.
//
// Comes from: explorer.hpp.   Goes to: explored_wires.hpp.
#pragma once

#include <set>

#include "explored_wires.hpp"

namespace explored {

/// None of the kernel's.
struct question {
  using value_type = std::uint64_t;
  static constexpr std::string_view name = "explored.question";
  std::uint64_t about = 0;
};

inline std::uint64_t answer_to(const question& q) { return q.about * 3 + 1; }

/// Answers in every way there is; what takes a while is up to fibers of `helpers`.
class answering {
 public:
  using handles = coir::operations<question>;
  using said = coir::dispatched<std::uint64_t>;
  static constexpr std::uint64_t in_its_place = 77;

  answering(const part& of, bool outermost) : p(of), forwards(!outermost) {}

  said dispatch(const question& q, coir::dispatch_context<question>& context) {
    check(!asking_outward, "a handler is asked by itself");
    switch (p.w.choose(forwards ? 11 : 9)) {
      case 1:
        p.pass_time();
        break;
      case 2:
        return said::would_block({.until = coir::in(p.moment())});
      case 3:
        gate.reset();
        (void)helpers.spawn([this] { open_gate(); }, p.anywhere("opener"));
        return said::would_block({.gate = &gate});
      case 4:
        (void)helpers.spawn([this, q, to = context.keep()]() mutable { answer_later(q, to); },
                            p.anywhere("answerer"));
        return said::later();
      case 5:
        (void)context.keep();
        return said::later();
      case 6:
        ++going_on;
        return said::more(answer_to(q), coir::live_operation([this] { --going_on; }));
      case 7:
        return said::failed(std::make_error_code(std::errc::io_error));
      case 8:
        finished = true;
        return said::finish(in_its_place);
      case 9:
        return said::forward();
      case 10:
        return ask_outward(q, context.until());
      default:
        break;
    }
    return said::done(answer_to(q));
  }

  bool finished = false;
  std::uint64_t going_on = 0;
  std::set<std::uint64_t> accepted;  // what was asked, and whose answer found its asker waiting

 private:
  said ask_outward(const question& q, coir::deadline until) {
    asking_outward = true;
    const auto got = coir::perform(q, until);
    asking_outward = false;
    return got ? said::done(*got) : said::failed(got.error());
  }
  void open_gate() {
    p.pass_time();
    gate.set();
  }
  void answer_later(const question& q, coir::resumption<std::uint64_t>& to) {
    p.pass_time();
    const auto resumed = to.resume(answer_to(q));
    if (resumed) accepted.insert(q.about);
    check(resumed.has_value() || resumed.error() == coir::errc::finished, "an answer, later");
    const auto again = to.resume(0);
    check(!again && again.error() == (resumed ? coir::errc::resumed_twice : coir::errc::finished),
          "an answer, twice");
  }

  const part& p;
  const bool forwards;
  bool asking_outward = false;
  coir::event gate;
  coir::scope helpers;  // ends before what its fibers use
};

/// Asks; what it got. The last one says how often it came to its end.
inline std::set<std::uint64_t> ask_all(const part& p, const answering& outer,
                                       const answering& inner, unsigned& ends) {
  std::set<std::uint64_t> got;
  for (std::uint64_t i = 0, count = p.choose(1, 4); i < count; ++i) {
    const bool over = outer.finished || inner.finished;
    const question q{p.id * 100 + i};
    const auto answer = coir::perform(q, p.deadline());
    if (answer) {
      check(*answer == answer_to(q), "the answer to another question");
      check(!over, "an effect of a body that has been ended");
      got.insert(q.about);
    } else {
      check(is_passing(answer.error()) || answer.error() == coir::errc::unhandled_effect,
            "a question");
    }
  }
  ++ends;
  return got;
}

/// A body with two handlers around it; now and then its fiber is cancelled.
inline void handled(const part& p) {
  coir::scope own;
  auto asking = own.spawn(
      [&p] {
        unsigned ends = 0;
        std::set<std::uint64_t> got;
        answering outer(p, true), inner(p, false);
        const auto whole = coir::handle_effects(
            [&] {
              return coir::handle_effects(
                  [&]() -> std::uint64_t {
                    got = ask_all(p, outer, inner, ends);
                    return got.size();
                  },
                  inner);
            },
            outer);
        check(ends == 1, "a body ends once");
        const bool ended = outer.finished || inner.finished;
        check(whole == (ended ? answering::in_its_place : got.size()), "what a body returns");
        check(outer.going_on == 0 && inner.going_on == 0, "what goes on is ended");
        for (const answering* each : {&outer, &inner})
          for (const std::uint64_t about : each->accepted)
            check(got.contains(about), "an answer that was accepted is lost");
      },
      p.anywhere("asker"));
  if (p.w.choose(4) == 3) {
    p.pass_time();
    asking.cancel();
  }
  const auto joined = asking.join();
  check(joined.has_value() || joined.error() == std::errc::operation_canceled, "join an asker");
}

/// A body that is stepped on a fiber: its questions are answered here, its other effects are
/// performed here in its place; or it is given up.
inline void stepped(const part& p) {
  unsigned ends = 0;
  std::uint64_t answered = 0;
  const auto body = [&p, &ends] {
    std::uint64_t got = 0;
    for (std::uint64_t i = 0, count = p.choose(1, 5); i < count; ++i) {
      if (p.w.choose(4) == 3) p.pass_time();
      const auto answer = coir::perform(question{i});
      if (!answer) continue;
      check(*answer == answer_to({i}), "the answer of another step");
      ++got;
    }
    ++ends;
    return got;
  };
  auto at = coir::step(body, {.stack_bytes = 64 << 10, .name = "stepped"});
  while (at.is_suspended()) {
    auto held = std::move(at.waiting());
    const auto* const q = held.op().as<question>();
    const std::uint64_t how = p.w.choose(6);
    if (how == 5) {
      held.discard();
      return check(ends == 1, "a body that is given up ends once");
    }
    if (how == 4) {
      at = held.resume_failing(std::make_error_code(std::errc::io_error));
    } else if (held.op().is<coir::nop>()) {
      at = std::move(*held.resume<coir::nop>(coir::perform(coir::nop{})));
    } else if (q == nullptr) {
      const auto pause = *held.op().as<coir::sleep_operation>();
      at = std::move(*held.resume<coir::sleep_operation>(coir::perform(pause)));
    } else {
      if (how >= 2) p.pass_time();
      ++answered;
      auto next = held.resume<question>(answer_to(*q));
      check(next.has_value(), "a resume");
      check(!held.resume<question>(0), "a resume, twice");
      at = std::move(*next);
    }
  }
  check(ends == 1 && at.has_value() && at.value() == answered, "a body that was stepped");
}

/// A receive beside a fiber and a deadline: whoever wins, no byte is lost.
inline void first_of(const part& p) {
  wire line = wire_of_few_bytes(p);
  const std::uint64_t total = p.choose(0, 100);
  bool over = false;
  coir::scope own;
  auto sending = own.spawn([&] { send_all(p, line, total); }, p.anywhere("sender"));
  const auto look_at = [&](const std::optional<coir::result<std::size_t>>& n,
                           std::span<const std::byte> buffer) {
    if (!n) return;
    if (*n) line.take(buffer.first(**n));
    line.broken |= !*n && is_broken(n->error());
    check(*n || line.broken || is_passing(n->error()), "a receive among several");
    over = line.broken || (*n && **n == 0);
  };
  while (!over) {
    std::array<std::byte, 16> buffer{};
    auto receiving = coir::start(coir::recv_operation{line.in, buffer});
    auto passing = own.spawn([&p] { return p.pass_time(), p.id; }, p.anywhere("rival"));
    if (p.maybe()) {
      const auto [n, id] = coir::await_all(p.deadline(), receiving, passing);
      look_at(n, buffer);
      check(id ? *id == p.id : is_passing(id.error()), "all of two");
    } else {
      const auto found = coir::await_any(p.deadline(), receiving, passing);
      const auto& [n, id] = found.answers;
      look_at(n, buffer);
      check(!id || (*id ? **id == p.id : is_passing(id->error())), "one of two");
      check(found.index != 0 || n.has_value(), "a winner without an answer");
      check(found.index != 1 || id.has_value(), "a winning fiber without an answer");
    }
  }
  check(sending.join().has_value(), "join the sender");
  check(line.broken || line.received == line.sent, "bytes sent are bytes received, among several");
  close(line.in);
}

struct tally {
  std::uint64_t sum = 0;
};
using adder = coir::state_machine<std::uint64_t, std::uint64_t, tally>;

/// Adds in one of three ways, each of which lets others run between the look and the change.
inline coir::result<std::uint64_t> add(const part& p, std::uint64_t how, std::uint64_t what,
                                       adder::context& state) {
  const auto change = [what](tally& t) { return t.sum += what; };
  if (how == 0) {
    p.pass_time();
    return state.update(change);
  }
  if (how == 1)
    return state.atomically([&] {
      const std::uint64_t before = state.peek()->sum;
      p.pass_time();
      return [before, what](tally& t) { return t.sum = before + what; };
    });
  const auto held = state.lock(0, p.deadline());
  if (!held) return coir::fail(held.error());
  const std::uint64_t before = state.peek()->sum;
  p.pass_time();
  return state.update([before, what](tally& t) { return t.sum = before + what; });
}

/// Inputs of several fibers, some of which give up: each that has changed the state did so once.
inline void machine(const part& p) {
  const std::uint64_t how = p.w.choose(3), count = p.choose(1, 5);
  std::uint64_t changed = 0;
  std::set<std::uint64_t> sums;
  coir::machine_options o{.worker = static_cast<unsigned>(p.w.choose(p.workers))};
  o.inflight_max = static_cast<std::uint32_t>(p.choose(1, 3));
  o.queue_max = static_cast<std::uint32_t>(p.choose(1, 3));
  auto made = adder::create(
      {},
      [&](std::uint64_t what, adder::context& state) {
        auto sum = add(p, how, what, state);
        if (sum) check(*sum == ++changed, "a change is lost");
        return sum;
      },
      o);
  check(made.has_value(), "create a machine");
  coir::scope own;  // ends before the machine does
  for (std::uint64_t i = 0; i < count; ++i) {
    auto calling = own.spawn(
        [&] {
          const auto sum = made->call(1, p.deadline());
          check(made->queued() <= o.queue_max, "a line of inputs is too long");
          if (sum) check(sums.insert(*sum).second, "the same sum twice");
          check(sum || is_passing(sum.error()) || sum.error() == coir::errc::state_changed,
                "a call of a machine");
        },
        p.anywhere("caller"));
    if (p.w.choose(4) == 3) calling.cancel();
    if (p.w.choose(4) == 3) p.pass_time();
  }
  const auto joined = own.join();
  check(joined.has_value() || is_passing(joined.error()), "join the callers");
  check(made->stop().has_value(), "stop a machine");
  check(sums.size() <= changed && changed <= count, "an input changes the state once");
}

}  // namespace explored
