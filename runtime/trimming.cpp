// trimming.cpp: which free stacks keep their pages, and when the others give them back.
//
// A burst is often followed by another: a page that went back costs a fault, and the kernel's
// clearing, when the next one comes. So nothing goes back at once. What no moment of a whole period
// needed is left over; that goes, the coldest first, neighbours by one call.
//
// Always true:
//   - Whoever is having its pages dropped is in no list, so that nobody can take it.
//   - Dropping spares guards, also those between neighbours: markers of MADV_GUARD_INSTALL outlive
//     MADV_DONTNEED (madvise(2)), and what mprotect has closed has no pages.
//
// Comes from: stacks.hpp.   Goes to: madvise(2).
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "runtime/stacks.hpp"

namespace coir::detail {

void stacks::shelf::add_warm(std::byte* const* slots, std::size_t count) noexcept {
  if (warm.size() + count > warm.capacity()) {  // those that went make room
    warm.erase(warm.begin(), warm.begin() + static_cast<std::ptrdiff_t>(coldest));
    coldest = 0;
  }
  warm.insert(warm.end(), slots, slots + count);
}

/// The ones used last.
std::size_t stacks::shelf::take_warm(std::byte** out, std::size_t most) noexcept {
  const std::size_t got = std::min(most, warm_count());
  std::copy(warm.end() - static_cast<std::ptrdiff_t>(got), warm.end(), out);
  warm.resize(warm.size() - got);
  if (!COIR_MUTANT(trims_the_needed)) unused = std::min(unused, warm_count());
  return got;
}

std::size_t stacks::shelf::take_unused(std::byte** out, std::size_t most) noexcept {
  const std::size_t got = std::min({most, unused, warm_count()});
  std::copy_n(warm.begin() + static_cast<std::ptrdiff_t>(coldest), got, out);
  coldest += got;
  unused -= got;
  return got;
}

/// `count` slots side by side.
void stacks::drop(unsigned klass, std::byte* first, std::size_t count) const noexcept {
  const stack_shape& shape = shapes_.of[klass];
  const int kept = errno;  // that of a fiber
  // Locked memory refuses this, and then its owner wanted it to stay.
  (void)madvise(first + shape.guard_bytes, count * shape.slot_bytes - shape.guard_bytes,
                MADV_DONTNEED);
  errno = kept;
}

/// False: there is none left that nobody needed, or another owner has just found that.
bool stacks::trim_some(std::int64_t now_ns) noexcept {
  // Few: a worker does it between two turns, and on whatever stack it stands.
  std::byte* some[128];
  std::size_t got = 0;
  unsigned klass = 0;
  {
    const std::lock_guard hold(mutex_);
    if (now_ns < trim_at_ns_) return false;
    for (; klass < stack_classes && got == 0; ++klass)
      got = shelves_[klass].take_unused(some, std::size(some));
    trimming_ += got;
  }
  if (got == 0) return false;
  --klass;
  std::sort(some, some + got);
  const std::size_t slot_bytes = shapes_.of[klass].slot_bytes;
  for (std::size_t first = 0, next = 1; first < got; first = next++) {
    while (next < got && some[next] == some[next - 1] + slot_bytes) ++next;
    drop(klass, some[first], next - first);
  }
  {
    const std::lock_guard hold(mutex_);
    std::vector<std::byte*>& free = shelves_[klass].free;
    free.insert(free.end(), some, some + got);
    trimming_ -= got;
    // relaxed: see given(); only the holder of the mutex writes.
    given_.store(given() + 1, std::memory_order_relaxed);
  }
  if (starved() && settings_.stir) settings_.stir();  // it may have come while these were nowhere
  return true;
}

std::int64_t stacks::trim(std::int64_t now_ns) noexcept {
  if (trim_some(now_ns)) return now_ns;
  const std::lock_guard hold(mutex_);
  const bool began = now_ns >= trim_at_ns_;
  if (began) trim_at_ns_ = now_ns + trim_period_ns;
  std::size_t all = 0;
  for (shelf& each : shelves_) {
    all += each.warm_count();
    if (began) each.unused = each.warm_count();
  }
  return all != 0 ? trim_at_ns_ : never_ns;
}

std::int64_t stack_cache::trim(std::int64_t now_ns) noexcept {
  if (!spilled_) return never_ns;
  if (trim_at_ns_ == never_ns) trim_at_ns_ = now_ns + stacks::trim_period_ns;
  if (now_ns < trim_at_ns_ || COIR_MUTANT(never_trimmed)) return trim_at_ns_;
  trim_at_ns_ = pool_.trim(now_ns);
  spilled_ = trim_at_ns_ != never_ns;
  return trim_at_ns_;
}

void stack_cache::flush() noexcept {
  for (unsigned klass = 0; klass < stack_classes; ++klass) {
    shelf& from = shelves_[klass];
    // relaxed: see take().
    const std::uint32_t count = from.count.exchange(0, std::memory_order_relaxed);
    if (count == 0) continue;
    spilled_ = spilled_ || trims();
    pool_.give(klass, from.slots, count, stacks::pages::kept);
  }
}

}  // namespace coir::detail
