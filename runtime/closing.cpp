// closing.cpp: closing a descriptor that other workers may be using.
//
// Always true:
//   - The closer waits until every worker that has the number reported; each reports once, when its
//     last operation on it ended.
//   - A closing is one errand on the closer's stack that goes from worker to worker; it stays until
//     the last report was made. Nothing is allocated: a close cannot fail for want of memory.
//
// Comes from: io::close.   Goes to: flight on each worker, close(2).
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "runtime/fds.hpp"
#include "runtime/perform.hpp"

namespace coir::detail {

struct whole_close : errand {
  runtime_core* core = nullptr;
  whole_close* next = nullptr;  // among those of fd_users::under_way
  int fd = -1;
  std::uint64_t users = 0;           // whom it visits
  unsigned closer = UINT_MAX;        // the worker that does its own part
  atomic<std::uint32_t> missing{0};  // workers that have not reported
  wait_queue done;

  bool concerns(unsigned worker) const noexcept { return (users & fd_users::bit(worker)) != 0; }
};

namespace {

void report(whole_close& whole) noexcept {
  const word_lock held(whole.done.lock);
  // acq_rel: the last report sees all others; the closer, woken under the lock, sees the last.
  if (whole.missing.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (waiter* const w = dequeue(whole.done)) (void)wake_waiter(*w);
}

whole_close* closing_of(fd_users& users, int fd) noexcept {
  const word_lock held(users.under_way_lock);
  whole_close* w = users.under_way;
  while (w != nullptr && w->fd != fd) w = w->next;
  return w;
}

/// In the list of closings while it lives.
struct listed {
  listed(fd_users& all, whole_close& one) noexcept : users(all), whole(one) {
    const word_lock held(users.under_way_lock);
    whole.next = std::exchange(users.under_way, &whole);
  }
  ~listed() {
    const word_lock held(users.under_way_lock);
    whole_close** at = &users.under_way;
    while (*at != &whole) at = &(*at)->next;
    *at = whole.next;
  }
  listed(const listed&) = delete;
  listed& operator=(const listed&) = delete;
  fd_users& users;
  whole_close& whole;
};

void drained(void* context, int fd) noexcept {
  auto& here = *static_cast<worker*>(context);
  here.operations().close_end(fd);
  auto& core = static_cast<runtime_core&>(here.shared());
  // Still there: this worker has not reported.
  if (whole_close* const whole = closing_of(core.descriptors(), fd)) report(*whole);
}

void close_on_worker(worker& here, whole_close& whole) noexcept {
  flight& mine = here.operations();
  mine.on_drained = &drained;
  mine.drained_context = &here;
  if (mine.close_begin(whole.fd) != 0 && !COIR_MUTANT(close_before_last_completion)) return;
  mine.close_end(whole.fd);
  report(whole);
}

/// On to the next worker that has the number, from index `from` on.
void pass_on(whole_close& whole, unsigned from) noexcept {
  for (unsigned i = from; i < whole.core->workers(); ++i)
    if (i != whole.closer && whole.concerns(i)) return whole.core->at(i).send_errand(whole);
}

void run_close(errand& self, void* at) noexcept {
  auto& whole = static_cast<whole_close&>(self);
  auto& here = *static_cast<worker*>(at);
  // First: after our report the closer may be gone.
  pass_on(whole, here.index() + 1);
  close_on_worker(here, whole);
}

/// Ends every operation on `fd` on every worker of `core` in `users`, and waits for it.
void drain(runtime_core& core, int fd, std::uint64_t users) noexcept {
  worker* const here = worker::current();
  whole_close whole;
  whole.run = &run_close;
  whole.core = &core;
  whole.fd = fd;
  if (here != nullptr && &here->shared() == &core) whole.closer = here->index();
  whole.users = users;
  if (COIR_MUTANT(close_ignores_other_workers))
    whole.users = whole.closer == UINT_MAX ? 0 : users & fd_users::bit(whole.closer);
  std::uint32_t count = 0;
  for (unsigned i = 0; i < core.workers(); ++i) count += whole.concerns(i) ? 1 : 0;
  whole.missing.store(count, std::memory_order_relaxed);
  const listed while_waiting(core.descriptors(), whole);
  pass_on(whole, 0);
  if (whole.closer != UINT_MAX && whole.concerns(whole.closer)) close_on_worker(*here, whole);
  // On the worker's loop, where a closure is destroyed that never got a stack, nobody else takes
  // what comes in meanwhile.
  if (whole.closer != UINT_MAX && current_fiber() == nullptr && !COIR_MUTANT(loop_waits_for_itself))
    while (whole.missing.load(std::memory_order_acquire) != 0) {
      here->outside().wait(no_wait_ns);
      here->take_completions();
      here->run_left_errands();
    }
  waiter me;
  // Cancellation is not heeded: the number must not be given back while a ring holds an operation
  // on it.
  (void)wait_in(whole.done, me, never_ns, false,
                [&] { return whole.missing.load(std::memory_order_acquire) != 0; });
}

int close_now(int fd) noexcept { return ::close(fd) == 0 ? 0 : -errno; }

/// False: somebody else is closing it.
bool quiesce(runtime_core& core, int fd) noexcept {
  fd_users& users = core.descriptors();
  const std::uint64_t era = users.era(fd);
  fd_users::begun begun = users.close_begin(fd, era);
  for (; begun.at == entrance::later; begun = users.close_begin(fd, era)) users.wait_for_end(fd);
  if (begun.at != entrance::open) return false;
  worker* const here = worker::current();
  const bool mine_alone = here != nullptr && &here->shared() == &core &&
                          begun.users == fd_users::bit(here->index()) &&
                          core.workers() <= fd_users::bits;
  if (mine_alone && here->operations().count(fd) == 0) {
    here->operations().close_end(fd);
  } else if (begun.users != 0) {
    drain(core, fd, begun.users);
  }
  return true;
}

}  // namespace

int close_everywhere(runtime_core& core, int fd) noexcept {
  fd_users& users = core.descriptors();
  if (!users.knows(fd)) return close_now(fd);  // beyond what any ring of ours was told
  if (!quiesce(core, fd)) return -EBADF;
  users.release(fd);
  io_uring_sqe entry{};
  entry.opcode = IORING_OP_CLOSE;
  entry.fd = fd;
  // A closure that is destroyed on the worker's loop has no fiber to park.
  std::int32_t res = current_fiber() != nullptr ? perform_to_the_end(entry) : -ENOMEM;
  // Nor has one a token where there is no memory for it: the kernel was not asked then.
  if (res == -ENOMEM) res = close_now(fd);
  users.close_end(fd);
  return res;
}

namespace {

/// A runtime that has no operation on the number and takes none, and those before it.
struct quiet_core {
  fd_users* users;
  const quiet_core* earlier;
};

/// Ends every operation on `fd` in `core` and in all that come after it, and then closes it. Until
/// then none of them takes a new one.
int close_in_all_from(visit core, int fd, const quiet_core* earlier) noexcept {
  if (!core) {
    for (const quiet_core* each = earlier; each != nullptr; each = each->earlier)
      if (!COIR_MUTANT(closing_ends_early)) each->users->release(fd);
    return close_now(fd);
  }
  visit others = core_after(core->serial);
  // One that has ended has no operation, nor will have; one of the parent's is not ours.
  if (core->over() || !core->descriptors().knows(fd))
    return close_in_all_from(std::move(others), fd, earlier);
  if (!quiesce(*core, fd)) return -EBADF;
  if (COIR_MUTANT(closing_ends_early)) core->descriptors().close_end(fd);
  const quiet_core here{&core->descriptors(), earlier};
  const int res = close_in_all_from(std::move(others), fd, &here);
  core->descriptors().close_end(fd);
  return res;
}

}  // namespace

int close_from_thread(int fd) noexcept { return close_in_all_from(core_after(0), fd, nullptr); }

}  // namespace coir::detail
