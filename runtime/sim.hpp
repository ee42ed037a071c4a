// sim.hpp: the backend that is a script: virtual time, one seed, and every fault that a kernel may
// answer with.
//
// Always true:
//   - wait() never sleeps: others of the crew step meanwhile, and when nobody can, the time moves
//     (sim_crew.hpp).
//   - An accepted operation gets exactly one last completion, or more only where a rule says so.
//   - Memory is read and written at the latest legal moment: when the operation is done, not when
//     it is handed over.
//   - What can go no further (blocked, or told to wait for a cancel) has no time; when nothing else
//     is there, exhausted().
//   - A descriptor that the world does not know is a real one: operations on it are tried without
//     waiting, and what would block waits in the world's sim_real. The real ones are looked at
//     before the time moves, and slept for when nothing else is left (sim_outside.cpp).
//
// Comes from: flight, worker (as backend), tests.   Goes to: sim_world, attempt.
#pragma once

#include <cstring>
#include <deque>
#include <map>
#include <new>
#include <set>

#include "coir/detail/atomic.hpp"
#include "runtime/attempt.hpp"
#include "runtime/sim_world.hpp"

namespace coir::detail {

/// A submission entry by value. As a plain member its open end would be an extension of C++.
class entry_copy {
 public:
  entry_copy() = default;
  explicit entry_copy(const io_uring_sqe& from) noexcept { std::memcpy(raw_, &from, sizeof raw_); }
  const io_uring_sqe& operator*() const noexcept {
    return *std::launder(reinterpret_cast<const io_uring_sqe*>(raw_));
  }
  const io_uring_sqe* operator->() const noexcept { return &**this; }

 private:
  alignas(io_uring_sqe) std::byte raw_[sizeof(io_uring_sqe)] = {};
};

class sim final : public backend {
 public:
  explicit sim(sim_world& outside);
  /// In a world of its own.
  explicit sim(std::unique_ptr<sim_world> own);
  ~sim() override;

  int attach() noexcept override { return 0; }
  void detach() noexcept override { world_.crew_.leave(number_); }
  bool submit(const io_uring_sqe& entry, token t, bool urgent) noexcept override;
  std::int32_t send_now(const io_uring_sqe& entry) noexcept override;
  bool goes_on(std::uint8_t opcode) const noexcept override;
  int lend_buffers(std::byte* first, unsigned count, unsigned bytes) noexcept override;
  void return_buffer(unsigned buffer) noexcept override;
  bool cancel(token target) noexcept override;
  bool cancel_fd(int fd) noexcept override;
  void wait(std::int64_t until_ns) noexcept override;
  unsigned reap(completion_sink sink) noexcept override;
  bool pending() const noexcept override;
  bool ready() const noexcept override { return !visible_.empty(); }
  void wake() noexcept override;
  void discard(int fd) noexcept override;
  std::int64_t now_ns() const noexcept override { return world_.crew_.now_ns; }
  const backend_counts& counts() const noexcept override { return counts_; }
  const char* name() const noexcept override { return "sim"; }
  bool simulated() const noexcept override { return true; }
  bool exhausted() const noexcept override { return exhausted_; }
  bool threads_for_blocking_sockets() const noexcept override;
  /// Operations that were accepted and whose last completion was not reaped.
  std::size_t in_flight() const noexcept;
  /// Lent buffers that are free, hold data for nobody yet, or are told of by what was not reaped.
  std::size_t lent_here() const noexcept;
  sim_world& world() noexcept { return world_; }
  /// Takes part again, after detach().
  void come_back() noexcept;

 private:
  friend class sim_crew;
  /// Not handed over yet: an operation, or a request to cancel one token or one descriptor.
  struct request {
    enum class kind : std::uint8_t { operation, cancel_token, cancel_fd } is;
    token name;
    int fd;
    entry_copy entry;
  };
  /// Handed over, and its last completion was not reaped.
  struct flying {
    std::uint64_t number;  // of the world, in the order of handing over; the loan's name
    entry_copy entry;
    token name;
    sim_rule fate;
    std::shared_ptr<sim_open> on;  // what the descriptor names
    std::uint64_t write_name = 0;  // of a write that is under way on the disk
    std::uint64_t sync_mark = 0;
    unsigned items = 0;        // it went on after so many
    std::int64_t seen_ns = 0;  // when the last of its completions that was held is seen
    int buffer = -1;           // that it took for its answer
    bool done = false;
    bool cancelled_late = false;  // a cancel came that did nothing, and the operation is blocked
    bool is_real = false;         // the kernel does it
    effort real;
  };
  /// A moment at which something happens: an operation is done, or a completion becomes visible.
  struct moment {
    std::int64_t at_ns;
    std::uint64_t rank;  // by chance, or 0: in order
    std::uint64_t order;
    auto operator<=>(const moment&) const = default;
  };
  struct happening {
    std::uint64_t number = 0;  // of the operation; 0: only a completion
    bool is_completion = false;
    completion what = {};
  };

  // sim_crew.cpp asks: what is due by now happens; whether wait() would return now; if not, when.
  void catch_up() noexcept;
  bool may_step() const noexcept;
  bool has_reason_to_step() const noexcept;
  std::int64_t next_ns() const noexcept;

  // sim.cpp: time and queues
  bool full(bool urgent) const noexcept;
  void hand_over() noexcept;
  void launch(const request& r) noexcept;
  void plan(std::int64_t at_ns, const happening& what) noexcept;
  void take_injected() noexcept;
  void happen_until(std::int64_t now) noexcept;
  void retry_blocked() noexcept;
  void attempt(flying& f) noexcept;
  void finish(flying& f, std::int32_t res) noexcept;
  std::int64_t seen_ns(flying& f) noexcept;
  bool goes_on_after(const flying& f, std::int32_t res) const noexcept;
  void give_item(flying& f, std::int32_t res) noexcept;
  std::int64_t time_of(const flying& f) noexcept;
  void cancel_one(flying& f) noexcept;
  std::int32_t cancel_matching(const request& r) noexcept;
  void answer_cancel(const request& r, std::int32_t res) noexcept;
  void show(const completion& c) noexcept;
  void lose_power() noexcept;
  void note(sim_event::kind what, token name, std::uint8_t opcode, std::int32_t res) noexcept;

  // sim_execute.cpp: what each opcode does. `would_block`: not now.
  static constexpr std::int32_t would_block = INT32_MIN;
  static constexpr std::int32_t answered_before = INT32_MAX;
  void prepare(flying& f);
  void fail_on_disk(flying& f);
  static std::size_t most(const flying& f, std::size_t wanted) noexcept;
  std::int32_t execute(flying& f);
  std::int32_t execute_on_file(flying& f);
  std::int32_t execute_on_end(flying& f);
  std::int32_t read_file(flying& f);
  std::int32_t write_file(flying& f);
  std::string path_of(flying& f) const;
  std::int32_t open_path(flying& f);
  std::int32_t stat_path(flying& f);
  std::int32_t receive(flying& f);
  std::int32_t receive_into_lent(flying& f, sim_channel& in);
  std::int32_t send(flying& f);
  static unsigned socket_flags(const flying& f) noexcept;
  static std::int32_t not_now(const flying& f) noexcept;
  static unsigned readiness(sim_end& end) noexcept;
  std::int32_t accept(flying& f);
  std::int32_t connect(flying& f);
  std::int32_t poll(flying& f) const;

  // sim_outside.cpp: what is none of the world's own
  bool is_real(const io_uring_sqe& entry) const noexcept;
  std::int32_t execute_for_real(flying& f);
  void try_real_again() noexcept;

  std::unique_ptr<sim_world> own_;
  sim_world& world_;
  const unsigned number_;  // in the crew
  std::int64_t rests_until_ns_ = no_wait_ns;
  std::int64_t stands_until_ns_ = no_wait_ns;  // and does nothing, whatever there is to do
  std::deque<request> requests_;
  std::map<std::uint64_t, flying> flights_;
  std::map<std::uint64_t, std::uint64_t> by_token_;  // raw -> number
  std::map<moment, happening> calendar_;
  std::set<std::uint64_t> blocked_;
  std::deque<completion> visible_;
  std::span<std::byte> lent_;  // all buffers that were lent
  unsigned lent_bytes_ = 0;    // of each
  std::vector<unsigned> lent_free_;
  std::uint64_t order_ = 0;
  std::uint64_t changes_seen_ = 0;  // of the crew, by those that are blocked here
  atomic<bool> woken_{false};
  bool exhausted_ = false;
  backend_counts counts_;
};

}  // namespace coir::detail
