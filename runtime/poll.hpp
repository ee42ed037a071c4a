// poll.hpp: the backend for where io_uring is refused: epoll says what is ready, system calls that
// do not wait do it, and what has no such form is left to the offload pool.
//
// Always true:
//   - An operation is tried when it is submitted, but for a receive from a stream that the last one
//     has emptied, where the last try was in vain: that is tried when epoll tells, or before it is
//     given up. What would wait stands in the line of its descriptor; what is for a thread is in
//     the pool; what has ended waits for reap(). It is in exactly one of these places, under the
//     slot of its token, which nobody else has meanwhile.
//   - Each park asks epoll anew (EPOLLONESHOT), so what is ready already is told at once: nothing
//     rests on an edge that was seen, and a wrong guess whether anything is left costs time alone.
//     And each park proves that the number still names what it named: the kernel forgets a
//     registration with the description it was made for. Only where something stands that nobody
//     here waits for (an error queue that nobody reads), and would be told for ever, those who wait
//     are told of changes.
//   - An event is a hint. Who was woken tries again, and stands on in the line if it was in vain.
//   - Flags of a descriptor are never changed.
//
// A number that is closed without telling us (close(2) beside io::close) while operations stand in
// its line: they do not go on with the old description, as they would in a ring. When the number
// names something else and an operation waits on that, they end with EBADF; until then their
// deadline and a cancel end them. One that is closed through coir is forgotten here by forget(), so
// a description that lives on under another number (dup, fork) wakes nobody any more.
//
// Comes from: flight, worker.   Goes to: epoll_pwait2(2), attempt, offload.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <new>

#include "coir/options.hpp"
#include "coir/result.hpp"
#include "runtime/attempt.hpp"
#include "runtime/backend.hpp"
#include "runtime/offload.hpp"

namespace coir::detail {

/// Things by number, made in chunks when first asked for; they never move and are never taken back.
template <class T>
class growing_table {
 public:
  growing_table() = default;
  growing_table(const growing_table&) = delete;
  growing_table& operator=(const growing_table&) = delete;
  ~growing_table() {
    for (std::size_t i = 0; i < chunks_; ++i) delete[] chunk_[i];
    delete[] chunk_;
  }
  /// Null when nobody has asked for it yet.
  T* find(std::size_t i) noexcept {
    const std::size_t in = i / chunk_items;
    return in < chunks_ && chunk_[in] != nullptr ? chunk_[in] + i % chunk_items : nullptr;
  }
  /// Null when there is no memory for it.
  T* at(std::size_t i) noexcept {
    T* const there = find(i);
    return there != nullptr || !grow(i / chunk_items) ? there : find(i);
  }

 private:
  static constexpr std::size_t chunk_items = 128;

  bool grow(std::size_t in) noexcept {
    if (in >= chunks_) {
      const std::size_t more = in < 16 ? 16 : in * 2;
      T** const wider = new (std::nothrow) T* [more] {};
      if (wider == nullptr) return false;
      for (std::size_t i = 0; i < chunks_; ++i) wider[i] = chunk_[i];
      delete[] chunk_;
      chunk_ = wider;
      chunks_ = more;
    }
    chunk_[in] = new (std::nothrow) T[chunk_items];
    return chunk_[in] != nullptr;
  }

  T** chunk_ = nullptr;
  std::size_t chunks_ = 0;
};

class poll final : public backend {
 public:
  static constexpr std::uint64_t bell_mark = UINT64_MAX;  // in place of a number

  /// Takes over an epoll and an eventfd that is registered there. `pool` runs what may wait; the
  /// threads of it must have ended before this does.
  poll(int epoll_fd, int bell_fd, offload_pool& pool) noexcept;
  ~poll() override;

  int attach() noexcept override { return 0; }
  bool submit(const io_uring_sqe& entry, token t, bool urgent) noexcept override;
  std::int32_t send_now(const io_uring_sqe& entry) noexcept override;
  bool cancel(token target) noexcept override;
  bool cancel_fd(int fd) noexcept override;
  void forget(int fd) noexcept override;
  void wait(std::int64_t until_ns) noexcept override;
  bool woke_early() const noexcept override { return woke_early_; }
  unsigned reap(completion_sink sink) noexcept override;
  bool pending() const noexcept override;
  bool ready() const noexcept override;
  void wake() noexcept override;
  std::int64_t now_ns() const noexcept override;
  const backend_counts& counts() const noexcept override { return counts_; }
  const char* name() const noexcept override { return "poll"; }
  bool threads_for_blocking_sockets() const noexcept override { return true; }
  int native_fd() const noexcept override;

 private:
  enum class place : std::uint8_t { nowhere, in_line, in_pool, ended };
  struct beside : list_node {};  // among those that a close of their number does not find in line

  /// One operation. Its list_node is of the line, of the pool's queue or of those that have ended.
  struct operation : offload_call, beside {
    poll* home = nullptr;
    token name;
    place at = place::nowhere;
    bool unwanted = false;  // cancelled while a thread had it
    bool untried = false;   // it stands in line by a guess
    std::int32_t res = 0;
    operation* told_after = nullptr;  // among those that threads have finished
    effort what;
  };

  /// What is known of a descriptor number.
  struct watched {
    list<operation, offload_call> line;
    std::uint32_t armed =
        0;                 // the events that epoll will tell once, or, of changes, until asked anew
    bool changes = false;  // it is told of changes
    bool registered = false;   // under this number, as far as we know
    bool emptied = false;      // the last receive found less than it had room for, and nobody since
    std::uint8_t guesses = 0;  // that the next one would wait: how many until one is tried again
    enum class kind : std::uint8_t { unknown, stream, other } is = kind::unknown;
  };

  void tell_outside() noexcept;
  void settle(operation& op, std::int32_t res) noexcept;
  void end(operation& op, std::int32_t res) noexcept;
  void give_up(operation& op, int why) noexcept;
  void stand_in_line(operation& op) noexcept;
  int arm(watched& w, int fd, std::uint32_t events, bool changes = false) noexcept;
  void leave_line(operation& op) noexcept;
  void to_pool(operation& op) noexcept;
  void take_finished() noexcept;
  static void on_thread(void* op) noexcept;
  static void thread_has_finished(offload_call& call) noexcept;
  int ask_epoll(std::int64_t until_ns, bool& had_time) noexcept;
  void heard(int fd, std::uint32_t events) noexcept;
  bool is_polled(int fd) noexcept;
  bool names_the_same(int fd) noexcept;
  bool would_wait(const io_uring_sqe& entry) noexcept;
  void learn(const io_uring_sqe& entry, std::int32_t res) noexcept;
  void note_what_is_left(const effort& e, std::int32_t res) noexcept;
  bool refuse(token t) noexcept;

  int epoll_fd_;
  int bell_fd_;
  offload_pool& pool_;
  growing_table<operation> operations_;  // by the slot of their token
  growing_table<watched> watched_;       // by number
  std::array<operation, 4> spare_;       // for those that the table has no memory for
  list<operation, offload_call> spares_;
  list<operation, offload_call> ended_;
  list<operation, beside> beside_;
  std::size_t in_line_ = 0;
  std::size_t hurried_ = 0;  // unwanted connects that a thread has
  atomic<operation*> finished_{nullptr};
  bool woke_early_ = false;
  mutable bool watched_from_outside_ = false;  // somebody has native_fd()
  bool rung_ = false;                          // by ourselves, for what has ended already
  mutable bool told_ = false;                  // epoll had something when a spinner asked
  mutable unsigned looks_ = 0;                 // of a spinner
  bool whole_ms_ = false;                      // there is no epoll_pwait2 here
  backend_counts counts_;
};

/// Or the errno that epoll_create1(2), eventfd(2) or epoll_ctl(2) gave, with one line to `log`.
result<std::unique_ptr<backend>> make_poll(offload_pool& pool,
                                           const std::function<void(const log_record&)>& log);

}  // namespace coir::detail
