/* deadlines.c: the calls that end in _until: ETIMEDOUT where the deadline is over, and else what
 * their twins without one do.
 *
 * Comes from: ctest.   Goes to: coir.h.
 */
#include "check.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/un.h>

#define OVER INT64_MIN /* a deadline that is over */

/* Fills `fd` until the next byte would have to wait. */
static void fill(int fd) {
  static const char block[4096];
  CHECK_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
  while (write(fd, block, sizeof block) > 0) continue;
  while (write(fd, block, 1) > 0) continue;
  CHECK_EQ(errno, EAGAIN);
  CHECK_EQ(fcntl(fd, F_SETFL, 0), 0);
}

static intptr_t come_too_late(void* argument) {
  struct gate pipe, full;
  int ends[2];
  char byte = 'x';
  struct iovec part = {&byte, 1};
  const struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  const int listener = coir_listen(0, NULL);
  CHECK(listener >= 0);
  gate_make(&pipe);
  gate_make(&full);
  CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  fill(full.ends[1]);
  fill(ends[0]);
  CHECK_EQ(coir_read_until(pipe.ends[0], &byte, 1, OVER), -ETIMEDOUT);
  CHECK_EQ(coir_read_exact_until(pipe.ends[0], &byte, 1, coir_now()), -ETIMEDOUT);
  CHECK_EQ(coir_write_until(full.ends[1], &byte, 1, OVER), -ETIMEDOUT);
  CHECK_EQ(coir_write_all_until(full.ends[1], &byte, 1, 0), -ETIMEDOUT);
  CHECK_EQ(coir_writev_until(full.ends[1], &part, 1, OVER), -ETIMEDOUT);
  CHECK_EQ(coir_splice_until(pipe.ends[0], full.ends[1], 1, OVER), -ETIMEDOUT);
  CHECK_EQ(coir_accept_until(listener, NULL, NULL, OVER), -ETIMEDOUT);
  CHECK_EQ(coir_recv_until(ends[0], &byte, 1, 0, OVER), -ETIMEDOUT);
  CHECK_EQ(coir_send_until(ends[0], &byte, 1, 0, OVER), -ETIMEDOUT);
  CHECK_EQ(coir_send_zc_until(ends[0], &byte, 1, 0, OVER), -ETIMEDOUT);
  CHECK_EQ(coir_sendmsg_until(ends[0], &message, 0, OVER), -ETIMEDOUT);
  for (int i = 0; i < 2; ++i) CHECK_EQ(coir_close(ends[i]), 0);
  gate_end(&pipe);
  gate_end(&full);
  CHECK_EQ(coir_close(listener), 0);
  return (intptr_t)argument;
}

static void a_deadline_that_is_over_ends_each_wait(void) { run_on(1, come_too_late, NULL); }

/* To a listener whose queue is full. The second socket does not block: without io_uring a thread of
 * the pool connects one that does, and only the other side can end that. */
static intptr_t connect_too_late(void* argument) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  socklen_t bytes = sizeof address.sun_family; /* the system finds a name */
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int ends[] = {socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
                      socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  CHECK_EQ(bind(listener, (const struct sockaddr*)&address, bytes), 0);
  bytes = sizeof address;
  CHECK_EQ(getsockname(listener, (struct sockaddr*)&address, &bytes), 0);
  CHECK_EQ(listen(listener, 0), 0);
  CHECK_EQ(coir_connect(ends[0], (const struct sockaddr*)&address, bytes), 0);
  CHECK_EQ(coir_connect_until(ends[1], (const struct sockaddr*)&address, bytes, OVER), -ETIMEDOUT);
  for (int i = 0; i < 2; ++i) CHECK_EQ(coir_close(ends[i]), 0);
  CHECK_EQ(coir_close(listener), 0);
  return (intptr_t)argument;
}

static void a_connect_gives_up_at_its_deadline(void) { run_on(1, connect_too_late, NULL); }

static struct sockaddr_in loopback(uint16_t port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/* With time left each call does what it does without a deadline. */
static intptr_t come_in_time(void* argument) {
  const int64_t until_ns = coir_now() + INT64_C(3600000000000);
  uint16_t port = 0;
  char byte = 'x', other = 0;
  struct iovec part = {&byte, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  const int listener = coir_listen(0, &port);
  const struct sockaddr_in address = loopback(port);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(listener >= 0 && fd >= 0);
  CHECK_EQ(coir_connect_until(fd, NULL, sizeof address, until_ns), -EFAULT);
  CHECK_EQ(coir_connect_until(-1, (const struct sockaddr*)&address, sizeof address, OVER), -EBADF);
  CHECK_EQ(coir_connect_until(fd, (const struct sockaddr*)&address, sizeof address, until_ns), 0);
  const int peer = coir_accept_until(listener, NULL, NULL, until_ns);
  CHECK(peer >= 0);
  CHECK_EQ(coir_send_until(fd, "a", 1, 0, until_ns), 1);
  CHECK_EQ(coir_send_zc_until(fd, "b", 1, 0, until_ns), 1);
  CHECK_EQ(coir_sendmsg_until(fd, &message, 0, until_ns), 1);
  CHECK_EQ(coir_write_until(fd, "y", 1, until_ns), 1);
  CHECK_EQ(coir_writev_until(fd, &part, 1, until_ns), 1);
  CHECK_EQ(coir_write_all_until(fd, "z", 1, until_ns), 1);
  CHECK_EQ(coir_poll_until(peer, POLLIN, until_ns), POLLIN);
  CHECK(coir_recv_until(peer, &other, 1, 0, until_ns) == 1 && other == 'a');
  CHECK(coir_recvmsg_until(peer, &message, 0, until_ns) == 1 && byte == 'b');
  CHECK(coir_read_until(peer, &other, 1, until_ns) == 1 && other == 'x');
  CHECK(coir_readv_until(peer, &part, 1, until_ns) == 1 && byte == 'y');
  CHECK(coir_read_exact_until(peer, &other, 1, until_ns) == 1 && other == 'x');
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  CHECK_EQ(coir_splice_until(peer, ends[1], 1, until_ns), 1);
  for (int i = 0; i < 2; ++i) CHECK_EQ(coir_close(ends[i]), 0);
  CHECK_EQ(coir_close(peer), 0);
  CHECK_EQ(coir_close(fd), 0);
  CHECK_EQ(coir_close(listener), 0);
  return (intptr_t)argument;
}

static void a_deadline_to_come_ends_nothing(void) { run_on(1, come_in_time, NULL); }

static intptr_t sleep_to_the_end(void* argument) {
  const int64_t end_ns = coir_now() + 1000;
  CHECK_EQ(coir_sleep_until(end_ns), 0);
  CHECK(coir_now() >= end_ns);
  CHECK_EQ(coir_sleep_until(end_ns), 0); /* it is over */
  CHECK_EQ(coir_sleep_until(INT64_MIN), 0);
  return (intptr_t)argument;
}

static void sleep_until_ends_at_its_time(void) {
  run_on(1, sleep_to_the_end, NULL);
  CHECK_EQ(sleep_to_the_end(NULL), 0); /* and on a thread */
}

int main(void) {
  RUN(a_deadline_that_is_over_ends_each_wait);
  RUN(a_connect_gives_up_at_its_deadline);
  RUN(a_deadline_to_come_ends_nothing);
  RUN(sleep_until_ends_at_its_time);
  return 0;
}
