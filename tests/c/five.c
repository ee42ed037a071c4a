/* five.c: DT9: a root that launches five and waits for each, stops its runtime, and the program
 * ends.
 *
 * Comes from: ctest.   Goes to: coir.h.
 */
#include "check.h"

static int ran[5], ended[5];

static intptr_t work(void* argument) {
  const intptr_t mine = (intptr_t)argument;
  coir_yield();
  ++ran[mine];
  return 10 + mine;
}

static void clean(void* argument) { ++ended[(intptr_t)argument]; }

static intptr_t root(void* runtime) {
  coir_fiber fibers[5];
  for (intptr_t i = 0; i < 5; ++i) {
    const coir_spawn_options options = {.size = sizeof options, .cleanup = clean};
    CHECK_EQ(coir_spawn(work, (void*)i, &options, &fibers[i]), 0);
  }
  for (intptr_t i = 0; i < 5; ++i) {
    intptr_t answer = 0;
    CHECK_EQ(coir_join(fibers[i], &answer), 0);
    CHECK_EQ(answer, 10 + i);
  }
  CHECK_EQ(coir_runtime_request_stop(runtime), 0);
  return 0;
}

int main(void) {
  const coir_config config = tested_config(2);
  coir_runtime* runtime;
  CHECK_EQ(coir_runtime_create(&config, &runtime), 0);
  CHECK_EQ(coir_runtime_run(runtime, root, runtime, NULL), 0);
  for (int i = 0; i < 5; ++i) CHECK(ran[i] == 1 && ended[i] == 1);
  CHECK_EQ(coir_runtime_shutdown(runtime, COIR_NEVER), 0);
  CHECK_EQ(coir_runtime_destroy(runtime), 0);
  return 0;
}
