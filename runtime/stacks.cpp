// stacks.cpp: cutting slots out of reserved regions, guarding them, and saying which limit refused.
//
// Always true:
//   - A slot is touched only at its guard before its first use: a stack nobody ran on costs no
//     page.
//   - A region that is used up has the same flags as its neighbours, so the kernel merges them;
//     only the part not yet cut is kept out of core dumps, which costs one mapping per class.
//   - The log and `stir` are called without the mutex.
//
// Comes from: stacks.hpp.   Goes to: mmap(2), madvise(2), mprotect(2).
#include "runtime/stacks.hpp"

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#if COIR_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace coir::detail {

namespace {

constexpr std::size_t page_table_bytes = std::size_t{2} << 20;  // what one table of 4 KiB covers
constexpr std::size_t scrub_in_place_bytes = std::size_t{32} << 10;
constexpr unsigned grouped = 16;

// The bound of all slots of the largest class fits into a size, so no product of a count and a slot
// size can wrap.
static_assert(UINT32_MAX <= SIZE_MAX / stack_largest_bytes);

/// At `hint` if that is free, and at a multiple of what a page table covers; null: errno tells.
std::byte* map_aligned(std::byte* hint, std::size_t bytes) noexcept {
  const auto excess = [](const std::byte* at) {
    return reinterpret_cast<std::uintptr_t>(at) % page_table_bytes;
  };
  std::byte* base = map_pages(hint, bytes);
  if (base == nullptr || excess(base) == 0) return base;
  munmap(base, bytes);
  std::byte* wide = map_pages(nullptr, bytes + page_table_bytes);
  if (wide == nullptr) return nullptr;
  const std::size_t before = excess(wide) == 0 ? 0 : page_table_bytes - excess(wide);
  if (before != 0) munmap(wide, before);
  munmap(wide + before + bytes, page_table_bytes - before);
  return wide + before;
}

void say(const stack_settings& settings, log_record::level severity, const char* text) noexcept {
  if (settings.log) {
    settings.log({severity, text});
  } else {
    std::fprintf(stderr, "coir: %s\n", text);
  }
}

unsigned long mappings_max() noexcept {
  char text[32] = {};
  const int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    const ssize_t got = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (got > 0) return std::strtoul(text, nullptr, 10);
  }
  return 65530;  // the kernel's default
}

bool have_meaning(const stack_settings& settings) {
  const std::size_t page = settings.page_bytes;
  return settings.stacks_max != 0 && settings.region_bytes != 0 && std::has_single_bit(page) &&
         page >= real_page_bytes() && page <= stack_largest_bytes / 4;
}

}  // namespace

std::size_t real_page_bytes() noexcept {
  static const auto bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

std::size_t signal_frame_bytes() noexcept {
  // Kernels that do not tell have no state larger than this to save.
  static const std::size_t bytes = std::max<std::size_t>(getauxval(AT_MINSIGSTKSZ), 2048);
  return bytes;
}

result<unsigned> stack_class(std::size_t bytes) {
  static const stack_shapes shapes = stack_shapes::make(real_page_bytes(), signal_frame_bytes());
  return shapes.class_of(bytes);
}

result<std::unique_ptr<stacks>> stacks::make(stack_settings settings) {
  if (settings.page_bytes == 0) settings.page_bytes = real_page_bytes();
  if (!have_meaning(settings)) return fail(std::errc::invalid_argument);
  const auto chosen =
      choose_guards({settings.guards, settings.way, settings.page_bytes}, settings.log);
  if (!chosen) return fail(chosen.error());
  return std::unique_ptr<stacks>(
      new stacks(std::move(settings), chosen->way, chosen->memory_is_locked));
}

stacks::stacks(stack_settings settings, guard_way way, bool locked)
    : settings_(std::move(settings)),
      shapes_(stack_shapes::make(settings_.page_bytes, signal_frame_bytes())),
      locked_(locked),
      way_(way) {
  // A guard splits a mapping in two, so guards by mprotect leave half of the mappings to others.
  if (settings_.guards_max == 0) {
    const unsigned share = COIR_MUTANT(guards_leave_no_mapping) ? 2 : 4;
    settings_.guards_max = static_cast<std::uint32_t>(mappings_max() / share);
  }
  // A small bound is exact only if no worker sits on stacks that another one is refused.
  if (settings_.stacks_max < settings_.warm_max) settings_.warm_max = 0;
}

stacks::~stacks() {
  COIR_ASSERT(caches_ == nullptr);
  if (abandoned_) return;
  for (const region& each : regions_) munmap(each.base, each.bytes);
}

guard_way stacks::way() const noexcept {
  const std::lock_guard hold(mutex_);
  return way_;
}

bool stacks::serve_next(stack_settings& next) noexcept {
  const std::lock_guard hold(mutex_);
  const bool alike = next.guards == settings_.guards && next.scrub == settings_.scrub;
  const auto used =
      std::ranges::count_if(shelves_, [](const shelf& s) { return s.begin != s.end; });
  const bool whole = static_cast<std::size_t>(used) == regions_.size();  // one of each class
  if (!alike || !whole || caches_ != nullptr || out_ != 0 || abandoned_) return false;
  settings_.stacks_max = next.stacks_max;
  settings_.warm_max = next.stacks_max < next.warm_max ? 0 : next.warm_max;
  settings_.log = std::move(next.log);
  settings_.stir = std::move(next.stir);
  for (shelf& each : shelves_) {
    each.kept = std::max(each.kept, each.next);
    each.next = each.begin;
    each.made = each.coldest = each.unused = 0;
    each.free.clear();
    each.warm.clear();
  }
  guards_ = limit_hits_ = 0;
  reported_ = 0;
  // relaxed: nobody else is there.
  given_.store(0, std::memory_order_relaxed);
  starved_.store(0, std::memory_order_relaxed);
  return true;
}

stack_stats stacks::stats() const {
  const std::lock_guard hold(mutex_);
  stack_stats all{out_ + trimming_, 0, guards_, limit_hits_};
  for (const shelf& each : shelves_) all.slots += each.made;
  for (const stack_cache* cache = caches_; cache != nullptr; cache = cache->next_) {
    all.bound -= std::min(all.bound, cache->warm());
  }
  return all;
}

/// Up to `wanted` free slots, the one used last at the end, or else one new slot. A refusal counts
/// and is told only on the last try.
std::size_t stacks::take(unsigned klass, std::byte** out, std::size_t wanted,
                         bool last_try) noexcept {
  COIR_ASSERT(klass < stack_classes);
  COIR_ASSERT(shapes_.of[klass].usable);
  refusal why = refusal::none;
  std::size_t got = 0;
  int error = 0;
  bool told_before = false;
  bool starved_before = false;
  {
    const std::lock_guard hold(mutex_);
    std::vector<std::byte*>& free = shelves_[klass].free;
    wanted = std::min(wanted, settings_.stacks_max - out_);
    got = shelves_[klass].take_warm(out, wanted);
    if (got == 0) {
      got = std::min(wanted, free.size());
      std::copy(free.end() - static_cast<std::ptrdiff_t>(got), free.end(), out);
      free.resize(free.size() - got);
    }
    if (got == 0) {
      why = out_ == settings_.stacks_max ? refusal::bound : make_slot(klass, out[0]);
      got = why == refusal::none || why == refusal::locked_fallback ? 1 : 0;
    }
    out_ += got;
    // Here, where it changes: of two who are refused the one that makes it true rings.
    starved_before = starved();
    if (got != 0 || last_try) note_outcome(klass, got != 0);
    if (why == refusal::none || (got == 0 && !last_try)) return got;
    const std::uint32_t bit = 1u << static_cast<unsigned>(why);
    told_before = (std::exchange(reported_, reported_ | bit) & bit) != 0 &&
                  !COIR_MUTANT(limit_told_each_time);
    error = refused_errno_;
  }
  // Neighbours that sleep may keep some: whoever is rung gives back what no fiber uses.
  if (got == 0 && !starved_before && settings_.stir && !COIR_MUTANT(hoarders_undisturbed))
    settings_.stir();
  if (!told_before) report(why, error);
  return got;
}

/// Who was refused last, for starved().
void stacks::note_outcome(unsigned klass, bool served) noexcept {
  limit_hits_ += served ? 0 : 1;
  // relaxed: see starved(); only the holder of the mutex writes.
  const std::uint32_t others = starved_.load(std::memory_order_relaxed) & ~(1u << klass);
  starved_.store(served ? others : others | 1u << klass, std::memory_order_relaxed);
}

void stacks::give(unsigned klass, std::byte* const* slots, std::size_t count,
                  pages they_have) noexcept {
  {
    const std::lock_guard hold(mutex_);
    shelf& to = shelves_[klass];
    COIR_ASSERT(count <= out_);
    COIR_ASSERT(to.free.size() + to.warm_count() + count <= to.made);
    if (they_have == pages::kept) {
      to.add_warm(slots, count);
    } else {
      to.free.insert(to.free.end(), slots, slots + count);
    }
    out_ -= count;
    given_.store(given() + 1, std::memory_order_relaxed);
  }
  if (starved() && settings_.stir) settings_.stir();
}

stacks::refusal stacks::make_slot(unsigned klass, std::byte*& slot) noexcept {
  shelf& from = shelves_[klass];
  const stack_shape& shape = shapes_.of[klass];
  try {
    regions_.reserve(std::bit_ceil(regions_.size() + 1));
    const std::size_t room = std::max<std::size_t>(64, std::bit_ceil(from.made + 1));
    from.free.reserve(room);
    from.warm.reserve(room);
  } catch (const std::bad_alloc&) {
    return refusal::memory;
  }
  if (from.next == from.end) {
    if (const refusal why = reserve(klass); why != refusal::none) return why;
  }
  const guard_way before = way_;
  if (const refusal why = guard_slot(from, shape); why != refusal::none) return why;
  if (from.next == from.dumped) {
    from.dumped += std::min(static_cast<std::size_t>(from.end - from.dumped),
                            std::max(page_table_bytes, shape.slot_bytes));
    // A refusal here (no mapping left to split) only makes a core dump smaller.
    (void)madvise(from.next, static_cast<std::size_t>(from.dumped - from.next), MADV_DODUMP);
  }
  slot = std::exchange(from.next, from.next + shape.slot_bytes);
  ++from.made;
  return way_ == before ? refusal::none : refusal::locked_fallback;
}

/// A fresh region for this class, at a multiple of what one page table covers: a slot and its guard
/// then share a table as often as they can.
stacks::refusal stacks::reserve(unsigned klass) noexcept {
  shelf& into = shelves_[klass];
  const std::size_t slot_bytes = shapes_.of[klass].slot_bytes;
  std::size_t bytes = std::min(settings_.region_bytes, slot_bytes * settings_.stacks_max);
  if (locked_) bytes = std::min(bytes, page_table_bytes);
  bytes = round_up(std::max(bytes, slot_bytes), slot_bytes);
  std::byte* base = nullptr;
  // Right below the last region, so that the two become one mapping.
  while ((base = map_aligned(regions_.empty() ? nullptr : regions_.back().base - bytes, bytes)) ==
         nullptr) {
    refused_errno_ = errno;
    if (bytes == slot_bytes) return refusal::mapping;
    bytes = round_up(bytes / 2, slot_bytes);  // an address space limit may leave room for less
  }
  // A huge page would make one touched stack cost 2 MiB. What is not yet cut stays out of dumps: a
  // core that goes through a pipe would carry it as zeros.
  (void)madvise(base, bytes, COIR_MUTANT(huge_stacks) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
  (void)madvise(base, bytes, MADV_DONTDUMP);
  regions_.push_back({base, bytes});
  into.begin = into.next = into.kept = into.dumped = base;
  into.end = base + bytes;
  return refusal::none;
}

/// Guards the slot that is cut next, if it is one that gets a guard.
stacks::refusal stacks::guard_slot(const shelf& from, const stack_shape& shape) noexcept {
  if (way_ == guard_way::none || COIR_MUTANT(no_guard)) return refusal::none;
  const auto number = static_cast<std::size_t>(from.next - from.begin) / shape.slot_bytes;
  if (settings_.guards == guard::grouped && number % grouped != 0) return refusal::none;
  if (from.next < from.kept) return ++guards_, refusal::none;
  if (way_ == guard_way::mprotect && guards_ >= settings_.guards_max &&
      !COIR_MUTANT(guards_unbounded))
    return refusal::guards;
  refused_errno_ = install_guard(way_, from.next, shape.guard_bytes);
  if (refused_errno_ == EINVAL && way_ == guard_way::madvise && !COIR_MUTANT(locked_unguarded)) {
    way_ = guard_way::mprotect;  // the memory was locked after the probe
    return guard_slot(from, shape);
  }
  if (refused_errno_ != 0) {
    return way_ == guard_way::madvise ? refusal::memory : refusal::guards;
  }
  ++guards_;
  return refusal::none;
}

void stacks::report(refusal why, int error) const noexcept {
  if (COIR_MUTANT(limit_unnamed)) return;
  static constexpr const char* remedies[] = {
      "",
      "as many are in use as options::fibers_max allows: fibers wait until one is given back",
      "guards made by mprotect may use half of vm.max_map_count: raise it (sysctl -w "
      "vm.max_map_count=N), use guard::grouped, or Linux 6.13 and later without mlockall",
      "no address space: raise RLIMIT_AS (ulimit -v), RLIMIT_MEMLOCK (ulimit -l) if memory is "
      "locked, or see vm.overcommit_memory and vm.max_map_count",
      "no memory to keep account of another: raise RLIMIT_AS (ulimit -v) or the limit of the "
      "cgroup",
      "stacks: the kernel refuses light guards in locked memory (mlockall): mprotect makes them "
      "now"};
  const char* remedy = remedies[static_cast<unsigned>(why)];
  if (why == refusal::locked_fallback) return say(settings_, log_record::level::note, remedy);
  const stack_stats now = stats();
  char text[512];
  std::snprintf(text, sizeof(text),
                "stacks: no further stack (%zu slots made, %zu guards, at most %u in use, "
                "vm.max_map_count = %lu, last error %d): %s",
                now.slots, now.guards, settings_.stacks_max, mappings_max(), error, remedy);
  say(settings_, log_record::level::warning, text);
}

result<std::uint64_t> stacks::resident_bytes() const try {
  // Regions stay for as long as the pool does, so the kernel is asked without the lock.
  std::vector<region> used;
  {
    const std::lock_guard hold(mutex_);
    used = regions_;
    for (region& each : used)
      for (const shelf& s : shelves_)  // of the last region of a class only a part has been cut
        if (s.begin == each.base) each.bytes = static_cast<std::size_t>(s.next - s.begin);
  }
  const std::size_t page = real_page_bytes();
  constexpr std::size_t pages_at_once = 16'384;
  std::vector<unsigned char> told(pages_at_once);
  std::uint64_t pages = 0;
  for (const region& each : used) {
    for (std::size_t at = 0; at < each.bytes;) {
      const std::size_t bytes = std::min(each.bytes - at, pages_at_once * page);
      if (mincore(each.base + at, bytes, told.data()) != 0)
        return fail(std::errc::not_enough_memory);
      pages += static_cast<std::uint64_t>(
          std::count_if(told.begin(), told.begin() + static_cast<std::ptrdiff_t>(bytes / page),
                        [](unsigned char c) { return (c & 1) != 0; }));
      at += bytes;
    }
  }
  return pages * page;
} catch (const std::bad_alloc&) {
  return fail(std::errc::not_enough_memory);
}

void stacks::scrub(const stack& s) const noexcept {
  const std::size_t page = real_page_bytes();
  const std::size_t room = static_cast<std::size_t>(s.slot + stack_slot_bytes(s.klass) - s.bottom);
  unsigned char resident[stack_largest_bytes / 4096];
#if COIR_ASAN
  // The frames that the last fiber never returned from left poison that is no obstacle here.
  __asan_unpoison_memory_region(s.bottom, room);
#endif
  std::size_t untouched = 0;
  const bool told = mincore(s.bottom, room, resident) == 0;
  while (told && untouched < room && (resident[untouched / page] & 1) == 0) untouched += page;
  if (told && room - untouched <= scrub_in_place_bytes) {
    std::memset(s.bottom + untouched, 0, room - untouched);
  } else {
    untouched = room;
  }
  // What is not resident may be swapped out rather than untouched, so it is dropped all the same.
  if (untouched == 0 || madvise(s.bottom, untouched, MADV_DONTNEED) == 0) return;
  std::memset(s.bottom, 0, untouched);  // locked memory cannot be dropped
}

stack_cache::stack_cache(stacks& pool, spill how)
    : pool_(pool), warm_max_(pool.settings_.warm_max), scrub_(pool.settings_.scrub), how_(how) {
  const std::size_t capacity = std::max(warm_max_, batch);
  memory_.reset(new std::byte*[stack_classes * capacity]);
  for (unsigned klass = 0; klass < stack_classes; ++klass) {
    shelves_[klass].slots = memory_.get() + klass * capacity;
    shelves_[klass].shape = pool.shapes_.of[klass];
  }
  const std::lock_guard hold(pool_.mutex_);
  next_ = pool_.caches_;
  if (next_ != nullptr) next_->previous_ = this;
  pool_.caches_ = this;
}

stack_cache::~stack_cache() {
  flush();
  const std::lock_guard hold(pool_.mutex_);
  (previous_ != nullptr ? previous_->next_ : pool_.caches_) = next_;
  if (next_ != nullptr) next_->previous_ = previous_;
}

std::byte* stack_cache::take_cold(unsigned klass) noexcept {
  COIR_ASSERT(klass < stack_classes);
  shelf& into = shelves_[klass];
  const std::size_t wanted = warm_max_ == 0 ? 1 : batch;
  const bool last_try = warm() == 0;
  std::size_t got = pool_.take(klass, into.slots, wanted, last_try);
  if (got == 0 && !last_try) {
    flush();  // what we keep of other classes may be what the bound lacks
    got = pool_.take(klass, into.slots, wanted, true);
  }
  if (got == 0) return nullptr;
  into.count.store(static_cast<std::uint32_t>(got - 1), std::memory_order_relaxed);  // see take()
  return into.slots[got - 1];
}

void stack_cache::give_cold(const stack& s, bool keep) noexcept {
  COIR_ASSERT(s && s.klass < stack_classes);
  if (scrub_ && !COIR_MUTANT(no_scrub)) pool_.scrub(s);
  if (keep) return put(s);
  // A cache that keeps none by rule, or one that helps a starving neighbour, passes it on.
  if (warm_max_ == 0 || pool_.starved()) {
    spilled_ = spilled_ || trims();
    return pool_.give(s.klass, &s.slot, 1, stacks::pages::kept);
  }
  if (how_ == spill::drops || COIR_MUTANT(spills_dropped)) {
    pool_.drop(s.klass, s.slot, 1);
    return pool_.give(s.klass, &s.slot, 1, stacks::pages::dropped);
  }
  shelf& from = shelves_[s.klass];
  const std::uint32_t count = from.count.load(std::memory_order_relaxed);  // see take()
  const std::uint32_t some = std::min(count, batch);
  from.count.store(count - some, std::memory_order_relaxed);
  pool_.give(s.klass, from.slots + (count - some), some, stacks::pages::kept);
  spilled_ = true;
  put(s);
}

}  // namespace coir::detail
