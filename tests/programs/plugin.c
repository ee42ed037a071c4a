/* plugin.c: what a host loads with dlopen: it links libcoir.so and runs a runtime when asked. In C,
 * because the loader keeps for ever what a C++ compiler marks as unique in a process.
 *
 * Comes from: plugin_host.cpp.   Goes to: coir.h. */
#include <coir.h>

static intptr_t itself(void* argument) {
  coir_yield();
  return (intptr_t)argument;
}

static intptr_t sum_to(void* argument) {
  intptr_t sum = 0, one = 0;
  for (intptr_t i = 0; i < (intptr_t)argument; ++i) {
    coir_fiber fiber;
    int code = coir_spawn(itself, (void*)i, NULL, &fiber);
    if (code == 0) code = coir_join(fiber, &one);
    if (code < 0) return code;
    sum += one;
  }
  return sum;
}

/* The sum of 0 to n - 1, each the answer of a fiber of its own; negative: what went wrong. */
COIR_C_API long plugin_sum(long n) {
  const coir_config config = {.size = sizeof config, .workers = 2, .fibers_max = 1024};
  intptr_t answer = 0;
  const int code = coir_run(&config, sum_to, (void*)(intptr_t)n, &answer);
  return code < 0 ? code : (long)answer;
}
