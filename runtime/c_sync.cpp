// c_sync.cpp: the mutex, condition variable and event of coir.h: those of coir/sync.hpp, and what C
// is told beyond them: who does not hold a mutex, and what is still waited on.
//
// Always true:
//   - `holder` names who holds the mutex, or nobody while it changes hands: it is written after the
//     lock and cleared before the unlock, by who has it.
//   - The last touch of an object by a wait is that of `waiting`, so whoever sees 0 may free it.
//   - Nothing waits in a worker's loop.
//
// Comes from: coir.h.   Goes to: coir/sync.hpp, c_caller.hpp, c_errors.hpp.
#include <pthread.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <mutex>

#include "coir.h"
#include "coir/detail/atomic.hpp"
#include "coir/fiber.hpp"
#include "coir/sync.hpp"
#include "runtime/base.hpp"
#include "runtime/c_caller.hpp"
#include "runtime/c_errors.hpp"

struct coir_mutex {
  coir::mutex cpp;
  coir::detail::atomic<std::uint64_t> holder{0};  // as caller() says; 0: nobody
  coir::detail::atomic<std::uint32_t> waiting{0};
};

struct coir_cond {
  coir::condition_variable cpp;
  coir::detail::atomic<std::uint32_t> waiting{0};
};

struct coir_event {
  coir::event cpp;
  coir::detail::atomic<std::uint32_t> waiting{0};
};

namespace coir::detail {
namespace {

/// Who calls: a number that no other living fiber or thread has; never 0.
std::uint64_t caller() noexcept {
  constexpr std::uint64_t thread = std::uint64_t{1} << 63;  // no runtime's serial is that large
  const fiber_id me = this_fiber::id();
  if (me == fiber_id{}) return thread | ::pthread_self();
  return std::uint64_t{me.runtime} << 32 | me.slot;
}

bool held_by_caller(const coir_mutex& m) noexcept {
  // relaxed: only the caller writes its own name, so it reads that exactly while it is the holder.
  return m.holder.load(std::memory_order_relaxed) == caller();
}

// relaxed: as in held_by_caller(); what the mutex guards is published by the mutex itself.
void take(coir_mutex& m) noexcept { m.holder.store(caller(), std::memory_order_relaxed); }
void let_go(coir_mutex& m) noexcept { m.holder.store(0, std::memory_order_relaxed); }

/// Counts a wait while it lasts.
class wait_counted {
 public:
  explicit wait_counted(atomic<std::uint32_t>& waiting) noexcept : waiting_(waiting) {
    // relaxed: a call that comes while the object is destroyed is the caller's mistake.
    waiting_.fetch_add(1, std::memory_order_relaxed);
  }
  // release: pairs with destroy's acquire; all that this wait did there comes before the free.
  ~wait_counted() { waiting_.fetch_sub(1, std::memory_order_release); }
  wait_counted(const wait_counted&) = delete;
  wait_counted& operator=(const wait_counted&) = delete;

 private:
  atomic<std::uint32_t>& waiting_;
};

template <class T>
int create(T** out) noexcept {
  if (out == nullptr) return -EINVAL;
  *out = nullptr;
  return guarded([out] {
    *out = std::make_unique<T>().release();
    return 0;
  });
}

template <class T>
int destroy_unless_waited_on(T* it) noexcept {
  if (it == nullptr) return 0;
  // acquire: pairs with ~wait_counted.
  if (it->waiting.load(std::memory_order_acquire) != 0) return -EBUSY;
  delete it;
  return 0;
}

/// 0 when the caller may wait to hold `m`.
int refuse_lock(const coir_mutex* m) noexcept {
  if (m == nullptr) return -EINVAL;
  if (on_loop()) return -EPERM;
  return held_by_caller(*m) ? -EDEADLK : 0;
}

/// 0 when the caller holds `m`.
int refuse_stranger(const coir_mutex* m) noexcept {
  if (m == nullptr) return -EINVAL;
  return held_by_caller(*m) || COIR_MUTANT(c_stranger_unlocks) ? 0 : -EPERM;
}

int lock_until(coir_mutex& m, deadline until) {
  const wait_counted inside(m.waiting);
  const int code = code_of(m.cpp.lock_until(until));
  if (code == 0) take(m);
  return code;
}

int wait_locked(coir_cond& c, coir_mutex& m, deadline until) noexcept {
  const wait_counted inside(c.waiting);
  std::unique_lock<mutex> held(m.cpp, std::adopt_lock);
  let_go(m);
  const int code = code_of(c.cpp.wait(held, until));
  if (code == 0 || !COIR_MUTANT(c_cond_forgets_holder)) take(m);
  held.release();  // stays locked: the caller's
  return code;
}

}  // namespace
}  // namespace coir::detail

using namespace coir::detail;

// -- mutex

int coir_mutex_create(coir_mutex** out) { return create(out); }

int coir_mutex_destroy(coir_mutex* mutex) {
  if (mutex == nullptr) return 0;
  if (!mutex->cpp.try_lock() && !COIR_MUTANT(c_held_mutex_destroyed)) return -EBUSY;
  // Who gave up its wait may not have come back yet. acquire: pairs with ~wait_counted.
  if (mutex->waiting.load(std::memory_order_acquire) != 0) {
    mutex->cpp.unlock();
    return -EBUSY;
  }
  delete mutex;
  return 0;
}

int coir_mutex_lock(coir_mutex* mutex) {
  if (const int refused = refuse_lock(mutex)) return refused;
  const wait_counted inside(mutex->waiting);
  mutex->cpp.lock();
  take(*mutex);
  return 0;
}

int coir_mutex_lock_until(coir_mutex* mutex, int64_t until_ns) {
  if (const int refused = refuse_lock(mutex)) return refused;
  return guarded([&] { return lock_until(*mutex, until(until_ns)); });
}

int coir_mutex_try_lock(coir_mutex* mutex) {
  if (mutex == nullptr) return -EINVAL;
  if (!mutex->cpp.try_lock()) return -EBUSY;
  take(*mutex);
  return 0;
}

int coir_mutex_unlock(coir_mutex* mutex) {
  if (const int refused = refuse_stranger(mutex)) return refused;
  let_go(*mutex);
  mutex->cpp.unlock();
  return 0;
}

// -- condition variable

int coir_cond_create(coir_cond** out) { return create(out); }

int coir_cond_destroy(coir_cond* cond) { return destroy_unless_waited_on(cond); }

int coir_cond_wait(coir_cond* cond, coir_mutex* mutex) {
  return coir_cond_wait_until(cond, mutex, COIR_NEVER);
}

int coir_cond_wait_until(coir_cond* cond, coir_mutex* mutex, int64_t until_ns) {
  if (cond == nullptr) return -EINVAL;
  if (const int refused = refuse_stranger(mutex)) return refused;
  if (on_loop()) return -EPERM;
  return wait_locked(*cond, *mutex, until(until_ns));
}

int coir_cond_signal(coir_cond* cond) {
  if (cond == nullptr) return -EINVAL;
  cond->cpp.notify_one();
  return 0;
}

int coir_cond_broadcast(coir_cond* cond) {
  if (cond == nullptr) return -EINVAL;
  cond->cpp.notify_all();
  return 0;
}

// -- event

int coir_event_create(coir_event** out) { return create(out); }

int coir_event_destroy(coir_event* event) { return destroy_unless_waited_on(event); }

int coir_event_wait(coir_event* event) { return coir_event_wait_until(event, COIR_NEVER); }

int coir_event_wait_until(coir_event* event, int64_t until_ns) {
  if (event == nullptr) return -EINVAL;
  if (on_loop()) return -EPERM;
  const wait_counted inside(event->waiting);
  return code_of(event->cpp.wait(until(until_ns)));
}

int coir_event_set(coir_event* event) {
  if (event == nullptr) return -EINVAL;
  event->cpp.set();
  return 0;
}

int coir_event_reset(coir_event* event) {
  if (event == nullptr) return -EINVAL;
  event->cpp.reset();
  return 0;
}

int coir_event_is_set(const coir_event* event) {
  if (event == nullptr) return -EINVAL;
  return event->cpp.is_set() ? 1 : 0;
}
