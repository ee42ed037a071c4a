/* check.h: what the C tests check with: a false one prints its line and ends the program with 1.
 *
 * Always true: include this first. A check works on any fiber and thread, so it leaves by _exit.
 *
 * Comes from: tests/c.   Goes to: coir.h, which must compile as C11.
 */
#ifndef COIR_TESTS_CHECK_H
#define COIR_TESTS_CHECK_H

#define _GNU_SOURCE 1
#include <coir.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                                  \
  do {                                                                    \
    if (!(condition)) check_failed(__FILE__, __LINE__, #condition, 0, 0); \
  } while (0)

#define CHECK_EQ(is, should)                                                                \
  do {                                                                                      \
    const long long is_ = (long long)(is), should_ = (long long)(should);                   \
    if (is_ != should_) check_failed(__FILE__, __LINE__, #is " == " #should, is_, should_); \
  } while (0)

/* Runs one test and names it, so that a hang says where it happened. */
#define RUN(test)          \
  do {                     \
    printf("%s\n", #test); \
    fflush(stdout);        \
    test();                \
  } while (0)

static inline void check_failed(const char* file, int line, const char* what, long long is,
                                long long should) {
  fprintf(stderr, "%s:%d: failed: %s (%lld, %lld)\n", file, line, what, is, should);
  fflush(NULL);
  _exit(1);
}

/* What COIR_TEST_OPTIONS says of `field`, such as fibers_max in "ring_entries=8,fibers_max=64"; 0
 * when it does not speak of it, which a coir_config takes as the default. */
static inline unsigned told(const char* field) {
  const char* at = getenv("COIR_TEST_OPTIONS");
  const size_t length = strlen(field);
  for (; at != NULL; at = strchr(at, ',')) {
    if (*at == ',') ++at;
    if (strncmp(at, field, length) == 0 && at[length] == '=')
      return (unsigned)strtoul(at + length + 1, NULL, 10);
  }
  return 0;
}

/* The config of every runtime whose numbers are not what the test is about. */
static inline coir_config tested_config(unsigned workers) {
  const coir_config config = {.size = sizeof config,
                              .workers = workers,
                              .fibers_max = told("fibers_max"),
                              .ring_entries = told("ring_entries"),
                              .mailbox_slots = told("mailbox_slots")};
  return config;
}

/* How a test on one worker knows that its fibers wait: each says here_i_am() just before the call
 * that parks it. Nothing else says when a fiber begins: new ones come after those that are ready.
 */
static _Atomic int arrived;

static inline void here_i_am(void) { ++arrived; }

static inline void await_arrivals(int fibers) {
  while (arrived < fibers) coir_yield();
  arrived = 0;
}

/* Runs `body(argument)` on a new runtime with `workers` workers; its value must be 0. */
static inline void run_on(unsigned workers, coir_body body, void* argument) {
  const coir_config config = tested_config(workers);
  intptr_t answer = -1;
  arrived = 0;
  CHECK_EQ(coir_run(&config, body, argument, &answer), 0);
  CHECK_EQ(answer, 0);
}

/* Two ends of a pipe: what fibers wait for until the test lets them go on. */
struct gate {
  int ends[2];
};

static inline void gate_make(struct gate* g) { CHECK_EQ(pipe(g->ends), 0); }

static inline void gate_end(struct gate* g) {
  CHECK_EQ(close(g->ends[0]), 0);
  CHECK_EQ(close(g->ends[1]), 0);
}

/* Lets one waiter through. */
static inline void gate_open(struct gate* g) { CHECK_EQ(write(g->ends[1], "x", 1), 1); }

/* A body: waits at the gate, gives 7, or the error of the wait. */
static inline intptr_t gate_wait(void* argument) {
  const struct gate* g = argument;
  char byte;
  here_i_am();
  const ssize_t got = coir_read(g->ends[0], &byte, 1);
  return got == 1 ? 7 : got;
}

#endif
