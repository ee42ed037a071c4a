// arena.cpp: how the cells are mapped, and what take and give do when the worker's own magazine
// does not answer.
//
// Always true:
//   - Every path to "full" has looked at the shared stack, at the fresh cells, and at whether
//     somebody holds a magazine only to split it, in this order.
//   - The mapping is reserved in one piece and stays where it is until the arena dies.
//
// Comes from: arena.hpp.   Goes to: mmap(2).
#include "runtime/arena.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <new>
#include <utility>

namespace coir::detail {

namespace {
constexpr std::size_t cell_unit_bytes = cache_line_bytes;
constexpr std::uint32_t magazine_cells = 64;
constexpr std::uint32_t exact_below = 4096;  // so few records that 128 in a cache would be missed

atomic<std::uint32_t>* links_behind(void* shared, std::size_t shared_bytes) noexcept {
  // Zeroed memory is a valid array of links; constructing them would touch every page.
  return reinterpret_cast<atomic<std::uint32_t>*>(static_cast<std::byte*>(shared) + shared_bytes);
}

bool pages_overflow(std::size_t bytes, std::size_t page_bytes, std::size_t& out) noexcept {
  if (__builtin_add_overflow(bytes, page_bytes - 1, &out)) return true;
  out &= ~(page_bytes - 1);
  return false;
}
}  // namespace

struct arena::shared {
  explicit shared(atomic<std::uint32_t>* links) noexcept : free(links) {}
  alignas(cache_line_bytes) tagged_stack<32> free;
  alignas(cache_line_bytes) atomic<std::uint32_t> fresh{0};  // cells below it were reserved
};

std::size_t arena::shared_bytes() noexcept { return sizeof(shared); }

result<arena_layout> arena_layout::plan(std::uint32_t records_max, std::size_t record_bytes,
                                        std::size_t page_bytes) {
  if (records_max == 0 || records_max > records_limit) return fail(std::errc::invalid_argument);
  if (record_bytes == 0 || record_bytes % cell_unit_bytes != 0)
    return fail(std::errc::invalid_argument);
  if (!std::has_single_bit(page_bytes) || page_bytes < cell_unit_bytes)
    return fail(std::errc::invalid_argument);

  // At most 64 MiB of links and a page: only the cells can overflow.
  const std::size_t links = arena::shared_bytes() + records_max * sizeof(std::uint32_t);
  arena_layout plan{};
  std::size_t cells = 0;
  bool overflow = multiply_overflows(records_max, record_bytes, cells);
  const std::size_t unit = COIR_MUTANT(page_of_4096) ? 4096 : page_bytes;
  overflow |= pages_overflow(links, unit, plan.links_bytes);
  overflow |= pages_overflow(cells, unit, plan.cells_bytes);
  plan.page_bytes = page_bytes;
  plan.links_offset = page_bytes;
  overflow |= __builtin_add_overflow(page_bytes * 2, plan.links_bytes, &plan.cells_offset);
  overflow |= __builtin_add_overflow(plan.cells_offset, plan.cells_bytes, &plan.bytes);
  overflow |= __builtin_add_overflow(plan.bytes, page_bytes, &plan.bytes);
  if (overflow) return fail(std::errc::value_too_large);
  return plan;
}

result<arena> arena::make(std::uint32_t records_max, std::size_t record_bytes,
                          std::size_t link_offset, arena_tuning tuning) {
  const auto system_page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  if (tuning.page_bytes == 0) tuning.page_bytes = system_page;
  if (tuning.magazine == 0) tuning.magazine = records_max < exact_below ? 1 : magazine_cells;
  const auto layout = arena_layout::plan(records_max, record_bytes, tuning.page_bytes);
  if (!layout) return fail(layout.error());
  if (link_offset % alignof(std::uint32_t) != 0 ||
      link_offset > record_bytes - sizeof(std::uint32_t) || tuning.page_bytes < system_page ||
      tuning.magazine > magazine_cells)
    return fail(std::errc::invalid_argument);

  arena made;
  // Reserved without access, so what is not opened below is a guard. NORESERVE: a generous
  // fibers_max must not count as memory before it is used.
  void* const mapping =
      ::mmap(nullptr, layout->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return fail(system_error(-errno));
  made.mapping_ = static_cast<std::byte*>(mapping);
  made.mapping_bytes_ = layout->bytes;
  std::byte* const links = made.mapping_ + layout->links_offset;
  std::byte* const cells = made.mapping_ + layout->cells_offset;
  if (COIR_MUTANT(records_unfenced))
    (void)::mprotect(mapping, layout->bytes, PROT_READ | PROT_WRITE);
  if (::mprotect(links, layout->links_bytes, PROT_READ | PROT_WRITE) != 0 ||
      ::mprotect(cells, layout->cells_bytes, PROT_READ | PROT_WRITE) != 0)
    return fail(system_error(-errno));

  made.shared_ = ::new (links) shared(links_behind(links, shared_bytes()));
  made.cells_ = cells;
  made.record_bytes_ = record_bytes;
  made.link_offset_ = link_offset;
  made.capacity_ = records_max;
  made.magazine_ = tuning.magazine;
  made.cached_max_ = tuning.magazine > 1 ? tuning.magazine : 0;
  return made;
}

arena& arena::operator=(arena&& from) noexcept {
  arena dying(std::move(from));
  swap(dying);
  return *this;
}

arena::~arena() {
  if (mapping_ != nullptr) ::munmap(mapping_, mapping_bytes_);
}

void arena::swap(arena& other) noexcept {
  std::swap(cells_, other.cells_);
  std::swap(record_bytes_, other.record_bytes_);
  std::swap(link_offset_, other.link_offset_);
  std::swap(capacity_, other.capacity_);
  std::swap(magazine_, other.magazine_);
  std::swap(cached_max_, other.cached_max_);
  std::swap(shared_, other.shared_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapping_bytes_, other.mapping_bytes_);
}

std::uint32_t arena::take_slow(record_cache& cache) noexcept {
  if (cache.spare_.count != 0) {
    cache.loaded_ = std::exchange(cache.spare_, chain{});
    return take_first(cache.loaded_);
  }
  for (;;) {
    if (cache.fresh_next_ < cache.fresh_end_) return cache.fresh_next_++;
    const auto seen = shared_->free.look();
    if (!seen.empty()) {
      if (!shared_->free.take(seen)) continue;
      cache.loaded_ = shared_->free.chain_in(seen);
      return take_first(cache.loaded_);
    }
    const range fresh = reserve_fresh(magazine_);
    cache.fresh_next_ = fresh.begin;
    cache.fresh_end_ = fresh.end;
    if (fresh.begin == fresh.end && truly_full(seen)) return no_record;
  }
}

void arena::give_slow(record_cache& cache, std::uint32_t index) noexcept {
  if (cached_max_ == 0) {
    count_passed_on(cache, 1);
    return give(index);
  }
  COIR_ASSERT(index < capacity_);
  if (cache.spare_.count != 0) {
    count_passed_on(cache, cache.spare_.count);
    shared_->free.push(cache.spare_);
  }
  cache.spare_ = std::exchange(cache.loaded_, chain{});
  put_first(cache.loaded_, index);
}

void arena::count_passed_on(record_cache& cache, std::uint32_t cells) const noexcept {
  if (COIR_MUTANT(passed_on_untold)) return;
  cache.passed_on_ = std::min(cache.passed_on_ + cells, capacity_);
}

std::uint32_t arena::take() noexcept {
  auto& free = shared_->free;
  for (;;) {
    const auto seen = free.look();
    if (seen.empty()) {
      const range fresh = reserve_fresh(1);
      if (fresh.begin != fresh.end) return fresh.begin;
      if (truly_full(seen)) return no_record;
    } else if (free.chain_in(seen).count == 1) {
      if (free.take(seen)) return free.chain_in(seen).first;
    } else if (free.take_to_split(seen)) {
      chain rest = free.chain_in(seen);
      const std::uint32_t index = take_first(rest);
      free.put_back(rest);
      return index;
    }
  }
}

void arena::give(std::uint32_t index) noexcept {
  COIR_ASSERT(index < capacity_);
  chain one;
  put_first(one, index);
  shared_->free.push(one);
}

std::uint32_t arena::flush(record_cache& cache) noexcept {
  // Fresh cells become ordinary ones: this touches them, but a flush is rare and they are few.
  chain fresh;
  while (cache.fresh_end_ > cache.fresh_next_) put_first(fresh, --cache.fresh_end_);
  std::uint32_t flushed = cache.passed_on_;
  for (chain* const each : {&fresh, &cache.spare_, &cache.loaded_}) {
    flushed += each->count;
    if (each->count != 0) shared_->free.push(*each);
  }
  cache = record_cache{};
  return flushed;
}

std::uint32_t arena::index_of(const void* record) const noexcept {
  const std::ptrdiff_t distance = static_cast<const std::byte*>(record) - cells_;
  COIR_ASSERT(distance >= 0);
  const std::size_t index = static_cast<std::size_t>(distance) / record_bytes_;
  COIR_ASSERT(index < capacity_);
  COIR_ASSERT(cells_ + index * record_bytes_ == record);
  return static_cast<std::uint32_t>(index);
}

std::uint32_t arena::touched() const noexcept {
  // relaxed: a bound for counting and for dumps; who reads records synchronises by other means.
  return shared_->fresh.load(std::memory_order_relaxed);
}

arena::range arena::reserve_fresh(std::uint32_t wanted) noexcept {
  // relaxed, here and in the CAS: it only hands out numbers. The memory behind them is untouched,
  // so there is nothing that one thread could have to show to another.
  std::uint32_t begin = shared_->fresh.load(std::memory_order_relaxed);
  std::uint32_t end;
  do {
    end = begin + std::min(wanted, capacity_ - begin);
    if (begin == end) break;
  } while (!shared_->fresh.compare_exchange_weak(begin, end, std::memory_order_relaxed,
                                                 std::memory_order_relaxed));
  return {begin, end};
}

bool arena::truly_full(const tagged_stack<32>::sight& seen) const noexcept {
  if (!shared_->free.may_be_hidden(seen)) return true;
  // The other thread is between a few instructions. Should it have lost its core, give it ours.
  ::sched_yield();
  return false;
}

}  // namespace coir::detail
