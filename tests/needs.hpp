// needs.hpp: the tests that cannot do with few fibers, by name, each with its reason.
//
// Always true:
//   - This is the only place that excuses from COIR_TEST_OPTIONS a test that makes its runtime with
//     tested(); the list has ten places. The programs and C tests that set numbers of their own,
//     because these are what they are about, are named in house_names_test.cpp.
//   - Each name is that of a test case or of a script of tests/programs; the house test looks.
//   - What only a ring can show is left out by on_a_ring() and by nothing else, and says so.
//   - A test about what a runtime without threads does not have is left out by COIR_NOT_IN_SIM and
//     by nothing else: COIR_BACKEND=sim, one word for the reason, and a line that says so.
//
// Comes from: people.   Goes to: test_options.hpp, house_test.cpp.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string_view>

namespace test {

struct need {
  std::string_view test;  ///< a TEST_CASE, or programs/x for tests/programs/x.sh
  std::uint32_t fibers;   ///< alive at once, at least; handles that are held count
  std::string_view why;
};

inline constexpr need needs[] = {
    {"A10: a hundred thousand parked fibers with guards need no mapping each", 100'001,
     "the limit that it must stay below is 65,530 mappings"},
    {"A10: when mappings run out the log names the sysctl and everybody still gets their turn",
     100'001, "it must reach the limit of 65,530 mappings"},
    {"accept_placement: a thousand connections that come one by one stay within 1.1 of the mean, "
     "also after half of them left and others came",
     2'000, "a tenth of the mean must be more than one fiber"},
    {"time: a million sleepers wake in the order of their deadlines", 1'000'016,
     "a million timers at once are the subject"},
    {"order: where many wait they start side by side, and the ready ones have their turn", 1'300,
     "where up to 256 wait the order is another one"},
    {"spawn: records that a worker gave away before it ever used them are as good as others", 4'096,
     "with less no worker keeps records in reserve"},
    {"worker: among more than 1,024 fibers the loop stands on its own stack", 1'110,
     "so many make the difference"},
    {"order: a tree of spawns and joins is walked depth first, whatever waits in its branches",
     2'000, "what it must not open at once has to fit"},
    {"trimming: a worker that rests gives the pages of a burst back, and sleeps on", 6'002,
     "a worker keeps 4,096 stacks to itself"},
    {"programs/million", 1'000'002, "a million fibers at once are the subject"},
};

inline constexpr std::size_t needs_max = 10;
static_assert(std::size(needs) <= needs_max, "a test must do with the small configuration");

inline bool backend_told(const char* name) {
  const char* const told = std::getenv("COIR_BACKEND");
  return told != nullptr && std::strcmp(told, name) == 0;
}

/// Why a test does not apply to a runtime without threads (COIR_BACKEND=sim).
enum class not_in_sim {
  threads,     ///< several of the process do something at once, or one that is no driver waits
  kernel,      ///< what the kernel is asked, and how often, is the subject
  processors,  ///< real ones, and who runs on which
  timing,      ///< real time passes, or is measured
  other,       ///< it brings a backend of its own, or says by name which one there is
};

inline bool left_out_in_sim(const char* reason, const char* test, const char* file) {
  if (!backend_told("sim")) return false;
  std::printf("left out in sim (%s): %s: %s\n", reason, file, test);
  return true;
}

/// Whether runtimes of this process are on rings: COIR_BACKEND says neither poll nor sim, and the
/// system has some. If not, says what of the running test is left out, and why.
inline bool on_a_ring(const char* what) {
  // A null answer to a question without parameters is EFAULT or EINVAL where there are rings.
  if (!backend_told("poll") && !backend_told("sim") &&
      ::syscall(SYS_io_uring_setup, 0, nullptr) < 0 && errno != EPERM && errno != ENOSYS)
    return true;
  std::printf("left out without a ring: %s\n", what);
  return false;
}

}  // namespace test

/// The first line of a TEST_CASE: where there are no threads it ends here.
#define COIR_NOT_IN_SIM(reason)                                                             \
  do {                                                                                      \
    static_cast<void>(test::not_in_sim::reason);                                            \
    const auto* const running_ = doctest::getContextOptions()->currentTest;                 \
    if (test::left_out_in_sim(#reason, running_->m_name, running_->m_file.c_str())) return; \
  } while (false)
