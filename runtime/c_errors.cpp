// c_errors.cpp: the two tables of c_errors.hpp.
//
// Always true:
//   - The errno of a system call passes through unchanged; only coir's own refusals are translated.
//
// Comes from: c_errors.hpp.   Goes to: strerrordesc_np(3).
#include "runtime/c_errors.hpp"

#include <netdb.h>

#include <cerrno>
#include <climits>
#include <cstring>

#include "coir/resolve.hpp"
#include "runtime/c_handles.hpp"

namespace coir::detail {

namespace {

int errno_of_refusal(errc refusal, bool after_fork) noexcept {
  switch (refusal) {
    case errc::unhandled_effect:
      return ENOSYS;
    case errc::resumed_twice:
      return EALREADY;
    case errc::stale_handle:
      return ESTALE;
    case errc::already_joined:
      return ESTALE;
    case errc::arena_full:
      return EAGAIN;
    case errc::stack_limit:
      return ENOMEM;
    case errc::mailbox_full:
      return EAGAIN;
    case errc::deadlock:
      return EDEADLK;
    case errc::shutting_down:
      return ESHUTDOWN;
    case errc::survivors:
      return EBUSY;
    case errc::not_in_fiber:
      return EPERM;
    case errc::wrong_operation:
      return EINVAL;
    case errc::backend_refused:
      return ENOSYS;
    case errc::not_parked:
      return EAGAIN;
    case errc::finished:
      return ESRCH;
    case errc::not_started:
      return ENOTCONN;
    case errc::already_started:
      return EALREADY;
    case errc::foreign_runtime:
      return after_fork ? EOWNERDEAD : EINVAL;
    case errc::offload_full:
      return EAGAIN;
    case errc::queue_full:
      return EAGAIN;
    case errc::state_changed:
      return EAGAIN;
    case errc::update_would_park:
      return EINVAL;
    case errc::opcode_refused:
      return EACCES;
    case errc::wrong_thread:
      return EINVAL;
    case errc::name_too_long:
      return ENAMETOOLONG;
    case errc::unexpected_end:
      return ENODATA;
    case errc::stale_socket:
      return EADDRINUSE;
  }
  return EIO;
}

/// C has no category: a name without an address is a host that cannot be reached.
int errno_of_lookup(int code) noexcept {
  if (code == EAI_MEMORY) return ENOMEM;
  return code == EAI_AGAIN ? EAGAIN : EHOSTUNREACH;
}

struct explained {
  int number;
  const char* text;
};

// Only what a call of coir.h can mean beyond the system's own text. Where a system call may give
// the same number, the text says both.
constexpr explained explanations[] = {
    {EPERM,
     "Operation not permitted: by the system; or the call parks and only a fiber can park: call it "
     "inside coir_run, and start fibers from plain threads by coir_spawn_on; or the mutex is not "
     "held by who calls: lock it first"},
    {ESRCH, "No such fiber: it has ended"},
    {EIO, "Input/output error: the device failed; or an error that has no errno"},
    {EAGAIN,
     "Resource temporarily unavailable: the system's limit, or one of coir_config (fibers_max, "
     "mailbox_slots) is reached: try again when some fibers have ended, or raise it"},
    {ENOMEM,
     "Cannot allocate memory: for the caller or for one more stack: use smaller stack_bytes or "
     "fewer fibers, or raise the memory limit or vm.max_map_count"},
    {EACCES,
     "Permission denied: by the system; or hardened_ring is set and does not list the operation"},
    {EFAULT, "Bad address: a buffer, a path or an address is null"},
    {EBUSY,
     "Device or resource busy: or fibers were still alive when the time was over; the log names "
     "them: let them end when coir_cancelled() says 1; or somebody holds the mutex, or still "
     "waits"},
    {EINVAL,
     "Invalid argument: a null pointer, a struct whose size field was not set to sizeof, a value "
     "out of range, or a coir_fiber that no spawn of this runtime gave"},
    {EMFILE, "Too many open files: raise RLIMIT_NOFILE (ulimit -n), or close what is not used"},
    {EDEADLK,
     "Resource deadlock avoided: the wait could never end: a fiber that joins itself, a mutex "
     "locked again by who holds it, a call for plain threads made on a fiber, or every fiber waits "
     "for another one"},
    {ENOSYS,
     "Function not implemented: by this kernel; or io_uring was refused: the log line names the "
     "cause and the remedy"},
    {EHOSTUNREACH, "No route to host: or its name has no address: look for a typing error"},
    {ENODATA, "No data available: or the source ended before all bytes that were asked for"},
    {ENAMETOOLONG, "File name too long: a path; of a Unix socket's name, more than 107 bytes"},
    {EADDRINUSE,
     "Address already in use: somebody has it; or a socket's file is left over that nobody listens "
     "on: remove it if it is yours"},
    {ENOTCONN,
     "Not connected: the socket has no peer; or the runtime was never started: call "
     "coir_runtime_start or coir_runtime_run first"},
    {ESHUTDOWN,
     "Cannot send after shutdown: of the socket; or the runtime is being shut down and takes no "
     "new work: create another one"},
    {ETIMEDOUT, "Timed out: the deadline came first; a handle stays good, so you may try again"},
    {EALREADY,
     "Operation already in progress: on that socket; or the runtime was started before: start it "
     "once"},
    {ESTALE,
     "Stale handle: the fiber was joined or detached before, or its runtime is gone: join each "
     "fiber once"},
    {ECANCELED,
     "Operation canceled: somebody asked the fiber to stop, or closed the descriptor: clean up and "
     "return"},
    {EOWNERDEAD,
     "Owner died: the runtime belongs to the process that forked this one: create another one "
     "here"},
};

}  // namespace

int errno_of(const std::error_code& code, bool after_fork) noexcept {
  if (code.category() == coir_category())
    return errno_of_refusal(static_cast<errc>(code.value()), after_fork);
  if (code.category() == net::resolve_category()) return errno_of_lookup(code.value());
  const bool is_errno =
      code.category() == std::generic_category() || code.category() == std::system_category();
  return is_errno && code.value() > 0 ? code.value() : EIO;
}

int errno_of(const std::error_code& code) noexcept {
  return errno_of(code, c_handles::epoch() > 0);
}

const char* text_of_errno(int code) noexcept {
  // The smallest int has no positive twin; it is no errno either.
  const int number = code < 0 && code != INT_MIN ? -code : code;
  for (const explained& e : explanations)
    if (e.number == number) return e.text;
  const char* text = number < 0 ? nullptr : ::strerrordesc_np(number);
  return text != nullptr ? text : "Unknown error: not a return of coir";
}

}  // namespace coir::detail
