// lasting.cpp: how an operation that lasts begins, goes to the kernel, rests and ends, and where
// its items wait.
//
// Always true:
//   - finish() is the one place where it is over.
//   - Nothing is submitted from within a completion: it stands in line and goes with the turn.
//
// Comes from: lasting.hpp, judging.cpp.   Goes to: flight, buffers.
#include "runtime/lasting.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <new>

#include "arch/sanitizers.hpp"
#include "runtime/perform.hpp"

namespace coir::detail {
namespace {

void ask_for_more(io_uring_sqe& e) noexcept {
  switch (e.opcode) {
    case IORING_OP_ACCEPT:
      e.ioprio |= IORING_ACCEPT_MULTISHOT;
      return;
    case IORING_OP_RECV:
      e.ioprio |= IORING_RECV_MULTISHOT;
      return;
    case IORING_OP_POLL_ADD:
      e.len |= IORING_POLL_ADD_MULTI;
      return;
    case IORING_OP_TIMEOUT:
      e.timeout_flags |= timeout_multishot;
      e.off = 0;  // for ever
      return;
    default:
      return;
  }
}

/// A close of it waits for us. Below 0: there is none.
class held_number {
 public:
  held_number(flight& of, int fd) noexcept : of_(of), fd_(fd) {
    if (fd_ >= 0) of_.hold(fd_);
  }
  ~held_number() {
    if (fd_ >= 0) of_.let_go(fd_);
  }
  held_number(const held_number&) = delete;
  held_number& operator=(const held_number&) = delete;

 private:
  flight& of_;
  const int fd_;
};

constexpr std::size_t aligned(std::size_t bytes) noexcept { return round_up(bytes, 16); }

}  // namespace

lasting_operation::lasting_operation(const lasting_kind& kind, const lasting_bounds& bounds,
                                     worker& home, record& fiber) noexcept
    : kind_(kind),
      bounds_(bounds),
      home_(home),
      generation_(fiber.generation.load(std::memory_order_relaxed)) {
  pending::fiber = &fiber;
  arrived = &on_completion;
  fed = &on_fed;
  clear = &make_room;
  ::new (static_cast<void*>(raw_)) io_uring_sqe{};
  entry = &sqe();
}

// -- life

lasting_operation* lasting_operation::make(const lasting_kind& kind, const lasting_bounds& bounds,
                                           const void* op, worker& home, record& fiber) {
  const std::size_t room = kind.many ? std::bit_ceil(std::size_t{bounds.capacity} + 1) : 0;
  const std::size_t items_at = aligned(sizeof(lasting_operation)) + aligned(kind.bytes);
  const std::size_t alignment = std::max<std::size_t>(alignof(lasting_operation), kind.alignment);
  if (alignment > 16) return nullptr;
  void* const place = ::operator new(items_at + room * sizeof(item), std::nothrow);
  if (place == nullptr) return nullptr;
  ++home.counts().boxes;
  auto* const made = ::new (place) lasting_operation(kind, bounds, home, fiber);
  auto* const bytes = static_cast<std::byte*>(place);
  made->op_ = bytes + aligned(sizeof(lasting_operation));
  try {
    kind.copy(made->op_, op);
  } catch (...) {
    ::operator delete(place);
    throw;
  }
  made->items_ = reinterpret_cast<item*>(bytes + items_at);
  made->room_ = room;
  return made;
}

void lasting_operation::free() noexcept {
  kind_.destroy(op_);
  if (own_items_) ::operator delete(items_);
  this->~lasting_operation();
  ::operator delete(static_cast<void*>(this));
}

std::int32_t lasting_operation::begin(const io::unique_fd* owner) {
  kind_.fill(op_, sqe());
  if (asks_for_many(sqe())) return -EINVAL;
  opcode_ = sqe().opcode;
  if (!home_.operations().admits(opcode_))
    return -(io_own_base + static_cast<std::int32_t>(errc::opcode_refused));
  goes_on_ = kind_.many && home_.outside().goes_on(opcode_);
  const int source = source_of(sqe());
  const std::uint64_t source_era = source >= 0 ? era_of(home_, source) : 0;
  if (kind_.leases && pool() == nullptr) return -ENOMEM;
  if (uses_fd(sqe()) &&
      (home_.operations().fd_word(sqe().fd) == nullptr || !enter_descriptor(home_, sqe().fd)))
    return -EBADF;
  // To enter the second one may take a park, and a close of the first has to wait for it.
  const held_number first(home_.operations(), source >= 0 && uses_fd(sqe()) ? sqe().fd : -1);
  if (source >= 0 && !enter_descriptor_of(home_, source, source_era)) return -EBADF;
  if (const int refused = home_.operations().stand(*this); refused < 0) return refused;
  if (source >= 0 && home_.operations().stand_also(*this, source) < 0) {
    home_.operations().stand_down(*this);
    home_.operations().forget(*this);
    return -EBADF;
  }
  if (owner != nullptr && owner->get() != sqe().fd) {
    home_.operations().stand_down(*this);
    home_.operations().forget(*this);
    return -EBADF;
  }
  readiness_ = kind_.leases && !picks_buffer();
  if (kind_.asked_each_time && !goes_on_) {
    stay(reason::unasked);
  } else {
    go(false);
  }
  return 0;
}

/// Over: nothing of it is with the kernel.
void lasting_operation::finish(std::int32_t res) noexcept {
  COIR_ASSERT(!over_);
  if (buffer_ >= 0) pool()->give(static_cast<unsigned>(std::exchange(buffer_, -1)));
  if (hungry::linked()) pool()->leave(*this);
  home_.operations().leave_rest(*this);
  rests_for_ = reason::none;
  over_ = true;
  end_ = broken_ ? -ENOMEM : res;
  home_.operations().stand_down(*this);
}

void lasting_operation::cancel() noexcept {
  if (over_ || cancelled_) return;
  cancelled_ = true;
  if (rests) return finish(kind_.many ? 0 : -ECANCELED);
  home_.operations().cancel(*this);
}

void lasting_operation::let_go() noexcept {
  unwanted_ = true;
  if (count_ == 0) return;
  cleared_ = 0;
  while (count_ != 0) {
    const item rest = items_[first_];
    first_ = (first_ + 1) & (room_ - 1);
    --count_;
    dispose(rest);
  }
  left_none();
}

std::int32_t lasting_operation::take_end() noexcept { return std::exchange(end_, 0); }

// -- to the kernel

buffer_pool* lasting_operation::pool() const noexcept { return home_.buffers(); }

bool lasting_operation::picks_buffer() const noexcept { return pool()->picked_by_backend(); }

/// The entry for what comes next.
void lasting_operation::prepare() noexcept {
  io_uring_sqe& e = sqe();
  e = io_uring_sqe{};
  kind_.fill(op_, e);
  if (plainly_) make_plain(e);
  if (readiness_) {
    const unsigned events = readiness_of(e.opcode);
    const int number = e.fd;
    e = io_uring_sqe{};
    e.opcode = IORING_OP_POLL_ADD;
    e.fd = number;
    e.poll32_events = events;
    return;
  }
  if (goes_on_) ask_for_more(e);
  if (!kind_.leases) return;
  if (picks_buffer()) {
    e.flags |= IOSQE_BUFFER_SELECT;
    e.buf_group = 0;
    if (!goes_on_) e.len = pool()->bytes();
    return;
  }
  const auto room = pool()->at(static_cast<unsigned>(buffer_));
  e.addr = reinterpret_cast<std::uintptr_t>(room.data());
  e.len = static_cast<std::uint32_t>(room.size());
  if (e.opcode == IORING_OP_RECV) e.msg_flags |= MSG_DONTWAIT;
}

/// False: there is none, and it waits for one.
bool lasting_operation::provide_buffer() noexcept {
  if (!kind_.leases || readiness_ || picks_buffer() || buffer_ >= 0) return true;
  buffer_ = pool()->take();
  if (buffer_ >= 0) return true;
  stay(reason::starved);
  return false;
}

void lasting_operation::go(bool later) noexcept {
  if (!provide_buffer()) return;
  rests_for_ = reason::none;
  pausing_ = false;
  prepare();
  home_.operations().set_off(*this, later);
  // In line when its descriptor began to close: the line will say so. Cancelled meanwhile: it does.
  if (cancelled_) home_.operations().cancel(*this);
}

void lasting_operation::stay(reason why) noexcept {
  rests_for_ = why;
  pausing_ = false;
  if (why == reason::starved) pool()->wait_for_one(*this, count_ != 0);
  if (why == reason::later)
    return home_.operations().rest_until(*this, home_.outside().now_ns() + pauses_.next().count());
  (void)home_.operations().rest(*this);
}

void lasting_operation::on_fed(buffer_pool::hungry& self) noexcept {
  auto& me = static_cast<lasting_operation&>(self);
  ++me.rearmed_;
  me.go(true);
}

bool lasting_operation::is_full() const noexcept {
  return bounds_.when_full == fullness::pause && count_ >= bounds_.capacity && !unwanted_ &&
         !COIR_MUTANT(capacity_ignored);
}

/// It went on until now, and shall.
void lasting_operation::again(bool counts) noexcept {
  if (cancelled_) return finish(kind_.many ? 0 : -ECANCELED);
  if (is_full()) return stay(reason::full);
  if (!goes_on_ && kind_.asked_each_time && !readiness_) return stay(reason::unasked);
  if (counts) ++rearmed_;
  if (COIR_MUTANT(stream_not_rearmed) && counts) return finish(0);
  go(true);
}

void lasting_operation::ask() noexcept {
  if (tick_ns_ != never_ns) return catch_up();
  if (rests_for_ == reason::unasked) go(false);
}

// -- items

void lasting_operation::dispose(item what) noexcept {
  if ((what.flags & IORING_CQE_F_BUFFER) != 0) pool()->give(what.flags >> IORING_CQE_BUFFER_SHIFT);
  if (what.res >= 0 && makes_fd(opcode_) && !COIR_MUTANT(stream_fd_not_closed))
    home_.outside().discard(what.res);
}

void lasting_operation::keep(item what) noexcept {
  if (unwanted_) return dispose(what);
  if (bounds_.when_full == fullness::drop_oldest && count_ >= bounds_.capacity) {
    item oldest = {};
    (void)take(oldest);
    dispose(oldest);
    ++dropped_;
  }
  if (count_ == room_ && !grow()) {
    dispose(what);
    ++dropped_;
    broken_ = true;
    return cancel();
  }
  items_[(first_ + count_) & (room_ - 1)] = what;
  if (++count_ == 1 && kind_.leases) pool()->keeps_some(*this);
}

/// The last item that waited was taken. Where there was no buffer for the next one, it starves from
/// here on.
void lasting_operation::left_none() noexcept {
  if (!kind_.leases) return;
  pool()->keeps_none(*this);
  if (!hungry::linked() || !patient) return;
  pool()->leave(*this);
  pool()->wait_for_one(*this, false);
}

/// A fiber that is ready may be about to take its items, and has a turn to do so; of all others
/// nobody knows when they come.
void lasting_operation::make_room(buffer_pool::keeper& self) noexcept {
  auto& me = static_cast<lasting_operation&>(self);
  if (COIR_MUTANT(unread_never_cleared)) return;
  const record& whose = *me.pending::fiber;
  const bool spared = std::exchange(me.spared_, true) && !COIR_MUTANT(yielding_spared);
  if (!spared && me.is_of(&whose) && whose.at == stage::runnable) return;
  for (; me.cleared_ < me.count_; ++me.cleared_) {
    item& one = me.items_[(me.first_ + me.cleared_) & (me.room_ - 1)];
    if ((one.flags & IORING_CQE_F_BUFFER) == 0) continue;
    const unsigned from = one.flags >> IORING_CQE_BUFFER_SHIFT;
    const unsigned to = me.pool()->move_aside(from, static_cast<std::size_t>(one.res));
    if (to == from) return;
    one.flags = (one.flags & 0xffffu) | to << IORING_CQE_BUFFER_SHIFT;
  }
}

/// More came after the stream was full than there is room for.
bool lasting_operation::grow() noexcept {
  auto* const larger = static_cast<item*>(::operator new(2 * room_ * sizeof(item), std::nothrow));
  if (larger == nullptr) return false;
  for (std::size_t i = 0; i < count_; ++i) larger[i] = items_[(first_ + i) & (room_ - 1)];
  if (own_items_) ::operator delete(items_);
  items_ = larger;
  own_items_ = true;
  room_ *= 2;
  first_ = 0;
  return true;
}

bool lasting_operation::take(item& out) noexcept {
  if (count_ == 0) return false;
  out = items_[first_];
  first_ = (first_ + 1) & (room_ - 1);
  spared_ = false;
  if (cleared_ != 0) --cleared_;
  if (--count_ == 0) left_none();
  if (rests_for_ == reason::full && count_ <= bounds_.low_water && !over_ &&
      !COIR_MUTANT(low_water_unheeded)) {
    ++rearmed_;
    go(false);
  }
  return true;
}

}  // namespace coir::detail
