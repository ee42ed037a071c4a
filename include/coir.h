// coir.h: the C interface: fibers, I/O and waiting in blocking style for programs written in C.
//
// Always true:
//   - A negative return is a negated errno; zero or more is the answer. coir's own refusals map to
//     an errno, and coir_strerror explains both.
//   - Structs start with `size`, which the caller sets to sizeof, so that they can grow.
//   - Nothing throws. An exception that leaves a C++ body given to C ends the process with the
//     fiber's name.
//
// Comes from: C programs and foreign-function interfaces.   Goes to: runtime/c_*.cpp.
#ifndef COIR_H
#define COIR_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define COIR_C_API __attribute__((visibility("default")))
#else
#define COIR_C_API
#endif

#define COIR_NEVER INT64_MAX /* a deadline that is never over, in nanoseconds of coir_now */

struct statx; /* of sys/stat.h, with _GNU_SOURCE */

typedef struct coir_runtime coir_runtime;

/* The right to one fiber's answer. A value: copies name the same fiber. Good until joined or
 * detached; a stale or forged one is answered with -ESTALE or -EINVAL. */
typedef struct coir_fiber {
  uint64_t words[3];
} coir_fiber;

typedef intptr_t (*coir_body)(void* argument);
typedef void (*coir_cleanup)(void* argument);

/* Zero in a field means the default. A `size` of an older version of the struct is fine; one of a
 * newer version too, while the fields that this library does not know are zero. */
typedef struct coir_config {
  size_t size;            /* sizeof(coir_config) */
  unsigned workers;       /* threads; default: the processors this process may use */
  uint32_t fibers_max;    /* 1 to 2^24; default 2^20 */
  size_t stack_bytes;     /* 16 KiB to 8 MiB; default 256 KiB */
  unsigned ring_entries;  /* 1 to 32768; default 1024 */
  unsigned mailbox_slots; /* 1 to 65536; default 1024 */
  const char* options;    /* options as text, from a file or getenv(3); may be null:
                             "stack=64K, idle_spin=0, guards=grouped # why". See docs/c.md.
                             The fields above win over it. What is refused is EINVAL and one
                             line of the log, which says what to write instead. */

  /* Memory that every ring shall know; may be null, then the count is 0. See
   * options::fixed_buffers in coir/options.hpp. */
  const struct iovec* fixed_buffers;
  size_t fixed_buffers_count;

  /* Gets every line of the log, without its newline, valid during the call only; null: one line to
   * stderr each. Called from any thread, also inside coir_runtime_create; must not park or throw.
   */
  void (*log)(const char* line, void* context);
  void* log_context; /* handed to `log` */
} coir_config;

/* `float`: the floating-point controls (rounding, traps) are the fiber's own. `cross_thread`: it
 * may use coir_move_to. */
typedef enum coir_switcher {
  COIR_SAME_THREAD_NO_FLOAT,
  COIR_SAME_THREAD_FLOAT,
  COIR_CROSS_THREAD_NO_FLOAT,
  COIR_CROSS_THREAD_FLOAT
} coir_switcher;

/* Who is ready at a higher level runs first, and a new fiber of a level before everybody of a lower
 * one; a level that has waited for 32 picks of its worker has one all the same. 0: normal. */
typedef enum coir_priority {
  COIR_PRIORITY_LOW = 1,
  COIR_PRIORITY_NORMAL,
  COIR_PRIORITY_HIGH,
  COIR_PRIORITY_CRITICAL
} coir_priority;

/* What a fiber does most of the time: computes, waits, computes in much memory, is in system calls
 * that block. Decides where it is placed, how long its worker spins and how often that looks at the
 * clock; see coir/placing.hpp. 0: io. */
typedef enum coir_workload {
  COIR_WORKLOAD_COMPUTE = 1,
  COIR_WORKLOAD_IO,
  COIR_WORKLOAD_MEMORY,
  COIR_WORKLOAD_SYSTEM
} coir_workload;

/* How far from the worker that has it a fiber may be moved before it starts: to a worker on the
 * same core, on the same last-level cache, on the same NUMA node, to any. Without the option
 * pin_workers each other one is as far as the farthest processors of the process; with
 * topo=global only `any` leads away. 0: any. */
typedef enum coir_affinity {
  COIR_AFFINITY_SAME_CORE = 1,
  COIR_AFFINITY_SAME_CLUSTER,
  COIR_AFFINITY_SAME_NUMA,
  COIR_AFFINITY_ANY
} coir_affinity;

typedef struct coir_spawn_options {
  size_t size;          /* sizeof(coir_spawn_options) */
  const char* name;     /* copied, the first 23 bytes; may be null */
  size_t stack_bytes;   /* 16 KiB to 8 MiB; 0: the runtime's */
  int worker;           /* index + 1; 0: any */
  coir_cleanup cleanup; /* called once with the argument when the spawn succeeded; may be null. On
                           the fiber: when the body has returned, or instead of a body that was
                           cancelled before it ran; it may do all that a body may. On some thread
                           when there was no stack for the fiber or its runtime never started; there
                           coir_spawn and what parks answer EPERM, and it must not block. */
  int sw;               /* a coir_switcher: what the fiber may do */
  int priority;         /* a coir_priority, or 0 */
  int workload;         /* a coir_workload, or 0 */
  int affinity;         /* a coir_affinity, or 0 */
} coir_spawn_options;

/* -- runtime: plain threads only (EDEADLK on a fiber of any runtime), unless it says otherwise */

/* All of them: EINVAL for a null runtime, EOWNERDEAD for one that was inherited by fork. */

/* Creates a runtime; `config` may be null. Errors: EINVAL (null `out`, bad size or range, or a
 * kernel before 6.1), EPERM, EACCES, ENOSYS, ENOMEM (a ring was asked for, by backend=uring in
 * `options` or COIR_BACKEND, and is refused; a log line names the cause and the remedy), EMFILE;
 * with pin_workers or numa_placement what sched_getaffinity(2) or set_mempolicy(2) answers; with
 * fixed_buffers what io_uring_register_buffers(3) answers. */
COIR_C_API int coir_runtime_create(const coir_config* config, coir_runtime** out);
/* Starts the workers. What coir_spawn_on queued before runs now. EALREADY when started before,
 * ESHUTDOWN after coir_runtime_shutdown. */
COIR_C_API int coir_runtime_start(coir_runtime* runtime);
/* Asks the runtime to take no new work and to cancel what is there. Any fiber, any thread; never
 * waits, so a fiber ends its own runtime by it. */
COIR_C_API int coir_runtime_request_stop(coir_runtime* runtime);
/* From `tasks` fibers on that have not started worker `worker` (counted from 0) looks for others
 * that have less; 0: it adapts, as it does from the option deflect_threshold on. Any fiber, any
 * thread. EINVAL when there is no such worker. */
COIR_C_API int coir_runtime_set_deflection_threshold(coir_runtime* runtime, unsigned worker,
                                                     unsigned tasks);
/* Cancels all fibers and waits until `until_ns`, a time of coir_now, for their end; EBUSY when some
 * are still alive then (a log line names them). Handles of ended fibers stay good until
 * coir_runtime_destroy. */
COIR_C_API int coir_runtime_shutdown(coir_runtime* runtime, int64_t until_ns);
/* Shuts down for at most 5 s, then frees the runtime; handles of its fibers are stale from then on.
 * Null is allowed. EBUSY: some fibers are still alive; it is gone all the same, but what they use
 * is never freed. EDEADLK and EOWNERDEAD free nothing. */
COIR_C_API int coir_runtime_destroy(coir_runtime* runtime);
/* Starts if needed, runs `body(argument)` on a fiber and waits for every fiber. The body's value is
 * stored in `*answer` unless null. EINVAL (null body), ESHUTDOWN, EDEADLK (also: nothing that is
 * left could ever run; noticed while the process has no threads but this one and coir's), ECANCELED
 * (shut down before the body ran). */
COIR_C_API int coir_runtime_run(coir_runtime* runtime, coir_body body, void* argument,
                                intptr_t* answer);
/* create, run, destroy in one. */
COIR_C_API int coir_run(const coir_config* config, coir_body body, void* argument,
                        intptr_t* answer);

/* -- fibers */

/* Starts body(argument) on a fiber of the caller's runtime; waits for room. `options` and `out` may
 * be null (null `out` detaches). On a negative return nothing happened, and `argument` is still
 * yours. EINVAL, EPERM (not on a fiber: use coir_spawn_on), ESHUTDOWN, ECANCELED, ENOMEM. */
COIR_C_API int coir_spawn(coir_body body, void* argument, const coir_spawn_options* options,
                          coir_fiber* out);
/* The same for any thread: blocks a plain thread while there is no room. Before coir_runtime_start
 * it queues. */
COIR_C_API int coir_spawn_on(coir_runtime* runtime, coir_body body, void* argument,
                             const coir_spawn_options* options, coir_fiber* out);
/* Waits for the fiber's end and stores its value in `*answer` unless null; the handle is used up.
 * Several may wait at once, and all of them get the value. Parks a fiber, blocks a thread.
 * The handle stays good after EDEADLK (itself), EINVAL (not a handle, or on a fiber: of another
 * runtime's fiber), ENOTCONN (on a thread: its runtime was never started), ETIMEDOUT (join_until
 * only), ECANCELED (the caller was cancelled). ESTALE: joined or detached before. ECANCELED also
 * when the fiber was cancelled before its body ran: ask again, and ESTALE says it was that; then
 * also ENOMEM (no stack could be had for it) and ESHUTDOWN. EOWNERDEAD: inherited by fork. EPERM:
 * in a cleanup that runs on a worker without a fiber. `until_ns` is a time of coir_now. */
COIR_C_API int coir_join(coir_fiber fiber, intptr_t* answer);
COIR_C_API int coir_join_until(coir_fiber fiber, intptr_t* answer, int64_t until_ns);
/* Asks the fiber to stop: its parking calls answer -ECANCELED from now on. Any thread; twice is
 * once. EINVAL, ESTALE. */
COIR_C_API int coir_cancel(coir_fiber fiber);
/* 1 when coir_join would not wait. Any thread. EINVAL, ESTALE. */
COIR_C_API int coir_done(coir_fiber fiber);
/* Gives the handle up; the fiber runs on. Who is waiting already gets the value. EINVAL, ESTALE. */
COIR_C_API int coir_detach(coir_fiber fiber);
/* Lets other fibers run; on a plain thread sched_yield(2). */
COIR_C_API void coir_yield(void);
/* coir_yield, and `fiber` is the next to run here. On an error nobody else has run: EPERM (not on a
 * fiber), EAGAIN (it is not ready on this worker), ESRCH (it has ended), ESTALE, EINVAL. */
COIR_C_API int coir_yield_to(coir_fiber fiber);
/* Goes on on worker `worker` (counted from 0). For cross_thread fibers only. What the caller's
 * function does with errno or a thread-local afterwards belongs into another function that is not
 * inlined: compilers keep their addresses. On an error the fiber is where it was: EINVAL (spawned
 * same_thread, or no such worker), EPERM (not on a fiber), ECANCELED, ESHUTDOWN. */
COIR_C_API int coir_move_to(unsigned worker);
/* The worker that runs this fiber, counted from 0. EPERM on a plain thread. */
COIR_C_API int coir_worker(void);
/* Parks for `ns` nanoseconds (a plain thread sleeps). EINVAL for a negative time, ECANCELED. */
COIR_C_API int coir_sleep(int64_t ns);
/* The same until a time of coir_now; one that is over is 0 at once. */
COIR_C_API int coir_sleep_until(int64_t until_ns);
/* 1 when somebody asked this fiber to stop; 0 on a plain thread. */
COIR_C_API int coir_cancelled(void);
/* Nanoseconds of the clock that deadlines are in. Any thread. */
COIR_C_API int64_t coir_now(void);

/* -- I/O: fibers only (EPERM on a plain thread), unless it says otherwise */

/* Counts are returned. EFAULT for a null buffer with bytes > 0 and for another null pointer, unless
 * it may be null; EINVAL for bytes over SSIZE_MAX and for a negative offset; ECANCELED; and what
 * the system call of the same name answers. What a call names is lent until it returns. One that
 * ends in _until gives up at `until_ns`, a time of coir_now (ETIMEDOUT); the others are these with
 * COIR_NEVER. */

COIR_C_API ssize_t coir_read(int fd, void* into, size_t bytes);
COIR_C_API ssize_t coir_read_until(int fd, void* into, size_t bytes, int64_t until_ns);
COIR_C_API ssize_t coir_write(int fd, const void* from, size_t bytes);
COIR_C_API ssize_t coir_write_until(int fd, const void* from, size_t bytes, int64_t until_ns);
/* Until `into` is full; returns less than `bytes` only at the end of the file. */
COIR_C_API ssize_t coir_read_exact(int fd, void* into, size_t bytes);
COIR_C_API ssize_t coir_read_exact_until(int fd, void* into, size_t bytes, int64_t until_ns);
/* Until everything is written; on an error nothing says how much was. */
COIR_C_API ssize_t coir_write_all(int fd, const void* from, size_t bytes);
COIR_C_API ssize_t coir_write_all_until(int fd, const void* from, size_t bytes, int64_t until_ns);
/* At most 1024 parts (EINVAL); null only without parts. */
COIR_C_API ssize_t coir_readv(int fd, const struct iovec* into, size_t parts);
COIR_C_API ssize_t coir_readv_until(int fd, const struct iovec* into, size_t parts,
                                    int64_t until_ns);
COIR_C_API ssize_t coir_writev(int fd, const struct iovec* from, size_t parts);
COIR_C_API ssize_t coir_writev_until(int fd, const struct iovec* from, size_t parts,
                                     int64_t until_ns);
COIR_C_API ssize_t coir_pread(int fd, void* into, size_t bytes, int64_t offset);
COIR_C_API ssize_t coir_pwrite(int fd, const void* from, size_t bytes, int64_t offset);
/* O_CLOEXEC is added. */
COIR_C_API int coir_open(const char* path, int flags, mode_t mode);
COIR_C_API int coir_statx(int dirfd, const char* path, int flags, unsigned mask, struct statx* out);
COIR_C_API int coir_fsync(int fd);
COIR_C_API int coir_fdatasync(int fd);
/* Waits until one of `events` (POLLIN, POLLOUT, ... of poll(2)) holds; returns what holds. */
COIR_C_API int coir_poll(int fd, unsigned events);
COIR_C_API int coir_poll_until(int fd, unsigned events, int64_t until_ns);
/* splice(2): from one descriptor to another, at their own positions; one of them is a pipe. Waits
 * until there is something and room for it; 0: the source has ended. */
COIR_C_API ssize_t coir_splice(int from, int to, size_t bytes);
COIR_C_API ssize_t coir_splice_until(int from, int to, size_t bytes, int64_t until_ns);
/* Ends every operation on `fd` on every worker (ECANCELED), waits for them, closes. Any thread. */
COIR_C_API int coir_close(int fd);

/* -- sockets: as the I/O above */

/* A listening TCP socket on 127.0.0.1; port 0 picks one, `*bound` (may be null) says which. Any
 * thread. */
COIR_C_API int coir_listen(uint16_t port, uint16_t* bound);
/* The connection has SOCK_CLOEXEC. Both pointers may be null. */
COIR_C_API int coir_accept(int fd, struct sockaddr* address, socklen_t* address_bytes);
COIR_C_API int coir_accept_until(int fd, struct sockaddr* address, socklen_t* address_bytes,
                                 int64_t until_ns);
COIR_C_API int coir_connect(int fd, const struct sockaddr* address, socklen_t address_bytes);
COIR_C_API int coir_connect_until(int fd, const struct sockaddr* address, socklen_t address_bytes,
                                  int64_t until_ns);
/* A connection to `host`, a name or a numeric address, with TCP_NODELAY and SOCK_CLOEXEC: returns
 * the socket. The name is looked up on another thread, every address is tried. `until_ns` is a time
 * of coir_now, or COIR_NEVER. EHOSTUNREACH when the name has no address, EAGAIN when no name server
 * answered, ETIMEDOUT. */
COIR_C_API int coir_connect_host(const char* host, uint16_t port, int64_t until_ns);
COIR_C_API ssize_t coir_recv(int fd, void* into, size_t bytes, int flags);
COIR_C_API ssize_t coir_recv_until(int fd, void* into, size_t bytes, int flags, int64_t until_ns);
/* A closed peer is EPIPE, never a signal; so with every send here. */
COIR_C_API ssize_t coir_send(int fd, const void* from, size_t bytes, int flags);
COIR_C_API ssize_t coir_send_until(int fd, const void* from, size_t bytes, int flags,
                                   int64_t until_ns);
/* The same without a copy where the network can; returns when it does not need the bytes any more.
 * For large blocks. See io::send_zc in coir/io.hpp. */
COIR_C_API ssize_t coir_send_zc(int fd, const void* from, size_t bytes, int flags);
COIR_C_API ssize_t coir_send_zc_until(int fd, const void* from, size_t bytes, int flags,
                                      int64_t until_ns);
COIR_C_API ssize_t coir_recvmsg(int fd, struct msghdr* message, int flags);
COIR_C_API ssize_t coir_recvmsg_until(int fd, struct msghdr* message, int flags, int64_t until_ns);
COIR_C_API ssize_t coir_sendmsg(int fd, const struct msghdr* message, int flags);
COIR_C_API ssize_t coir_sendmsg_until(int fd, const struct msghdr* message, int flags,
                                      int64_t until_ns);
COIR_C_API int coir_shutdown(int fd, int how);

/* -- waiting for each other: fibers of any runtime and plain threads alike */

/* A fiber parks, a plain thread blocks; who waits is served first in, first out. EINVAL for null,
 * except that destroying null is 0. Create: ENOMEM. No call may come to what is being destroyed;
 * who was let through by a wait may destroy it at once. EPERM for what waits in a cleanup that runs
 * on a worker without a fiber. */

typedef struct coir_mutex coir_mutex;
typedef struct coir_cond coir_cond;
typedef struct coir_event coir_event;

COIR_C_API int coir_mutex_create(coir_mutex** out);
/* EBUSY: somebody holds it or has not come back yet, and nothing happened. */
COIR_C_API int coir_mutex_destroy(coir_mutex* mutex);
/* Waits as long as it takes: a cancel does not end it, so it is safe in clean-up code. Not
 * recursive: EDEADLK for who holds it. */
COIR_C_API int coir_mutex_lock(coir_mutex* mutex);
/* The same, and a cancel ends the wait: ETIMEDOUT, ECANCELED. A free one is taken whatever the
 * time. */
COIR_C_API int coir_mutex_lock_until(coir_mutex* mutex, int64_t until_ns);
/* Never waits: EBUSY when somebody holds it. */
COIR_C_API int coir_mutex_try_lock(coir_mutex* mutex);
/* Hands it to who came first. EPERM for who does not hold it. */
COIR_C_API int coir_mutex_unlock(coir_mutex* mutex);

COIR_C_API int coir_cond_create(coir_cond** out);
/* EBUSY: somebody waits on it or has not come back yet, and nothing happened. */
COIR_C_API int coir_cond_destroy(coir_cond* cond);
/* Unlocks `mutex`, waits, locks it again, also where it answers ECANCELED. May return without a
 * signal: wait in a loop. EPERM for who does not hold the mutex. */
COIR_C_API int coir_cond_wait(coir_cond* cond, coir_mutex* mutex);
/* ETIMEDOUT, too; the mutex is locked again then. */
COIR_C_API int coir_cond_wait_until(coir_cond* cond, coir_mutex* mutex, int64_t until_ns);
/* Wakes one, or all, of those who wait. */
COIR_C_API int coir_cond_signal(coir_cond* cond);
COIR_C_API int coir_cond_broadcast(coir_cond* cond);

/* A gate that stays open once set, until reset. It begins closed. */
COIR_C_API int coir_event_create(coir_event** out);
/* EBUSY: somebody waits for it or has not come back yet, and nothing happened. */
COIR_C_API int coir_event_destroy(coir_event* event);
/* ECANCELED. An open one lets everybody through. */
COIR_C_API int coir_event_wait(coir_event* event);
COIR_C_API int coir_event_wait_until(coir_event* event, int64_t until_ns);
/* Opens the gate and lets through who waits. */
COIR_C_API int coir_event_set(coir_event* event);
COIR_C_API int coir_event_reset(coir_event* event);
/* 1 when it is open. */
COIR_C_API int coir_event_is_set(const coir_event* event);

/* What a return of any call here (negated or not) means, and what to do about it. Never null; valid
 * for ever. Any thread. */
COIR_C_API const char* coir_strerror(int code);

#ifdef __cplusplus
}
#endif

#endif
