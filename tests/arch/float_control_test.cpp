// float_control_test.cpp: whose wish it is how the thread rounds, before and after a switch.
//
// Always true:
//   - No doctest check stands inside a fiber: bodies note what they saw, the thread judges it.
//   - The thread's own controls are as before when a case ends.
#include "arch/float_control.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "tests/arch/float_controls.hpp"
#include "tests/arch/loose_fiber.hpp"

namespace {

using namespace coir;
using namespace coir::test;

/// What is loaded after `act`, which begins with `given`, sticky flags included.
template <class Act>
float_controls left_by(const float_controls& given, Act act) {
  const auto before = float_controls::now();
  given.load();
  act();
  const auto left = float_controls::exactly_now();
  before.load();
  return left;
}

float_controls after_reset(const float_controls& given) {
  return left_by(given, [] { arch::reset_float_control(); });
}

arch::float_state state_of(const float_controls& controls) {
  arch::float_state made;
  left_by(controls, [&made] { arch::save_float(made); });
  return made;
}

/// A body that loads what it is told, parks, and notes what it finds.
struct finds {
  std::vector<float_controls> seen;

  template <class Fiber>
  void park_with(Fiber& self, const float_controls& wish) {
    wish.load();
    self.park();
    seen.push_back(float_controls::now());
  }
};

}  // namespace

TEST_CASE("float_control: A7 a fiber starts with the floating-point controls of a fresh program") {
  CHECK(after_reset(float_controls::at_start()) == float_controls::at_start());
  for (unsigned n = 0; n < 30; ++n) {
    CHECK(float_controls::pattern(n) != float_controls::at_start());
    CHECK(after_reset(float_controls::pattern(n)) == float_controls::at_start());
  }
  CHECK(left_by(float_controls::pattern(1), [] { arch::restore_float(arch::float_state{}); }) ==
        float_controls::at_start());
}

TEST_CASE("float_control: what was saved is what is restored, over whatever came between") {
  for (unsigned n = 0; n < 30; ++n) {
    const auto saved = state_of(float_controls::pattern(n));
    CHECK(left_by(float_controls::pattern(n + 1), [&] { arch::restore_float(saved); }) ==
          float_controls::pattern(n));
    CHECK(left_by(float_controls::at_start(), [&] { arch::restore_float(saved); }) ==
          float_controls::pattern(n));
  }
}

TEST_CASE("float_control: an exchange keeps the leaver's and brings the comer's, or the defaults") {
  const auto mine = float_controls::pattern(2), others = float_controls::pattern(3);
  auto other = state_of(others);
  arch::float_state kept;
  CHECK(left_by(mine, [&] { arch::exchange_float(&kept, &other); }) == others);
  CHECK(left_by(others, [&] { arch::exchange_float(nullptr, &kept); }) == mine);
  CHECK(left_by(mine, [&] { arch::exchange_float(&kept, nullptr); }) == float_controls::at_start());
  // Nobody cares: nothing is touched, although nobody should have left this.
  CHECK(left_by(mine, [] { arch::exchange_float(nullptr, nullptr); }) == mine);
}

TEST_CASE_TEMPLATE("float_control: A7 a float fiber keeps its controls and shows them to nobody",
                   Switch, EACH_SWITCH) {
  const auto before = float_controls::now();
  finds of_one, of_two, of_plain, of_thread;
  loose_fiber<Switch> one([&](auto& self) {
    of_one.seen.push_back(float_controls::now());
    for (unsigned n = 0; n < 30; ++n) of_one.park_with(self, float_controls::pattern(n));
  });
  loose_fiber<Switch> two([&](auto& self) {
    of_two.seen.push_back(float_controls::now());
    for (unsigned n = 0; n < 30; ++n) of_two.park_with(self, float_controls::pattern(29 - n));
  });
  loose_fiber<Switch> plain([&](auto& self) {
    while (!two.done()) of_plain.park_with(self, float_controls::at_start());
  });
  one.bare().own.is_float = two.bare().own.is_float = true;
  while (!plain.done()) {
    for (auto* each : {&one, &plain, &two}) {
      if (!each->done()) each->resume();
      of_thread.seen.push_back(float_controls::now());
    }
  }
  before.load();
  REQUIRE(of_one.seen.size() == 31);
  REQUIRE(of_two.seen.size() == 31);
  CHECK(of_one.seen[0] == float_controls::at_start());
  CHECK(of_two.seen[0] == float_controls::at_start());
  for (unsigned n = 0; n < 30; ++n) {
    CHECK(of_one.seen[n + 1] == float_controls::pattern(n));
    CHECK(of_two.seen[n + 1] == float_controls::pattern(29 - n));
  }
  CHECK(of_plain.seen.size() > 20);
  for (const auto& each : of_plain.seen) CHECK(each == float_controls::at_start());
  for (const auto& each : of_thread.seen) CHECK(each == float_controls::at_start());
}

TEST_CASE("float_control: a switch alone leaves the controls as they are, in every build") {
  const auto before = float_controls::now();
  std::vector<float_controls> seen;
  const auto note_and_park = [&seen](auto& self) {
    for (unsigned n = 0; n < 4; ++n) {
      seen.push_back(float_controls::now());
      self.park();
    }
    seen.push_back(float_controls::now());
    float_controls::rounding_up().load();
  };
  loose_fiber<> fiber(note_and_park);
  for (unsigned n = 0; n < 5; ++n) {
    float_controls::pattern(n).load();
    fiber.resume();
  }
  const auto after = float_controls::now();
  before.load();
  REQUIRE(seen.size() == 5);
  for (unsigned n = 0; n < 5; ++n) CHECK(seen[n] == float_controls::pattern(n));
  CHECK(after == float_controls::rounding_up());
}

#if defined(__x86_64__)

TEST_CASE("float_control: A7 after a reset an inexact division does not trap") {
  const auto before = float_controls::now();
  float_controls{0x0000, 0x0340}.load();  // what a zeroed image would leave: nothing masked
  arch::reset_float_control();
  volatile double one = 1, three = 3;
  volatile long double wide = 3;
  const double third = one / three;
  const long double wide_third = 1 / wide;
  before.load();
  CHECK(third == 1.0 / 3.0);
  CHECK(wide_third == 1.0L / 3.0L);
}

TEST_CASE("float_control: A7 a sticky flag of an inexact result does not survive a reset") {
  CHECK(after_reset({0x1FA0, 0x037F}) == float_controls::at_start());
}

TEST_CASE("float_control: a raised x87 flag does not trap when a state that traps is restored") {
  const auto before = float_controls::now();
  arch::float_state traps;
  traps.x87_control = 0x035F;  // an inexact result is no longer masked
  volatile long double one = 1, three = 3;
  const volatile long double third = one / three;  // raises the flag
  arch::restore_float(traps);
  asm volatile("fwait");
  const auto loaded = float_controls::now();
  asm volatile("fnclex");
  before.load();
  CHECK(loaded.other == 0x035F);
  CHECK(third == 1.0L / 3.0L);
}

#endif
