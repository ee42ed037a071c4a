// stacks.hpp: where fibers stand: slots of address space with a guard below, in ten size classes,
// kept warm by the worker that used them last.
//
// Always true:
//   - A slot is, from low to high: guard room, usable bytes, colour, a header of 64 bytes. No two
//     slots overlap, whatever the page size; no record shares a mapping with them.
//   - With guard::every no stack is handed out before its guard was installed; dropping the pages
//     of a stack or clearing it never removes the guard.
//   - A stack is in exactly one place: bound to a fiber, in one worker's cache, or in the shared
//     pool. Bound and cached ones together never exceed stack_settings::stacks_max.
//   - A refusal is an empty stack and at most one log line per cause; nothing throws after make().
//   - What a full cache passes on lies in the pool with its pages, and is taken before any other.
//     The pages of those that nobody needed for a whole period go back to the kernel.
//
// Comes from: worker (binds a stack when a record first runs).   Goes to: guards, arch (the
// switch), mmap.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "coir/detail/atomic.hpp"
#include "coir/options.hpp"
#include "coir/result.hpp"
#include "runtime/base.hpp"
#include "runtime/guards.hpp"

namespace coir::detail {

inline constexpr unsigned stack_classes = 10;
inline constexpr std::size_t stack_smallest_bytes = std::size_t{16} << 10;
inline constexpr std::size_t stack_largest_bytes = std::size_t{8} << 20;
inline constexpr std::size_t stack_header_bytes = 64;
/// What a body may use beyond the frame of one signal (AT_MINSIGSTKSZ), at the very least.
inline constexpr std::size_t stack_least_bytes = std::size_t{8} << 10;
static_assert(stack_smallest_bytes << (stack_classes - 1) == stack_largest_bytes);

/// Slot bytes of a class, guard included.
constexpr std::size_t stack_slot_bytes(unsigned klass) noexcept {
  return stack_smallest_bytes << klass;
}

/// One stack as its owner sees it. Empty when there was none to be had.
struct stack {
  std::byte* bottom = nullptr;  ///< lowest usable byte, above the guard
  std::byte* top = nullptr;     ///< one past the highest usable byte, coloured, 64-byte aligned
  std::byte* slot = nullptr;    ///< the slot begins here, with its guard
  std::uint8_t klass = 0;

  explicit operator bool() const noexcept { return slot != nullptr; }
  std::size_t bytes() const noexcept { return static_cast<std::size_t>(top - bottom); }
};

/// 64 bytes at the absolute top of the slot, above `top`, for whoever owns the bound stack. They
/// lie in a page that every use touches. Free stacks are not linked through them: a new stack, and
/// one whose pages were dropped or cleared, has zeros there, any other what its last owner left, so
/// the owner initialises what it keeps there.
inline void* header_of(std::byte* slot, unsigned klass) noexcept {
  return slot + stack_slot_bytes(klass) - stack_header_bytes;
}
inline void* header(const stack& s) noexcept { return header_of(s.slot, s.klass); }

/// How one class is cut. The guard room is kept under every guard setting, so that a stack has the
/// same size whatever the setting; without a guard it is address space only.
struct stack_shape {
  std::size_t slot_bytes = 0;
  std::size_t guard_bytes = 0;
  std::size_t colour_mask =
      0;  ///< tops differ in these bits: slot number x 64, at most half a page
  unsigned slot_shift = 0;
  std::uint8_t klass = 0;
  bool usable = false;  ///< leaves a signal frame plus stack_least_bytes above the guard

  std::size_t colour_of(const std::byte* slot) const noexcept {
    return ((reinterpret_cast<std::uintptr_t>(slot) >> slot_shift) * 64) & colour_mask;
  }
  stack at(std::byte* slot) const noexcept {
    return {slot + guard_bytes, slot + slot_bytes - stack_header_bytes - colour_of(slot), slot,
            klass};
  }
};

/// The ten shapes for one page size and one signal frame size (tests inject both).
struct stack_shapes {
  std::array<stack_shape, stack_classes> of = {};

  static stack_shapes make(std::size_t page_bytes, std::size_t signal_bytes) noexcept;
  /// Smallest usable class whose slot holds `bytes`; EINVAL above 8 MiB.
  result<unsigned> class_of(std::size_t bytes) const {
    for (const stack_shape& shape : of) {
      if (shape.usable && shape.slot_bytes >= bytes) return shape.klass;
    }
    return fail(std::errc::invalid_argument);
  }
};

inline stack_shapes stack_shapes::make(std::size_t page_bytes, std::size_t signal_bytes) noexcept {
  stack_shapes shapes;
  const std::size_t room = COIR_MUTANT(stack_too_small) ? 0 : signal_bytes + stack_least_bytes;
  const std::size_t least = room + stack_header_bytes;
  for (unsigned klass = 0; klass < stack_classes; ++klass) {
    stack_shape& shape = shapes.of[klass];
    shape.slot_bytes = stack_slot_bytes(klass);
    shape.slot_shift = static_cast<unsigned>(std::countr_zero(shape.slot_bytes));
    shape.klass = static_cast<std::uint8_t>(klass);
    // From 128 KiB on the guard stops frames of up to 64 KiB that are not touched page by page.
    const std::size_t wide = std::size_t{64} << 10;
    const bool large = shape.slot_bytes >= 2 * wide && !COIR_MUTANT(narrow_guard);
    shape.guard_bytes = std::max(page_bytes, large ? wide : 0);
    if (shape.slot_bytes < shape.guard_bytes + least) continue;
    shape.usable = true;
    const std::size_t slack = shape.slot_bytes - shape.guard_bytes - least;
    shape.colour_mask = std::min(page_bytes / 2, std::bit_floor(slack + 64)) - 64;
  }
  return shapes;
}

std::size_t real_page_bytes() noexcept;
/// Bytes the kernel needs on a stack to deliver one signal (AT_MINSIGSTKSZ).
std::size_t signal_frame_bytes() noexcept;

/// Smallest class of this machine that holds a slot of `bytes` (guard included) and leaves room for
/// a signal frame and 8 KiB above its guard. EINVAL above 8 MiB. Cold: keep the answer.
result<unsigned> stack_class(std::size_t bytes);

struct stack_settings {
  guard guards = guard::every;
  std::uint32_t stacks_max = 1u << 20;  ///< bound and cached ones together, 1 to 2^32 - 1
  bool scrub = false;                   ///< every stack is cleared when it is given back
  std::function<void(const log_record&)> log = {};
  std::size_t page_bytes = 0;  ///< 0: the machine's; else a multiple of it
  /// Somebody is refused and nobody was before, so that those who keep stacks without need give
  /// them back; or a stack came back while somebody starves. Called without a lock, from any
  /// worker.
  std::function<void()> stir = {};
  std::optional<guard_way> way = {};                ///< as COIR_GUARD, which wins over it
  std::size_t region_bytes = std::size_t{1} << 30;  ///< reserved at a time
  std::uint32_t guards_max = 0;  ///< for mprotect; 0: what vm.max_map_count leaves room for
  std::uint32_t warm_max =
      4096;  ///< of one class in one cache; a stacks_max below this caches none
};

struct stack_stats {
  std::size_t bound = 0;       ///< handed out and not given back
  std::size_t slots = 0;       ///< ever made
  std::size_t guards = 0;      ///< installed
  std::size_t limit_hits = 0;  ///< refusals
};

class stack_cache;

/// The shared pool: thread-safe, one mutex, cold.
class stacks {
 public:
  /// Probes the guards; reserves nothing yet. Errors: EINVAL (a setting, or COIR_GUARD, has no
  /// meaning), EOPNOTSUPP (the way that was asked for by name does not guard), EMFILE and ENOMEM.
  static result<std::unique_ptr<stacks>> make(stack_settings settings);
  ~stacks();  ///< unmaps every slot, unless abandoned. All caches are gone by then.
  stacks(const stacks&) = delete;
  stacks& operator=(const stacks&) = delete;

  guard_way way() const noexcept;
  stack_stats stats() const;
  /// Of all slots, as the kernel sees it now. ENOMEM.
  result<std::uint64_t> resident_bytes() const;
  result<unsigned> class_of(std::size_t bytes) const { return shapes_.class_of(bytes); }
  const stack_shape& shape(unsigned klass) const noexcept { return shapes_.of[klass]; }

  /// Somebody was refused and nobody has been served since. While it is so, what is given back goes
  /// to the pool; a worker about to sleep should flush() its cache.
  bool starved() const noexcept {
    // relaxed: a hint; the stacks themselves travel under the mutex.
    return starved_.load(std::memory_order_relaxed) != 0;
  }
  /// Grows with each stack that comes back: whoever is refused and then finds it unchanged, after
  /// it announced its sleep, may sleep.
  std::uint32_t given() const noexcept {
    // relaxed: see starved(); the fences of the bell order it against the announcement.
    return given_.load(std::memory_order_relaxed);
  }
  /// Clears the stack of a fiber that has left it: what it used if that is little, else its pages
  /// are dropped. The guard survives. give() does it by itself under stack_settings::scrub.
  void scrub(const stack& s) const noexcept;
  /// Once in a period: gives the pages back of as many free stacks as were left over at every
  /// moment since the last time, some in each call. When to call again: `now_ns` while more are to
  /// follow, never_ns when none has pages. Any thread.
  std::int64_t trim(std::int64_t now_ns) noexcept;
  static constexpr std::int64_t trim_period_ns = 1'000'000'000;
  /// Leaves all slots mapped for ever: fibers that would not end still stand on some.
  void abandon() noexcept { abandoned_ = true; }
  /// From now on for another owner, to whom it is as one just made, but that slots come with the
  /// guards, and the bytes, they have. False, and nothing has changed: its settings are others, or
  /// somebody still uses this.
  bool serve_next(stack_settings& next) noexcept;

 private:
  friend class stack_cache;
  enum class refusal : std::uint8_t { none, bound, guards, mapping, memory, locked_fallback };

  struct region {
    std::byte* base = nullptr;
    std::size_t bytes = 0;
  };
  /// One class: its free slots, and the region that new ones are cut from, low to high.
  struct shelf {
    std::vector<std::byte*> free;  ///< capacity is never below `made`: giving cannot fail
    std::vector<std::byte*>
        warm;  ///< with pages; the same; those below `coldest` are no longer here
    std::size_t coldest = 0;
    std::size_t unused = 0;  ///< the fewest that were in `warm` since the last trim
    std::byte* begin = nullptr;
    std::byte* next = nullptr;    ///< first byte not yet cut
    std::byte* kept = nullptr;    ///< slots below have their guards, from an earlier owner
    std::byte* dumped = nullptr;  ///< up to here the region may appear in a core dump
    std::byte* end = nullptr;
    std::size_t made = 0;

    std::size_t warm_count() const noexcept { return warm.size() - coldest; }
    void add_warm(std::byte* const* slots, std::size_t count) noexcept;
    std::size_t take_warm(std::byte** out, std::size_t most) noexcept;
    std::size_t take_unused(std::byte** out, std::size_t most) noexcept;
  };

  stacks(stack_settings settings, guard_way way, bool locked);

  std::size_t take(unsigned klass, std::byte** out, std::size_t wanted, bool last_try) noexcept;
  void note_outcome(unsigned klass, bool served) noexcept;
  enum class pages : std::uint8_t { kept, dropped };
  void give(unsigned klass, std::byte* const* slots, std::size_t count, pages they_have) noexcept;
  void drop(unsigned klass, std::byte* first, std::size_t count) const noexcept;
  bool trim_some(std::int64_t now_ns) noexcept;

  refusal make_slot(unsigned klass, std::byte*& slot) noexcept;
  refusal reserve(unsigned klass) noexcept;
  refusal guard_slot(const shelf& from, const stack_shape& shape) noexcept;
  void report(refusal why, int error) const noexcept;

  stack_settings settings_;
  stack_shapes shapes_;
  bool locked_;  ///< the process locks its memory: regions are kept small, they cost real pages
  bool abandoned_ = false;
  atomic<std::uint32_t> given_{0};    ///< written under the mutex
  atomic<std::uint32_t> starved_{0};  ///< one bit per class; written under the mutex

  mutable std::mutex mutex_;  ///< guards everything below
  guard_way way_;
  std::array<shelf, stack_classes> shelves_ = {};
  std::vector<region> regions_;
  stack_cache* caches_ = nullptr;
  std::int64_t trim_at_ns_ = 0;  ///< not before
  std::size_t trimming_ = 0;     ///< in no list, while their pages are dropped
  std::size_t out_ = 0;          ///< bound or cached
  std::size_t guards_ = 0;
  std::size_t limit_hits_ = 0;
  std::uint32_t reported_ = 0;  ///< one bit per refusal that has had its log line
  int refused_errno_ = 0;       ///< of the last system call that said no
};

/// The warm stacks of one worker, newest first. Owner only; 64 bytes per class on the hot path.
/// They are kept by address in an array rather than linked through themselves, so that taking one
/// or giving it back touches no line of a stack.
class stack_cache {
 public:
  /// What becomes of the pages of those that it has no place for.
  enum class spill : std::uint8_t {
    drops,   ///< they go back at once
    trimmed  ///< they stay for a while: the owner calls trim() now and then
  };
  /// Throws std::bad_alloc, once and here only.
  explicit stack_cache(stacks& pool, spill how = spill::drops);
  ~stack_cache();  ///< gives all back
  stack_cache(const stack_cache&) = delete;
  stack_cache& operator=(const stack_cache&) = delete;

  /// The stack used last, or another, or a new one; empty when a limit refuses
  /// (stats().limit_hits).
  stack take(unsigned klass) noexcept {
    shelf& from = shelves_[klass];
    // relaxed, here and below: only the owner writes `count`; stats() may read it a moment late.
    const std::uint32_t count = from.count.load(std::memory_order_relaxed);
    std::byte* slot =
        nullptr;  // an address, so that the cold call does not force a stack into memory
    if (count == 0) [[unlikely]] {
      slot = take_cold(klass);
      if (slot == nullptr) return {};
    } else {
      from.count.store(count - 1, std::memory_order_relaxed);
      slot = from.slots[count - 1];
    }
    return from.shape.at(slot);
  }

  /// The lowest usable byte of the stack in `slot`.
  const std::byte* bottom_of(unsigned klass, const std::byte* slot) const noexcept {
    return slot + shelves_[klass].shape.guard_bytes;
  }

  /// The stack that lies in `slot`.
  stack at(unsigned klass, std::byte* slot) const noexcept {
    return shelves_[klass].shape.at(slot);
  }

  /// Takes back a stack that nobody stands on.
  void give(const stack& s) noexcept {
    const std::uint32_t count = shelves_[s.klass].count.load(std::memory_order_relaxed);
    const bool keep = count < warm_max_ && !pool_.starved();
    if (!keep || scrub_) [[unlikely]]
      return give_cold(s, keep);
    put(s);
  }

  std::size_t warm() const noexcept {
    std::size_t all = 0;
    for (const shelf& each : shelves_) all += each.count.load(std::memory_order_relaxed);
    return all;
  }
  void flush() noexcept;  ///< gives all warm ones to the shared pool, their pages with them
  /// The pool may have some of ours whose pages nobody needs.
  bool spilled() const noexcept { return spilled_; }
  /// When it wants to be called again; never_ns: not before more have spilled.
  std::int64_t trim(std::int64_t now_ns) noexcept;

 private:
  friend class stacks;
  bool trims() const noexcept { return how_ == spill::trimmed && warm_max_ != 0; }
  static constexpr std::uint32_t batch = 16;  ///< free slots fetched from the pool at a time

  struct alignas(cache_line_bytes) shelf {
    std::byte** slots = nullptr;  ///< the newest last
    atomic<std::uint32_t> count{0};
    stack_shape shape = {};
  };
  static_assert(sizeof(shelf) == cache_line_bytes);

  void put(const stack& s) noexcept {
    shelf& to = shelves_[s.klass];
    const std::uint32_t count = to.count.load(std::memory_order_relaxed);
    to.slots[count] = s.slot;
    to.count.store(count + 1, std::memory_order_relaxed);
  }
  std::byte* take_cold(unsigned klass) noexcept;
  void give_cold(const stack& s, bool keep) noexcept;

  stacks& pool_;
  std::uint32_t warm_max_;
  bool scrub_;
  spill how_;
  bool spilled_ = false;
  std::int64_t trim_at_ns_ = never_ns;
  std::array<shelf, stack_classes> shelves_ = {};
  std::unique_ptr<std::byte*[]>
      memory_;                   ///< of all `slots`; its pages are touched as they are used
  stack_cache* next_ = nullptr;  ///< guarded by the pool's mutex, as previous_
  stack_cache* previous_ = nullptr;
};

}  // namespace coir::detail
