// random_program.hpp: random programs of effects, each of which can be run in blocking style and as
// a coroutine, and one dispatcher that answers them.
//
// Always true:
//   - A program is a tree: what it does depends on its answers and on nothing else.
//   - The dispatcher is a function of what it was asked before, so two drivers that ask the same
//     get the same; its trace and the program's are one, in the order in which things happened.
//   - A program that was given up goes on to its end: each driver gives it up in a way of its own,
//     and what happens from then on does not depend on that.
//
// Comes from: driven.hpp.   Goes to: coir/coroutine.hpp.
#pragma once

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "coir/coir.hpp"

namespace random_program {

using coir::dispatched;

struct ask_number {
  using value_type = long;
  static constexpr std::string_view name = "random.ask_number";
  long about = 0;
};
struct tell {
  using value_type = void;
  static constexpr std::string_view name = "random.tell";
  long what = 0;
};
/// Nobody answers it.
struct unknown {
  using value_type = long;
  static constexpr std::string_view name = "random.unknown";
};

/// Asks whoever drives to give the program up: this and all that it asks for from then on answers
/// operation_canceled.
struct give_up {
  using value_type = void;
  static constexpr std::string_view name = "random.give_up";
};

/// What is raised.
struct trouble {
  long what;
  friend bool operator==(const trouble&, const trouble&) = default;
};
using answer = tl::expected<long, trouble>;
/// What a program that is given up is ended with, where it is ended with something.
inline const answer in_its_place = tl::unexpected(trouble{-1});

enum class kind {
  ask,
  tell,
  unknown,
  branch,
  repeat,
  raise,
  attempt,
  give_back,
  handled,
  clean,
  leave
};

struct node {
  kind what;
  long n;
  std::vector<node> inner, other;
};
using program = std::vector<node>;

/// Of at most `left` nodes, nested at most `depth` times.
inline program make(std::mt19937& dice, int depth, int& left) {
  program made;
  const auto draw = [&](unsigned n) { return static_cast<int>(dice() % n); };
  for (int i = draw(3) + 1; i != 0 && left > 0; --i) {
    --left;
    node one{static_cast<kind>(depth == 0     ? draw(3)
                               : draw(14) < 4 ? draw(3)
                                              : 3 + draw(7)),
             draw(100),
             {},
             {}};
    if (draw(50) == 0) one.what = kind::leave;
    if (one.what >= kind::branch && one.what != kind::raise && one.what != kind::leave) {
      one.inner = make(dice, depth - 1, left);
      one.other = make(dice, depth - 1, left);
    }
    made.push_back(std::move(one));
  }
  return made;
}
inline program make(std::mt19937& dice) {
  int left = 60;
  program made;
  while (left > 30) {  // deep ones first, and more than one
    program next = make(dice, 16, left);
    for (auto& each : next) made.push_back(std::move(each));
  }
  return made;
}

/// What one run of a program remembers.
struct memory {
  long sum = 1;
  int effects_left = 200;  // repeats within repeats are cut short, in the same place everywhere
  std::vector<std::string> trace;
  bool given_up = false;        // by whoever drives
  std::optional<answer> ended;  // what the program itself returned

  void note(const char* what, long n) { trace.push_back(what + (':' + std::to_string(n))); }
  bool may_ask() { return --effects_left > 0; }
  long about(const node& n) const { return n.n + sum % 7; }
  void took(const coir::result<long>& got) {
    sum = (sum * 31 + (got ? *got : got.error().value() + 1000)) % 1'000'003;
    note(got ? "got" : "error", got ? *got : got.error().value());
  }
  void took(const coir::result<>& got) {
    took(got ? coir::result<long>(1) : coir::fail(got.error()));
  }
  bool raises() const { return sum % 3 == 0; }
  void leaves() {
    note("given up", sum);
    given_up = true;
  }
  answer ends(answer a) {
    ended = a;
    return a;
  }
};

/// Answers; not now, with an error, with more to come, or by raising, now and then.
struct dispatcher {
  using handles = coir::operations<ask_number, tell, give_up>;
  explicit dispatcher(memory& m) : told(m) { open.set(); }
  dispatched<long> dispatch(const ask_number& op, coir::dispatch_context<ask_number>&) {
    told.note("asked", op.about);
    const long key = (op.about * 7919 + ++asked * 104729) % 97;
    switch (key % 9) {
      case 0:
        return dispatched<long>::would_block({.gate = &open});
      case 1:
        return dispatched<long>::failed(make_error_code(std::errc::io_error));
      case 2:
        return dispatched<long>::more(key, coir::live_operation([] {}));
      case 3:
        if (key % 2 == 0) coir::raise(trouble{key});
        [[fallthrough]];
      default:
        return dispatched<long>::done(key);
    }
  }
  dispatched<void> dispatch(const tell& op, coir::dispatch_context<tell>&) {
    told.note("told", op.what);
    if (++asked % 5 == 0) return dispatched<void>::would_block({.gate = &open});
    return dispatched<void>::done();
  }
  dispatched<void> dispatch(const give_up&, coir::dispatch_context<give_up>&) {
    told.leaves();
    return dispatched<void>::finish(in_its_place);
  }
  memory& told;
  long asked = 0;
  coir::event open;
};

/// The handler of a `handled` node: answers some, forwards some, asks outward for some.
inline auto handler_of(const node& n, memory& m) {
  return coir::on<ask_number>([&n, &m](const ask_number& op) {
    m.note("inside", op.about);
    if ((op.about + n.n) % 3 == 0) return dispatched<long>::forward();
    if ((op.about + n.n) % 3 == 1) return dispatched<long>::done(op.about * 3);
    if (op.about % 11 == 0) coir::raise(trouble{op.about});
    const auto outside = coir::perform(ask_number{op.about + 1});
    return outside ? dispatched<long>::done(*outside) : dispatched<long>::failed(outside.error());
  });
}

// -- in blocking style ----------------------------------------------------------------------------

inline void run(const program& all, memory& m);
inline void run(const node& n, memory& m) {
  switch (n.what) {
    case kind::ask:
      return m.may_ask() ? m.took(coir::perform(ask_number{m.about(n)})) : void();
    case kind::tell:
      return m.may_ask() ? m.took(coir::perform(tell{m.about(n)})) : void();
    case kind::unknown:
      return m.took(coir::perform(unknown{}));
    case kind::leave:
      return m.took(coir::perform(give_up{}));
    case kind::branch:
      return run(m.sum % 2 == 0 ? n.inner : n.other, m);
    case kind::repeat:
      for (int i = 0; i < 2; ++i) run(n.inner, m);
      return;
    case kind::raise:
      if (m.raises()) coir::raise(trouble{n.n});
      return;
    case kind::attempt:
      return coir::catch_error<trouble>([&] { run(n.inner, m); },
                                        [&](trouble t) {
                                          m.note("caught", t.what);
                                          run(n.other, m);
                                        });
    case kind::give_back:
      return coir::bracket([&] { return n.n; }, [&](long) { run(n.inner, m); },
                           [&](long held) {
                             m.note("release", held);
                             run(n.other, m);
                           });
    case kind::handled:
      return coir::handle_effects([&] { run(n.inner, m); }, handler_of(n, m));
    case kind::clean:
      return coir::on_error([&] { run(n.inner, m); },
                            [&] {
                              m.note("clean", n.n);
                              run(n.other, m);
                            });
  }
}
inline void run(const program& all, memory& m) {
  for (const node& each : all) run(each, m);
}
inline answer body(const program& all, memory& m) {
  return m.ends(coir::run_catching<trouble>([&] {
    run(all, m);
    return m.sum;
  }));
}

// -- as a coroutine -------------------------------------------------------------------------------

inline constexpr coir::step_options small{.stack_bytes = 64 << 10};

template <bool Forgets>
coir::task<void> go(const program& all, memory& m);

/// `after`, and then what `got` was; with `Forgets` only after a value.
template <bool Forgets>
coir::task<void> go_on(tl::expected<void, trouble> got, const char* what, const node& n,
                       memory& m) {
  if (got || !Forgets) m.note(what, n.n);
  if (got) {
    co_await go<Forgets>(n.other, m);
  } else {
    if (!Forgets) (void)co_await coir::run_catching<trouble>(go<Forgets>(n.other, m));
    coir::raise(got.error());
  }
}

template <bool Forgets>
coir::task<void> go(const node& n, memory& m) {
  switch (n.what) {
    case kind::ask:
      if (m.may_ask()) m.took(co_await ask_number{m.about(n)});
      co_return;
    case kind::tell:
      if (m.may_ask()) m.took(co_await tell{m.about(n)});
      co_return;
    case kind::unknown:
      m.took(co_await unknown{});
      co_return;
    case kind::leave:
      m.took(co_await give_up{});
      co_return;
    case kind::branch:
      co_await go<Forgets>(m.sum % 2 == 0 ? n.inner : n.other, m);
      co_return;
    case kind::repeat:
      for (int i = 0; i < 2; ++i) co_await go<Forgets>(n.inner, m);
      co_return;
    case kind::raise:
      if (m.raises()) coir::raise(trouble{n.n});
      co_return;
    case kind::attempt: {
      const auto got = co_await coir::run_catching<trouble>(go<Forgets>(n.inner, m));
      if (got) co_return;
      m.note("caught", got.error().what);
      co_await go<Forgets>(n.other, m);
      co_return;
    }
    case kind::give_back: {
      auto got = co_await coir::run_catching<trouble>(go<Forgets>(n.inner, m));
      co_await go_on<Forgets>(got, "release", n, m);
      co_return;
    }
    case kind::handled: {
      auto inside = [&n, &m] {
        coir::handle_effects(coir::reflect(go<Forgets>(n.inner, m)), handler_of(n, m));
      };
      co_await coir::reify(inside, small);
      co_return;
    }
    case kind::clean: {
      auto got = co_await coir::run_catching<trouble>(go<Forgets>(n.inner, m));
      if (!got) co_await go_on<Forgets>(got, "clean", n, m);
      co_return;
    }
  }
}
template <bool Forgets>
coir::task<void> go(const program& all, memory& m) {
  for (const node& each : all) co_await go<Forgets>(each, m);
}
/// Forgets: a broken one, which gives nothing back after an error.
template <bool Forgets = false>
coir::task<answer> coroutine(const program& all, memory& m) {
  const auto got = co_await coir::run_catching<trouble>(go<Forgets>(all, m));
  co_return m.ends(got ? answer(m.sum) : answer(tl::unexpected(got.error())));
}

}  // namespace random_program
