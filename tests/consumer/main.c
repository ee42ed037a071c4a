/* main.c: the half of the C consumer that runs the runtime; 0 when the answer is right.
 *
 * Comes from: tests/programs/installed.sh.   Goes to: answer.c.
 */
#include <coir.h>
#include <stdio.h>

intptr_t answer(void* unused);

int main(void) {
  const coir_config config = {.size = sizeof config, .workers = 2, .fibers_max = 64};
  intptr_t got = 0;
  const int code = coir_run(&config, answer, NULL, &got);
  printf("%s\n", code == 0 ? "answered" : coir_strerror(code));
  return code == 0 && got == 42 ? 0 : 1;
}
