// sim.hpp: a program run in a simulated world: one seed decides which worker steps, what completes
// when and with which answer, and what goes wrong; time is virtual.
//
// Always true:
//   - The same settings and program give the same run, to the hash: all chance comes from the seed,
//     or from a list of decisions, as long as the program asks nobody else for time, chance or I/O.
//   - A run is one thread, the caller's; every worker, fiber, mailbox, timer and cancel is the real
//     one. Only the outside is not: descriptors are those of the world.
//   - At each visit of a worker to the outside what must always be true of the runtime is checked.
//   - A run that failed shrinks to a short list of decisions that fails as well, printed as a test.
//
//   TEST_CASE("nothing that was sent is lost") {
//     coir::sim::settings s{.workers = 2, .chances = coir::sim::faults::harmless(50)};
//     const auto report = coir::sim::explore(s, 1000, [](coir::sim::world& w) {
//       const auto [one, other] = w.connection();
//       w.run([&] { ... fibers that talk over the two; coir::sim::check(got == sent, "lost"); });
//     });
//     CHECK_MESSAGE(report.ok(), report.to_text());
//   }
//
// Comes from: a user's tests.   Goes to: runtime/sim_run.hpp. See docs/sim.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coir/clock.hpp"
#include "coir/detail/task.hpp"
#include "coir/faults.hpp"
#include "coir/options.hpp"
#include "coir/result.hpp"

namespace coir::detail {
struct sim_run;
}

namespace coir::sim {

/// Number `index` of a run's decisions, from 0; those that nobody names are 0, the ordinary.
struct decision {
  std::uint64_t index = 0;
  std::uint64_t value = 0;
};

struct settings {
  std::uint64_t seed = 1;  ///< explore() takes this one and those that follow
  unsigned workers = 1;    ///< 1 to 8, all of them on the calling thread
  /// Of the runtime. Its workers, backend, log, spin, watch and places of workers are the world's.
  options runtime = {.fibers_max = 4096, .stack_bytes = 64 << 10};
  faults chances = {};  ///< of 1,000
  bool swarm = true;  ///< each run draws which of them there are, and how often at most; some none
  /// How long an operation takes, at most; how long exactly is drawn.
  std::chrono::nanoseconds delay_max{20'000};
  std::uint64_t steps_max = 100'000;  ///< visits of workers to the outside, in all
  /// explore(): runs in other processes, at most 256 in each, so that what ends a process (a
  /// signal, an assertion of coir or of the program, 30 s of the processor in one run) is found and
  /// shrunk as well. What a run leaves behind in globals the next one may find. Only while the
  /// program has one thread.
  bool isolate = false;
  unsigned shrink_runs = 3000;  ///< runs that shrinking may take
};

enum class verdict {
  ok,
  failed_check,
  exception,       ///< one left the program, or the body of run()
  deadlock,        ///< nothing was under way, and some waited: the text names them
  invariant,       ///< what must always be true of coir was not
  too_many_steps,  ///< settings::steps_max
  died,            ///< by a signal, or by exit: only where settings::isolate
};
COIR_API std::string_view name_of(verdict v) noexcept;

struct report {
  verdict is = verdict::ok;
  std::string text = {};  ///< what failed, and the last lines of the log
  std::uint64_t seed = 0;
  std::uint64_t seeds = 1;               ///< how many were run
  std::uint64_t hash = 0;                ///< of everything that happened outside
  std::uint64_t events = 0;              ///< that went into it
  std::uint64_t steps = 0;               ///< visits of workers to the outside
  std::uint64_t decided = 0;             ///< how many decisions were made
  std::vector<decision> decisions = {};  ///< those that were not 0; of explore(): shrunk

  bool ok() const noexcept { return is == verdict::ok; }
  /// For the message of a failed test: all of it, and the call of replay() that repeats it.
  COIR_API std::string to_text() const;
};

/// What happens to the next operations that fit; goes before settings::chances.
struct rule {
  std::optional<std::uint8_t> opcode = {};  ///< IORING_OP_... of <linux/io_uring.h>
  std::optional<int> fd = {};
  unsigned skip = 0;                                   ///< so many that fit go unharmed first
  unsigned times = 1;                                  ///< how many it is for
  std::optional<std::int32_t> result = {};             ///< the answer, a negative errno
  std::optional<std::size_t> bytes_max = {};           ///< moves only so much
  std::optional<std::chrono::nanoseconds> delay = {};  ///< until it is done
  std::chrono::nanoseconds hold{0};                    ///< from done to seen
  bool until_cancelled = false;
};

/// What is outside. Made by run() and its like, which hand it to the program. Everything may be
/// called by the program, on the plain thread, and by its fibers, unless it says otherwise.
class COIR_API world {
 public:
  /// Runs `body` on a fiber of worker 0 of a new runtime, until that and every other fiber have
  /// ended: one life of the program. False: the power was cut. Does not return when the run has
  /// failed. Not on a fiber. The next life finds the files: all of them, or what the cut left.
  bool run(std::function<void()> body, const site& where = site::here());

  /// The options of the next life, to be changed before run(): settings::runtime at first, with
  /// settings::workers. A program may so choose() its workers and its bounds.
  options& next_life() noexcept;

  // -- files
  void put_file(const std::string& path, std::string_view content);  ///< durable; before run()
  /// What a program would read now.
  std::optional<std::string> file(const std::string& path) const;
  std::map<std::string, std::string> files() const;

  // -- descriptors, for coir::io and what is built on it; of one life
  std::pair<int, int> connection(std::size_t room_bytes = 65536);
  std::pair<int, int> pipe(std::size_t room_bytes = 65536);  ///< {read end, write end}
  int listener(std::uint16_t port);
  int connect_to(int listener_fd, std::size_t room_bytes = 65536);  ///< as a peer from outside
  void close(int fd) noexcept;  ///< as a peer does; the program's own are closed by io::close
  std::size_t open_descriptors() const noexcept;

  // -- what happens
  /// 0 to `count` - 1, decided as everything else is, and shrunk to 0 where that does not matter.
  std::uint64_t choose(std::uint64_t count);
  void add(const rule& r);
  /// Nothing goes wrong any more by chance.
  void stop_faults() noexcept;
  std::uint64_t steps() const noexcept;    ///< visits of workers to the outside, so far
  std::uint64_t decided() const noexcept;  ///< decisions, so far
  /// How often each of all_faults happened.
  std::vector<std::uint64_t> faults_seen() const;
  /// The power is cut. From here on nothing is done, every operation of this life ends with
  /// operation_canceled, every fiber is cancelled, and what fails counts for nothing: run() answers
  /// false when they have ended. Of what was not synced the disk has old, new or torn sectors.
  void crash();

  world(const world&) = delete;
  world& operator=(const world&) = delete;

 private:
  friend struct detail::sim_run;
  explicit world(detail::sim_run& in) noexcept : in_(in) {}
  detail::sim_run& in_;
};

using program = std::function<void(world&)>;

/// Ends the run as failed when `condition` is false: throws what coir::sim alone catches. On a
/// fiber or in the program, of a run that goes on; elsewhere it throws std::logic_error.
COIR_API void check(bool condition, std::string_view text, const site& where = site::here());

/// One run.
[[nodiscard]] COIR_API report run(const settings& s, const program& p);
/// The run that these decisions give, as report::to_text() prints them.
[[nodiscard]] COIR_API report replay(const settings& s, const std::vector<decision>& decisions,
                                     const program& p);
/// `seeds` runs, from settings::seed on, until one fails; that one is shrunk. Its decisions are the
/// short ones, its text, hash and counts those of the run that they give.
[[nodiscard]] COIR_API report explore(const settings& s, std::uint64_t seeds, const program& p);

}  // namespace coir::sim
