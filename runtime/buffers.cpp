// buffers.cpp: buffers that go out and come back.
//
// Always true:
//   - Nothing is allocated after make().
//
// Comes from: buffers.hpp.   Goes to: mmap(2), backend.
#include "runtime/buffers.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
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
  if (hungry_.empty() || COIR_MUTANT(hungry_never_fed)) return;
  // Where the backend picks, nobody knows for whose data: one who was fed alone may have none.
  list<hungry> all;
  if (picked_by_backend_) {
    all.splice_back(std::move(hungry_));
  } else {
    all.push_back(*hungry_.pop_front());
  }
  while (hungry* const who = all.pop_front()) who->fed(*who);
}

bool buffer_pool::give_from_afar(unsigned buffer) noexcept {
  const word_lock held(far_lock_);
  if (far_count_ == count_) return false;
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
