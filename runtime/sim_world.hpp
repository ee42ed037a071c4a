// sim_world.hpp: everything outside of a simulated runtime: files, connections, the script of what
// goes wrong, and the record of what happened.
//
// Always true:
//   - The world belongs to the test and outlives the runtime; the backend only lives in it.
//   - One seed and one program give one run: the same events at the same times, and so one hash.
//   - Rules are tried in the order in which they were added; a rule that was used up is skipped.
//   - A descriptor number names what it did when an operation on it was handed over, even when the
//     number is closed and used again meanwhile. Numbers below first_fd are of the real world.
//
// Comes from: tests.   Goes to: sim (the backend), sim_disk, sim_wire, sim_memory.
#pragma once

#include <climits>
#include <functional>
#include <optional>
#include <utility>

#include "runtime/backend.hpp"
#include "runtime/sim_crew.hpp"
#include "runtime/sim_dice.hpp"
#include "runtime/sim_disk.hpp"
#include "runtime/sim_memory.hpp"
#include "runtime/sim_real.hpp"
#include "runtime/sim_wire.hpp"

namespace coir::detail {

/// Newer than some kernel headers: cuts a file to `off` bytes (Linux 6.9).
inline constexpr std::uint8_t sim_op_ftruncate = 55;

struct sim_settings {
  std::uint64_t seed = 1;
  bool shuffle = false;           ///< chance decides the order of completions due at the same time
  std::int64_t delay_min_ns = 0;  ///< chance decides how long an operation takes
  std::int64_t delay_max_ns = 0;
  unsigned entries = 64;  ///< room for submissions between two waits
  std::int64_t start_ns = 1'000'000'000;
  std::int64_t visit_ns = 0;  ///< what each visit of a worker to the outside takes
  bool goes_on = true;  ///< accept, recv and timeout may go on after their first completion, and
                        ///< operations may take a lent buffer when their data is there
  bool real = false;    ///< files, and descriptors of any number, are those of the real world
};

/// What happens to the operations that it fits. Only what is set differs from the ordinary.
struct sim_rule {
  // -- whom it fits
  std::optional<std::uint8_t> opcode = {};
  std::optional<int> fd = {};
  unsigned skip = 0;   ///< so many that fit go unharmed first
  unsigned times = 1;  ///< how many it is for; UINT_MAX: all

  // -- what happens
  std::optional<std::int32_t> result = {};  ///< the answer, whatever was done
  std::optional<std::size_t> bytes_max =
      {};  ///< do only so much; with `result`: do it, and answer that
  std::optional<std::int64_t> delay_ns = {};  ///< until it is done
  std::int64_t hold_ns = 0;  ///< from done to visible: the completion is there, and not seen yet
  bool until_cancelled = false;  ///< never done by itself
  /// What a cancel is told. 0: it works. -ENOENT, -EALREADY: it does nothing, and the operation
  /// ends in its own way; one that is blocked then ends with ECANCELED all the same, `delay_ns`
  /// later.
  std::int32_t cancel_answer = 0;
  bool cancel_first = false;  ///< the answer to the cancel is seen before the operation's own end
  /// One that goes on ends after so many items: with `result` where that is set, else the last of
  /// them says that it is the last.
  std::optional<unsigned> items_max = {};
  bool resets = false;      ///< of a socket: the connection is broken first, for both sides
  unsigned duplicates = 0;  ///< so many further completions with the same token, at once
  std::optional<std::int64_t> late_ns =
      {};  ///< one more, so long afterwards, when the token is another's or nobody's
};

/// What happened, in the order in which it happened.
struct sim_event {
  enum class kind : std::uint8_t { handed_over, done, seen, cancel_asked, refused, crashed };
  kind what;
  std::int64_t at_ns;
  token name;
  std::uint8_t opcode;
  std::int32_t res;
  std::uint64_t number;  ///< counts from 1
  unsigned worker;       ///< whose backend saw it
};

/// What a descriptor names.
struct sim_open {
  enum class kind : std::uint8_t { file, folder, end, listener };
  kind is = kind::file;
  std::string path;
  std::shared_ptr<sim_file> file;
  std::shared_ptr<sim_end> end;
  std::shared_ptr<sim_listener> listener;
  std::uint64_t position = 0;
  bool appends = false;
  bool reads = true;
  bool writes = true;
  bool unblocking = false;  ///< O_NONBLOCK: EAGAIN instead of waiting
};

class sim_world {
 public:
  static constexpr int first_fd = 600;  // above what a test program has open in the real world

  explicit sim_world(const sim_settings& s = {}, const sim_disk::image& files = {});
  sim_world(const sim_world&) = delete;
  sim_world& operator=(const sim_world&) = delete;

  // -- the script
  sim_world& rule(const sim_rule& r);
  /// The next `count` submissions, or requests to cancel, find no room.
  void refuse_submissions(unsigned count) noexcept { refused_submissions_ = count; }
  void refuse_cancels(unsigned count) noexcept { refused_cancels_ = count; }
  /// Asked for what happens to an operation that no rule fits; empty: nothing. `on`: what its
  /// descriptor names, or null.
  std::function<sim_rule(const io_uring_sqe& entry, const sim_open* on)> on_fate;
  /// Asked whether an operation, or a cancel, finds no room; empty: no.
  std::function<bool(bool cancel)> on_entry;
  /// Asked at each visit of a worker for how long it then does nothing, in ns; empty: not at all.
  std::function<std::int64_t(unsigned worker)> on_pause;
  /// sim_settings::entries and goes_on, before a backend is made.
  void change(unsigned entries, bool goes_on) noexcept {
    settings_.entries = entries;
    settings_.goes_on = goes_on;
  }
  /// A completion out of nowhere, at once when nothing is set for `at_ns`.
  void inject(const completion& c, std::int64_t at_ns = no_wait_ns);

  // -- while the program runs
  /// The running fiber computes for so long. What is under way goes on meanwhile, and is seen when
  /// the worker asks for it.
  void compute(std::int64_t ns) noexcept;
  /// Called whenever the worker comes to the outside: what other cores do in the meantime.
  std::function<void()> on_visit;
  /// Called whenever the bell of that worker is rung.
  std::function<void(unsigned)> on_ring;

  // -- descriptors
  std::pair<int, int> connection(std::size_t room_bytes = 65536);
  std::pair<int, int> pipe(std::size_t room_bytes = 65536);  ///< {read end, write end}
  int listener(std::uint16_t port);
  int socket();  ///< not connected
  /// The other side connects; its descriptor.
  int connect_to(int listener_fd, std::size_t room_bytes = 65536);
  /// As fcntl(O_NONBLOCK) does.
  void set_unblocking(int fd, bool on = true);
  /// As a peer or a person does it, without the runtime.
  void close(int fd) noexcept;
  std::size_t open_fds() const noexcept;

  // -- the record
  std::uint64_t hash() const noexcept { return hash_; }
  std::uint64_t events() const noexcept { return events_; }
  std::function<void(const sim_event&)> on_event;
  std::string describe() const;  ///< seed, events, hash, violations: for the message of a failure

  // -- the power cut
  /// After event number `event` the power is cut: `then` is called and may look at
  /// disk.crash(seed). From then on nothing is done any more: every operation ends with ECANCELED.
  void crash_after(std::uint64_t event, std::function<void()> then);
  /// The same, now. `then` of crash_after() is called all the same; event 0 never comes by itself.
  void cut_power();
  bool crashed() const noexcept { return crashed_; }

  /// All that chance decides.
  sim_dice& dice() noexcept { return dice_; }

  sim_disk disk;
  sim_memory memory;
  sim_real real;

  // -- for whoever drives a runtime on a plain thread
  /// The time does not move beyond this.
  std::int64_t limit_ns = never_ns;
  /// How often it may move, or the whole world sleep, before it says that it is exhausted.
  unsigned moves_left = UINT_MAX;
  /// Whether somebody outside of this world, who is seen nowhere in it, may still send something;
  /// asked where nothing else is left. Null: nobody.
  std::function<bool()> others_may_come;
  /// Nothing in this world has a time: sleeps until something comes from outside. False: nothing
  /// can.
  bool sleep_outside();
  std::int64_t now_ns() const noexcept { return crew_.now_ns; }

 private:
  friend class sim;
  friend class sim_crew;
  friend class lanes;
  struct injected {
    completion what;
    std::int64_t at_ns;
  };

  sim_rule fate(const io_uring_sqe& entry);
  std::shared_ptr<sim_open> at(int fd) const noexcept;
  int open(std::shared_ptr<sim_open> what);
  void note(sim_event::kind what, token name, std::uint8_t opcode, std::int32_t res,
            unsigned worker);
  bool refuses_submission() noexcept;
  bool refuses_cancel() noexcept;

  sim_settings settings_;
  sim_dice dice_;
  sim_crew crew_;
  std::uint64_t numbers_ = 0;  // of operations that were handed over
  std::vector<sim_rule> rules_;
  std::vector<injected> injected_;
  std::vector<std::shared_ptr<sim_open>> open_;  // by number - first_fd
  unsigned refused_submissions_ = 0;
  unsigned refused_cancels_ = 0;
  std::uint64_t hash_ = 14695981039346656037u;
  std::uint64_t events_ = 0;
  std::uint64_t crash_event_ = 0;
  std::function<void()> on_crash_;
  bool crashed_ = false;
};

}  // namespace coir::detail
