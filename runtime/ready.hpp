// ready.hpp: who waits for a turn on one worker, first in, first out: a ring of pointers, so that
// the worker sees who comes next and next but seven without following links.
//
// Always true:
//   - A member is in the ring at most once, so one with a place for everybody never fills, and
//     arriving cannot fail.
//   - Places are address space until as many members wait at once; the ring grows by doubling.
//   - One owner.
//
// Why no list: with 10,000 ready fibers the records and stacks do not fit the cache, and a list
// gives the address of the next one only when this one has arrived.
//
// Comes from: worker::make_ready, a yield.   Goes to: hop.hpp.
#pragma once

#include <sys/mman.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include "runtime/base.hpp"

namespace coir::detail {

template <class T>
class ready_ring {
 public:
  /// A ring for up to `members_max` members, at least 1. Throws std::bad_alloc when there is no
  /// address space.
  explicit ready_ring(std::uint32_t members_max)
      : places_max_(std::bit_ceil(members_max)),
        mask_(places_max_ < first_places ? places_max_ - 1 : first_places - 1) {
    void* const at =
        ::mmap(nullptr, std::size_t{places_max_} * sizeof *places_, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    places_ = static_cast<T**>(at);
  }
  ~ready_ring() { ::munmap(places_, std::size_t{places_max_} * sizeof *places_); }
  ready_ring(const ready_ring&) = delete;
  ready_ring& operator=(const ready_ring&) = delete;

  bool empty() const noexcept { return front_ == nullptr; }
  std::uint32_t size() const noexcept { return tail_ - head_; }

  void push_back(T& one) noexcept {
    if (size() > mask_ && !COIR_MUTANT(ready_overruns)) [[unlikely]]
      grow();
    places_[tail_++ & mask_] = &one;
    if (front_ == nullptr) front_ = &one;
    if (COIR_MUTANT(newest_ready_first))
      std::swap(places_[head_ & mask_], places_[(tail_ - 1) & mask_]), front_ = &one;
  }
  /// The oldest member, null when there is none.
  T* pop_front() noexcept {
    T* const one = front_;
    if (one != nullptr) advance();
    return one;
  }
  /// push_back and pop_front in one; the ring is not empty, and one that is full needs no room: the
  /// place that is lost is that of the first, of which there is a copy.
  T& rotate(T& one) noexcept {
    if (COIR_MUTANT(newest_ready_first)) return push_back(one), *pop_front();
    T* const first = front_;
    places_[tail_++ & mask_] = &one;
    front_ = places_[++head_ & mask_];
    return *first;
  }
  /// Takes out a member, wherever it stands; those before it move up. As long as they are many.
  void erase(T& one) noexcept {
    std::uint32_t at = head_;
    while (places_[at & mask_] != &one) ++at;
    COIR_ASSERT(at - head_ < size());
    for (; at != head_; --at) places_[at & mask_] = places_[(at - 1) & mask_];
    advance();
  }
  /// The member that `steps` others come before; `steps` is less than size().
  T* ahead(std::uint32_t steps) const noexcept { return places_[(head_ + steps) & mask_]; }

 private:
  static constexpr std::uint32_t first_places = 512;  // a page of pointers

  void advance() noexcept { front_ = ++head_ == tail_ ? nullptr : places_[head_ & mask_]; }
  [[gnu::noinline]] void grow() noexcept {
    const std::uint32_t places = mask_ + 1;
    COIR_ASSERT(places < places_max_);
    // The counters run on, so half of the members have a new place: so much further.
    for (std::uint32_t i = head_; i != tail_; ++i)
      if ((i & places) != 0) places_[(i & mask_) + places] = places_[i & mask_];
    mask_ = 2 * places - 1;
  }

  T* front_ = nullptr;  // a copy of the first place: popping waits for one load, not for two
  T** places_ = nullptr;
  std::uint32_t head_ = 0;  // both count up and wrap; their difference is the size
  std::uint32_t tail_ = 0;
  std::uint32_t places_max_;
  std::uint32_t mask_;
};

}  // namespace coir::detail
