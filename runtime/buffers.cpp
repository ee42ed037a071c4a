// buffers.cpp: buffers that go out and come back.
//
// Always true:
//   - Nothing is allocated after make() but what lies aside, and places for it.
//
// Comes from: buffers.hpp.   Goes to: mmap(2), backend.
#include "runtime/buffers.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "runtime/futex.hpp"

namespace coir::detail {

std::size_t buffer_pool::whole_bytes(unsigned count, unsigned bytes) noexcept {
  return std::size_t{count} * bytes;
}

std::unique_ptr<buffer_pool> buffer_pool::make(backend& outside, unsigned count,
                                               unsigned bytes) noexcept {
  std::unique_ptr<buffer_pool> made(new (std::nothrow) buffer_pool);
  if (made == nullptr) return nullptr;
  count = std::bit_ceil(std::clamp(count, 1u, count_max));
  made->out_.reset(new (std::nothrow) bool[count]());
  made->free_.reset(new (std::nothrow) std::uint16_t[count]);
  made->far_.reset(new (std::nothrow) std::uint16_t[count]);
  if (made->out_ == nullptr || made->free_ == nullptr || made->far_ == nullptr) return nullptr;
  void* const place = ::mmap(nullptr, whole_bytes(count, bytes), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) return nullptr;
  made->outside_ = &outside;
  made->memory_ = static_cast<std::byte*>(place);
  made->count_ = count;
  made->far_room_ = count;
  made->bytes_ = bytes;
  made->picked_by_backend_ = outside.lend_buffers(made->memory_, count, bytes) >= 0;
  if (!made->picked_by_backend_) {
    for (unsigned i = 0; i < count; ++i) made->free_[i] = static_cast<std::uint16_t>(count - 1 - i);
    made->free_count_ = count;
  }
  return made;
}

buffer_pool::~buffer_pool() {
  if (memory_ != nullptr) ::munmap(memory_, whole_bytes(count_, bytes_));
}

int buffer_pool::take() noexcept {
  if (free_count_ == 0) return -1;
  const unsigned buffer = free_[--free_count_];
  out_[buffer] = true;
  ++out_count_;
  return static_cast<int>(buffer);
}

bool buffer_pool::came(unsigned buffer) noexcept {
  if (buffer >= count_ || out_[buffer]) {
    ++refused_;
    return false;
  }
  out_[buffer] = true;
  ++out_count_;
  return true;
}

void buffer_pool::give(unsigned buffer) noexcept {
  if (buffer >= count_max && buffer - count_max < places_) return drop_aside(buffer - count_max);
  if (buffer >= count_ || !out_[buffer]) {
    ++refused_;
    return;
  }
  if (COIR_MUTANT(buffer_not_returned)) return;
  out_[buffer] = false;
  --out_count_;
  if (picked_by_backend_) {
    outside_->return_buffer(buffer);
  } else {
    free_[free_count_++] = static_cast<std::uint16_t>(buffer);
  }
  feed();
}

void buffer_pool::feed() noexcept {
  if ((hungry_.empty() && patient_.empty()) || COIR_MUTANT(hungry_never_fed)) return;
  list<hungry> all;
  if (!picked_by_backend_) {
    const bool can_wait = hungry_.empty() || (COIR_MUTANT(patient_first) && !patient_.empty());
    all.push_back(*(can_wait ? patient_ : hungry_).pop_front());
  } else {
    // Nobody knows for whose data it will be picked: one who was fed alone may have none.
    all.splice_back(std::move(hungry_));
    all.splice_back(std::move(patient_));
  }
  while (hungry* const who = all.pop_front()) who->fed(*who);
}

// -- aside

/// Half of them free is enough: who is fed gives back what it has taken.
void buffer_pool::clear_some() noexcept {
  if (COIR_MUTANT(unread_stop_others)) return;
  for (keeper* one = keepers_.front(); one != nullptr && 2 * out_count_ > count_;) {
    keeper* const after = keepers_.after(*one);
    one->clear(*one);
    one = after;
  }
}

unsigned buffer_pool::move_aside(unsigned buffer, std::size_t bytes) noexcept {
  if (buffer >= count_ || (free_place_ == places_ && !more_places())) return buffer;
  bytes = std::min<std::size_t>(bytes, bytes_);  // a receive may tell of more than it took
  const unsigned place = free_place_;
  place_aside& to = aside_[place];
  to.memory.reset(new (std::nothrow) std::byte[std::max<std::size_t>(bytes, 1)]);
  if (to.memory == nullptr) {
    no_memory_ = true;
    return buffer;
  }
  to.bytes = {to.memory.get(), bytes};
  std::memcpy(to.bytes.data(), at(buffer).data(), bytes);
  free_place_ = to.next_free;
  ++aside_count_;
  give(buffer);
  return count_max + place;
}

void buffer_pool::drop_aside(unsigned place) noexcept {
  place_aside& from = aside_[place];
  if (from.memory == nullptr) {
    ++refused_;
    return;
  }
  from.memory.reset();
  from.bytes = {};
  from.next_free = std::exchange(free_place_, place);
  --aside_count_;
}

/// Twice as many, and as much more room for those that come back from afar.
bool buffer_pool::more_places() noexcept {
  const unsigned more = std::max(2 * places_, 16u);
  if (more > count_max) return false;
  std::unique_ptr<place_aside[]> places(new (std::nothrow) place_aside[more]);
  std::unique_ptr<std::uint16_t[]> far(new (std::nothrow) std::uint16_t[count_ + more]);
  if (places == nullptr || far == nullptr) {
    no_memory_ = true;
    return false;
  }
  std::ranges::move(std::span(aside_.get(), places_), places.get());
  for (unsigned i = places_; i < more; ++i) places[i].next_free = i + 1;
  aside_ = std::move(places);
  places_ = more;
  const word_lock held(far_lock_);
  std::ranges::copy(std::span(far_.get(), far_count_), far.get());
  far_.swap(far);
  far_room_ = count_ + more;
  return true;
}

// -- from afar

bool buffer_pool::give_from_afar(unsigned buffer) noexcept {
  const word_lock held(far_lock_);
  if (far_count_ == far_room_) return false;
  far_[far_count_++] = static_cast<std::uint16_t>(buffer);
  return !std::exchange(far_told_, true);
}

void buffer_pool::take_far() noexcept {
  {
    const word_lock held(far_lock_);
    far_told_ = false;  // the errand is out of the inbox, and may be sent again
  }
  for (;;) {
    unsigned buffer = 0;
    {
      const word_lock held(far_lock_);
      if (far_count_ == 0) return;
      buffer = far_[--far_count_];
    }
    give(buffer);
  }
}

}  // namespace coir::detail
