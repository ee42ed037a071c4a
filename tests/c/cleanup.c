/* cleanup.c: the cleanup of a spawn is called exactly once when the spawn succeeded, and never when
 * not.
 *
 * Comes from: ctest.   Goes to: coir.h.
 */
#include "check.h"

struct job {
  int ran;
  int cleaned;
  struct gate* gate;
};

static intptr_t work(void* argument) {
  struct job* job = argument;
  CHECK_EQ(job->cleaned, 0);
  ++job->ran;
  return job->gate == NULL ? 3 : gate_wait(job->gate);
}

static void clean(void* argument) { ++((struct job*)argument)->cleaned; }

static const coir_spawn_options cleaning = {
    .size = sizeof cleaning, .name = "cleaned", .cleanup = clean};

/* -- after the body ------------------------------------------------------------------------------
 */

static intptr_t join_cleaned(void* argument) {
  struct job joined = {0}, detached = {0};
  coir_fiber fiber;
  intptr_t answer = 0;
  (void)argument;
  CHECK_EQ(coir_spawn(work, &joined, &cleaning, &fiber), 0);
  CHECK_EQ(coir_join(fiber, &answer), 0);
  CHECK_EQ(answer, 3);
  CHECK_EQ(joined.ran, 1);
  CHECK_EQ(joined.cleaned, 1); /* done when join returns */

  CHECK_EQ(coir_spawn(work, &detached, &cleaning, NULL), 0);
  while (detached.cleaned == 0) coir_yield();
  coir_yield();
  CHECK_EQ(detached.ran, 1);
  CHECK_EQ(detached.cleaned, 1);
  return 0;
}

static void it_is_called_once_after_the_body(void) { run_on(1, join_cleaned, NULL); }

static intptr_t cancel_running(void* argument) {
  struct job job = {.gate = argument};
  coir_fiber fiber;
  intptr_t answer = 0;
  CHECK_EQ(coir_spawn(work, &job, &cleaning, &fiber), 0);
  while (job.ran == 0) coir_yield();
  CHECK_EQ(coir_cancel(fiber), 0);
  CHECK_EQ(coir_join(fiber, &answer), 0);
  CHECK_EQ(answer, -ECANCELED);
  CHECK_EQ(job.cleaned, 1);
  return 0;
}

static void it_is_called_once_after_a_cancelled_body(void) {
  struct gate gate;
  gate_make(&gate);
  run_on(1, cancel_running, &gate);
  gate_end(&gate);
}

struct busy_job {
  struct gate gate;
  int cleaned;
  coir_fiber self;
};

static intptr_t do_nothing(void* argument) {
  (void)argument;
  return 0;
}

/* On a fiber the cleanup may do all that the body may. */
static void clean_busily(void* argument) {
  struct busy_job* job = argument;
  coir_fiber child;
  intptr_t answer = 0;
  CHECK_EQ(coir_spawn(gate_wait, &job->gate, NULL, &child), 0);
  coir_yield();
  gate_open(&job->gate);
  CHECK_EQ(coir_join(child, &answer), 0);
  CHECK_EQ(answer, 7);
  CHECK_EQ(coir_sleep(1000), 0);
  CHECK_EQ(coir_join(job->self, NULL), -EDEADLK);
  ++job->cleaned;
}

static intptr_t join_busy(void* argument) {
  struct busy_job* job = argument;
  const coir_spawn_options options = {.size = sizeof options, .cleanup = clean_busily};
  CHECK_EQ(coir_spawn(do_nothing, job, &options, &job->self), 0);
  CHECK_EQ(coir_join(job->self, NULL), 0);
  CHECK_EQ(job->cleaned, 1);
  return 0;
}

static void it_may_park_and_spawn_after_the_body(void) {
  struct busy_job job = {.cleaned = 0};
  gate_make(&job.gate);
  run_on(1, join_busy, &job);
  gate_end(&job.gate);
}

/* -- when the body never ran ---------------------------------------------------------------------
 */

static intptr_t cancel_unstarted(void* argument) {
  struct job job = {0};
  coir_fiber fiber;
  intptr_t answer = 5;
  (void)argument;
  CHECK_EQ(coir_spawn(work, &job, &cleaning, &fiber), 0);
  CHECK_EQ(coir_cancel(fiber), 0);
  CHECK_EQ(coir_join(fiber, &answer), -ECANCELED);
  CHECK_EQ(answer, 5);
  CHECK_EQ(coir_join(fiber, &answer), -ESTALE); /* so it was the fiber, not the caller */
  CHECK_EQ(job.ran, 0);
  CHECK_EQ(job.cleaned, 1);
  return 0;
}

static void it_is_called_once_for_a_fiber_cancelled_before_it_ran(void) {
  run_on(1, cancel_unstarted, NULL);
}

static void it_is_called_once_in_a_runtime_that_never_started(void) {
  const coir_config config = tested_config(3); /* a mailbox each: nobody empties them */
  struct job jobs[3] = {{0}};
  coir_runtime* runtime;
  coir_fiber fiber;
  CHECK_EQ(coir_runtime_create(&config, &runtime), 0);
  for (int i = 0; i < 3; ++i) {
    coir_spawn_options there = cleaning;
    there.worker = 1 + i;
    CHECK_EQ(coir_spawn_on(runtime, work, &jobs[i], &there, i == 0 ? &fiber : NULL), 0);
  }
  CHECK_EQ(coir_runtime_destroy(runtime), 0);
  CHECK_EQ(coir_join(fiber, NULL), -ESTALE);
  for (int i = 0; i < 3; ++i) {
    CHECK_EQ(jobs[i].ran, 0);
    CHECK_EQ(jobs[i].cleaned, 1);
  }
}

#define JOBS 150 /* a third of them parks, and fewer than that fit the small configuration */

/* Fibers in every state when the runtime ends: each is cleaned once, whether it ran or not. */
static void it_is_called_once_when_the_runtime_is_shut_down(void) {
  const coir_config config = tested_config(2);
  static struct job jobs[JOBS];
  struct gate gate;
  coir_runtime* runtime;
  gate_make(&gate);
  CHECK_EQ(coir_runtime_create(&config, &runtime), 0);
  CHECK_EQ(coir_runtime_start(runtime), 0);
  for (int i = 0; i < JOBS; ++i) {
    jobs[i].gate = i % 3 == 0 ? &gate : NULL;
    CHECK_EQ(coir_spawn_on(runtime, work, &jobs[i], &cleaning, NULL), 0);
  }
  CHECK_EQ(coir_runtime_shutdown(runtime, COIR_NEVER), 0);
  for (int i = 0; i < JOBS; ++i) {
    CHECK(jobs[i].ran <= 1);
    CHECK_EQ(jobs[i].cleaned, 1);
  }
  CHECK_EQ(coir_runtime_destroy(runtime), 0);
  gate_end(&gate);
}

/* -- when the spawn was refused ------------------------------------------------------------------
 */

static intptr_t spawn_refused(void* argument) {
  struct job* job = argument;
  coir_spawn_options options = cleaning;
  coir_fiber fiber;
  options.stack_bytes = 1;
  CHECK_EQ(coir_spawn(work, job, &options, &fiber), -EINVAL);
  CHECK_EQ(coir_join(fiber, NULL), -EINVAL);
  options.stack_bytes = SIZE_MAX;
  CHECK_EQ(coir_spawn(work, job, &options, &fiber), -EINVAL);
  options = cleaning;
  options.worker = 3; /* of two */
  CHECK_EQ(coir_spawn(work, job, &options, &fiber), -EINVAL);
  options.worker = -1;
  CHECK_EQ(coir_spawn(work, job, &options, NULL), -EINVAL);
  CHECK_EQ(coir_spawn(NULL, job, &cleaning, NULL), -EINVAL);
  return 0;
}

static void it_is_not_called_when_the_spawn_was_refused(void) {
  const coir_config config = tested_config(1);
  struct job job = {0};
  coir_runtime* runtime;
  coir_fiber fiber;
  CHECK_EQ(coir_spawn(work, &job, &cleaning, &fiber), -EPERM); /* not on a fiber */
  run_on(2, spawn_refused, &job);
  CHECK_EQ(coir_runtime_create(&config, &runtime), 0);
  CHECK_EQ(coir_runtime_start(runtime), 0);
  CHECK_EQ(coir_runtime_shutdown(runtime, COIR_NEVER), 0);
  CHECK_EQ(coir_spawn_on(runtime, work, &job, &cleaning, &fiber), -ESHUTDOWN);
  CHECK_EQ(coir_join(fiber, NULL), -EINVAL);
  CHECK_EQ(coir_runtime_destroy(runtime), 0);
  CHECK_EQ(job.ran, 0);
  CHECK_EQ(job.cleaned, 0);
}

int main(void) {
  RUN(it_is_called_once_after_the_body);
  RUN(it_is_called_once_after_a_cancelled_body);
  RUN(it_may_park_and_spawn_after_the_body);
  RUN(it_is_called_once_for_a_fiber_cancelled_before_it_ran);
  RUN(it_is_called_once_in_a_runtime_that_never_started);
  RUN(it_is_called_once_when_the_runtime_is_shut_down);
  RUN(it_is_not_called_when_the_spawn_was_refused);
  return 0;
}
