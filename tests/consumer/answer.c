/* answer.c: the half of the C consumer that parks.
 *
 * Comes from: main.c.   Goes to: the installed coir.h.
 */
#include <coir.h>
#include <unistd.h>

static int ends[2];

static intptr_t read_one(void* unused) {
  unsigned char byte = 0;
  (void)unused;
  return coir_read(ends[0], &byte, 1) == 1 ? byte : -1;
}

/* A byte that went through a pipe, from one fiber to another. */
intptr_t answer(void* unused) {
  const unsigned char byte = 42;
  coir_fiber reader;
  intptr_t got = -1;
  (void)unused;
  if (pipe(ends) != 0 || coir_spawn(read_one, NULL, NULL, &reader) != 0) return -1;
  if (coir_write(ends[1], &byte, 1) != 1 || coir_join(reader, &got) != 0) return -1;
  return coir_close(ends[0]) == 0 && coir_close(ends[1]) == 0 ? got : -1;
}
