// arena.hpp: the records of a runtime: one mapping of equal cells, found by a 24-bit index, handed
// out and taken back without locks.
//
// Always true:
//   - A cell has one owner: the one who took it, one record_cache, or the shared stack.
//   - A cell's memory is zero before its first life and then never cleared, so a record keeps its
//     generation across lives. Only the four bytes at `link_offset` are ours while the cell is
//     free.
//   - An inaccessible page lies on both sides of the cells; nothing else shares their mapping but
//     the words that order the free ones, and those have guards of their own.
//   - The shared stack is changed once per magazine of cells, not once per cell.
//   - Below 4096 records a magazine is one cell and caches hold nothing: the bound is then exact.
//   - "Full" means every cell is taken or lies in somebody's cache; never that another thread was
//     in the middle of something.
//
// Glossary: a *chain* is a run of free cells linked through the cells; a *magazine* is a full
// chain; *fresh* cells were never taken. The order of magazines in the shared stack is kept beside
// the cells, in `links`, so a pop that lost its race reads a stale link but never a record.
//
// Comes from: worker (with its record_cache), runtime::spawn of plain threads.   Goes to: fiber.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "coir/detail/atomic.hpp"
#include "coir/result.hpp"
#include "runtime/base.hpp"

namespace coir::detail {

inline constexpr std::uint32_t records_limit = 1u << 24;
inline constexpr std::uint32_t no_record = UINT32_MAX;
inline constexpr std::uint32_t record_cache_most = 128;  // cells that one cache holds

/// Free cells linked through the cells themselves. Whoever holds the chain owns them.
struct chain {
  std::uint32_t first = no_record;
  std::uint32_t count = 0;
};

/// A stack of chains for any number of threads. The head is {tag, index} in one word; the tag grows
/// with every push, so a head that was popped and came back is not mistaken for the one seen
/// before. It wraps after 2^TagBits pushes, all of which would have to fall between the two halves
/// of one pop; a test shows with 2 bits what happens then.
template <unsigned TagBits>
class tagged_stack {
  static_assert(TagBits >= 1 && TagBits <= 32);

 public:
  /// What the first half of a pop saw. Worth nothing until take() has confirmed it.
  struct sight {
    std::uint64_t head;
    std::uint32_t link;
    bool empty() const noexcept { return index_in(head) == no_record; }
  };

  /// `links` holds one word for each index that will ever be pushed.
  explicit tagged_stack(atomic<std::uint32_t>* links) noexcept : links_(links) {}

  sight look() const noexcept {
    // acquire: pairs with the release in push(). The link of this head and the chain behind it were
    // written before.
    const std::uint64_t head = head_.load(std::memory_order_acquire);
    const std::uint32_t index = index_in(head);
    if (index == no_record) return {head, 0};
    // relaxed: if another thread took this head meanwhile, the value is stale and take() refuses.
    return {head, links_[index].load(std::memory_order_relaxed)};
  }

  /// The second half: true if the chain seen is now ours.
  bool take(const sight& seen) noexcept {
    std::uint64_t expected = seen.head;
    // acq_rel: acquire as in look(). Release pairs with look(): who then finds the stack empty also
    // sees what this thread announced before, in take_to_split().
    return head_.compare_exchange_strong(expected, word(tag_in(seen.head), next_in(seen.link)),
                                         std::memory_order_acq_rel, std::memory_order_relaxed);
  }

  chain pop() noexcept {
    for (;;) {
      const sight seen = look();
      if (seen.empty()) return {};
      if (take(seen)) return chain_in(seen);
    }
  }

  void push(chain arriving) noexcept {
    COIR_ASSERT(arriving.first < records_limit);
    COIR_ASSERT(arriving.count >= 1 && arriving.count <= chain_max);
    // relaxed: only a value to compare with; the CAS confirms it.
    std::uint64_t head = head_.load(std::memory_order_relaxed);
    std::uint64_t replacement;
    do {
      // relaxed: the release below publishes it.
      links_[arriving.first].store(arriving.count << index_bits | (index_in(head) + 1),
                                   std::memory_order_relaxed);
      const std::uint32_t growth = COIR_MUTANT(arena_tag_frozen) ? 0 : 1;
      replacement = word(tag_in(head) + growth, arriving.first);
      // release: pairs with the acquire in look(); publishes the link and the cells' own links.
    } while (!head_.compare_exchange_weak(head, replacement, std::memory_order_release,
                                          std::memory_order_relaxed));
  }

  // Who needs one cell of a larger chain must take all of it and put the rest back. Meanwhile the
  // stack may look empty although it is not, so this is announced.

  /// take(), announced. If true, put_back() must follow at once.
  bool take_to_split(const sight& seen) noexcept {
    // relaxed: the release of take() shows it to whoever finds the stack empty behind us.
    splitting_.fetch_add(1, std::memory_order_relaxed);
    if (take(seen)) return true;
    // relaxed: nothing was hidden.
    splitting_.fetch_sub(1, std::memory_order_relaxed);
    return false;
  }

  void put_back(chain rest) noexcept {
    push(rest);
    // release: pairs with the acquire in may_be_hidden(). Who sees us gone sees the rest put back.
    splitting_.fetch_sub(1, std::memory_order_release);
  }

  /// False if the stack was truly empty at some moment after `seen` saw it so.
  bool may_be_hidden(const sight& seen) const noexcept {
    // acquire: pairs with the release in put_back().
    if (splitting_.load(std::memory_order_acquire) != 0) return true;
    // relaxed: whoever hid a chain from `seen` has put it back before, as the line above knows, so
    // coherence shows that push or a later change; every push leaves another tag.
    return head_.load(std::memory_order_relaxed) != seen.head;
  }

  static chain chain_in(const sight& seen) noexcept {
    return {index_in(seen.head), seen.link >> index_bits};
  }

 private:
  // A link is {count 7, next index + 1 in 25}: zero says "nothing below", in line with fresh
  // memory.
  static constexpr unsigned index_bits = 25;
  static constexpr std::uint32_t chain_max = (1u << (32 - index_bits)) - 1;
  static_assert(records_limit < (1u << index_bits));

  static std::uint32_t index_in(std::uint64_t head) noexcept {
    return static_cast<std::uint32_t>(head);
  }
  static std::uint32_t tag_in(std::uint64_t head) noexcept {
    return static_cast<std::uint32_t>(head >> 32);
  }
  static std::uint32_t next_in(std::uint32_t link) noexcept {
    return (link & ((1u << index_bits) - 1)) - 1;
  }
  static std::uint64_t word(std::uint32_t tag, std::uint32_t index) noexcept {
    constexpr std::uint64_t tag_mask = (std::uint64_t{1} << TagBits) - 1;
    return (tag & tag_mask) << 32 | index;
  }

  atomic<std::uint64_t> head_{no_record};
  atomic<std::uint32_t> splitting_{0};  // threads between take_to_split() and put_back()
  atomic<std::uint32_t>* links_;
};

/// The free cells a worker keeps to itself: last in, first out. Owner only. Give it back with
/// arena::flush() before it dies, or its cells stay taken.
class record_cache {
 public:
  std::uint32_t size() const noexcept {
    return loaded_.count + spare_.count + (fresh_end_ - fresh_next_);
  }

 private:
  friend class arena;
  chain loaded_;  // taken from and given to
  chain spare_;   // full or empty, so that a burst across a border does not reach the shared stack
  std::uint32_t fresh_next_ = 0;  // [fresh_next_, fresh_end_) are reserved for us and untouched
  std::uint32_t fresh_end_ = 0;
  // Cells that went to the shared stack from here since the last flush, so many at most as matter.
  std::uint32_t passed_on_ = 0;
};

/// Where the parts of the mapping lie, in bytes from its start: guard, links, guard, cells, guard.
struct arena_layout {
  std::size_t page_bytes, links_offset, links_bytes, cells_offset, cells_bytes, bytes;
  /// invalid_argument: records_max is not 1..2^24, record_bytes is no multiple of 64, or page_bytes
  /// no power of two. value_too_large: the sizes do not fit.
  static result<arena_layout> plan(std::uint32_t records_max, std::size_t record_bytes,
                                   std::size_t page_bytes);
};

/// For tests: 0 means what is written beside it.
struct arena_tuning {
  std::size_t page_bytes = 0;  // the page of this system
  std::uint32_t magazine = 0;  // 64, or 1 below 4096 records
};

class arena {
 public:
  /// Reserves the cells; memory comes when a cell is first touched. `link_offset` names four bytes
  /// of the record, 4-aligned, whose content does not survive being free.
  /// Errors: those of arena_layout::plan, invalid_argument for link_offset, and of mmap(2).
  [[nodiscard]] static result<arena> make(std::uint32_t records_max, std::size_t record_bytes,
                                          std::size_t link_offset, arena_tuning tuning = {});
  arena() noexcept = default;
  arena(arena&& from) noexcept { swap(from); }
  arena& operator=(arena&& from) noexcept;
  ~arena();

  /// A free cell, no_record when full. The cache is the caller's own.
  std::uint32_t take(record_cache& cache) noexcept {
    if (cache.loaded_.count == 0) [[unlikely]]
      return take_slow(cache);
    return take_first(cache.loaded_);
  }
  /// A cell that lies ready, used before or not; null when take() must be asked.
  void* take_warm(record_cache& cache) noexcept {
    if (cache.loaded_.count == 0) [[unlikely]]
      return nullptr;
    return cells_ + take_first(cache.loaded_) * record_bytes_;
  }
  void give(record_cache& cache, std::uint32_t index) noexcept {
    if (cache.loaded_.count >= cached_max_) [[unlikely]]
      return give_slow(cache, index);
    COIR_ASSERT(index < capacity_);
    put_first(cache.loaded_, index);
  }

  /// The same from any thread, past all caches.
  std::uint32_t take() noexcept;
  void give(std::uint32_t index) noexcept;

  /// Gives all of the cache to the shared stack: its worker ends, or somebody else starves. How
  /// many cells the stack has had from this cache since the flush before, by now and earlier:
  /// whoever began to starve meanwhile may have looked before they came.
  std::uint32_t flush(record_cache& cache) noexcept;

  void* at(std::uint32_t index) const noexcept {
    COIR_ASSERT(index < capacity_);
    return cells_ + index * record_bytes_;
  }
  std::uint32_t index_of(const void* record) const noexcept;
  std::uint32_t capacity() const noexcept { return capacity_; }
  /// Caches hold cells, so there may be free ones that take() does not find.
  bool caches() const noexcept { return cached_max_ != 0; }
  /// Cells at and above this index were never taken.
  std::uint32_t touched() const noexcept;

 private:
  friend struct arena_layout;
  struct shared;  // lives in the mapping, before the links
  struct range {
    std::uint32_t begin, end;
  };

  static std::size_t shared_bytes() noexcept;
  void swap(arena& other) noexcept;
  std::uint32_t take_slow(record_cache& cache) noexcept;
  void give_slow(record_cache& cache, std::uint32_t index) noexcept;
  void count_passed_on(record_cache& cache, std::uint32_t cells) const noexcept;
  bool truly_full(const tagged_stack<32>::sight& seen) const noexcept;
  range reserve_fresh(std::uint32_t wanted) noexcept;

  std::byte* link_of(std::uint32_t index) const noexcept {
    return cells_ + index * record_bytes_ + link_offset_;
  }
  // The link within a chain is plain: only the chain's holder reads or writes it. memcpy, because
  // what type the record gives these bytes while it lives is its own affair.
  std::uint32_t take_first(chain& from) const noexcept {
    const std::uint32_t index = from.first;
    std::memcpy(&from.first, link_of(index), sizeof from.first);
    --from.count;
    // The next one to be taken is the next one to be filled in: fetched while this one is.
    if (from.count != 0)
      for (std::size_t at = 0; at < 256; at += cache_line_bytes)
        __builtin_prefetch(cells_ + from.first * record_bytes_ + at, 1);
    return index;
  }
  void put_first(chain& to, std::uint32_t index) const noexcept {
    std::memcpy(link_of(index), &to.first, sizeof to.first);
    to.first = index;
    ++to.count;
  }

  std::byte* cells_ = nullptr;
  std::size_t record_bytes_ = 0;
  std::size_t link_offset_ = 0;
  std::uint32_t capacity_ = 0;
  std::uint32_t magazine_ = 0;
  std::uint32_t cached_max_ = 0;  // the magazine, or 0 when caches hold nothing
  shared* shared_ = nullptr;
  std::byte* mapping_ = nullptr;
  std::size_t mapping_bytes_ = 0;
};

}  // namespace coir::detail
