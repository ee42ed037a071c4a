// closing.cpp: closing a descriptor that other workers may be using.
//
// Always true:
//   - The closer waits until every worker that has the number reported; each reports once, when its
//     last operation on it ended.
//   - The errands and the count live on the closer's stack, which stays until the last report was
//     made.
//
// Comes from: io::close.   Goes to: flight on each worker, close(2).
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "coir/fiber.hpp"
#include "runtime/fds.hpp"
#include "runtime/perform.hpp"

namespace coir::detail {

namespace {

struct closing;

/// Tells one worker to end its operations on the number, and carries its report.
struct close_errand : errand {
  closing* whole = nullptr;
};

struct closing {
  int fd = -1;
  atomic<std::uint32_t> missing{0};  // workers that have not reported
  wait_queue done;
  std::vector<close_errand> errands;
};

/// The closings that wait for a worker's last completion; looked up by number when it comes. Few at
/// a time.
struct waiting_close {
  int fd;
  closing* whole;
};
thread_local std::vector<waiting_close> waiting_here;

void report(closing& whole) noexcept {
  const word_lock held(whole.done.lock);
  // acq_rel: the last report sees all others; the closer, woken under the lock, sees the last.
  if (whole.missing.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (waiter* const w = dequeue(whole.done)) (void)wake_waiter(*w);
}

void drained(void* context, int fd) noexcept {
  auto& here = *static_cast<worker*>(context);
  here.operations().close_end(fd);
  for (std::size_t i = 0; i < waiting_here.size(); ++i) {
    if (waiting_here[i].fd != fd) continue;
    closing* const whole = waiting_here[i].whole;
    waiting_here[i] = waiting_here.back();
    waiting_here.pop_back();
    return report(*whole);
  }
}

// A call of its own: the address of a thread-local must not be kept by who waits afterwards.
[[gnu::noinline]] void close_on_worker(worker& here, closing& whole) noexcept {
  flight& mine = here.operations();
  mine.on_drained = &drained;
  mine.drained_context = &here;
  if (mine.close_begin(whole.fd) != 0 && !COIR_MUTANT(close_before_last_completion)) {
    waiting_here.push_back({whole.fd, &whole});
    return;
  }
  mine.close_end(whole.fd);
  report(whole);
}

void run_close(errand& self, void* at) noexcept {
  close_on_worker(*static_cast<worker*>(at), *static_cast<close_errand&>(self).whole);
}

/// Ends every operation on `fd` on every worker of `core` in `users`, and waits for it.
void drain(runtime_core& core, int fd, std::uint64_t users) {
  closing whole;
  whole.fd = fd;
  worker* const here = worker::current();
  std::vector<unsigned> who;
  for (unsigned i = 0; i < core.workers(); ++i)
    if ((users & fd_users::bit(i)) != 0 &&
        (!COIR_MUTANT(close_ignores_other_workers) || &core.at(i) == here))
      who.push_back(i);
  whole.errands = std::vector<close_errand>(who.size());
  whole.missing.store(static_cast<std::uint32_t>(who.size()), std::memory_order_relaxed);
  for (std::size_t i = 0; i < who.size(); ++i) {
    worker& target = core.at(who[i]);
    if (&target == here) {
      close_on_worker(target, whole);
      continue;
    }
    whole.errands[i].whole = &whole;
    whole.errands[i].run = &run_close;
    target.send_errand(whole.errands[i]);
  }
  waiter me;
  // Cancellation is not heeded: the number must not be given back while a ring holds an operation
  // on it.
  (void)wait_in(whole.done, me, never_ns, false,
                [&] { return whole.missing.load(std::memory_order_acquire) != 0; });
}

int close_now(int fd) noexcept { return ::close(fd) == 0 ? 0 : -errno; }

/// False: somebody else is closing it.
bool quiesce(runtime_core& core, int fd) {
  fd_users& users = core.descriptors();
  std::uint64_t before = users.close_begin(fd);
  // The kernel is closing it for its last owner, or has closed it: then it is the caller's own new
  // one, which must not be taken for the old.
  while ((before & fd_users::closing) != 0 && (before & fd_users::released) != 0) {
    this_fiber::yield();
    before = users.close_begin(fd);
  }
  if ((before & fd_users::closing) != 0) return false;
  worker* const here = worker::current();
  const bool mine_alone = here != nullptr && &here->shared() == &core &&
                          before == fd_users::bit(here->index()) &&
                          core.workers() <= fd_users::bits;
  if (mine_alone && here->operations().count(fd) == 0) {
    here->operations().close_end(fd);
  } else if (before != 0) {
    drain(core, fd, before);
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
  const std::int32_t res = current_fiber() != nullptr ? perform_to_the_end(entry) : close_now(fd);
  users.close_end(fd);
  return res;
}

int close_from_thread(int fd) noexcept {
  bool refused = false;
  for_each_core([&](runtime_core& core) {
    // A runtime that does not run has no operation anywhere; one of the parent's is not ours.
    if (!core.serves() || !core.descriptors().knows(fd)) return;
    if (!quiesce(core, fd)) {
      refused = true;
      return;
    }
    // Nothing of this runtime uses the number now; what begins later meets the kernel's EBADF.
    core.descriptors().release(fd);
    core.descriptors().close_end(fd);
  });
  return refused ? -EBADF : close_now(fd);
}

}  // namespace coir::detail
