// lasting.hpp: what typed streams and started operations share with the runtime, which knows no
// types.
//
// Always true:
//   - A lasting operation, the copy of what describes it, and its waiting items are one counted
//     allocation, which does not move, and which ends after the kernel's last completion.
//
// Comes from: coir/started.hpp, coir/multishot.hpp.   Goes to: runtime/lasting.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "coir/clock.hpp"
#include "coir/detail/task.hpp"
#include "coir/effects.hpp"
#include "coir/io.hpp"

namespace coir::detail {

class lasting_operation;

/// A completion as it was told: one item of a stream.
struct item {
  std::int32_t res = 0;
  std::uint32_t flags = 0;
};

/// What becomes of an item that comes to a full stream.
enum class fullness : std::uint8_t { pause, cancel, drop_oldest };

/// What a type of operation can do, without the type.
struct lasting_kind {
  std::size_t bytes;  // of the description, which is copied
  std::size_t alignment;
  void (*copy)(void* place, const void* from);
  void (*destroy)(void* place) noexcept;
  fill_function fill;
  bool (*ends)(std::int32_t res) noexcept;  // this item is the end of the stream, not a part of it
  bool (*passes)(std::int32_t res) noexcept;  // this error is of one item
  bool many;                                  // a stream; else one answer
  bool leases;                                // its items lie in buffers of the worker
  bool asked_each_time;  // without the kernel's help it is submitted when an item is asked for
};

struct lasting_bounds {
  unsigned capacity = 1;
  unsigned low_water = 0;
  fullness when_full = fullness::pause;
  bool rearms = true;
};

/// How a wait for an item ended.
struct pulled {
  enum class kind : std::uint8_t { item, end, refused } is = kind::end;
  item what = {};
  std::int32_t why = 0;  // refused: as io_error() reads it
};

/// Starts; null and `why` (as io_error() reads it) when it was refused. `owner`: the descriptor's,
/// asked once more when the number was entered.
COIR_API lasting_operation* stand_up(const lasting_kind& kind, const void* op,
                                     const lasting_bounds& bounds, std::int32_t& why,
                                     const io::unique_fd* owner = nullptr);
/// Cancels, waits for the last completion, disposes of what nobody took, and frees.
COIR_API void put_down(lasting_operation* one) noexcept;
COIR_API const void* description_of(const lasting_operation& one) noexcept;
COIR_API void cancel_lasting(lasting_operation& one) noexcept;
COIR_API bool lasting_over(const lasting_operation& one) noexcept;

// -- one answer
struct awaited {
  bool over = false;     // the answer is `res`, and the caller's; else `res` says why there is none
  std::int32_t res = 0;  // below 0: as io_error() reads it
};
COIR_API awaited await_lasting(lasting_operation& one, deadline until) noexcept;
/// One that is over, and whose answer nobody has taken.
COIR_API bool has_failed(const lasting_operation& one) noexcept;

// -- one of several
/// What is waited for together with others: a started operation, or a fiber.
struct waited_for {
  lasting_operation* operation = nullptr;
  task* fiber = nullptr;
  bool over = false;
  bool stands = false;
  alignas(16) std::byte room[96];  // for the waiter in the fiber's stripe
};
/// Waits until one more of `all` is over, and marks all that are. `heeds`: a cancel of the calling
/// fiber ends it.
COIR_API refusal await_first(std::span<waited_for> all, deadline until, bool heeds) noexcept;
COIR_API bool has_failed(const task& ended) noexcept;

// -- many items
COIR_API pulled pull(lasting_operation& one, deadline until) noexcept;
COIR_API pulled pull_now(lasting_operation& one) noexcept;  // refused with EAGAIN: none is there

struct lasting_counts {
  std::size_t buffered = 0;
  std::uint64_t rearmed = 0, dropped = 0;
};
COIR_API lasting_counts counts_of(const lasting_operation& one) noexcept;

/// Move-only; null after a refusal.
class lasting_holder {
 public:
  lasting_holder() = default;
  lasting_holder(const lasting_kind& kind, const void* op, const lasting_bounds& bounds,
                 const io::unique_fd* owner = nullptr) {
    one_ = stand_up(kind, op, bounds, why_, owner);
  }
  lasting_holder(lasting_holder&& from) noexcept
      : one_(std::exchange(from.one_, nullptr)), why_(from.why_) {}
  lasting_holder& operator=(lasting_holder&& from) noexcept {
    if (this != &from) {
      reset();
      one_ = std::exchange(from.one_, nullptr);
      why_ = from.why_;
    }
    return *this;
  }
  ~lasting_holder() { reset(); }
  void reset() noexcept {
    if (one_ != nullptr) put_down(std::exchange(one_, nullptr));
  }
  lasting_operation* get() const noexcept { return one_; }
  std::int32_t why() const noexcept { return why_; }
  void tell(std::int32_t why) noexcept { why_ = why; }

 private:
  lasting_operation* one_ = nullptr;
  std::int32_t why_ = 0;  // why there is none; 0: it was told, or there was none from the beginning
};

template <class Op>
void copy_description(void* place, const void* from) {
  ::new (place) Op(*static_cast<const Op*>(from));
}
template <class Op>
void destroy_description(void* place) noexcept {
  static_cast<Op*>(place)->~Op();
}
template <class Op>
void fill_from(const void* op, io_uring_sqe& sqe) {
  static_cast<const Op*>(op)->fill(sqe);
}

}  // namespace coir::detail
