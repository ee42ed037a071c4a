/* config.c: options as text, the way a C program gets at all of them, and what is no text: memory
 * that the rings know, and a log of its own.
 *
 * Comes from: ctest.   Goes to: coir.h.
 */
#include "check.h"

static intptr_t nothing(void* argument) {
  (void)argument;
  return 0;
}

/* How many workers the runtime has: asks for one behind the last. */
static intptr_t count_workers(void* argument) {
  (void)argument;
  for (int worker = 1;; ++worker) {
    const coir_spawn_options there = {.size = sizeof there, .worker = worker};
    coir_fiber fiber;
    const int code = coir_spawn(nothing, NULL, &there, &fiber);
    if (code == -EINVAL) return worker - 1;
    CHECK_EQ(code, 0);
    CHECK_EQ(coir_join(fiber, NULL), 0);
  }
}

static intptr_t workers_of(coir_config config) {
  intptr_t answer = -1;
  CHECK_EQ(coir_run(&config, count_workers, NULL, &answer), 0);
  return answer;
}

static void a_text_is_read_and_a_field_wins_over_it(void) {
  coir_config config = tested_config(0);
  config.options = "workers=3, stack=64K # small\nidle_spin = 0, guards=grouped";
  CHECK_EQ(workers_of(config), 3);
  config.workers = 2;
  CHECK_EQ(workers_of(config), 2);
  config.options = "";
  CHECK_EQ(workers_of(config), 2);
}

/* Memory that the rings know: an empty piece is refused, one that is not is read into. */
static intptr_t read_into(void* memory) {
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  CHECK_EQ(coir_write(ends[1], "known", 5), 5);
  CHECK_EQ(coir_read(ends[0], memory, 5), 5);
  CHECK_EQ(coir_close(ends[0]), 0);
  CHECK_EQ(coir_close(ends[1]), 0);
  return 0;
}

static void fixed_buffers_are_taken_over(void) {
  char* const memory = aligned_alloc(4096, 4096);
  CHECK(memory != NULL);
  const struct iovec pieces[] = {{memory, 4096}, {memory, 0}};
  coir_config config = tested_config(1);
  config.fixed_buffers = pieces;
  config.fixed_buffers_count = 2;
  coir_runtime* none = NULL;
  CHECK_EQ(coir_runtime_create(&config, &none), -EINVAL);
  config.fixed_buffers_count = 1;
  CHECK_EQ(coir_run(&config, read_into, memory, NULL), 0);
  CHECK(memcmp(memory, "known", 5) == 0);
  config.fixed_buffers = NULL;
  CHECK_EQ(coir_runtime_create(&config, &none), -EINVAL);
  free(memory);
}

/* Keeps what is written to stderr meanwhile. */
static int said[2], saved;

static void listen_to_stderr(void) {
  CHECK_EQ(pipe(said), 0);
  saved = dup(2);
  CHECK(saved >= 0 && dup2(said[1], 2) == 2);
}

static void hear(const char* words) {
  char text[2048];
  CHECK_EQ(dup2(saved, 2), 2);
  close(said[1]);
  const ssize_t got = read(said[0], text, sizeof text - 1);
  CHECK(got > 0);
  text[got] = '\0';
  close(said[0]);
  close(saved);
  if (strstr(text, words) == NULL) fprintf(stderr, "said: %s", text);
  CHECK(strstr(text, words) != NULL);
}

static void a_text_that_is_no_option_is_refused_and_named(void) {
  const struct {
    const char *text, *words;
  } wrong[] = {
      {"workers=999", "options, line 1: 'workers=999': workers goes from 0 to 256\n"},
      {"workers=1\nstak=1", "options, line 2: 'stak=1': no option has this name"},
      {"idle_spin=5", "write a whole number and us, ms, s or min"},
  };
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
    coir_config config = tested_config(1);
    coir_runtime* runtime = (coir_runtime*)&config;
    config.options = wrong[i].text;
    listen_to_stderr();
    const int code = coir_runtime_create(&config, &runtime);
    hear(wrong[i].words);
    CHECK_EQ(code, -EINVAL);
    CHECK(runtime == NULL);
  }
}

/* Keeps the last line. */
static void keep(const char* line, void* context) { snprintf(context, 2048, "%s", line); }

static void a_log_of_ones_own_gets_each_line(void) {
  char said_last[2048] = "";
  coir_config config = tested_config(1);
  coir_runtime* runtime;
  config.log = keep;
  config.log_context = said_last;
  config.options = "stak=1"; /* read before there is a runtime */
  CHECK_EQ(coir_runtime_create(&config, &runtime), -EINVAL);
  CHECK(strncmp(said_last, "options, line 1: 'stak=1': ", 27) == 0);
  CHECK(strchr(said_last, '\n') == NULL);
  config.options = NULL;
  config.workers = 257; /* and by the runtime */
  CHECK_EQ(coir_runtime_create(&config, &runtime), -EINVAL);
  CHECK(strstr(said_last, "workers") != NULL);
  said_last[0] = '\0';
  config.size = offsetof(coir_config, log); /* of before: to stderr */
  listen_to_stderr();
  const int code = coir_runtime_create(&config, &runtime);
  hear("workers");
  CHECK_EQ(code, -EINVAL);
  CHECK_EQ(said_last[0], '\0');
}

/* A program that was compiled before there was such a field. */
static void a_config_without_the_field_is_understood(void) {
  coir_config config = tested_config(2);
  config.size = offsetof(coir_config, options);
  config.options = "what lies behind an older struct";
  CHECK_EQ(workers_of(config), 2);
}

int main(void) {
  RUN(a_text_is_read_and_a_field_wins_over_it);
  RUN(fixed_buffers_are_taken_over);
  RUN(a_text_that_is_no_option_is_refused_and_named);
  RUN(a_log_of_ones_own_gets_each_line);
  RUN(a_config_without_the_field_is_understood);
  return 0;
}
