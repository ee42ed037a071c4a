// lanes.cpp: from the loop of one worker to that of another.
//
// Comes from: lanes.hpp.   Goes to: arch/context.hpp, mmap(2).
#include "runtime/lanes.hpp"

#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <new>

#include "runtime/sim.hpp"

namespace coir::detail {

[[gnu::noinline]] int errno_now() noexcept {
  asm volatile("" ::: "memory");
  return errno;
}

[[gnu::noinline]] void set_errno_now(int value) noexcept {
  errno = value;
  asm volatile("" ::: "memory");
}

/// Those that ended last on this thread: the next run asks for as many.
class lanes::kept_places {
 public:
  ~kept_places() {
    while (count_ != 0) unmap(take());
  }
  place take() noexcept { return count_ == 0 ? place{} : all_[--count_]; }
  void give(place one) noexcept {
    if (one.empty()) return;
    if (count_ == all_.size()) return unmap(one);
    all_[count_++] = one;
  }

 private:
  static void unmap(place one) noexcept { ::munmap(one.data(), one.size()); }

  std::array<place, 8> all_{};  // as many as coir::sim gives a world
  std::size_t count_ = 0;
};

lanes::kept_places& lanes::kept_here() noexcept {
  static thread_local kept_places here;
  return here;
}

lanes::spaces::~spaces() {
  for (const lane& one : of) kept_here().give(one.place);
}

/// 0 or a negative errno.
int lanes::find_place(place& into) noexcept {
  into = kept_here().take();
  if (!into.empty()) return 0;
  constexpr std::size_t whole = guard_bytes + stack_bytes;
  void* const fresh = ::mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (fresh == MAP_FAILED) return -errno;
  const place made{static_cast<std::byte*>(fresh), whole};
  const auto stack = made.subspan(guard_bytes);
  if (::mprotect(stack.data(), stack.size(), PROT_READ | PROT_WRITE) != 0) {
    const int why = errno;
    ::munmap(fresh, whole);  // not one that another run would find ready
    return -why;
  }
  into = made;
  return 0;
}

int lanes::make(lane& one, worker& loop) noexcept {
  one.all = this;
  one.loop = &loop;
  if (const int why = find_place(one.place); why < 0) return why;
  const auto stack = one.place.subspan(guard_bytes);
  one.notes = &loop.loop_notes_;
  arch::note_stack(*one.notes, stack.data(), stack.size());
  arch::prepare(one.at, stack.data() + stack.size(), &lane_main, &one);
  return 0;
}

int lanes::run(std::span<const std::unique_ptr<worker>> all, sim_world& world) noexcept try {
  lanes here(world);
  here.lanes_.of.resize(all.size());
  for (std::size_t i = 0; i < all.size(); ++i)
    if (const int why = here.make(here.lanes_.of[i], *all[i]); why < 0) return why;
  arch::note_thread(here.caller_notes_);
  here.caller_.notes = &here.caller_notes_;
  here.caller_.loop = worker::current();
  world.crew_.on = &here;
  here.go(here.caller_, here.lanes_.of[0], false);
  world.crew_.on = nullptr;
  for (const lane& one : here.lanes_.of) arch::note_gone(one.loop->loop_notes_);
  return here.refused_;
} catch (const std::bad_alloc&) {
  return -ENOMEM;
}

COIR_UNINSTRUMENTED void lanes::lane_main(void* self) noexcept {
  lane& me = *static_cast<lane*>(self);
  lanes& all = *me.all;
  arch::note_arrive(*me.notes);
  const int attached =
      me.loop->run([](int error) { return error >= 0; }, me.place.subspan(guard_bytes));
  if (attached < 0) all.refused_ = attached;
  const auto next = all.world_.crew_.next(static_cast<unsigned>(&me - all.lanes_.of.data()));
  all.go(me, next ? all.lanes_.of[*next] : all.caller_, true);
  __builtin_unreachable();
}

void lanes::hand_on(unsigned from, unsigned to) noexcept {
  lane& me = lanes_.of[from];
  record* const host = me.loop->stands_on();
  me.notes = host != nullptr ? &host->head().notes : &me.loop->loop_notes_;
  go(me, lanes_.of[to], false);
}

COIR_UNINSTRUMENTED void lanes::go(lane& from, lane& to, bool for_good) noexcept {
  const int kept = errno_now();
  arch::swap_exception_state(*arch::thread_exception_state(), from.exceptions, to.exceptions);
  arch::set_thread_word(to.loop);
  arch::note_leave(*from.notes, *to.notes, for_good);
  arch::switch_called(from.at, to.at);
  arch::note_arrive(*from.notes);
  set_errno_now(kept);
}

}  // namespace coir::detail
