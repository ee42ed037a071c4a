/* walk.c: runtimes and fibers as a C program uses them when nothing goes wrong.
 *
 * Comes from: ctest.   Goes to: coir.h.
 */
#include "check.h"

#define ROUNDS 20
#define FIBERS 50 /* alive at once: their handles are held */

static intptr_t twice(void* argument) { return 2 * (intptr_t)argument; }

/* -- run -----------------------------------------------------------------------------------------
 */

static void run_gives_the_bodys_value(void) {
  const coir_config config = tested_config(2);
  intptr_t answer = 0;
  CHECK_EQ(coir_run(&config, twice, (void*)21, &answer), 0);
  CHECK_EQ(answer, 42);
  CHECK_EQ(coir_run(NULL, twice, (void*)-1, NULL), 0); /* the defaults, and no answer wanted */
}

static void structs_of_other_versions_are_understood(void) {
  struct {
    coir_config config;
    size_t fields_of_the_future[2];
  } newer = {.config = {.size = sizeof newer, .workers = 1}};
  CHECK_EQ(coir_run(&newer.config, twice, (void*)1, NULL), 0);

  /* Only `workers` and `fibers_max` are there; what lies behind is not looked at. */
  coir_config older = {.size = 16, .workers = 1, .stack_bytes = 1};
  CHECK_EQ(coir_run(&older, twice, (void*)1, NULL), 0);
  older.size = sizeof older;
  CHECK_EQ(coir_run(&older, twice, (void*)1, NULL), -EINVAL);
}

/* -- spawn and join ------------------------------------------------------------------------------
 */

static intptr_t join_many(void* argument) {
  static coir_fiber fibers[FIBERS];
  const coir_spawn_options options = {
      .size = sizeof options, .name = "one of very many fibers of a test", .stack_bytes = 32 << 10};
  (void)argument;
  for (int round = 0; round < ROUNDS; ++round) {
    for (intptr_t i = 0; i < FIBERS; ++i)
      CHECK_EQ(coir_spawn(twice, (void*)i, i % 2 == 0 ? &options : NULL, &fibers[i]), 0);
    for (intptr_t i = FIBERS - 1; i >= 0; --i) {
      intptr_t answer = -1;
      const coir_fiber copy = fibers[i];
      CHECK_EQ(coir_join(copy, &answer), 0);
      CHECK_EQ(answer, 2 * i);
    }
  }
  return 0;
}

static void every_fiber_gives_its_own_value(void) {
  run_on(1, join_many, NULL);
  run_on(2, join_many, NULL);
}

static intptr_t join_null(void* argument) {
  coir_fiber fiber;
  (void)argument;
  CHECK_EQ(coir_spawn(twice, (void*)3, NULL, &fiber), 0);
  CHECK_EQ(coir_join(fiber, NULL), 0);
  return 0;
}

static void an_answer_may_be_ignored(void) { run_on(1, join_null, NULL); }

static coir_fiber seen_by_body;

static intptr_t look_at_own_handle(void* argument) {
  CHECK(memcmp(&seen_by_body, argument, sizeof seen_by_body) == 0);
  return 0;
}

static intptr_t spawn_that_looks(void* argument) {
  const coir_spawn_options there = {.size = sizeof there, .worker = 2};
  (void)argument;
  CHECK_EQ(coir_spawn(look_at_own_handle, &seen_by_body, &there, &seen_by_body), 0);
  return coir_join(seen_by_body, NULL);
}

static void a_body_finds_its_handle_written(void) { run_on(2, spawn_that_looks, NULL); }

static intptr_t join_for_another(void* argument) {
  intptr_t answer = 0;
  here_i_am();
  const int code = coir_join(*(const coir_fiber*)argument, &answer);
  return code < 0 ? code : answer;
}

static intptr_t three_joiners(void* argument) {
  struct gate* gate = argument;
  coir_fiber fiber, joiners[3];
  CHECK_EQ(coir_spawn(gate_wait, gate, NULL, &fiber), 0);
  for (int i = 0; i < 3; ++i) CHECK_EQ(coir_spawn(join_for_another, &fiber, NULL, &joiners[i]), 0);
  await_arrivals(4);
  gate_open(gate);
  for (int i = 0; i < 3; ++i) {
    intptr_t answer = 0;
    CHECK_EQ(coir_join(joiners[i], &answer), 0);
    CHECK_EQ(answer, 7);
  }
  CHECK_EQ(coir_join(fiber, NULL), -ESTALE);
  return 0;
}

static void all_who_wait_get_the_value(void) {
  struct gate gate;
  gate_make(&gate);
  run_on(1, three_joiners, &gate);
  gate_end(&gate);
}

/* Joiners of two workers against the end of the fiber: each gets the value or hears that it is
 * gone, and somebody gets the value. */
static intptr_t join_racing(void* argument) {
  intptr_t answer = 0;
  const int code = coir_join(*(const coir_fiber*)argument, &answer);
  return code < 0 ? code : answer;
}

static intptr_t joiners_race(void* argument) {
  (void)argument;
  for (int round = 0; round < 500; ++round) {
    coir_fiber fiber, joiners[4];
    int values = 0;
    CHECK_EQ(coir_spawn(twice, (void*)4, NULL, &fiber), 0);
    for (int i = 0; i < 4; ++i) {
      const coir_spawn_options there = {.size = sizeof there, .worker = 1 + i % 2};
      CHECK_EQ(coir_spawn(join_racing, &fiber, &there, &joiners[i]), 0);
    }
    for (int i = 0; i < 4; ++i) {
      intptr_t answer = 0;
      CHECK_EQ(coir_join(joiners[i], &answer), 0);
      CHECK(answer == 8 || answer == -ESTALE);
      values += answer == 8;
    }
    CHECK(values > 0);
  }
  return 0;
}

static void racing_joiners_get_the_value_or_estale(void) { run_on(2, joiners_race, NULL); }

static intptr_t time_out_first(void* argument) {
  struct gate* gate = argument;
  coir_fiber fiber;
  intptr_t answer = 0;
  CHECK_EQ(coir_spawn(gate_wait, gate, NULL, &fiber), 0);
  CHECK_EQ(coir_join_until(fiber, &answer, INT64_MIN), -ETIMEDOUT);
  CHECK_EQ(coir_join_until(fiber, &answer, coir_now() + 1000), -ETIMEDOUT);
  CHECK_EQ(answer, 0);
  gate_open(gate);
  CHECK_EQ(coir_join_until(fiber, &answer, COIR_NEVER), 0);
  CHECK_EQ(answer, 7);
  return 0;
}

static void a_handle_stays_good_after_a_timeout(void) {
  struct gate gate;
  gate_make(&gate);
  run_on(1, time_out_first, &gate);
  gate_end(&gate);
}

/* -- cancel, detach, yield, sleep ----------------------------------------------------------------
 */

static intptr_t sleep_for_an_hour(void* argument) {
  (void)argument;
  here_i_am();
  const int code = coir_sleep(INT64_C(3600000000000));
  CHECK_EQ(coir_cancelled(), 1);
  CHECK_EQ(coir_sleep(INT64_MAX), -ECANCELED); /* and so from now on */
  return code;
}

static intptr_t cancel_two(void* argument) {
  coir_fiber sleeper, reader;
  intptr_t answer = 0;
  CHECK_EQ(coir_spawn(sleep_for_an_hour, NULL, NULL, &sleeper), 0);
  CHECK_EQ(coir_spawn(gate_wait, argument, NULL, &reader), 0);
  await_arrivals(2);
  CHECK_EQ(coir_cancelled(), 0);
  CHECK_EQ(coir_cancel(sleeper), 0);
  CHECK_EQ(coir_cancel(sleeper), 0); /* twice is once */
  CHECK_EQ(coir_cancel(reader), 0);
  CHECK_EQ(coir_join(sleeper, &answer), 0);
  CHECK_EQ(answer, -ECANCELED);
  CHECK_EQ(coir_join(reader, &answer), 0);
  CHECK_EQ(answer, -ECANCELED);
  return 0;
}

static void a_cancelled_fiber_hears_ecanceled(void) {
  struct gate gate;
  gate_make(&gate);
  run_on(1, cancel_two, &gate);
  gate_end(&gate);
}

static intptr_t set_to_five(void* argument) {
  coir_yield();
  *(int*)argument = 5;
  return 0;
}

static intptr_t detach_both_ways(void* argument) {
  int* numbers = argument;
  coir_fiber fiber;
  CHECK_EQ(coir_spawn(set_to_five, &numbers[0], NULL, NULL), 0);
  CHECK_EQ(coir_spawn(set_to_five, &numbers[1], NULL, &fiber), 0);
  CHECK_EQ(coir_detach(fiber), 0);
  CHECK_EQ(coir_join(fiber, NULL), -ESTALE);
  return 0;
}

static void a_detached_fiber_runs_to_its_end(void) {
  int numbers[2] = {0, 0};
  run_on(1, detach_both_ways, numbers);
  CHECK_EQ(numbers[0], 5);
  CHECK_EQ(numbers[1], 5);
}

static char order[16];
static int order_bytes, writers;

static intptr_t write_three(void* argument) {
  ++writers;
  while (writers < 2) coir_yield();
  for (int i = 0; i < 3; ++i) {
    order[order_bytes++] = *(const char*)argument;
    coir_yield();
  }
  return 0;
}

static intptr_t take_turns(void* argument) {
  coir_fiber a, b;
  (void)argument;
  CHECK_EQ(coir_spawn(write_three, "a", NULL, &a), 0);
  CHECK_EQ(coir_spawn(write_three, "b", NULL, &b), 0);
  CHECK_EQ(coir_join(a, NULL), 0);
  CHECK_EQ(coir_join(b, NULL), 0);
  return 0;
}

static void yield_lets_others_run(void) {
  run_on(1, take_turns, NULL);
  CHECK(strcmp(order, "ababab") == 0 || strcmp(order, "bababa") == 0);
}

static intptr_t sleep_a_little(void* argument) {
  const int64_t before = coir_now();
  (void)argument;
  CHECK_EQ(coir_sleep(0), 0);
  CHECK_EQ(coir_sleep(1000000), 0);
  CHECK(coir_now() - before >= 1000000);
  return 0;
}

static void sleep_takes_at_least_its_time(void) {
  run_on(1, sleep_a_little, NULL);
  CHECK_EQ(sleep_a_little(NULL), 0); /* and on a plain thread */
}

/* -- a runtime beside plain threads --------------------------------------------------------------
 */

static void threads_spawn_and_join(void) {
  const coir_config config = tested_config(2);
  coir_runtime* runtime;
  coir_fiber before, after;
  intptr_t answer = 0;
  CHECK_EQ(coir_runtime_create(&config, &runtime), 0);
  CHECK_EQ(coir_spawn_on(runtime, twice, (void*)5, NULL, &before), 0);
  CHECK_EQ(coir_runtime_start(runtime), 0);
  CHECK_EQ(coir_spawn_on(runtime, twice, (void*)6, NULL, &after), 0);
  CHECK_EQ(coir_join(before, &answer), 0);
  CHECK_EQ(answer, 10);
  CHECK_EQ(coir_runtime_shutdown(runtime, COIR_NEVER), 0);
  const int code = coir_join(after, &answer); /* a handle is good until the runtime is destroyed */
  CHECK((code == 0 && answer == 12) || code == -ECANCELED);
  CHECK_EQ(coir_runtime_destroy(runtime), 0);
}

static void a_runtime_runs_again_and_again(void) {
  const coir_config config = tested_config(1);
  coir_runtime* runtime;
  CHECK_EQ(coir_runtime_create(&config, &runtime), 0);
  for (intptr_t i = 0; i < 10; ++i) {
    intptr_t answer = -1;
    CHECK_EQ(coir_runtime_run(runtime, twice, (void*)i, &answer), 0);
    CHECK_EQ(answer, 2 * i);
  }
  CHECK_EQ(coir_runtime_destroy(runtime), 0);
}

static void* join_from_thread(void* argument) { return (void*)join_racing(argument); }

static void a_thread_that_joins_is_let_go_when_the_runtime_ends(void) {
  const coir_config config = tested_config(1);
  coir_runtime* runtime;
  coir_fiber sleeper;
  pthread_t thread;
  void* answer;
  CHECK_EQ(coir_runtime_create(&config, &runtime), 0);
  CHECK_EQ(coir_runtime_start(runtime), 0);
  CHECK_EQ(coir_spawn_on(runtime, sleep_for_an_hour, NULL, NULL, &sleeper), 0);
  CHECK_EQ(pthread_create(&thread, NULL, join_from_thread, &sleeper), 0);
  CHECK_EQ(coir_runtime_destroy(runtime), 0);
  CHECK_EQ(pthread_join(thread, &answer), 0);
  /* It joined, or the fiber was cancelled before its body ran, or the thread came too late. */
  CHECK((intptr_t)answer == -ECANCELED || (intptr_t)answer == -ESTALE);
}

static _Atomic int held_up;

/* A body that must not be written like this: it blocks the thread, so no cancel reaches it. */
static intptr_t block_the_thread(void* argument) {
  char byte;
  held_up = 1;
  return read(((struct gate*)argument)->ends[0], &byte, 1);
}

static void a_fiber_that_will_not_end_is_reported(void) {
  const coir_config config = tested_config(1);
  struct gate gate;
  coir_runtime* runtime;
  coir_fiber fiber;
  intptr_t answer = 0;
  gate_make(&gate);
  CHECK_EQ(coir_runtime_create(&config, &runtime), 0);
  CHECK_EQ(coir_spawn_on(runtime, block_the_thread, &gate, NULL, &fiber), 0);
  CHECK_EQ(coir_runtime_start(runtime), 0);
  while (!held_up) coir_yield();
  CHECK_EQ(coir_runtime_shutdown(runtime, INT64_MIN), -EBUSY);
  CHECK_EQ(coir_join_until(fiber, NULL, INT64_MIN), -ETIMEDOUT); /* and its handle is still good */
  gate_open(&gate);
  CHECK_EQ(coir_join(fiber, &answer), 0);
  CHECK_EQ(answer, 1);
  const int code = coir_runtime_destroy(runtime);
  CHECK(code == 0 || code == -EBUSY);
  CHECK_EQ(coir_join(fiber, NULL), -ESTALE);
  gate_end(&gate);
}

/* -- switchers -----------------------------------------------------------------------------------
 */

static intptr_t go_round(void* argument) {
  (void)argument;
  for (unsigned i = 0; i < ROUNDS; ++i) {
    CHECK_EQ(coir_move_to(i % 2), 0);
    CHECK_EQ(coir_worker(), (int)(i % 2));
  }
  CHECK_EQ(coir_move_to(2), -EINVAL); /* of two */
  return 1;
}

static intptr_t stay(void* argument) {
  (void)argument;
  CHECK_EQ(coir_move_to(0), -EINVAL);
  return 1;
}

static intptr_t spawn_each_switcher(void* argument) {
  (void)argument;
  for (int sw = COIR_SAME_THREAD_NO_FLOAT; sw <= COIR_CROSS_THREAD_FLOAT + 1; ++sw) {
    const coir_spawn_options options = {.size = sizeof options, .sw = sw};
    coir_fiber fiber;
    intptr_t answer = 0;
    const coir_body body = sw < COIR_CROSS_THREAD_NO_FLOAT ? stay : go_round;
    const int spawned = coir_spawn(body, NULL, &options, &fiber);
    CHECK_EQ(spawned, sw <= COIR_CROSS_THREAD_FLOAT ? 0 : -EINVAL);
    if (spawned != 0) continue;
    CHECK_EQ(coir_join(fiber, &answer), 0);
    CHECK_EQ(answer, 1);
  }
  return 0;
}

static void a_cross_thread_fiber_moves_and_no_other(void) {
  CHECK_EQ(coir_move_to(0), -EPERM);
  CHECK_EQ(coir_worker(), -EPERM);
  run_on(2, spawn_each_switcher, NULL);
}

int main(void) {
  RUN(run_gives_the_bodys_value);
  RUN(structs_of_other_versions_are_understood);
  RUN(every_fiber_gives_its_own_value);
  RUN(an_answer_may_be_ignored);
  RUN(a_body_finds_its_handle_written);
  RUN(all_who_wait_get_the_value);
  RUN(racing_joiners_get_the_value_or_estale);
  RUN(a_handle_stays_good_after_a_timeout);
  RUN(a_cancelled_fiber_hears_ecanceled);
  RUN(a_detached_fiber_runs_to_its_end);
  RUN(yield_lets_others_run);
  RUN(sleep_takes_at_least_its_time);
  RUN(threads_spawn_and_join);
  RUN(a_runtime_runs_again_and_again);
  RUN(a_thread_that_joins_is_let_go_when_the_runtime_ends);
  RUN(a_fiber_that_will_not_end_is_reported);
  RUN(a_cross_thread_fiber_moves_and_no_other);
  return 0;
}
