// fds.hpp: which workers have operations on a descriptor, so that close reaches every ring that
// holds one.
//
// Always true:
//   - One atomic word per number: bit w is set before worker w's first operation on it is started,
//     `closing` by the one closer. Both are read-modify-writes of the same word, so either the
//     worker sees `closing`, or the closer sees the worker.
//   - The number is given back to the system only after every worker in the word has reported its
//     last completion.
//   - Who has to wait until the kernel has closed a number says so in the same word, so either it
//     finds the number closed, or the closer finds that somebody waits.
//   - A worker remembers that its bit is set (fd_counts::marked), so the shared word is touched
//     once per worker and number.
//
// Comes from: perform, io::close.   Goes to: flight::close_begin on each worker that has the
// number.
#pragma once

#include <cstdint>

#include "coir/detail/atomic.hpp"
#include "coir/detail/wait_queue.hpp"
#include "runtime/base.hpp"

namespace coir::detail {

struct whole_close;

/// Whether an operation may start on a number.
enum class entrance : std::uint8_t { open, closing, later };

class fd_users {
 public:
  static constexpr std::uint64_t closing = std::uint64_t{1} << 63;
  static constexpr std::uint64_t released = std::uint64_t{1} << 62;
  static constexpr std::uint64_t awaited = std::uint64_t{1} << 61;
  static constexpr unsigned bits =
      61;  // workers beyond share bits; a bit then means all who share it

  explicit fd_users(std::uint32_t fds_max);
  ~fd_users();
  fd_users(const fd_users&) = delete;
  fd_users& operator=(const fd_users&) = delete;

  std::uint32_t size() const noexcept { return size_; }
  bool knows(int fd) const noexcept { return static_cast<std::uint32_t>(fd) < size_; }

  /// `later`: the kernel is closing the number right now; it may be somebody's new one already, so
  /// ask again.
  entrance enter(int fd, unsigned worker) noexcept {
    // acq_rel: one order of enter and close_begin on this word.
    const std::uint64_t before = words_[fd].fetch_or(bit(worker), std::memory_order_acq_rel);
    if ((before & closing) == 0) return entrance::open;
    return (before & released) == 0 ? entrance::closing : entrance::later;
  }
  /// The caller is the one closer when `closing` is not in the answer; the rest of it says which
  /// workers have the number.
  std::uint64_t close_begin(int fd) noexcept {
    return words_[fd].fetch_or(closing, std::memory_order_acq_rel);
  }
  /// No worker has an operation on it any more; the kernel's close comes next.
  void release(int fd) noexcept { words_[fd].store(closing | released, std::memory_order_release); }
  /// The kernel has closed it. Keeps the bits of those who entered with the number's next owner.
  void close_end(int fd) noexcept {
    const std::uint64_t ended = closing | released | awaited;
    const std::uint64_t before = words_[fd].fetch_and(~ended, std::memory_order_acq_rel);
    if ((before & awaited) != 0 && !COIR_MUTANT(closed_untold)) wake_waiting();
  }
  /// Waits while the kernel is closing the number, or until another one is closed: ask again.
  void wait_for_end(int fd) noexcept;
  static constexpr std::uint64_t bit(unsigned worker) noexcept {
    return std::uint64_t{1} << (worker % bits);
  }

  // The closings that wait for reports, looked up by number when a worker's last operation on it
  // has ended. Few at a time.
  atomic<std::uint32_t> under_way_lock{0};
  whole_close* under_way = nullptr;

 private:
  bool awaits_end(int fd) noexcept;
  void wake_waiting() noexcept;

  wait_queue waiting_;            // for the end of any close. Few at a time
  atomic<std::uint64_t>* words_;  // zero pages, touched where used
  std::uint32_t size_;
};

/// How many descriptor numbers the process can ever have.
std::uint32_t fds_max_of_process() noexcept;

}  // namespace coir::detail
