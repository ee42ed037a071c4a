// rows_effects.cpp: what it costs to ask: past handlers that are not there, of one that answers at
// once, and of whoever steps a body by hand.
//
// Always true:
//   - perform/none asks about a descriptor that no process can have: coir refuses it before the
//     kernel is entered, so that what is measured is the way there and not a system call. Both
//     sides make the same answer of the refusal; they differ in who looks for handlers.
//
// Comes from: coir_bench.cpp.   Goes to: coir/handlers.hpp, coir/stepping.hpp.
#include "bench/rows.hpp"

namespace bench {

namespace {

constexpr unsigned asks = 200'000;
constexpr int nobodys_number = 1 << 30;

struct ask_number {
  using value_type = int;
  static constexpr std::string_view name = "bench.ask_number";
};

struct answers {
  using handles = coir::operations<ask_number>;
  coir::dispatched<int> dispatch(const ask_number&, coir::dispatch_context<ask_number>&) {
    return coir::dispatched<int>::done(1);
  }
};

coir::fsync_operation refused() { return coir::fsync_operation(nobodys_number); }

sample performs() {
  return on_coir([] {
    int seen = 0;
    sample got(fastest_ns(asks, [&] {
      for (unsigned i = 0; i < asks; ++i) seen += !coir::perform(refused());
    }));
    if (seen == 0) throw std::runtime_error("a number that nobody has was accepted");
    return got;
  });
}

sample submits() {
  return on_coir([] {
    int seen = 0;
    sample got(fastest_ns(asks, [&] {
      for (unsigned i = 0; i < asks; ++i) {
        seen += !coir::detail::perform_unhandled(refused(), coir::never);
      }
    }));
    if (seen == 0) throw std::runtime_error("a number that nobody has was accepted");
    return got;
  });
}

sample handled() {
  return on_coir([] {
    int sum = 0;
    sample got(fastest_ns(asks, [&] {
      coir::handle_effects(
          [&] {
            for (unsigned i = 0; i < asks; ++i) sum += sure(coir::perform(ask_number{}));
          },
          answers{});
    }));
    if (sum == 0) throw std::runtime_error("nobody answered");
    return got;
  });
}

sample advances() {
  answers by;
  return sample(fastest_ns(asks, [&] {
    auto at = coir::step([] {
      int sum = 0;
      for (unsigned i = 0; i < asks; ++i) sum += sure(coir::perform(ask_number{}));
      return sum;
    });
    while (at.is_suspended()) at = coir::advance(by, std::move(at.waiting())).state;
    if (at.value() != static_cast<int>(asks)) throw std::runtime_error("an answer was lost");
  }));
}

}  // namespace

void add_effects(rows& to, const settings&) {
  to.push_back({"perform/none",
                "an operation performed, and handed over directly; refused before the kernel",
                {{"operation", "ns"}},
                {{"perform", role::ours, performs}, {"directly", role::base, submits}},
                {{reach::kind::over_base, 2}}});
  to.push_back({"perform/inline_handler",
                "an operation that one handler answers at once",
                {{"operation", "ns"}},
                {{"coir", role::ours, handled}},
                {{reach::kind::at_most, 15}}});
  to.push_back({"step_advance",
                "an operation of a body that is stepped by hand: out, answered, and in again",
                {{"operation", "ns"}},
                {{"coir", role::ours, advances}},
                {{reach::kind::at_most, 40}}});
}

}  // namespace bench
