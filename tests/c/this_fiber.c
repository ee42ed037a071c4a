/* this_fiber.c: what a fiber asks of itself and of its runtime: who runs next, whether another one
 * has ended, that everything stops, from when on work is given away.
 *
 * Comes from: ctest.   Goes to: coir.h.
 */
#include "check.h"

/* -- yield_to and done ---------------------------------------------------------------------------
 */

static char order[8];
static int letters;

static intptr_t write_letter(void* argument) {
  order[letters++] = (char)(intptr_t)argument;
  return 0;
}

static intptr_t name_the_next(void* argument) {
  coir_fiber first, second, third, parked;
  struct gate* const gate = argument;
  CHECK_EQ(coir_spawn(gate_wait, gate, NULL, &parked), 0);
  await_arrivals(1);
  CHECK_EQ(coir_spawn(write_letter, (void*)'1', NULL, &first), 0);
  CHECK_EQ(coir_spawn(write_letter, (void*)'2', NULL, &second), 0);
  CHECK_EQ(coir_spawn(write_letter, (void*)'3', NULL, &third), 0);
  CHECK_EQ(coir_yield_to(parked), -EAGAIN);
  CHECK_EQ(letters, 0);
  CHECK_EQ(coir_done(third), 0);
  CHECK_EQ(coir_yield_to(third), 0);
  CHECK_EQ(order[0], '3');
  CHECK_EQ(coir_done(third), 1);
  CHECK_EQ(coir_yield_to(third), -ESRCH);
  CHECK_EQ(coir_join(third, NULL), 0);
  CHECK_EQ(coir_yield_to(third), -ESTALE);
  CHECK_EQ(coir_done(third), -ESTALE);
  CHECK_EQ(coir_join(first, NULL), 0);
  CHECK_EQ(coir_join(second, NULL), 0);
  CHECK_EQ(strcmp(order, "312"), 0);
  gate_open(gate);
  return coir_join(parked, NULL);
}

static void whoever_is_named_runs_next(void) {
  struct gate gate;
  gate_make(&gate);
  run_on(1, name_the_next, &gate);
  gate_end(&gate);
}

static void a_plain_thread_cannot_name_the_next(void) {
  const coir_config config = tested_config(1);
  coir_runtime* runtime;
  coir_fiber fiber;
  CHECK_EQ(coir_runtime_create(&config, &runtime), 0);
  CHECK_EQ(coir_spawn_on(runtime, write_letter, (void*)'1', NULL, &fiber), 0);
  CHECK_EQ(coir_done(fiber), 0);
  CHECK_EQ(coir_yield_to(fiber), -EPERM);
  CHECK_EQ(coir_runtime_start(runtime), 0);
  CHECK_EQ(coir_join(fiber, NULL), 0);
  CHECK_EQ(coir_runtime_destroy(runtime), 0);
}

/* -- stop and threshold --------------------------------------------------------------------------
 */

static intptr_t stop_the_runtime(void* argument) {
  coir_fiber late;
  CHECK_EQ(coir_runtime_request_stop(argument), 0);
  CHECK_EQ(coir_spawn(write_letter, NULL, NULL, &late), -ESHUTDOWN);
  while (!coir_cancelled()) coir_yield();
  CHECK_EQ(coir_sleep(0), -ECANCELED);
  CHECK_EQ(coir_sleep_until(COIR_NEVER), -ECANCELED);
  return 5;
}

static void a_fiber_stops_its_runtime(void) {
  const coir_config config = tested_config(2);
  coir_runtime* runtime;
  intptr_t answer = 0;
  CHECK_EQ(coir_runtime_request_stop(NULL), -EINVAL);
  CHECK_EQ(coir_runtime_create(&config, &runtime), 0);
  CHECK_EQ(coir_runtime_run(runtime, stop_the_runtime, runtime, &answer), 0);
  CHECK_EQ(answer, 5);
  CHECK_EQ(coir_runtime_run(runtime, stop_the_runtime, runtime, &answer), -ESHUTDOWN);
  CHECK_EQ(coir_runtime_destroy(runtime), 0);
}

static _Atomic int on[2];

static intptr_t count_where(void* argument) {
  (void)argument;
  ++on[coir_worker()];
  return 0;
}

/* Fills the worker up to a threshold that is far above, and then to one that is below. */
static intptr_t keep_and_give(void* argument) {
  const coir_spawn_options options = {.size = sizeof options, .workload = COIR_WORKLOAD_COMPUTE};
  const int here = coir_worker();
  for (int gives = 0; gives < 2; ++gives) {
    CHECK_EQ(coir_runtime_set_deflection_threshold(argument, (unsigned)here, gives ? 4 : 50000), 0);
    CHECK_EQ(coir_sleep(1), 0); /* it is heard in the next turn */
    on[0] = on[1] = 0;
    for (int round = 0; round < 400 || (gives && on[1 - here] == 0); ++round) {
      coir_fiber fibers[40];
      for (int i = 0; i < 40; ++i) CHECK_EQ(coir_spawn(count_where, NULL, &options, &fibers[i]), 0);
      for (int i = 0; i < 40; ++i) CHECK_EQ(coir_join(fibers[i], NULL), 0);
    }
    if (!gives) CHECK_EQ(on[1 - here], 0);
  }
  return 0;
}

static void a_threshold_keeps_work_or_gives_it_away(void) {
  const coir_config config = tested_config(2);
  coir_runtime* runtime;
  intptr_t answer = 1;
  CHECK_EQ(coir_runtime_create(&config, &runtime), 0);
  CHECK_EQ(coir_runtime_set_deflection_threshold(NULL, 0, 1), -EINVAL);
  CHECK_EQ(coir_runtime_set_deflection_threshold(runtime, 2, 1), -EINVAL);
  CHECK_EQ(coir_runtime_run(runtime, keep_and_give, runtime, &answer), 0);
  CHECK_EQ(answer, 0);
  CHECK_EQ(coir_runtime_destroy(runtime), 0);
}

int main(void) {
  RUN(whoever_is_named_runs_next);
  RUN(a_plain_thread_cannot_name_the_next);
  RUN(a_fiber_stops_its_runtime);
  RUN(a_threshold_keeps_work_or_gives_it_away);
  return 0;
}
