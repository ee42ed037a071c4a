// machine_core.hpp: what a state machine is without its types: inputs in a line, fibers that serve
// them on one worker, and the word on who may look at the state and change it.
//
// Always true:
//   - Inputs begin in the order in which they came; at most inflight_max have begun and not ended.
//   - Where an input waits there is a fiber that will take it: one is idle, or about to start, or
//     inflight_max of them are at work, or there is no room for another fiber, and then one that
//     ends its input takes the next.
//   - Only fibers of the owner worker touch the state, so what runs between two parks is alone
//     with it.
//
// Comes from: coir/state_machine.hpp.   Goes to: runtime/state_machine.cpp.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "coir/clock.hpp"
#include "coir/no_park.hpp"
#include "coir/result.hpp"
#include "coir/scope.hpp"
#include "coir/sync.hpp"

namespace coir {

class runtime;

struct machine_options {
  std::uint32_t inflight_max = 4096;    ///< inputs that have begun and not ended, at least 1
  std::uint32_t queue_max = 4096;       ///< inputs that wait to begin, at least 1
  bool refuse_when_full = false;        ///< a call that meets a full queue answers errc::queue_full
  std::optional<unsigned> worker = {};  ///< the owner; empty: the caller's own, 0 for a thread
  std::string_view name = "machine";    ///< of its fibers
  std::size_t stack_bytes = 0;          ///< of each; 0: options::stack_bytes of the runtime
};

namespace detail {

/// A number that is another one as soon as the fiber that asks has been parked, or has let others
/// run. The worker's own, so it says nothing on a plain thread.
COIR_API std::uint64_t turn_here() noexcept;

/// One input. Exactly one of the two is called, once.
class machine_job {
 public:
  virtual ~machine_job() = default;
  virtual void run() noexcept = 0;                        ///< on a fiber of the owner
  virtual void refuse(std::error_code why) noexcept = 0;  ///< it never began; anywhere
};

class COIR_API machine_core {
 public:
  explicit machine_core(const machine_options& o);
  machine_core(const machine_core&) = delete;
  machine_core& operator=(const machine_core&) = delete;
  virtual ~machine_core() = default;

  /// The first fiber. `on` null: the caller's runtime. Errors: invalid_argument, those of spawn.
  [[nodiscard]] result<> start(runtime* on);

  // -- any fiber, any thread
  /// Empty: `job` will be answered. Waits for a place in the line where `wait` says so.
  std::error_code submit(std::shared_ptr<machine_job> job, deadline until, bool wait);
  /// True: it has not begun, and never will.
  bool withdraw(const machine_job& job);
  [[nodiscard]] result<> stop(deadline until);
  std::size_t suspended() const;
  std::size_t queued() const;
  bool refuses_when_full() const noexcept { return refuse_when_full_; }

  /// Stops, and returns when no fiber is left, whatever asks the caller to hurry. Whoever derives
  /// calls it before its own members end.
  void finish() noexcept;

  // -- fibers of the owner
  std::uint64_t version() const noexcept { return version_; }
  std::uint64_t era() const noexcept { return era_; }
  /// Stops the process when somebody else is in the middle of a change.
  void look() const noexcept;
  /// Whether what was seen at `version` still holds.
  bool unchanged_since(std::uint64_t version) const noexcept;
  /// For the reference that was taken at `turn` and `version`: stops the process when it is stale.
  void check_reference(std::uint64_t turn, std::uint64_t version) const noexcept;
  /// From here on what earlier inputs still want to change is refused.
  void begin_era() noexcept { ++era_; }
  [[nodiscard]] result<> lock_key(const std::string& key, deadline until);
  void unlock_key(const std::string& key) noexcept;

 private:
  friend class machine_change;
  /// A fiber that was counted among servers_ before it began.
  class server_place {
   public:
    explicit server_place(machine_core& of) noexcept : of_(&of) {}
    server_place(server_place&& from) noexcept : of_(std::exchange(from.of_, nullptr)) {}
    ~server_place() {
      if (of_ != nullptr) of_->server_lost();
    }
    void begin() { std::exchange(of_, nullptr)->serve(); }

   private:
    machine_core* of_;
  };
  struct key_waiter {
    event turn;
    const void* fiber = nullptr;
    bool given = false;
  };
  struct key_line {
    const void* holder = nullptr;
    std::deque<key_waiter*> waiting;
  };

  void serve();
  std::shared_ptr<machine_job> take(std::unique_lock<std::mutex>& held);
  std::error_code spawn_server(deadline until);
  void server_lost() noexcept;
  std::error_code wait_in_line(wait_queue& where, std::unique_lock<std::mutex>& held,
                               deadline until) noexcept;
  void refuse_queued(std::error_code why) noexcept;
  void close_the_line() noexcept;
  [[noreturn]] void seen_by_halves() const noexcept;

  const std::string name_;
  const std::uint32_t inflight_max_, queue_max_;
  const bool refuse_when_full_;
  const bool owner_named_;
  unsigned owner_;  // settled by start()
  const std::size_t stack_bytes_;

  // Fibers of the owner only.
  std::uint64_t version_ = 0, era_ = 0;
  const void* changing_ = nullptr;  // the fiber inside a change
  std::unordered_map<std::string, key_line> keys_;

  // Guards what follows, but not the rooms; held for a few instructions and never across a park, so
  // that who only hands something over never waits for a fiber.
  mutable std::mutex mutex_;
  wait_queue work_, room_;  // who waits for an input; who waits for a place in the line
  std::deque<std::shared_ptr<machine_job>> queue_;
  std::uint32_t servers_ = 0, idle_ = 0, inflight_ = 0;
  bool stopping_ = false;

  std::optional<scope> fibers_;  // last: its end waits for everybody who uses the rest
};

/// While it lives the calling fiber changes the state: alone, and without a park.
class COIR_API machine_change {
 public:
  /// `era`: when the input began. error() says whether it may.
  machine_change(machine_core& core, std::uint64_t era) noexcept;
  ~machine_change();
  machine_change(const machine_change&) = delete;
  machine_change& operator=(const machine_change&) = delete;
  std::error_code error() const noexcept { return refused_.code(); }
  /// The change is complete. Errors: errc::update_would_park.
  std::error_code close() noexcept;

 private:
  machine_core& core_;
  refusal refused_;
  bool open_ = false;
  std::optional<no_park> forbidden_;  // where parks are checked it names the line that did it
  std::uint64_t turn_ = 0;
  std::uint16_t ignored_before_ = 0;
};

}  // namespace detail
}  // namespace coir
