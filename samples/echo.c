/* echo.c: a TCP server that sends back what it gets, in C: echo [--port N] [--workers N]
 *
 * Always true: one fiber per connection, written as if it blocked. A signal ends the process.
 *
 * Comes from: a shell.   Goes to: coir.h.
 */
#include <coir.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static intptr_t echo(void* argument) {
  const int fd = (int)(intptr_t)argument;
  char buffer[16384];
  ssize_t got = 0;
  while ((got = coir_recv(fd, buffer, sizeof buffer, 0)) > 0) {
    ssize_t sent = 0;
    for (ssize_t at = 0; at < got; at += sent)
      if ((sent = coir_send(fd, buffer + at, (size_t)(got - at), 0)) < 0) return sent;
  }
  return got;
}

static void hang_up(void* argument) { (void)coir_close((int)(intptr_t)argument); }

static intptr_t serve(void* argument) {
  uint16_t port = 0;
  const int listener = coir_listen((uint16_t)(intptr_t)argument, &port);
  if (listener < 0) return listener;
  printf("listening on 127.0.0.1:%u\n", (unsigned)port);
  fflush(stdout);
  const coir_spawn_options each = {.size = sizeof each, .name = "echo", .cleanup = hang_up};
  for (;;) {
    const int fd = coir_accept(listener, NULL, NULL);
    if (fd < 0) return fd;
    if (coir_spawn(echo, (void*)(intptr_t)fd, &each, NULL) < 0) (void)coir_close(fd);
  }
}

int main(int argc, char** argv) {
  coir_config config = {.size = sizeof config};
  long port = 7007;
  for (int i = 1; i < argc; i += 2) {
    const long value = i + 1 < argc ? strtol(argv[i + 1], NULL, 10) : -1;
    if (value >= 0 && value < 65536 && strcmp(argv[i], "--port") == 0) {
      port = value;
    } else if (value >= 0 && value < 65536 && strcmp(argv[i], "--workers") == 0) {
      config.workers = (unsigned)value;
    } else {
      return fputs("usage: echo_c [--port N] [--workers N]\n", stderr), 2;
    }
  }
  intptr_t answer = 0;
  int code = coir_run(&config, serve, (void*)(intptr_t)port, &answer);
  if (code == 0) code = (int)answer;
  fprintf(stderr, "echo_c: %s\n", coir_strerror(code));
  return 1;
}
