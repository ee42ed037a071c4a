// switchers_test.cpp: the four switchers, in each form of the switch: every register and every
// control that belongs to a fiber is as it was, a million times.
//
// Always true:
//   - What is counted is judged on the thread of the test case, after the last switch.
//   - The oracle is Boost.Context with libc's own keeping of the controls: each run, of a million
//     switches, is compared with the same run on it.
#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <optional>

#include "tests/arch/crowd.hpp"
#include "tests/test_options.hpp"

namespace {

using namespace coir;
using namespace coir::test;

// Each turn is a switch to a fiber and one back: a million switches in each case, also on an
// emulated CPU (aarch64 by qemu: 11 s for all of them), or 20,000 under a sanitizer. Every turn
// looks at all registers, so after a few hundred each fiber has had each of them looked at beside
// every other fiber; more of the same is left to builds that have the time.
constexpr unsigned turns = ::test::emulated ? 500'000 : ::test::at_full_speed(500'000u, 10'000u);
constexpr unsigned moves = ::test::emulated ? 500 : ::test::at_full_speed(5'000u, 100u);

/// The fibers load what they like, but nobody hears that they are float.
struct careless : build_switch {
  static constexpr bool keeps_controls = true;
};

/// What such a crowd sees on Boost.Context, on one thread: run once for all who are compared with
/// it.
const crowd_log& oracle(floats which) {
  static std::array<std::optional<crowd_log>, 3> known;
  auto& log = known[static_cast<std::size_t>(which)];
  if (!log) log = on_one_thread<boost_switch>(which, turns);
  return *log;
}

/// Nothing was lost, and everybody saw what they see on Boost.Context, in the same order.
void check(const crowd_log& log, floats which) {
  CHECK(log.switches >= 2 * turns);
  CHECK(log.registers_lost == 0);
  CHECK(log.controls_lost == 0);
  CHECK(log == oracle(which));
}

}  // namespace

TEST_CASE_TEMPLATE("switchers: A7 same_thread_no_float keeps every register of a callee", Switch,
                   EACH_SWITCH) {
  check(on_one_thread<Switch>(floats::none, turns), floats::none);
}

TEST_CASE_TEMPLATE("switchers: A7 same_thread_float keeps them, and how each fiber rounds", Switch,
                   EACH_SWITCH) {
  check(on_one_thread<Switch>(floats::all, turns), floats::all);
}

TEST_CASE_TEMPLATE("switchers: A7 float fibers among others are alone with how they round", Switch,
                   EACH_SWITCH) {
  check(on_one_thread<Switch>(floats::every_other, turns), floats::every_other);
}

TEST_CASE_TEMPLATE("switchers: A7 cross_thread_no_float keeps every register on any thread", Switch,
                   EACH_SWITCH) {
  check(on_two_threads<Switch>(floats::none, turns, moves), floats::none);
}

TEST_CASE_TEMPLATE("switchers: A7 cross_thread_float takes how it rounds to any thread", Switch,
                   EACH_SWITCH) {
  check(on_two_threads<Switch>(floats::all, turns, moves), floats::all);
  check(on_two_threads<Switch>(floats::every_other, turns, moves), floats::every_other);
}

TEST_CASE("switchers: the oracle tells a crowd that was one turn longer from its own") {
  for (const auto which : {floats::none, floats::all, floats::every_other})
    CHECK_FALSE(on_one_thread<build_switch>(which, turns + 1) == oracle(which));
}

TEST_CASE("switchers: the crowd notices controls that leak from one fiber to the next") {
  const auto log = on_one_thread<careless>(floats::all, turns);
  CHECK(log.controls_lost > turns - turns / 10);
  CHECK_FALSE(log == oracle(floats::all));
  float_controls::at_start().load();
}

#if defined(__x86_64__) || defined(__aarch64__)

// One function for each register that the probe knows, in its order: it inverts that one and
// returns. No compiler has a part in them, so nobody puts back what they change.
#if defined(__x86_64__)
asm(R"(
        .text
        .irp    register, rbx, rbp, r12, r13, r14, r15
coir_test_flip_\register:
        endbr64
        notq    %\register
        retq
        .endr
        .section .data.rel.ro, "aw", @progbits
        .p2align 3
        .globl  coir_test_flips
        .hidden coir_test_flips
coir_test_flips:
        .irp    register, rbx, rbp, r12, r13, r14, r15
        .quad   coir_test_flip_\register
        .endr
        .text
)");
#else
asm(R"(
        .text
        .irp    number, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29
coir_test_flip_x\number:
        hint    #34
        mvn     x\number, x\number
        ret
        .endr
        .irp    number, 8, 9, 10, 11, 12, 13, 14, 15
coir_test_flip_d\number:
        hint    #34
        fneg    d\number, d\number
        ret
        .endr
        .section .data.rel.ro, "aw", @progbits
        .p2align 3
        .globl  coir_test_flips
        .hidden coir_test_flips
coir_test_flips:
        .irp    number, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29
        .quad   coir_test_flip_x\number
        .endr
        .irp    number, 8, 9, 10, 11, 12, 13, 14, 15
        .quad   coir_test_flip_d\number
        .endr
        .text
)");
#endif
extern "C" COIR_HIDDEN void (*const coir_test_flips[probed_registers])(void*);

TEST_CASE("switchers: the register probe reports each register that was lost, and no other") {
  const patterns wanted = patterns_of(3);
  const auto nothing = [](void*) {};
  CHECK(coir_test_registers_lost(nothing, nullptr, wanted.data()) == 0);
  for (unsigned lost = 0; lost < probed_registers; ++lost) {
    CAPTURE(lost);
    CHECK(coir_test_registers_lost(coir_test_flips[lost], nullptr, wanted.data()) ==
          std::uint64_t{1} << lost);
  }
}

#endif
