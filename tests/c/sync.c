/* sync.c: mutex, condition variable and event of C: between fibers, and between fibers and threads;
 * what is misused is told, and what somebody waits on is not destroyed.
 *
 * Comes from: ctest.   Goes to: coir.h.
 */
#include "check.h"

#define OVER INT64_MIN /* a deadline that is over */

/* What the fibers and threads of one test share. */
struct shared {
  coir_mutex* mutex;
  coir_cond* cond;
  coir_cond* began; /* told by who begins to wait for `cond` */
  coir_event* event;
  int waiting, told; /* guarded by the mutex */
  long sum;          /* guarded by the mutex */
};

static struct shared make(void) {
  struct shared s = {0};
  CHECK_EQ(coir_mutex_create(&s.mutex), 0);
  CHECK_EQ(coir_cond_create(&s.cond), 0);
  CHECK_EQ(coir_cond_create(&s.began), 0);
  CHECK_EQ(coir_event_create(&s.event), 0);
  return s;
}

static void end(const struct shared* s) {
  CHECK_EQ(coir_mutex_destroy(s->mutex), 0);
  CHECK_EQ(coir_cond_destroy(s->cond), 0);
  CHECK_EQ(coir_cond_destroy(s->began), 0);
  CHECK_EQ(coir_event_destroy(s->event), 0);
}

static void run_shared(unsigned workers, coir_body body) {
  struct shared s = make();
  run_on(workers, body, &s);
  end(&s);
}

static coir_fiber spawn(coir_body body, void* argument) {
  coir_fiber fiber;
  CHECK_EQ(coir_spawn(body, argument, NULL, &fiber), 0);
  return fiber;
}

static void join(coir_fiber fiber, intptr_t should) {
  intptr_t answer = -1;
  CHECK_EQ(coir_join(fiber, &answer), 0);
  CHECK_EQ(answer, should);
}

static void null_is_refused(void) {
  struct shared s = make();
  CHECK_EQ(coir_mutex_create(NULL), -EINVAL);
  CHECK_EQ(coir_mutex_lock(NULL), -EINVAL);
  CHECK_EQ(coir_mutex_lock_until(NULL, OVER), -EINVAL);
  CHECK_EQ(coir_mutex_try_lock(NULL), -EINVAL);
  CHECK_EQ(coir_mutex_unlock(NULL), -EINVAL);
  CHECK_EQ(coir_cond_create(NULL), -EINVAL);
  CHECK_EQ(coir_cond_wait(NULL, s.mutex), -EINVAL);
  CHECK_EQ(coir_cond_wait_until(s.cond, NULL, OVER), -EINVAL);
  CHECK_EQ(coir_cond_signal(NULL), -EINVAL);
  CHECK_EQ(coir_cond_broadcast(NULL), -EINVAL);
  CHECK_EQ(coir_event_create(NULL), -EINVAL);
  CHECK_EQ(coir_event_wait(NULL), -EINVAL);
  CHECK_EQ(coir_event_wait_until(NULL, OVER), -EINVAL);
  CHECK_EQ(coir_event_set(NULL), -EINVAL);
  CHECK_EQ(coir_event_reset(NULL), -EINVAL);
  CHECK_EQ(coir_event_is_set(NULL), -EINVAL);
  CHECK_EQ(coir_mutex_destroy(NULL), 0);
  CHECK_EQ(coir_cond_destroy(NULL), 0);
  CHECK_EQ(coir_event_destroy(NULL), 0);
  end(&s);
}

/* -- mutex ---------------------------------------------------------------------------------------
 */

#define ADDITIONS 200

/* Yields in the middle of each, so that the other one wants the mutex meanwhile. */
static intptr_t add(void* argument) {
  struct shared* const s = argument;
  for (int i = 0; i < ADDITIONS; ++i) {
    CHECK_EQ(coir_mutex_lock(s->mutex), 0);
    const long before = s->sum;
    coir_yield();
    s->sum = before + 1;
    CHECK_EQ(coir_mutex_unlock(s->mutex), 0);
  }
  return 0;
}

static void* add_as_thread(void* argument) { return (void*)add(argument); }

static intptr_t two_add(void* argument) {
  struct shared* const s = argument;
  const coir_fiber fibers[] = {spawn(add, s), spawn(add, s)};
  for (int i = 0; i < 2; ++i) join(fibers[i], 0);
  CHECK_EQ(s->sum, 2 * ADDITIONS);
  s->sum = 0;
  return 0;
}

static void two_fibers_hand_a_mutex_over(void) {
  run_shared(1, two_add);
  run_shared(2, two_add);
}

static void a_mutex_is_one_for_fibers_and_threads(void) {
  struct shared s = make();
  pthread_t thread;
  void* answer;
  CHECK_EQ(pthread_create(&thread, NULL, add_as_thread, &s), 0);
  run_on(2, add, &s);
  CHECK_EQ(pthread_join(thread, &answer), 0);
  CHECK((intptr_t)answer == 0);
  CHECK_EQ(s.sum, 2 * ADDITIONS);
  end(&s);
}

static intptr_t lock_held(void* argument) {
  struct shared* const s = argument;
  CHECK_EQ(coir_mutex_unlock(s->mutex), -EPERM);
  CHECK_EQ(coir_cond_wait(s->cond, s->mutex), -EPERM);
  CHECK_EQ(coir_mutex_try_lock(s->mutex), -EBUSY);
  CHECK_EQ(coir_mutex_lock_until(s->mutex, OVER), -ETIMEDOUT);
  here_i_am();
  CHECK_EQ(coir_mutex_lock(s->mutex), 0);
  CHECK_EQ(coir_mutex_unlock(s->mutex), 0);
  return coir_cancelled();
}

static intptr_t lock_heeding(void* argument) {
  here_i_am();
  return coir_mutex_lock_until(((struct shared*)argument)->mutex, COIR_NEVER);
}

static intptr_t misuse_mutex(void* argument) {
  struct shared* const s = argument;
  CHECK_EQ(coir_mutex_unlock(s->mutex), -EPERM);
  CHECK_EQ(coir_mutex_lock_until(s->mutex, OVER), 0); /* it is free, so no time is needed */
  CHECK_EQ(coir_mutex_unlock(s->mutex), 0);
  CHECK_EQ(coir_mutex_try_lock(s->mutex), 0);
  CHECK_EQ(coir_mutex_try_lock(s->mutex), -EBUSY);
  CHECK_EQ(coir_mutex_lock(s->mutex), -EDEADLK);
  CHECK_EQ(coir_mutex_lock_until(s->mutex, OVER), -EDEADLK);
  CHECK_EQ(coir_mutex_destroy(s->mutex), -EBUSY);

  const coir_fiber patient = spawn(lock_held, s), heeding = spawn(lock_heeding, s);
  await_arrivals(2);
  CHECK_EQ(coir_cancel(patient), 0);
  CHECK_EQ(coir_cancel(heeding), 0);
  join(heeding, -ECANCELED);
  CHECK_EQ(coir_done(patient), 0); /* a cancel does not end its wait */
  CHECK_EQ(coir_mutex_unlock(s->mutex), 0);
  join(patient, 1);
  return 0;
}

static intptr_t destroy_too_soon(void* argument) {
  struct shared* const s = argument;
  CHECK_EQ(coir_mutex_lock(s->mutex), 0);
  const coir_fiber leaving = spawn(lock_heeding, s);
  await_arrivals(1);
  CHECK_EQ(coir_cancel(leaving), 0); /* its wait is over, and it has not come back */
  CHECK_EQ(coir_mutex_unlock(s->mutex), 0);
  CHECK_EQ(coir_mutex_destroy(s->mutex), -EBUSY);
  join(leaving, -ECANCELED);
  return 0;
}

static void who_has_not_come_back_keeps_its_mutex(void) { run_shared(1, destroy_too_soon); }

static void who_does_not_hold_a_mutex_is_told_so(void) {
  struct shared s = make();
  run_on(1, misuse_mutex, &s);
  CHECK_EQ(coir_mutex_lock(s.mutex), 0); /* and on a thread */
  CHECK_EQ(coir_mutex_lock(s.mutex), -EDEADLK);
  CHECK_EQ(coir_mutex_unlock(s.mutex), 0);
  CHECK_EQ(coir_mutex_unlock(s.mutex), -EPERM);
  end(&s);
}

/* -- condition variable --------------------------------------------------------------------------
 */

/* Tells that it waits, and waits until it is told. */
static intptr_t wait_told(void* argument) {
  struct shared* const s = argument;
  int code = coir_mutex_lock(s->mutex);
  ++s->waiting;
  CHECK_EQ(coir_cond_signal(s->began), 0);
  while (code == 0 && !s->told) code = coir_cond_wait(s->cond, s->mutex);
  CHECK_EQ(coir_mutex_unlock(s->mutex), 0); /* it is held also after an error */
  return code;
}

/* Waits for a fiber that waits, then tells it. */
static void* tell(void* argument) {
  struct shared* const s = argument;
  CHECK_EQ(coir_mutex_lock(s->mutex), 0);
  while (s->waiting == 0) CHECK_EQ(coir_cond_wait(s->began, s->mutex), 0);
  s->told = 1;
  CHECK_EQ(coir_cond_signal(s->cond), 0);
  CHECK_EQ(coir_mutex_unlock(s->mutex), 0);
  return NULL;
}

static void a_thread_signals_a_fiber(void) {
  struct shared s = make();
  pthread_t thread;
  CHECK_EQ(pthread_create(&thread, NULL, tell, &s), 0);
  run_on(1, wait_told, &s);
  CHECK_EQ(pthread_join(thread, NULL), 0);
  end(&s);
}

/* Until so many wait on `cond`: who says so holds the mutex until it does. */
static void await_waiting(struct shared* s, int fibers) {
  CHECK_EQ(coir_mutex_lock(s->mutex), 0);
  while (s->waiting < fibers) CHECK_EQ(coir_cond_wait(s->began, s->mutex), 0);
  CHECK_EQ(coir_mutex_unlock(s->mutex), 0);
}

static intptr_t wait_in_vain(void* argument) {
  struct shared* const s = argument;
  CHECK_EQ(coir_mutex_lock(s->mutex), 0);
  CHECK_EQ(coir_cond_wait_until(s->cond, s->mutex, OVER), -ETIMEDOUT);
  CHECK_EQ(coir_mutex_lock(s->mutex), -EDEADLK); /* so it is held */
  CHECK_EQ(coir_mutex_unlock(s->mutex), 0);

  const coir_fiber cancelled = spawn(wait_told, s);
  await_waiting(s, 1);
  CHECK_EQ(coir_cond_destroy(s->cond), -EBUSY);
  CHECK_EQ(coir_cancel(cancelled), 0);
  join(cancelled, -ECANCELED);

  const coir_fiber both[] = {spawn(wait_told, s), spawn(wait_told, s)};
  await_waiting(s, 3);
  CHECK_EQ(coir_mutex_lock(s->mutex), 0);
  s->told = 1;
  CHECK_EQ(coir_cond_broadcast(s->cond), 0);
  CHECK_EQ(coir_mutex_unlock(s->mutex), 0);
  for (int i = 0; i < 2; ++i) join(both[i], 0);
  return 0;
}

static void a_wait_that_fails_holds_the_mutex_again(void) {
  run_shared(1, wait_in_vain);
  run_shared(2, wait_in_vain);
}

/* -- event ---------------------------------------------------------------------------------------
 */

static intptr_t pass(void* argument) {
  here_i_am();
  return coir_event_wait(((struct shared*)argument)->event);
}

static void* set_when_awaited(void* argument) {
  const struct shared* const s = argument;
  CHECK_EQ(coir_event_destroy(s->event), -EBUSY);
  CHECK_EQ(coir_event_set(s->event), 0);
  return NULL;
}

static intptr_t wait_for_a_thread(void* argument) {
  struct shared* const s = argument;
  pthread_t thread;
  const coir_fiber waits = spawn(pass, s);
  await_arrivals(1);
  CHECK_EQ(pthread_create(&thread, NULL, set_when_awaited, s), 0);
  join(waits, 0);
  CHECK_EQ(pthread_join(thread, NULL), 0);
  CHECK_EQ(coir_event_wait_until(s->event, OVER), 0); /* open: no time is needed */
  return 0;
}

static void a_thread_opens_an_event(void) { run_shared(1, wait_for_a_thread); }

static intptr_t open_and_close(void* argument) {
  struct shared* const s = argument;
  CHECK_EQ(coir_event_is_set(s->event), 0);
  CHECK_EQ(coir_event_wait_until(s->event, OVER), -ETIMEDOUT);
  const coir_fiber both[] = {spawn(pass, s), spawn(pass, s)}, cancelled = spawn(pass, s);
  await_arrivals(3);
  CHECK_EQ(coir_cancel(cancelled), 0);
  join(cancelled, -ECANCELED);
  CHECK_EQ(coir_event_destroy(s->event), -EBUSY);
  CHECK_EQ(coir_event_set(s->event), 0);
  for (int i = 0; i < 2; ++i) join(both[i], 0);
  CHECK_EQ(coir_event_is_set(s->event), 1);
  CHECK_EQ(coir_event_wait(s->event), 0);
  CHECK_EQ(coir_event_reset(s->event), 0);
  CHECK_EQ(coir_event_is_set(s->event), 0);
  return coir_event_wait_until(s->event, OVER) == -ETIMEDOUT ? 0 : 1;
}

static void an_event_stays_open_until_it_is_reset(void) { run_shared(1, open_and_close); }

int main(void) {
  RUN(null_is_refused);
  RUN(two_fibers_hand_a_mutex_over);
  RUN(a_mutex_is_one_for_fibers_and_threads);
  RUN(who_does_not_hold_a_mutex_is_told_so);
  RUN(who_has_not_come_back_keeps_its_mutex);
  RUN(a_thread_signals_a_fiber);
  RUN(a_wait_that_fails_holds_the_mutex_again);
  RUN(a_thread_opens_an_event);
  RUN(an_event_stays_open_until_it_is_reset);
  return 0;
}
