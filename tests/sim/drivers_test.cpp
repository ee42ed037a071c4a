// drivers_test.cpp: the random programs of T57 in a simulated world, where the outside is slow,
// short and out of order: whatever it does, they are the programs that a dispatcher alone answers.
//
// Always true:
//   - Only faults that nobody may notice: what a program sees must not depend on them.
#include <doctest/doctest.h>

#include "coir/sim.hpp"
#include "tests/api/driven.hpp"
#include "tests/test_options.hpp"

namespace {

using driven::by_exec;
using driven::by_fiber;
using driven::pipes;
using random_program::memory;
using random_program::program;

/// Each seed another program, as fibers and as a coroutine; `Off` is added to what comes back.
template <long Off = 0>
coir::sim::report drive(std::uint64_t seeds) {
  coir::sim::settings s{.workers = 2, .chances = coir::sim::faults::harmless(80)};
  s.runtime = test::tested(s.runtime);
  s.runtime.stack_bytes = 256 << 10;
  return coir::sim::explore(s, seeds, [](coir::sim::world& w) {
    std::mt19937 dice(static_cast<unsigned>(w.choose(100'000)));
    const program p = random_program::make(dice);
    const auto blocking = [&p](memory& m) {
      return [&p, &m] { return random_program::body(p, m); };
    };
    memory expected;
    const driven::seen reference = by_exec(blocking(expected), expected);
    const bool as_coroutine = w.choose(2) == 1;
    const auto worker = static_cast<unsigned>(w.choose(2));
    w.run([&] {
      const auto to = w.pipe(), from = w.pipe();
      memory m;
      pipes through(to, from);
      const auto seen = as_coroutine ? by_fiber<Off>(coir::reflect(random_program::coroutine(p, m)),
                                                     m, through, worker)
                                     : by_fiber<Off>(blocking(m), m, through, worker);
      coir::sim::check(seen == reference, "another program");
      for (const int fd : {to.first, to.second, from.first, from.second})
        coir::sim::check(coir::io::close(fd).has_value(), "close");
    });
  });
}

}  // namespace

TEST_CASE("T57 drivers: in a simulated world whose faults nobody may notice") {
  const auto r = drive(test::at_full_speed(300, 30));
  CHECK_MESSAGE(r.ok(), r.to_text());
}

TEST_CASE("T57 drivers: in a simulated world a broken one is noticed") {
  CHECK(drive<1>(20).is == coir::sim::verdict::failed_check);
}
