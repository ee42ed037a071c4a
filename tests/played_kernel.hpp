// played_kernel.hpp: a kernel that answers some system calls as a test wants, played by a filter.
//
// Always true:
//   - The first rule that fits decides; what no rule names goes to the kernel.
//   - A filter cannot be taken back. It holds for the calling thread and for all that it begins, so
//     who plays is a thread or a process that ends.
//
// Comes from: tests of refusals.   Goes to: seccomp(2).
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace test {

/// Of one field of a call.
struct call_condition {
  enum class how : std::uint8_t { is, is_not, has, lacks };
  std::size_t field;
  how compared;
  std::uint64_t to;
  bool wide;  // all 64 bits count, not the lower half
};

struct call_field {
  std::size_t at;
  bool wide = false;
  constexpr call_condition is(std::uint64_t value) const {
    return {at, call_condition::how::is, value, wide};
  }
  constexpr call_condition is_not(std::uint64_t value) const {
    return {at, call_condition::how::is_not, value, wide};
  }
  constexpr call_condition has(std::uint32_t bits) const {
    return {at, call_condition::how::has, bits, false};
  }
  constexpr call_condition lacks(std::uint32_t bits) const {
    return {at, call_condition::how::lacks, bits, false};
  }
};
/// From 0, as an int is passed; as a pointer is.
constexpr call_field argument(unsigned n) {
  return {offsetof(seccomp_data, args) + n * sizeof(std::uint64_t)};
}
constexpr call_field pointer(unsigned n) { return {argument(n).at, true}; }
/// Behind the instruction that calls.
constexpr call_field called_from{offsetof(seccomp_data, instruction_pointer), true};

/// What becomes of a call. answers(0): it says that it was done.
constexpr unsigned answers(int error) { return SECCOMP_RET_ERRNO | static_cast<unsigned>(error); }
inline constexpr unsigned is_made = SECCOMP_RET_ALLOW;
inline constexpr unsigned raises_sigsys = SECCOMP_RET_TRAP;
inline constexpr unsigned ends_the_process = SECCOMP_RET_KILL_PROCESS;

struct call_rule {
  long number;
  std::vector<call_condition> when;  // all of them
  unsigned then;
};

namespace detail {

/// One rule; where it does not fit, the steps behind it decide.
inline void add_steps(const call_rule& rule, std::vector<sock_filter>& steps) {
  std::vector<std::pair<std::size_t, std::uint8_t sock_filter::*>> elsewhere;
  const auto load = [&](std::size_t field) {
    steps.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(field)));
  };
  const auto test_for = [&](unsigned what, std::uint32_t value, std::uint8_t sock_filter::*leaves) {
    elsewhere.emplace_back(steps.size(), leaves);
    steps.push_back(BPF_JUMP(BPF_JMP | what | BPF_K, value, 0, 0));
  };
  load(offsetof(seccomp_data, nr));
  test_for(BPF_JEQ, static_cast<std::uint32_t>(rule.number), &sock_filter::jf);
  for (const call_condition& c : rule.when) {
    const auto low = static_cast<std::uint32_t>(c.to);
    const auto high = static_cast<std::uint32_t>(c.to >> 32);
    load(c.field);
    switch (c.compared) {
      case call_condition::how::is:
        test_for(BPF_JEQ, low, &sock_filter::jf);
        if (!c.wide) break;
        load(c.field + 4);
        test_for(BPF_JEQ, high, &sock_filter::jf);
        break;
      case call_condition::how::is_not:
        if (c.wide) {
          steps.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, low, 0, 2));
          load(c.field + 4);
        }
        test_for(BPF_JEQ, c.wide ? high : low, &sock_filter::jt);
        break;
      case call_condition::how::has:
        test_for(BPF_JSET, low, &sock_filter::jf);
        break;
      case call_condition::how::lacks:
        test_for(BPF_JSET, low, &sock_filter::jt);
        break;
    }
  }
  steps.push_back(BPF_STMT(BPF_RET | BPF_K, rule.then));
  for (const auto& [from, leaves] : elsewhere)
    steps[from].*leaves = static_cast<std::uint8_t>(steps.size() - from - 1);
}

}  // namespace detail

/// From now on, in this thread. False: no filter is allowed here.
inline bool play_kernel(const std::vector<call_rule>& rules) {
  std::vector<sock_filter> steps;
  for (const call_rule& rule : rules) detail::add_steps(rule, steps);
  steps.push_back(BPF_STMT(BPF_RET | BPF_K, is_made));
  const sock_fprog program{static_cast<unsigned short>(steps.size()), steps.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace test
