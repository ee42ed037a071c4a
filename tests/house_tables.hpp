// house_tables.hpp: what the house test knows about this repository, as data.
//
// Always true:
//   - A new room gets its level here before it compiles its first line; a room without one fails.
//   - Each exception carries its reason, and one that is no longer needed fails too.
//
// Comes from: docs/design.md, section 2.   Goes to: house_test.cpp.
#pragma once

#include <array>
#include <string_view>

namespace house {

struct room {
  std::string_view name;  ///< the file's name without its ending
  int level;
};

/// runtime/: a room includes rooms of its own level or lower ones, and on level 4 lower ones only.
inline constexpr room runtime_rooms[] = {
    // ground
    {"base", 0},
    {"list", 0},
    {"counter", 0},
    {"futex", 0},
    {"ready", 0},
    {"errors", 0},
    {"options_parse", 0},
    // things
    {"arena", 2},
    {"guards", 2},
    {"stacks", 2},
    {"trimming", 2},
    {"overflow", 2},
    {"token", 2},
    // the one who runs
    {"manner", 3},
    {"fiber", 3},
    // ways to be woken
    {"waits", 4},
    {"levels", 4},
    {"timers", 4},
    {"mailbox", 4},
    {"bell", 4},
    // the outside world
    {"backend", 5},
    {"offload", 5},
    {"fixed", 5},
    {"hardened", 5},
    {"outside", 5},
    {"attempt", 5},
    {"attempt_files", 5},
    {"attempt_splice", 5},
    {"asking", 5},
    {"uring", 5},
    {"uring_setup", 5},
    {"poll", 5},
    {"poll_setup", 5},
    {"guessing", 5},
    {"sim", 5},
    {"sim_crew", 5},
    {"sim_dice", 5},
    {"sim_disk", 5},
    {"sim_execute", 5},
    {"sim_faults", 5},
    {"sim_shrink", 5},
    {"sim_memory", 5},
    {"sim_outside", 5},
    {"sim_real", 5},
    {"sim_wire", 5},
    {"sim_world", 5},
    {"flight", 5},
    {"buffers", 5},
    // one core
    {"commons", 6},
    {"neighbours", 6},
    {"deflect", 6},
    {"hungry", 6},
    {"placing", 6},
    {"worker", 6},
    {"hop", 6},
    {"choosing", 6},
    {"resting", 6},
    {"switching", 6},
    {"ending", 6},
    {"settling", 6},
    {"no_park", 6},
    // all cores
    {"runtime", 7},
    {"runtime_setup", 7},
    {"registry", 7},
    {"fds", 7},
    {"moving", 7},
    {"waiting", 7},
    {"watch", 7},
    {"machine", 7},
    {"audit", 7},
    {"driving", 7},
    {"lanes", 7},
    // the public face
    {"effects", 8},
    {"handlers", 8},
    {"fiber_local", 8},
    {"loop", 8},
    {"loop_backend", 8},
    {"loop_ending", 8},
    {"stepping", 8},
    {"spawn", 8},
    {"join", 8},
    {"this_fiber", 8},
    {"perform", 8},
    {"closing", 8},
    {"scope", 8},
    {"sync", 8},
    {"io", 8},
    {"backoff", 8},
    {"address", 8},
    {"byte_stream", 8},
    {"accepting", 8},
    {"net", 8},
    {"udp", 8},
    {"unix_socket", 8},
    {"resolve", 8},
    {"copy", 8},
    {"signals", 8},
    {"blocking", 8},
    {"state_machine", 8},
    {"sim_run", 8},
    {"sim_public", 8},
    {"sim_explore", 8},
    {"lasting", 8},
    {"judging", 8},
    {"started", 8},
    {"streams", 8},
    // C, in terms of the public C++ API
    {"c_api", 9},
    {"c_io", 9},
    {"c_this_fiber", 9},
    {"c_sync", 9},
    {"c_caller", 9},
    {"c_errors", 9},
    {"c_handles", 9},
};

/// Rooms whose tests have another name than tests/<same folder>/x_test.cpp or tests/api/x_test.cpp.
struct tested_elsewhere {
  std::string_view room;  ///< without its ending
  std::string_view test;
  std::string_view reason;
};
inline constexpr tested_elsewhere tests_elsewhere[] = {
    {"runtime/counter", "tests/runtime/runtime_test.cpp", "snapshot() reads while others count"},
    {"runtime/hop", "tests/runtime/worker_test.cpp", "a part of worker.hpp"},
    {"include/coir/backend", "tests/api/loop_test.cpp", "an interface"},
    {"runtime/resting", "tests/runtime/worker_test.cpp", "a part of worker.hpp"},
    {"runtime/choosing", "tests/runtime/worker_test.cpp", "a part of worker.hpp"},
    {"runtime/switching", "tests/runtime/worker_test.cpp", "a part of worker.hpp"},
    {"runtime/lasting", "tests/sim/streams_test.cpp",
     "each completion that it may get, by a script"},
    {"runtime/judging", "tests/sim/streams_faults_test.cpp", "the other half of lasting.hpp"},
    {"runtime/lanes", "tests/sim/lanes_test.cpp", "several workers in one simulated world"},
    {"runtime/sim_crew", "tests/sim/lanes_test.cpp", "what lanes hand on by"},
    {"runtime/sim_execute", "tests/runtime/sim_test.cpp", "a part of sim.hpp"},
    {"runtime/sim_run", "tests/api/sim_test.cpp", "what is behind coir/sim.hpp"},
    {"runtime/sim_public", "tests/api/sim_test.cpp", "what is behind coir/sim.hpp"},
    {"runtime/sim_explore", "tests/api/sim_test.cpp", "what is behind coir/sim.hpp"},
    {"runtime/outside", "tests/runtime/runtime_setup_test.cpp", "what becomes of options::backend"},
    {"runtime/asking", "tests/runtime/attempt_test.cpp", "a part of attempt.hpp"},
    {"runtime/poll_setup", "tests/runtime/poll_test.cpp", "how a backend of epoll is made"},
    {"runtime/attempt_files", "tests/runtime/attempt_test.cpp", "a part of attempt.hpp"},
    {"runtime/attempt_splice", "tests/runtime/attempt_test.cpp", "a part of attempt.hpp"},
    {"runtime/settling", "tests/model/stop_test.cpp", "a protocol: every order of its parties"},
    {"runtime/accepting", "tests/api/net_test.cpp", "what serve and accept do, on TCP"},
    {"runtime/c_io", "tests/c/io.c", "it is for C, so C tests it"},
    {"runtime/c_this_fiber", "tests/c/this_fiber.c", "likewise"},
    {"runtime/c_sync", "tests/c/sync.c", "likewise"},
    {"runtime/c_caller", "tests/c/deadlines.c", "until when, which each of them asks"},
    {"arch/context_x86_64", "tests/arch/context_test.cpp", "what context.hpp is on one CPU"},
    {"arch/context_aarch64", "tests/arch/context_test.cpp", "what context.hpp is on one CPU"},
    {"arch/boost", "tests/arch/context_test.cpp", "the other half of context.hpp"},
};

/// Every file of arch/ is on this level.
inline constexpr int arch_level = 1;

/// Rooms of this level never include each other.
inline constexpr int separate_level = 4;

/// include/coir/: values that any room may use. Every other public header is on the public level.
inline constexpr room public_values[] = {
    {"result", 0},     {"options", 0}, {"clock", 0},   {"task", 0},
    {"wait_queue", 0}, {"placing", 0}, {"atomic", 0},  {"effect_call", 0},
    {"faults", 0},     {"backend", 5}, {"runtime", 6},  // the counters of a worker are
                                                        // declared there
};
inline constexpr int public_level = 8;

/// What a public header may include apart from other public headers and the C++ standard library.
inline constexpr std::string_view public_includes[] = {
    "tl/expected.hpp", "stddef.h",     "stdint.h",   "stdbool.h",
    "sys/types.h",     "sys/socket.h", "sys/stat.h", "sys/uio.h",
};

struct exception {
  std::string_view file;
  std::string_view reason;
};

/// The files that may use atomics; everything else belongs to one thread.
inline constexpr exception atomic_files[] = {
    {"runtime/arena.hpp", "the shared free list of records"},
    {"runtime/arena.cpp", "the shared free list of records"},
    {"runtime/counter.hpp", "counts that any thread may read"},
    {"runtime/stacks.hpp", "counts that any thread may read"},
    {"runtime/overflow.cpp", "one reporter among threads that overflow together"},
    {"runtime/stepping.cpp", "a number for each thread that steps"},
    {"runtime/fiber.hpp", "the words home, join, cancel and wake of a record"},
    {"runtime/fiber.cpp", "the words home, join, cancel and wake of a record"},
    {"runtime/waits.hpp", "claims of a park by other cores"},
    {"runtime/waits.cpp", "claims of a park by other cores"},
    {"runtime/mailbox.hpp", "many senders, one reader"},
    {"runtime/bell.hpp", "announce and re-check before sleep"},
    {"runtime/bell.cpp", "announce and re-check before sleep"},
    {"runtime/futex.hpp", "the word that a plain thread sleeps on"},
    {"runtime/futex.cpp", "the word that a plain thread sleeps on"},
    {"runtime/uring.cpp", "the taskrun flag that the kernel sets"},
    {"runtime/buffers.hpp", "a lease that ends on another thread"},
    {"runtime/attempt.cpp", "the lock of the list of numbers that threads wait on"},
    {"runtime/poll.hpp", "answers of the pool on their way to a worker"},
    {"runtime/offload.hpp", "plain threads finish what fibers wait for"},
    {"runtime/sim.hpp", "a wake by a plain thread"},
    {"runtime/sim_real.hpp", "a bell that any thread rings"},
    {"runtime/sim_real.cpp", "a bell that any thread rings"},
    {"runtime/driving.hpp", "whether there is anybody to drive"},
    {"runtime/driving.cpp", "whether there is anybody to drive"},
    {"include/coir/detail/atomic.hpp", "what an atomic is, for the library and for its checker"},
    {"include/coir/detail/wait_queue.hpp", "the lock of a queue of waiters"},
    {"include/coir/io.hpp", "a descriptor that is closed while another fiber reads it"},
    {"include/coir/sync.hpp", "the uncontended path of a mutex"},
    {"runtime/c_sync.cpp", "who holds a mutex of C, and how many wait"},
    {"runtime/worker.hpp", "load that other cores look at"},
    {"runtime/runtime.hpp", "start, stop and the count of live fibers"},
    {"runtime/commons.hpp", "the flags and rooms that all workers share"},
    {"runtime/ending.cpp", "room given back against somebody who starves"},
    {"runtime/ending.hpp", "the end of a fiber against those who wait for it"},
    {"runtime/hungry.hpp", "names on a board that all workers read"},
    {"runtime/settling.hpp", "the counts of the living against whoever waits for the end"},
    {"runtime/fds.hpp", "one word a descriptor: its users against its closer"},
    {"runtime/fds.cpp", "one word a descriptor: its users against its closer"},
    {"runtime/closing.cpp", "how many workers have not reported to a closer"},
    {"runtime/runtime.cpp", "the end of the threads against the last message"},
    {"runtime/registry.hpp", "the count of forks"},
    {"runtime/registry.cpp", "the count of forks"},
    {"runtime/watch.hpp", "a thread that is asked by a signal answers"},
    {"runtime/watch.cpp", "a thread that is asked by a signal answers"},
    {"runtime/signals.cpp", "a signal handler finds its pipe"},
};

struct forbidden {
  std::string_view text;  ///< as a whole word, outside comments
  std::string_view why;
  std::array<std::string_view, 6> allowed;  ///< files, or folders that end in '/'
};

/// What only the backends may ask the world for, so that a simulated run can be repeated exactly.
inline constexpr forbidden seam_words[] = {
    {"steady_clock::now", "only a backend reads a clock", {"bench/", "tools/", "tests/"}},
    {"system_clock::now", "only a backend reads a clock", {"bench/", "tools/", "tests/"}},
    {"clock_gettime",
     "only a backend reads a clock",
     {"runtime/backend", "runtime/uring.cpp", "runtime/futex.cpp", "bench/", "tools/", "tests/"}},
    {"random_device", "only a backend draws numbers", {"bench/", "tools/", "tests/"}},
    {"getrandom", "only a backend draws numbers", {"bench/", "tools/", "tests/"}},
};

inline constexpr int lines_max = 450;
inline constexpr int columns_max = 100;
inline constexpr int top_lines = 30;

/// Files that may break the two bounds above.
inline constexpr exception long_files[] = {
    {"LICENSE", "a text that is not ours"},
};

}  // namespace house
