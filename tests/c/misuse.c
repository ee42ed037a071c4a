/* misuse.c: whatever a C program gets wrong is answered with an errno, never with undefined
 * behaviour.
 *
 * Comes from: ctest.   Goes to: coir.h.
 */
#include "check.h"

#include <limits.h>
#include <sys/wait.h>

static intptr_t nothing(void* argument) {
  (void)argument;
  return 0;
}

/* -- null pointers and sizes ---------------------------------------------------------------------
 */

static intptr_t spawn_null(void* argument) {
  coir_fiber fiber;
  (void)argument;
  memset(&fiber, 0xff, sizeof fiber);
  CHECK_EQ(coir_spawn(NULL, NULL, NULL, &fiber), -EINVAL);
  CHECK_EQ(coir_join(fiber, NULL), -EINVAL); /* a failed spawn leaves no handle */
  return 0;
}

static void null_pointers_are_refused(void) {
  coir_runtime* runtime;
  CHECK_EQ(coir_runtime_create(NULL, NULL), -EINVAL);
  CHECK_EQ(coir_run(NULL, NULL, NULL, NULL), -EINVAL);
  CHECK_EQ(coir_runtime_start(NULL), -EINVAL);
  CHECK_EQ(coir_runtime_shutdown(NULL, 0), -EINVAL);
  CHECK_EQ(coir_runtime_run(NULL, nothing, NULL, NULL), -EINVAL);
  CHECK_EQ(coir_spawn_on(NULL, nothing, NULL, NULL, NULL), -EINVAL);
  CHECK_EQ(coir_runtime_destroy(NULL), 0);
  CHECK_EQ(coir_runtime_create(NULL, &runtime), 0);
  CHECK_EQ(coir_runtime_run(runtime, NULL, NULL, NULL), -EINVAL);
  CHECK_EQ(coir_spawn_on(runtime, NULL, NULL, NULL, NULL), -EINVAL);
  CHECK_EQ(coir_runtime_destroy(runtime), 0);
  run_on(1, spawn_null, NULL);
}

/* No version of a struct has, or will have, one of these sizes. */
static const size_t impossible_sizes[] = {0,       1, 7, 9, 12, 4104, (size_t)1 << 31, SIZE_MAX - 7,
                                          SIZE_MAX};
#define IMPOSSIBLE_SIZES (sizeof impossible_sizes / sizeof impossible_sizes[0])

static intptr_t spawn_with_sizes(void* argument) {
  struct {
    coir_spawn_options options;
    unsigned char future[16];
  } newer = {.options = {.size = sizeof newer}};
  (void)argument;
  for (size_t i = 0; i < IMPOSSIBLE_SIZES; ++i) {
    const coir_spawn_options options = {.size = impossible_sizes[i]};
    CHECK_EQ(coir_spawn(nothing, NULL, &options, NULL), -EINVAL);
  }
  CHECK_EQ(coir_spawn(nothing, NULL, &newer.options, NULL), 0);
  newer.future[15] = 1;
  CHECK_EQ(coir_spawn(nothing, NULL, &newer.options, NULL), -EINVAL);
  return 0;
}

static void impossible_struct_sizes_are_refused(void) {
  struct {
    coir_config config;
    unsigned char future[16];
  } newer = {.config = {.size = sizeof newer, .workers = 1}};
  coir_runtime* runtime = (coir_runtime*)&newer;
  for (size_t i = 0; i < IMPOSSIBLE_SIZES; ++i) {
    const coir_config config = {.size = impossible_sizes[i], .workers = 1};
    CHECK_EQ(coir_runtime_create(&config, &runtime), -EINVAL);
    CHECK(runtime == NULL);
    CHECK_EQ(coir_run(&config, nothing, NULL, NULL), -EINVAL);
  }
  newer.future[0] = 1;
  CHECK_EQ(coir_run(&newer.config, nothing, NULL, NULL), -EINVAL);
  newer.future[0] = 0;
  CHECK_EQ(coir_run(&newer.config, nothing, NULL, NULL), 0);
  run_on(1, spawn_with_sizes, NULL);
}

static void values_out_of_range_are_refused(void) {
  const coir_config bad[] = {
      {.workers = UINT_MAX},
      {.workers = 1, .fibers_max = (1u << 24) + 1},
      {.workers = 1, .fibers_max = UINT32_MAX},
      {.workers = 1, .stack_bytes = 1},
      {.workers = 1, .stack_bytes = (16 << 10) - 1},
      {.workers = 1, .stack_bytes = (8 << 20) + 1},
      {.workers = 1, .stack_bytes = SIZE_MAX},
      {.workers = 1, .ring_entries = 32769},
      {.workers = 1, .ring_entries = UINT_MAX},
      {.workers = 1, .mailbox_slots = 65537},
      {.workers = 1, .mailbox_slots = UINT_MAX},
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
    coir_config config = bad[i];
    coir_runtime* runtime;
    config.size = sizeof config;
    CHECK_EQ(coir_runtime_create(&config, &runtime), -EINVAL);
    CHECK(runtime == NULL);
  }
}

/* -- the life of a runtime -----------------------------------------------------------------------
 */

static void the_wrong_order_of_calls_is_refused(void) {
  const coir_config config = tested_config(1);
  coir_runtime* runtime;
  coir_fiber fiber;
  CHECK_EQ(coir_runtime_create(&config, &runtime), 0);
  CHECK_EQ(coir_spawn_on(runtime, nothing, NULL, NULL, &fiber), 0);
  CHECK_EQ(coir_join(fiber, NULL), -ENOTCONN); /* nobody started it: this would wait for ever */
  CHECK_EQ(coir_runtime_start(runtime), 0);
  CHECK_EQ(coir_runtime_start(runtime), -EALREADY);
  CHECK_EQ(coir_join(fiber, NULL), 0);
  CHECK_EQ(coir_runtime_shutdown(runtime, COIR_NEVER), 0);
  CHECK_EQ(coir_runtime_shutdown(runtime, COIR_NEVER), 0); /* again: same answer */
  CHECK_EQ(coir_runtime_start(runtime), -ESHUTDOWN);
  CHECK_EQ(coir_spawn_on(runtime, nothing, NULL, NULL, &fiber), -ESHUTDOWN);
  CHECK_EQ(coir_runtime_run(runtime, nothing, NULL, NULL), -ESHUTDOWN);
  CHECK_EQ(coir_runtime_destroy(runtime), 0);
}

static intptr_t manage_runtimes(void* argument) {
  coir_runtime* const runtimes[2] = {argument, NULL};
  coir_runtime* made;
  CHECK_EQ(coir_runtime_create(NULL, &made), -EDEADLK);
  CHECK_EQ(coir_run(NULL, nothing, NULL, NULL), -EDEADLK);
  CHECK_EQ(coir_runtime_run(runtimes[0], nothing, NULL, NULL), -EDEADLK);
  CHECK_EQ(coir_runtime_shutdown(runtimes[0], COIR_NEVER), -EDEADLK);
  CHECK_EQ(coir_runtime_destroy(runtimes[0]), -EDEADLK);
  return 4;
}

static void calls_for_plain_threads_are_refused_on_fibers(void) {
  const coir_config config = tested_config(2);
  coir_runtime *own, *other;
  intptr_t answer = 0;
  CHECK_EQ(coir_runtime_create(&config, &own), 0);
  CHECK_EQ(coir_runtime_create(&config, &other), 0);
  CHECK_EQ(coir_runtime_run(own, manage_runtimes, own, &answer), 0);
  CHECK_EQ(answer, 4);
  CHECK_EQ(coir_runtime_run(own, manage_runtimes, other, &answer), 0);
  CHECK_EQ(coir_runtime_destroy(other), 0);
  CHECK_EQ(coir_runtime_destroy(own), 0);
}

/* -- handles -------------------------------------------------------------------------------------
 */

#define IS_ALL(handle, code)                                   \
  do {                                                         \
    CHECK_EQ(coir_join(handle, NULL), code);                   \
    CHECK_EQ(coir_join_until(handle, NULL, COIR_NEVER), code); \
    CHECK_EQ(coir_cancel(handle), code);                       \
    CHECK_EQ(coir_done(handle), code);                         \
    CHECK_EQ(coir_yield_to(handle), code);                     \
    CHECK_EQ(coir_detach(handle), code);                       \
  } while (0)

static intptr_t use_bad_handles(void* argument) {
  coir_fiber good, next;
  intptr_t answer = 9;
  (void)argument;
  CHECK_EQ(coir_spawn(nothing, NULL, NULL, &good), 0);

  coir_fiber forged = {{0, 0, 0}};
  IS_ALL(forged, -EINVAL);
  memset(&forged, 0xff, sizeof forged);
  IS_ALL(forged, -EINVAL);
  for (int word = 0; word < 3; ++word) {
    for (int bit = 0; bit < 64; ++bit) {
      forged = good;
      forged.words[word] ^= UINT64_C(1) << bit;
      IS_ALL(forged, -EINVAL);
    }
  }

  CHECK_EQ(coir_join(good, &answer), 0);
  CHECK_EQ(answer, 0);
  IS_ALL(good, -ESTALE);
  CHECK_EQ(coir_spawn(nothing, NULL, NULL, &next),
           0); /* takes the same place, and is another one */
  IS_ALL(good, -ESTALE);
  CHECK_EQ(coir_detach(next), 0);
  IS_ALL(next, -ESTALE);
  return 0;
}

static void stale_and_forged_handles_are_refused(void) { run_on(1, use_bad_handles, NULL); }

static intptr_t join_twice_at_once(void* argument) {
  here_i_am();
  return coir_join(*(const coir_fiber*)argument, NULL);
}

static intptr_t join_with_copies(void* argument) {
  struct gate* gate = argument;
  coir_fiber fiber, other;
  intptr_t answer = -1;
  CHECK_EQ(coir_spawn(gate_wait, gate, NULL, &fiber), 0);
  CHECK_EQ(coir_spawn(join_twice_at_once, &fiber, NULL, &other), 0);
  await_arrivals(2);
  CHECK_EQ(coir_join_until(fiber, NULL, INT64_MIN), -ETIMEDOUT);
  gate_open(gate);
  CHECK_EQ(coir_join(fiber, &answer), 0);
  CHECK_EQ(answer, 7);
  CHECK_EQ(coir_join(other, &answer), 0);
  CHECK_EQ(answer, 0);
  return 0;
}

static void two_may_join_with_copies_of_one_handle(void) {
  struct gate gate;
  gate_make(&gate);
  run_on(1, join_with_copies, &gate);
  gate_end(&gate);
}

static coir_fiber own;

static intptr_t join_own(void* argument) {
  (void)argument;
  CHECK_EQ(coir_join(own, NULL), -EDEADLK);
  CHECK_EQ(coir_join_until(own, NULL, INT64_MIN), -EDEADLK);
  return 0;
}

static intptr_t spawn_join_own(void* argument) {
  (void)argument;
  CHECK_EQ(coir_spawn(join_own, NULL, NULL, &own), 0);
  return coir_join(own, NULL); /* still good */
}

static void a_fiber_that_joins_itself_is_refused(void) { run_on(1, spawn_join_own, NULL); }

static intptr_t join_foreign(void* argument) {
  CHECK_EQ(coir_join(*(const coir_fiber*)argument, NULL), -EINVAL);
  CHECK_EQ(coir_cancel(*(const coir_fiber*)argument), 0); /* asking is allowed from anywhere */
  return 0;
}

static void a_fiber_cannot_join_one_of_another_runtime(void) {
  const coir_config config = tested_config(2);
  coir_runtime* other;
  coir_fiber fiber;
  CHECK_EQ(coir_runtime_create(&config, &other), 0);
  CHECK_EQ(coir_runtime_start(other), 0);
  CHECK_EQ(coir_spawn_on(other, nothing, NULL, NULL, &fiber), 0);
  run_on(1, join_foreign, &fiber);
  const int code = coir_join(fiber, NULL);
  CHECK(code == 0 || code == -ECANCELED);
  CHECK_EQ(coir_runtime_destroy(other), 0);
}

static void handles_of_a_destroyed_runtime_are_stale(void) {
  const coir_config config = tested_config(2);
  coir_runtime* runtime;
  coir_fiber fibers[50];
  CHECK_EQ(coir_runtime_create(&config, &runtime), 0);
  CHECK_EQ(coir_runtime_start(runtime), 0);
  for (int i = 0; i < 50; ++i) CHECK_EQ(coir_spawn_on(runtime, nothing, NULL, NULL, &fibers[i]), 0);
  CHECK_EQ(coir_runtime_destroy(runtime), 0);
  for (int i = 0; i < 50; ++i) IS_ALL(fibers[i], -ESTALE);
}

/* -- where a call may be made --------------------------------------------------------------------
 */

static void calls_that_park_are_refused_on_plain_threads(void) {
  char byte = 0;
  struct sockaddr address = {.sa_family = AF_INET};
  coir_fiber fiber;
  struct gate pipe;
  gate_make(&pipe);
  gate_open(&pipe);
  CHECK_EQ(coir_spawn(nothing, NULL, NULL, &fiber), -EPERM);
  CHECK_EQ(coir_join(fiber, NULL), -EINVAL);
  CHECK_EQ(coir_read(pipe.ends[0], &byte, 1), -EPERM);
  CHECK_EQ(coir_write(pipe.ends[1], &byte, 1), -EPERM);
  CHECK_EQ(coir_pread(pipe.ends[0], &byte, 1, 0), -EPERM);
  CHECK_EQ(coir_pwrite(pipe.ends[1], &byte, 1, 0), -EPERM);
  CHECK_EQ(coir_open("/dev/null", 0, 0), -EPERM);
  CHECK_EQ(coir_fsync(pipe.ends[1]), -EPERM);
  CHECK_EQ(coir_fdatasync(pipe.ends[1]), -EPERM);
  CHECK_EQ(coir_accept(pipe.ends[0], NULL, NULL), -EPERM);
  CHECK_EQ(coir_connect(pipe.ends[0], &address, sizeof address), -EPERM);
  CHECK_EQ(coir_connect_host("127.0.0.1", 1, COIR_NEVER), -EPERM);
  CHECK_EQ(coir_recv(pipe.ends[0], &byte, 1, 0), -EPERM);
  CHECK_EQ(coir_send(pipe.ends[1], &byte, 1, 0), -EPERM);
  CHECK_EQ(coir_shutdown(pipe.ends[0], SHUT_RD), -EPERM);
  CHECK_EQ(coir_cancelled(), 0);
  CHECK_EQ(coir_sleep(-1), -EINVAL);
  CHECK_EQ(coir_close(-1), -EBADF);
  coir_yield();
  gate_end(&pipe);
}

static intptr_t give_bad_buffers(void* argument) {
  const int fd = ((struct gate*)argument)->ends[0];
  const size_t too_many = (size_t)SSIZE_MAX + 1;
  char byte = 0;
  CHECK_EQ(coir_read(fd, NULL, 1), -EFAULT);
  CHECK_EQ(coir_write(fd, NULL, 1), -EFAULT);
  CHECK_EQ(coir_pread(fd, NULL, 1, 0), -EFAULT);
  CHECK_EQ(coir_pwrite(fd, NULL, 1, 0), -EFAULT);
  CHECK_EQ(coir_recv(fd, NULL, 1, 0), -EFAULT);
  CHECK_EQ(coir_send(fd, NULL, 1, 0), -EFAULT);
  CHECK_EQ(coir_read(fd, &byte, too_many), -EINVAL);
  CHECK_EQ(coir_write(fd, &byte, too_many), -EINVAL);
  CHECK_EQ(coir_pread(fd, &byte, too_many, 0), -EINVAL);
  CHECK_EQ(coir_pwrite(fd, &byte, SIZE_MAX, 0), -EINVAL);
  CHECK_EQ(coir_recv(fd, &byte, SIZE_MAX, 0), -EINVAL);
  CHECK_EQ(coir_send(fd, &byte, too_many, 0), -EINVAL);
  CHECK_EQ(coir_pread(fd, &byte, 1, -1), -EINVAL);
  CHECK_EQ(coir_pwrite(fd, &byte, 1, INT64_MIN), -EINVAL);
  CHECK_EQ(coir_open(NULL, 0, 0), -EFAULT);
  CHECK_EQ(coir_connect(fd, NULL, 16), -EFAULT);
  CHECK_EQ(coir_connect_host(NULL, 1, COIR_NEVER), -EFAULT);
  CHECK_EQ(coir_accept(fd, (struct sockaddr*)&byte, NULL), -EFAULT);
  CHECK_EQ(coir_read(-1, &byte, 1), -EBADF);
  CHECK_EQ(coir_read(INT_MAX, &byte, 1), -EBADF);
  CHECK_EQ(coir_read(INT_MIN, &byte, 1), -EBADF);
  CHECK_EQ(coir_close(-1), -EBADF);
  CHECK_EQ(coir_close(INT_MAX), -EBADF);
  CHECK_EQ(coir_sleep(-1), -EINVAL);
  CHECK_EQ(coir_sleep(INT64_MIN), -EINVAL);
  return 0;
}

static void bad_buffers_and_numbers_are_refused(void) {
  struct gate pipe;
  gate_make(&pipe);
  run_on(1, give_bad_buffers, &pipe);
  gate_end(&pipe);
}

/* -- fork ----------------------------------------------------------------------------------------
 */

/* What the child of a fork hears; its exit code is 0 when all of it is right. */
static void use_inherited(coir_runtime* runtime, coir_fiber fiber) {
  IS_ALL(fiber, -EOWNERDEAD);
  CHECK_EQ(coir_spawn_on(runtime, nothing, NULL, NULL, NULL), -EOWNERDEAD);
  CHECK_EQ(coir_runtime_run(runtime, nothing, NULL, NULL), -EOWNERDEAD);
  CHECK_EQ(coir_runtime_start(runtime), -EOWNERDEAD);
  CHECK_EQ(coir_runtime_shutdown(runtime, COIR_NEVER), -EOWNERDEAD);
  CHECK_EQ(coir_runtime_destroy(runtime), -EOWNERDEAD);
}

static void an_inherited_runtime_is_refused(void) {
  const coir_config config = tested_config(2);
  coir_runtime* runtime;
  coir_fiber fiber;
  int status = -1;
  CHECK_EQ(coir_runtime_create(&config, &runtime), 0);
  CHECK_EQ(coir_runtime_start(runtime), 0);
  CHECK_EQ(coir_spawn_on(runtime, nothing, NULL, NULL, &fiber), 0);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    use_inherited(runtime, fiber);
    _exit(0);
  }
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_EQ(coir_join(fiber, NULL), 0); /* the parent's is untouched */
  CHECK_EQ(coir_runtime_destroy(runtime), 0);
}

/* No runtime is alive while it forks: the child is as good as any process. */
static void a_child_may_have_its_own(void) {
  int status = -1;
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    run_on(2, use_bad_handles, NULL);
    _exit(0);
  }
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* -- texts ---------------------------------------------------------------------------------------
 */

static void every_code_has_a_text(void) {
  for (int code = -200; code <= 200; ++code) {
    CHECK(coir_strerror(code) != NULL);
    CHECK(coir_strerror(code)[0] != '\0');
    CHECK(coir_strerror(code) == coir_strerror(-code));
  }
  CHECK(coir_strerror(INT_MIN) != NULL);
  CHECK(coir_strerror(INT_MAX) != NULL);
  CHECK(strstr(coir_strerror(-EPERM), "coir_spawn_on") != NULL);
  CHECK(strstr(coir_strerror(-ENOENT), "No such file") != NULL);
}

int main(void) {
  RUN(null_pointers_are_refused);
  RUN(impossible_struct_sizes_are_refused);
  RUN(values_out_of_range_are_refused);
  RUN(the_wrong_order_of_calls_is_refused);
  RUN(calls_for_plain_threads_are_refused_on_fibers);
  RUN(stale_and_forged_handles_are_refused);
  RUN(two_may_join_with_copies_of_one_handle);
  RUN(a_fiber_that_joins_itself_is_refused);
  RUN(a_fiber_cannot_join_one_of_another_runtime);
  RUN(handles_of_a_destroyed_runtime_are_stale);
  RUN(calls_that_park_are_refused_on_plain_threads);
  RUN(bad_buffers_and_numbers_are_refused);
  RUN(an_inherited_runtime_is_refused);
  RUN(a_child_may_have_its_own);
  RUN(every_code_has_a_text);
  return 0;
}
