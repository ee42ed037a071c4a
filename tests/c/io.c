/* io.c: pipes, files and sockets from C: the right counts, and the right errno when it goes wrong.
 *
 * Comes from: ctest.   Goes to: coir.h.
 */
#include "check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/stat.h>

#define OVER INT64_MIN /* a deadline that is over */

/* -- pipes ---------------------------------------------------------------------------------------
 */

#define PIPED_BYTES 300000 /* more than a pipe holds, so both sides must park */

static intptr_t write_piped(void* argument) {
  const struct gate* pipe = argument;
  static char text[PIPED_BYTES];
  size_t done = 0;
  for (size_t i = 0; i < sizeof text; ++i) text[i] = (char)(i % 251);
  while (done < sizeof text) {
    const ssize_t n = coir_write(pipe->ends[1], text + done, sizeof text - done);
    CHECK(n > 0);
    done += (size_t)n;
  }
  return coir_close(pipe->ends[1]);
}

static intptr_t read_piped(void* argument) {
  const struct gate* pipe = argument;
  coir_fiber writer;
  size_t done = 0;
  ssize_t n;
  char buffer[4096];
  CHECK_EQ(coir_spawn(write_piped, argument, NULL, &writer), 0);
  while ((n = coir_read(pipe->ends[0], buffer, sizeof buffer)) > 0)
    for (ssize_t i = 0; i < n; ++i) CHECK_EQ((unsigned char)buffer[i], done++ % 251);
  CHECK_EQ(n, 0);
  CHECK_EQ(done, PIPED_BYTES);
  CHECK_EQ(coir_join(writer, NULL), 0);
  return coir_close(pipe->ends[0]);
}

static void a_pipe_carries_every_byte(void) {
  struct gate pipe;
  gate_make(&pipe);
  run_on(1, read_piped, &pipe);
  gate_make(&pipe);
  run_on(2, read_piped, &pipe);
}

static intptr_t nothing_at_once(void* argument) {
  const struct gate* pipe = argument;
  CHECK_EQ(coir_write(pipe->ends[1], NULL, 0), 0);
  CHECK_EQ(coir_read(pipe->ends[1], NULL, 0), -EBADF);
  return 0;
}

static void no_bytes_need_no_buffer(void) {
  struct gate pipe;
  gate_make(&pipe);
  run_on(1, nothing_at_once, &pipe);
  gate_end(&pipe);
}

static intptr_t write_rest(void* argument) {
  const struct gate* pipe = argument;
  CHECK_EQ(coir_write_all(pipe->ends[1], "rest", 4), 4);
  return coir_close(pipe->ends[1]);
}

static intptr_t read_whole(void* argument) {
  const struct gate* pipe = argument;
  coir_fiber writer;
  char buffer[16];
  CHECK_EQ(coir_write_all(pipe->ends[1], "all but the ", 12), 12);
  CHECK_EQ(coir_spawn(write_rest, argument, NULL, &writer), 0);
  CHECK_EQ(coir_read_exact(pipe->ends[0], buffer, 16), 16);
  CHECK(memcmp(buffer, "all but the rest", 16) == 0);
  CHECK_EQ(coir_read_exact(pipe->ends[0], buffer, 16), 0); /* its end */
  CHECK_EQ(coir_join(writer, NULL), 0);
  CHECK_EQ(coir_read_exact(pipe->ends[0], NULL, 1), -EFAULT);
  CHECK_EQ(coir_write_all(-1, "x", 1), -EBADF);
  return coir_close(pipe->ends[0]);
}

static void everything_is_written_and_read(void) {
  struct gate pipe;
  gate_make(&pipe);
  run_on(1, read_whole, &pipe);
}

static intptr_t use_parts(void* argument) {
  const struct gate* pipe = argument;
  char first[3], second[8];
  const struct iovec from[] = {{"one", 3}, {"and two", 7}};
  const struct iovec into[] = {{first, sizeof first}, {second, sizeof second}};
  CHECK_EQ(coir_writev(pipe->ends[1], from, 2), 10);
  CHECK_EQ(coir_readv(pipe->ends[0], into, 2), 10);
  CHECK(memcmp(first, "one", 3) == 0 && memcmp(second, "and two", 7) == 0);
  CHECK_EQ(coir_readv(pipe->ends[0], into, 1025), -EINVAL);
  CHECK_EQ(coir_writev(pipe->ends[1], from, SIZE_MAX), -EINVAL);
  CHECK_EQ(coir_readv(pipe->ends[0], NULL, 1), -EFAULT);
  CHECK_EQ(coir_writev(pipe->ends[1], NULL, 1), -EFAULT);
  CHECK_EQ(coir_writev(pipe->ends[1], NULL, 0), 0);
  CHECK_EQ(coir_readv_until(pipe->ends[0], into, 2, OVER), -ETIMEDOUT);
  CHECK_EQ(coir_writev_until(-1, from, 2, COIR_NEVER), -EBADF);
  return 0;
}

static void parts_are_written_and_read(void) {
  struct gate pipe;
  gate_make(&pipe);
  run_on(1, use_parts, &pipe);
  gate_end(&pipe);
}

static intptr_t poll_one(void* argument) {
  here_i_am();
  return coir_poll((int)(intptr_t)argument, POLLIN);
}

static intptr_t poll_both_ends(void* argument) {
  const struct gate* pipe = argument;
  coir_fiber waits;
  intptr_t answer = 0;
  CHECK_EQ(coir_poll(pipe->ends[1], POLLIN | POLLOUT), POLLOUT);
  CHECK_EQ(coir_poll_until(pipe->ends[0], POLLIN, OVER), -ETIMEDOUT);
  CHECK_EQ(coir_poll(-1, POLLIN), -EBADF);
  CHECK_EQ(coir_spawn(poll_one, (void*)(intptr_t)pipe->ends[0], NULL, &waits), 0);
  await_arrivals(1);
  gate_open((struct gate*)argument);
  CHECK_EQ(coir_join(waits, &answer), 0);
  CHECK_EQ(answer, POLLIN);
  return 0;
}

static void poll_tells_what_holds(void) {
  struct gate pipe;
  gate_make(&pipe);
  run_on(1, poll_both_ends, &pipe);
  gate_end(&pipe);
}

/* -- files ---------------------------------------------------------------------------------------
 */

static intptr_t use_file(void* argument) {
  const char* path = argument;
  char buffer[8] = {0};
  const int fd = coir_open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  CHECK(fd >= 0);
  CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  CHECK_EQ(coir_pwrite(fd, "world", 5, 6), 5);
  CHECK_EQ(coir_pwrite(fd, "hello ", 6, 0), 6);
  CHECK_EQ(coir_fsync(fd), 0);
  CHECK_EQ(coir_fdatasync(fd), 0);
  CHECK_EQ(coir_pread(fd, buffer, 5, 6), 5);
  CHECK(memcmp(buffer, "world", 5) == 0);
  CHECK_EQ(coir_pread(fd, buffer, 5, 11), 0);
  CHECK_EQ(coir_read(fd, buffer, 5), 5); /* the file's own position did not move */
  CHECK(memcmp(buffer, "hello", 5) == 0);
  CHECK_EQ(coir_close(fd), 0);
  CHECK_EQ(coir_close(fd), -EBADF);
  CHECK_EQ(coir_read(fd, buffer, 5), -EBADF);
  CHECK_EQ(coir_open("/nowhere/at/all", O_RDONLY, 0), -ENOENT);
  struct statx facts;
  CHECK_EQ(coir_statx(AT_FDCWD, path, 0, STATX_SIZE, &facts), 0);
  CHECK_EQ(facts.stx_size, 11);
  CHECK_EQ(coir_statx(AT_FDCWD, "/nowhere/at/all", 0, STATX_SIZE, &facts), -ENOENT);
  CHECK_EQ(coir_statx(AT_FDCWD, NULL, 0, STATX_SIZE, &facts), -EFAULT);
  CHECK_EQ(coir_statx(AT_FDCWD, path, 0, STATX_SIZE, NULL), -EFAULT);
  return 0;
}

static void a_file_is_written_and_read_back(void) {
  char path[] = "/tmp/coir_c_io_XXXXXX";
  const int fd = mkstemp(path);
  CHECK(fd >= 0);
  CHECK_EQ(close(fd), 0);
  run_on(1, use_file, path);
  CHECK_EQ(unlink(path), 0);
}

/* -- sockets -------------------------------------------------------------------------------------
 */

static struct sockaddr_in loopback(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

static int connect_to(uint16_t port) {
  const struct sockaddr_in address = loopback(port);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0);
  CHECK_EQ(coir_connect(fd, (const struct sockaddr*)&address, sizeof address), 0);
  return fd;
}

static intptr_t echo_once(void* argument) {
  struct sockaddr_in peer;
  socklen_t peer_bytes = sizeof peer;
  char buffer[64];
  ssize_t n;
  const int fd = coir_accept((int)(intptr_t)argument, (struct sockaddr*)&peer, &peer_bytes);
  CHECK(fd >= 0);
  CHECK_EQ(peer_bytes, sizeof peer);
  CHECK_EQ(ntohl(peer.sin_addr.s_addr), INADDR_LOOPBACK);
  while ((n = coir_recv(fd, buffer, sizeof buffer, 0)) > 0)
    CHECK_EQ(coir_send(fd, buffer, (size_t)n, 0), n);
  CHECK_EQ(n, 0);
  return coir_close(fd);
}

static intptr_t talk(void* argument) {
  uint16_t port = 0;
  char buffer[64];
  coir_fiber server;
  intptr_t answer = -1;
  const int listener = coir_listen(0, &port);
  (void)argument;
  CHECK(listener >= 0);
  CHECK(port > 0);
  CHECK_EQ(coir_spawn(echo_once, (void*)(intptr_t)listener, NULL, &server), 0);
  const int fd = connect_to(port);
  for (int i = 0; i < 100; ++i) {
    CHECK_EQ(coir_send(fd, "ping", 4, 0), 4);
    CHECK_EQ(coir_recv(fd, buffer, sizeof buffer, 0), 4);
    CHECK(memcmp(buffer, "ping", 4) == 0);
  }
  CHECK_EQ(coir_send_zc(fd, "ping", 4, 0), 4);
  CHECK_EQ(coir_recv(fd, buffer, sizeof buffer, 0), 4);
  CHECK_EQ(coir_send_zc(fd, NULL, 4, 0), -EFAULT);
  int pipe_ends[2];
  CHECK_EQ(pipe(pipe_ends), 0);
  CHECK_EQ(coir_send(fd, "pong", 4, 0), 4);
  CHECK_EQ(coir_splice(fd, pipe_ends[1], 16), 4);
  CHECK_EQ(coir_read(pipe_ends[0], buffer, sizeof buffer), 4);
  CHECK(memcmp(buffer, "pong", 4) == 0);
  CHECK_EQ(coir_splice(pipe_ends[0], pipe_ends[0], SIZE_MAX), -EINVAL);
  CHECK_EQ(coir_splice(-1, pipe_ends[1], 1), -EBADF);
  for (int i = 0; i < 2; ++i) CHECK_EQ(coir_close(pipe_ends[i]), 0);
  CHECK_EQ(coir_shutdown(fd, SHUT_WR), 0);
  CHECK_EQ(coir_recv(fd, buffer, sizeof buffer, 0), 0);
  CHECK_EQ(coir_close(fd), 0);
  CHECK_EQ(coir_join(server, &answer), 0);
  CHECK_EQ(answer, 0);
  return coir_close(listener);
}

static void two_fibers_talk_over_tcp(void) {
  run_on(1, talk, NULL);
  run_on(2, talk, NULL);
}

static intptr_t exchange_messages(void* argument) {
  const int* ends = argument;
  char buffer[8] = {0};
  struct iovec part = {"message", 7};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  CHECK_EQ(coir_sendmsg(ends[0], &message, 0), 7);
  part.iov_base = buffer;
  CHECK_EQ(coir_recvmsg(ends[1], &message, 0), 7);
  CHECK(strcmp(buffer, "message") == 0);
  CHECK_EQ(coir_sendmsg(ends[0], NULL, 0), -EFAULT);
  CHECK_EQ(coir_recvmsg(ends[1], NULL, 0), -EFAULT);
  CHECK_EQ(coir_recvmsg_until(ends[1], &message, 0, OVER), -ETIMEDOUT);
  CHECK_EQ(coir_close(ends[1]), 0);
  CHECK_EQ(coir_sendmsg(ends[0], &message, 0), -EPIPE); /* and no signal */
  return coir_close(ends[0]);
}

static void messages_are_sent_and_received(void) {
  int ends[2];
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  run_on(1, exchange_messages, ends);
}

static intptr_t recv_one(void* argument) {
  char byte;
  here_i_am();
  return coir_recv((int)(intptr_t)argument, &byte, 1, 0);
}

static intptr_t accept_one(void* argument) {
  here_i_am();
  return coir_accept((int)(intptr_t)argument, NULL, NULL);
}

static intptr_t close_under_others(void* argument) {
  uint16_t port = 0;
  coir_fiber acceptor, readers[2];
  intptr_t answer = 0;
  const int listener = coir_listen(0, &port);
  (void)argument;
  const int fd = connect_to(port);
  const int peer = coir_accept(listener, NULL, NULL);
  CHECK(peer >= 0);
  CHECK_EQ(coir_spawn(accept_one, (void*)(intptr_t)listener, NULL, &acceptor), 0);
  for (int i = 0; i < 2; ++i)
    CHECK_EQ(coir_spawn(recv_one, (void*)(intptr_t)peer, NULL, &readers[i]), 0);
  await_arrivals(3);

  CHECK_EQ(coir_close(peer), 0);
  for (int i = 0; i < 2; ++i) {
    CHECK_EQ(coir_join(readers[i], &answer), 0);
    CHECK_EQ(answer, -ECANCELED);
  }
  CHECK_EQ(coir_close(listener), 0);
  CHECK_EQ(coir_join(acceptor, &answer), 0);
  CHECK_EQ(answer, -ECANCELED);

  /* The peer is gone: an error, not a signal. What is sent first may still find a buffer. */
  ssize_t sent = 0;
  for (int i = 0; i < 1000 && sent >= 0; ++i) sent = coir_send(fd, "x", 1, 0);
  CHECK(sent == -EPIPE || sent == -ECONNRESET);
  CHECK_EQ(coir_close(fd), 0);

  const struct sockaddr_in address = loopback(port);
  const int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK_EQ(coir_connect(late, (const struct sockaddr*)&address, sizeof address), -ECONNREFUSED);
  return coir_close(late);
}

static intptr_t connect_by_name(void* argument) {
  uint16_t port = 0;
  const int listener = coir_listen(0, &port);
  CHECK(listener >= 0);
  const int fd = coir_connect_host("127.0.0.1", port, COIR_NEVER);
  CHECK(fd >= 0);
  const int peer = coir_accept(listener, NULL, NULL);
  CHECK(peer >= 0);
  CHECK_EQ(coir_send(fd, "x", 1, 0), 1);
  CHECK_EQ(coir_close(fd), 0);
  CHECK_EQ(coir_close(peer), 0);
  CHECK_EQ(coir_close(listener), 0);
  CHECK_EQ(coir_connect_host("127.0.0.1", port, COIR_NEVER), -ECONNREFUSED);
  CHECK_EQ(coir_connect_host("", port, COIR_NEVER), -EINVAL);
  /* No part of a name may have more than 63 bytes, so no server can be asked for this one. */
  char name[71];
  memset(name, 'x', sizeof name - 1);
  name[sizeof name - 1] = '\0';
  CHECK_EQ(coir_connect_host(name, port, COIR_NEVER), -EHOSTUNREACH);
  CHECK_EQ(coir_connect_host(name, port, INT64_MIN), -ETIMEDOUT);
  return (intptr_t)argument;
}

static void a_host_is_connected_to_by_its_name(void) { run_on(1, connect_by_name, NULL); }

static void close_ends_what_waits_on_the_descriptor(void) { run_on(1, close_under_others, NULL); }

static intptr_t close_listener(void* argument) { return coir_close((int)(intptr_t)argument); }

static void a_plain_thread_listens_and_closes(void) {
  uint16_t port = 0, same = 0;
  const int listener = coir_listen(0, &port);
  CHECK(listener >= 0);
  CHECK_EQ(coir_listen(port, NULL), -EADDRINUSE);
  run_on(1, close_listener, (void*)(intptr_t)listener);
  const int again = coir_listen(port, &same);
  CHECK(again >= 0);
  CHECK_EQ(same, port);
  CHECK_EQ(coir_close(again), 0);
}

int main(void) {
  RUN(a_pipe_carries_every_byte);
  RUN(no_bytes_need_no_buffer);
  RUN(everything_is_written_and_read);
  RUN(parts_are_written_and_read);
  RUN(poll_tells_what_holds);
  RUN(a_file_is_written_and_read_back);
  RUN(two_fibers_talk_over_tcp);
  RUN(messages_are_sent_and_received);
  RUN(a_host_is_connected_to_by_its_name);
  RUN(close_ends_what_waits_on_the_descriptor);
  RUN(a_plain_thread_listens_and_closes);
  return 0;
}
