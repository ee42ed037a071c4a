// fds.hpp: which workers have operations on a descriptor, so that close reaches every ring that
// holds one.
//
// Always true:
//   - One atomic word per number: bit w is set before worker w's first operation on it is started,
//   `closing` by the one closer.
//     Both are read-modify-writes of the same word, so either the worker sees `closing`, or the
//     closer sees the worker.
//   - The number is given back to the system only after every worker in the word has reported its
//   last completion.
//   - A worker remembers that its bit is set (fd_counts::marked), so the shared word is touched
//   once per worker and number.
//
// Comes from: perform, io::close.   Goes to: flight::close_begin on each worker that has the
// number.
#pragma once

#include <atomic>
#include <cstdint>

namespace coir::detail {

class fd_users {
 public:
  static constexpr std::uint64_t closing = std::uint64_t{1} << 63;
  static constexpr unsigned bits =
      63;  // workers beyond share bits; a bit then means all who share it

  explicit fd_users(std::uint32_t fds_max);
  ~fd_users();
  fd_users(const fd_users&) = delete;
  fd_users& operator=(const fd_users&) = delete;

  std::uint32_t size() const noexcept { return size_; }
  bool knows(int fd) const noexcept { return static_cast<std::uint32_t>(fd) < size_; }

  /// False: the number is being closed.
  bool enter(int fd, unsigned worker) noexcept {
    // acq_rel: one order of enter and close_begin on this word.
    const std::uint64_t before = words_[fd].fetch_or(bit(worker), std::memory_order_acq_rel);
    return (before & closing) == 0;
  }
  /// The caller is the one closer when `closing` is not in the answer; the rest of it says which
  /// workers have it.
  std::uint64_t close_begin(int fd) noexcept {
    return words_[fd].fetch_or(closing, std::memory_order_acq_rel);
  }
  void close_end(int fd) noexcept { words_[fd].store(0, std::memory_order_release); }
  static constexpr std::uint64_t bit(unsigned worker) noexcept {
    return std::uint64_t{1} << (worker % bits);
  }

 private:
  std::atomic<std::uint64_t>* words_;  // zero pages, touched where used
  std::uint32_t size_;
};

/// How many descriptor numbers the process can ever have.
std::uint32_t fds_max_of_process() noexcept;

}  // namespace coir::detail
