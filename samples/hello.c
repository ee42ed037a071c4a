/* hello.c: the smallest program: two fibers take turns, and main gets their answers.
 *
 * Comes from: a shell.   Goes to: coir.h.
 */
#include <coir.h>
#include <stdio.h>

static intptr_t count(void* argument) {
  const char* name = argument;
  int turns = 0;
  while (turns < 3) {
    printf("%s %d\n", name, ++turns);
    if (coir_sleep(1000000) < 0) break; /* 1 ms: the other one's turn */
  }
  return turns;
}

static intptr_t hello(void* argument) {
  (void)argument;
  coir_fiber tick, tock;
  int refused = coir_spawn(count, "tick", NULL, &tick);
  if (refused < 0) return refused;
  refused = coir_spawn(count, "tock", NULL, &tock);
  if (refused < 0) return refused;

  intptr_t ticks = 0, tocks = 0;
  (void)coir_join(tick, &ticks);
  (void)coir_join(tock, &tocks);
  printf("hello from %ld fibers' turns\n", (long)(ticks + tocks));
  return 0;
}

int main(void) {
  const coir_config config = {.size = sizeof config, .workers = 1};
  intptr_t answer = 0;
  int code = coir_run(&config, hello, NULL, &answer);
  if (code == 0) code = (int)answer;
  if (code < 0) fprintf(stderr, "hello: %s\n", coir_strerror(code));
  return code < 0 ? 1 : 0;
}
