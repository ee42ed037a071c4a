// switchers_test.cpp: the four switchers, in each form of the switch: every register and every
// control that belongs to a fiber is as it was, a million times.
//
// Always true:
//   - What is counted is judged on the thread of the test case, after the last switch.
//   - The oracle is Boost.Context with libc's own keeping of the controls.
#include <doctest/doctest.h>

#include "tests/arch/crowd.hpp"
#include "tests/test_options.hpp"

namespace {

using namespace coir;
using namespace coir::test;

// Each turn is a switch to a fiber and one back.
constexpr unsigned turns = ::test::at_full_speed(500'000u, 10'000u);
constexpr unsigned moves = ::test::at_full_speed(5'000u, 100u);

/// The fibers load what they like, but nobody hears that they are float.
struct careless : build_switch {
  static constexpr bool keeps_controls = true;
};

void check(const crowd_log& log, unsigned wanted_turns) {
  CHECK(log.switches >= 2 * wanted_turns);
  CHECK(log.registers_lost == 0);
  CHECK(log.controls_lost == 0);
}

}  // namespace

TEST_CASE_TEMPLATE("switchers: A7 same_thread_no_float keeps every register of a callee", Switch,
                   EACH_SWITCH) {
  check(on_one_thread<Switch>(floats::none, turns), turns);
}

TEST_CASE_TEMPLATE("switchers: A7 same_thread_float keeps them, and how each fiber rounds", Switch,
                   EACH_SWITCH) {
  check(on_one_thread<Switch>(floats::all, turns), turns);
}

TEST_CASE_TEMPLATE("switchers: A7 float fibers among others are alone with how they round", Switch,
                   EACH_SWITCH) {
  check(on_one_thread<Switch>(floats::every_other, turns), turns);
}

TEST_CASE_TEMPLATE("switchers: A7 cross_thread_no_float keeps every register on any thread", Switch,
                   EACH_SWITCH) {
  check(on_two_threads<Switch>(floats::none, turns, moves), turns);
}

TEST_CASE_TEMPLATE("switchers: A7 cross_thread_float takes how it rounds to any thread", Switch,
                   EACH_SWITCH) {
  check(on_two_threads<Switch>(floats::every_other, turns, moves), turns);
}

TEST_CASE_TEMPLATE("switchers: a schedule runs exactly as it does on Boost.Context", Switch,
                   EACH_SWITCH) {
  for (const auto which : {floats::none, floats::all, floats::every_other}) {
    const auto oracle = on_one_thread<boost_switch>(which, 2'000);
    CHECK(on_one_thread<Switch>(which, 2'000) == oracle);
    CHECK(on_two_threads<Switch>(which, 2'000, 10) == oracle);
  }
}

TEST_CASE("switchers: the crowd notices controls that leak from one fiber to the next") {
  CHECK(on_one_thread<careless>(floats::all, 1'000).controls_lost > 900);
  float_controls::at_start().load();
}

#if defined(__x86_64__) || defined(__aarch64__)

TEST_CASE("switchers: the register probe reports each register that was lost") {
  const patterns wanted = patterns_of(3);
  const auto nothing = [](void*) {};
  CHECK(coir_test_registers_lost(nothing, nullptr, wanted.data()) == 0);
#if defined(__x86_64__)
  const auto flip = [](void*) {
    asm volatile("notq %%r13" : : : "cc");
    asm volatile("notq %%r15" : : : "cc");
  };
  CHECK(coir_test_registers_lost(flip, nullptr, wanted.data()) == 0b101000);
#else
  const auto flip = [](void*) {
    asm volatile("mvn x22, x22");
    asm volatile("fneg d8, d8");
    asm volatile("fneg d15, d15");
  };
  CHECK(coir_test_registers_lost(flip, nullptr, wanted.data()) == 0b1000000100000001000);
#endif
}

#endif
