// fds.hpp: which workers have operations on a descriptor, so that close reaches every ring that
// holds one.
//
// Always true:
//   - One atomic word per number: bit w is set before worker w's first operation on it is started,
//     `closing` by the one closer. Both are read-modify-writes of the same word, so either the
//     worker sees `closing`, or the closer sees the worker.
//   - The word's era is another one after each close. Who asked for it when it was called is
//     refused when it comes to enter, or to close, in a later one: the number may be a stranger's.
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

/// Whether an operation, or a close, may start on a number. `closing`: its owner has closed it, or
/// does. `later`: the kernel is closing it for the owner before the caller: ask again.
enum class entrance : std::uint8_t { open, closing, later };

class fd_users {
 public:
  static constexpr std::uint64_t closing = std::uint64_t{1} << 63;
  static constexpr std::uint64_t released = std::uint64_t{1} << 62;
  static constexpr std::uint64_t awaited = std::uint64_t{1} << 61;
  static constexpr unsigned bits =
      45;  // workers beyond share bits; a bit then means all who share it
  static constexpr std::uint64_t era_one = std::uint64_t{1} << bits;
  static constexpr std::uint64_t era_bits = awaited - era_one;

  explicit fd_users(std::uint32_t fds_max);
  ~fd_users();
  fd_users(const fd_users&) = delete;
  fd_users& operator=(const fd_users&) = delete;

  std::uint32_t size() const noexcept { return size_; }
  bool knows(int fd) const noexcept { return static_cast<std::uint32_t>(fd) < size_; }

  /// For who was called just now. It is the same one again 65,536 closes later.
  std::uint64_t era(int fd) const noexcept {
    return words_[fd].load(std::memory_order_acquire) & era_bits;
  }
  entrance enter(int fd, std::uint64_t era, unsigned worker) noexcept {
    // acq_rel: one order of enter and close_begin on this word.
    return stands(words_[fd].fetch_or(bit(worker), std::memory_order_acq_rel), era);
  }
  struct begun {
    entrance at;
    std::uint64_t users;  // which workers have the number
  };
  /// `open`: the caller is the one closer.
  begun close_begin(int fd, std::uint64_t era) noexcept {
    std::uint64_t now = words_[fd].load(std::memory_order_acquire);
    while (stands(now, era) == entrance::open)
      if (words_[fd].compare_exchange_weak(now, now | closing, std::memory_order_acq_rel))
        return {entrance::open, now & (era_one - 1)};
    return {stands(now, era), 0};
  }
  /// No worker has an operation on it any more; the kernel's close comes next. Who asks for the era
  /// from here on may be its next owner.
  void release(int fd) noexcept {
    // relaxed: between `closing` and here nobody but the closer changes it.
    const std::uint64_t next = words_[fd].load(std::memory_order_relaxed) + era_one;
    words_[fd].store((next & era_bits) | closing | released, std::memory_order_release);
  }
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
  static entrance stands(std::uint64_t word, std::uint64_t era) noexcept {
    if ((word & era_bits) != era && !COIR_MUTANT(later_owner_met)) return entrance::closing;
    if ((word & closing) == 0) return entrance::open;
    return (word & released) == 0 ? entrance::closing : entrance::later;
  }
  bool awaits_end(int fd) noexcept;
  void wake_waiting() noexcept;

  wait_queue waiting_;            // for the end of any close. Few at a time
  atomic<std::uint64_t>* words_;  // zero pages, touched where used
  std::uint32_t size_;
};

/// How many descriptor numbers the process can ever have.
std::uint32_t fds_max_of_process() noexcept;

}  // namespace coir::detail
