// memory.hpp: what each thread of an exploration may read: the history of every word, and what each
// thread has seen of it.
//
// The model is that of C++20, with two simplifications that are written in docs/design.md: the
// stores to one word are ordered as they were executed, and a load never reads a store that is
// executed later.
//
// Always true:
//   - A view says for each word the oldest store that may still be read, and for each thread how
//     much of what it did has happened before.
//   - A read-modify-write finds the newest store. A load may read any store that its thread's view
//     allows; who reads with acquire also gets the view that the store was released with.
//   - A sequentially consistent fence exchanges words with one global view, never what happened
//     before: fences alone order no plain data.
//
// Comes from: checker.cpp.   Goes to: nothing.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace coir::check {

inline constexpr unsigned threads_max = 4;
inline constexpr unsigned words_max = 48;

struct view {
  std::array<std::uint16_t, words_max> seen = {};
  std::array<std::uint16_t, threads_max> clock = {};

  void join_seen(const view& other) noexcept {
    for (unsigned i = 0; i < words_max; ++i) seen[i] = std::max(seen[i], other.seen[i]);
  }
  void join(const view& other) noexcept {
    join_seen(other);
    for (unsigned i = 0; i < threads_max; ++i) clock[i] = std::max(clock[i], other.clock[i]);
  }
};

/// One store.
struct message {
  std::uint64_t value = 0;
  view released;  // what an acquiring reader gets
};

struct word {
  const void* at = nullptr;  // null: its life has ended
  std::vector<message> history;
  std::array<std::uint16_t, threads_max> touched = {};  // the clock of each thread's last access
  std::uint16_t newest() const noexcept { return static_cast<std::uint16_t>(history.size() - 1); }
};

/// Plain data: the last write, and the last read of each thread.
struct datum {
  const void* at = nullptr;
  unsigned writer = threads_max;  // threads_max: it was set up before the threads began
  std::uint16_t written = 0;
  std::array<std::uint16_t, threads_max> read = {};
};

constexpr bool acquires(std::memory_order o) noexcept {
  return o == std::memory_order_acquire || o == std::memory_order_acq_rel ||
         o == std::memory_order_seq_cst || o == std::memory_order_consume;
}
constexpr bool releases(std::memory_order o) noexcept {
  return o == std::memory_order_release || o == std::memory_order_acq_rel ||
         o == std::memory_order_seq_cst;
}

class memory {
 public:
  void reset() noexcept;

  /// The index of the word at this address; `value` is what it holds if it was never seen.
  unsigned word_at(const void* at, std::uint64_t value);
  word& at(unsigned index) noexcept { return words_[index]; }
  bool knows(const void* at) const noexcept { return find(at) < words_used_; }
  void birth(const void* at) noexcept;
  /// False: another thread's access to the word did not happen before its end.
  bool death(unsigned thread, const void* at) noexcept;

  /// The oldest store that `thread` may read.
  std::uint16_t oldest(unsigned thread, unsigned index, std::memory_order order) const noexcept;
  std::uint64_t load(unsigned thread, unsigned index, std::uint16_t stamp,
                     std::memory_order order) noexcept;
  void store(unsigned thread, unsigned index, std::uint64_t value, std::memory_order order) {
    append(thread, index, value, order, false);
  }
  /// Reads the newest store and puts `value` right after it.
  void change(unsigned thread, unsigned index, std::uint64_t value, std::memory_order order) {
    load(thread, index, words_[index].newest(), order);
    append(thread, index, value, order, true);
  }
  void fence(unsigned thread, std::memory_order order) noexcept;
  /// From here on the thread reads no store that is older than those there are now.
  void refresh(unsigned thread) noexcept;

  /// False: a race.
  bool plain_read(unsigned thread, const void* at);
  bool plain_write(unsigned thread, const void* at);

  /// What a system call orders: who passes sees all that was done before it was opened.
  void release_to(unsigned thread, view& into) noexcept {
    into.join(own_[thread].current);
    tick(thread);
  }
  void acquire_from(unsigned thread, const view& from) noexcept { own_[thread].current.join(from); }

 private:
  struct thread_views {
    view current;     // what it has seen, and what happened before
    view acquirable;  // what it would have got from its relaxed loads
    view released;    // what it had at its last release fence
    view fresh;       // what it may not read older than, without having seen it
  };

  unsigned find(const void* at) const noexcept;
  datum& datum_at(const void* at);
  void tick(unsigned thread) noexcept { ++own_[thread].current.clock[thread]; }
  void append(unsigned thread, unsigned index, std::uint64_t value, std::memory_order order,
              bool continues);
  bool happened(unsigned thread, unsigned by, std::uint16_t clock) const noexcept {
    return by == thread || own_[thread].current.clock[by] >= clock;
  }

  std::array<word, words_max> words_;
  unsigned words_used_ = 0;
  std::vector<datum> data_;
  std::array<thread_views, threads_max> own_;
  view consistent_;  // the stores that a sequentially consistent access may not miss
};

}  // namespace coir::check
