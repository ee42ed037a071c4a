/* placing.c: what C may say about how a fiber is treated, and that each of it does something: its
 * priority, what it does for a living, how far it may go.
 *
 * Comes from: ctest.   Goes to: coir.h.
 */
#include "check.h"

#include <limits.h>

#define FIBERS 40

/* -- priority ------------------------------------------------------------------------------------
 */

static char order[8];
static int ran;

static intptr_t write_letter(void* argument) {
  order[ran++] = (char)(intptr_t)argument;
  return 0;
}

static void spawn_letter(char letter, coir_spawn_options options) {
  CHECK_EQ(coir_spawn(write_letter, (void*)(intptr_t)letter, &options, NULL), 0);
}

static void expect_order(const char* expected) {
  while (ran < (int)strlen(expected)) CHECK_EQ(coir_sleep(1), 0);
  CHECK_EQ(strcmp(order, expected), 0);
  memset(order, 0, sizeof order);
  ran = 0;
}

static intptr_t spawn_every_level(void* argument) {
  (void)argument;
  const size_t size = sizeof(coir_spawn_options);
  spawn_letter('l', (coir_spawn_options){.size = size, .priority = COIR_PRIORITY_LOW});
  spawn_letter('0', (coir_spawn_options){.size = size});
  spawn_letter('n', (coir_spawn_options){.size = size, .priority = COIR_PRIORITY_NORMAL});
  spawn_letter('h', (coir_spawn_options){.size = size, .priority = COIR_PRIORITY_HIGH});
  spawn_letter('c', (coir_spawn_options){.size = size, .priority = COIR_PRIORITY_CRITICAL});
  expect_order("ch0nl");
  return 0;
}

static void a_critical_fiber_runs_before_a_low_one(void) { run_on(1, spawn_every_level, NULL); }

/* A program that was compiled when the struct ended with `sw`, whose padding is what it is. */
static intptr_t spawn_as_before(void* argument) {
  (void)argument;
  const size_t older = offsetof(coir_spawn_options, workload);
  spawn_letter('1', (coir_spawn_options){.size = older, .workload = 77, .affinity = 77});
  spawn_letter('2', (coir_spawn_options){.size = older, .priority = COIR_PRIORITY_CRITICAL});
  spawn_letter('3', (coir_spawn_options){.size = older, .priority = 77});
  expect_order("123");
  return 0;
}

static void an_older_struct_says_nothing_of_it(void) { run_on(1, spawn_as_before, NULL); }

static intptr_t spawn_with_wrong_numbers(void* argument) {
  (void)argument;
  const int wrong[] = {-1, 5, INT_MAX, INT_MIN};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
    coir_spawn_options options[3] = {
        {.priority = wrong[i]}, {.workload = wrong[i]}, {.affinity = wrong[i]}};
    for (int each = 0; each < 3; ++each) {
      coir_fiber fiber;
      options[each].size = sizeof *options;
      CHECK_EQ(coir_spawn(write_letter, NULL, &options[each], &fiber), -EINVAL);
    }
  }
  CHECK_EQ(coir_sleep(1), 0);
  CHECK_EQ(ran, 0);
  return 0;
}

static void a_number_that_is_none_is_refused(void) { run_on(1, spawn_with_wrong_numbers, NULL); }

/* -- where a fiber goes --------------------------------------------------------------------------
 */

static void run_on_two(const char* options, coir_body body, int choice) {
  coir_config config = tested_config(2);
  intptr_t answer = -1;
  config.options = options;
  arrived = 0;
  CHECK_EQ(coir_run(&config, body, (void*)(intptr_t)choice, &answer), 0);
  CHECK_EQ(answer, 0);
}

static _Atomic int on[2];
static struct gate gate;

static intptr_t wait_and_say_where(void* argument) {
  (void)argument;
  ++on[coir_worker()];
  return gate_wait(&gate);
}

/* Each of them lives before the next one is placed. */
static intptr_t spawn_waiters(void* argument) {
  const int kind = (int)(intptr_t)argument;
  const coir_spawn_options options = {.size = sizeof options, .workload = kind};
  coir_fiber fibers[FIBERS];
  const int here = coir_worker();
  on[0] = on[1] = 0;
  gate_make(&gate);
  for (int i = 0; i < FIBERS; ++i) {
    CHECK_EQ(coir_spawn(wait_and_say_where, NULL, &options, &fibers[i]), 0);
    while (on[0] + on[1] <= i) coir_yield();
  }
  if (kind == COIR_WORKLOAD_COMPUTE) CHECK_EQ(on[1 - here], 0);
  if (kind != COIR_WORKLOAD_COMPUTE) CHECK(on[1 - here] >= 8);
  for (int i = 0; i < FIBERS; ++i) gate_open(&gate);
  for (int i = 0; i < FIBERS; ++i) CHECK_EQ(coir_join(fibers[i], NULL), 0);
  gate_end(&gate);
  return 0;
}

static void io_goes_to_few_live_fibers_and_compute_does_not(void) {
  run_on_two("deflect_threshold=8", spawn_waiters, COIR_WORKLOAD_COMPUTE);
  run_on_two("deflect_threshold=8", spawn_waiters, COIR_WORKLOAD_IO);
  run_on_two("deflect_threshold=8", spawn_waiters, 0);
}

static intptr_t count_where(void* counts) {
  ++((_Atomic int*)counts)[coir_worker()];
  return 0;
}

/* Spawns some that may go, with some among them that may not, until one has gone. */
static intptr_t spawn_near_and_far(void* argument) {
  static _Atomic int near_on[2], far_on[2];
  const coir_spawn_options near = {.size = sizeof near, .affinity = (int)(intptr_t)argument};
  const coir_spawn_options far = {.size = sizeof far, .affinity = COIR_AFFINITY_ANY};
  const int here = coir_worker();
  near_on[0] = near_on[1] = far_on[0] = far_on[1] = 0;
  while (far_on[1 - here] == 0) {
    coir_fiber fibers[FIBERS / 2];
    for (int i = 0; i < FIBERS / 2; ++i) {
      const int goes = i % 2;
      CHECK_EQ(coir_spawn(count_where, goes ? far_on : near_on, goes ? &far : &near, &fibers[i]),
               0);
    }
    for (int i = 0; i < FIBERS / 2; ++i) CHECK_EQ(coir_join(fibers[i], NULL), 0);
    CHECK_EQ(near_on[1 - here], 0);
  }
  return 0;
}

/* In a global topology nobody is near, whatever the machine. */
static void only_who_may_go_far_does(void) {
  for (int where = COIR_AFFINITY_SAME_CORE; where < COIR_AFFINITY_ANY; ++where)
    run_on_two("topo=global", spawn_near_and_far, where);
}

int main(void) {
  RUN(a_critical_fiber_runs_before_a_low_one);
  RUN(an_older_struct_says_nothing_of_it);
  RUN(a_number_that_is_none_is_refused);
  RUN(io_goes_to_few_live_fibers_and_compute_does_not);
  RUN(only_who_may_go_far_does);
  return 0;
}
