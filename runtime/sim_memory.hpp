// sim_memory.hpp: the oracle of lent memory: what a program lends with an operation belongs to the
// kernel until the operation's last completion, and here the kernel uses that right to the full.
//
// Memory lent to be written is filled with a changing pattern again and again, and looked at before
// each filling: other bytes in it mean that the program took the memory back too early. Memory lent
// to be read is remembered, and looked at once more when it is read, at the latest legal moment.
//
// Always true:
//   - Nothing is touched before lend and nothing after give_back.
//   - What an operation reads from memory is what the program had there when it was handed over; a
//     difference is reported and the old bytes are used.
//   - A buffer's bytes beyond those that the operation delivered keep the pattern.
//
// Comes from: sim_execute.   Goes to: the program's memory.
#pragma once

#include <linux/io_uring.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "runtime/token.hpp"

namespace coir::detail {

class sim_memory {
 public:
  static constexpr std::size_t filled_bytes_max =
      4096;  // of a larger buffer: this much at its ends

  /// From the moment when the entry is handed over.
  void lend(std::uint64_t name, const io_uring_sqe& entry);
  /// Looks at every buffer lent for writing, and fills it again.
  void scribble() noexcept;
  /// Copies what an operation that reads memory was given; looks whether it is still there.
  std::vector<std::byte> fetch(std::uint64_t name);
  /// How many bytes fit into the buffers of an operation that writes memory.
  std::size_t room(std::uint64_t name) const noexcept;
  /// Puts an operation's answer into its buffers. Bytes beyond room() are dropped.
  void put(std::uint64_t name, std::span<const std::byte> from) noexcept;
  /// The path of an operation that names one.
  std::string path(std::uint64_t name);
  /// The last completion is about to be seen by the program: the last look, and never again.
  void give_back(std::uint64_t name) noexcept;

  /// The program is gone, and its memory with it.
  void forget() noexcept { loans_.clear(); }

  std::size_t lent() const noexcept { return loans_.size(); }
  std::uint64_t violations() const noexcept { return violations_; }
  /// What the first violation was; empty while there is none.
  const std::string& first_violation() const noexcept { return first_; }

 private:
  /// Memory that must not change: iovec arrays, paths, addresses, data to be written.
  struct kept {
    const std::byte* place;
    std::vector<std::byte> bytes;
    const char* what;
  };
  struct loan {
    std::uint8_t opcode;
    std::vector<kept> read;
    std::vector<std::span<std::byte>> written;
    std::vector<kept> headers;  // arrays that say where the buffers are
    std::uint64_t round = 0;    // the pattern that lies in `written`; 0: the program's own bytes
    bool answered = false;      // the answer lies there: no more patterns
  };

  static void keep(std::vector<kept>& in, const void* place, std::size_t bytes, const char* what);
  void lend_parts(loan& l, const io_uring_sqe& entry, bool kernel_writes);
  void look(const loan& l) noexcept;
  void look_at(const loan& l, const std::vector<kept>& all) noexcept;
  void fill(loan& l) noexcept;
  void report(const loan& l, const char* what, const void* place) noexcept;

  std::map<std::uint64_t, loan> loans_;
  std::uint64_t round_ = 0;
  std::uint64_t violations_ = 0;
  std::string first_;
};

}  // namespace coir::detail
