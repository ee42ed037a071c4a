// errors.cpp: the texts of coir's own errors: what was refused, and what to do.
//
// Always true:
//   - Every enumerator of errc has a text of its own; the test walks them all.
//
// Comes from: anybody who prints an error.   Goes to: a person.
#include "coir/result.hpp"

namespace coir {
namespace {

const char* text_of(errc e) noexcept {
  switch (e) {
    case errc::unhandled_effect:
      return "no handler and no backend knows this operation: install a handler for it";
    case errc::resumed_twice:
      return "this resumption was used before: resume or discard it once";
    case errc::stale_handle:
      return "the fiber that this id names has ended: keep a handle where the end must not be "
             "missed";
    case errc::already_joined:
      return "this handle gave its answer away or was detached: join a fiber once";
    case errc::arena_full:
      return "options::fibers_max fibers are alive: join some, wait with spawn instead of "
             "try_spawn, or raise the bound";
    case errc::stack_limit:
      return "no further stack (memory, or vm.max_map_count): the log line names the limit; lower "
             "options::fibers_max or stack_bytes";
    case errc::mailbox_full:
      return "options::mailbox_slots fibers wait for that worker: wait with spawn instead of "
             "try_spawn, or raise the bound";
    case errc::deadlock:
      return "nothing that is left could ever end this wait: a fiber waits for itself, or every "
             "fiber is parked with nothing under way: give the wait a deadline, or let somebody "
             "end it";
    case errc::shutting_down:
      return "the runtime is shutting down and takes no new work: spawn before, or make another "
             "runtime";
    case errc::survivors:
      return "the time for shutdown is over and fibers are still alive: the log names them; they "
             "did not end when cancelled";
    case errc::not_in_fiber:
      return "this call parks and needs a fiber: use coir::run, runtime::spawn, or the blocking "
             "system call";
    case errc::wrong_operation:
      return "this cannot be used in this way, or not here: see the comment of the call; move_to "
             "needs a fiber that was spawned with a cross_thread switcher and holds nothing of its "
             "worker";
    case errc::backend_refused:
      return "the kernel refused io_uring: the log line names the cause and the remedy";
    case errc::not_parked:
      return "the fiber is not ready to run on this worker: it waits for something, or lives on "
             "another "
             "one: yield, or end what it waits for";
    case errc::finished:
      return "the fiber has ended: join its handle for the answer";
    case errc::not_started:
      return "the runtime has not been started: call start or run";
    case errc::already_started:
      return "the runtime was started before: start it once";
    case errc::foreign_runtime:
      return "this belongs to another runtime, or to one inherited across fork: use the runtime "
             "that made it, in the process that made it";
    case errc::queue_full:
      return "machine_options::queue_max inputs wait for their turn: wait with call, or raise the "
             "bound";
    case errc::state_changed:
      return "the state of the machine changed meanwhile: look at it again, or take the lock of "
             "its key";
    case errc::update_would_park:
      return "what changes the state of a machine may not wait: do it before the update";
    case errc::opcode_refused:
      return "options::hardened_ring takes coir's own opcodes only, and this operation has another "
             "one: list it in options::ring_opcodes";
    case errc::offload_full:
      return "options::offload_queue calls of blocking wait for a thread: wait for a place by "
             "another "
             "deadline than no_wait, or raise the bound or options::offload_threads";
    case errc::wrong_thread:
      return "this belongs to another thread: use it, and destroy it, on the thread that began it";
    case errc::name_too_long:
      return "a Unix socket's name has at most 107 bytes (net::unix_name_bytes_max): take a "
             "shorter path, or a relative one";
    case errc::unexpected_end:
      return "the source ended before all bytes that were asked for: what came was copied, and the "
             "count says how much";
    case errc::stale_socket:
      return "a socket's file of that name is left over and nobody listens on it: remove it if it "
             "is yours, or take another name";
  }
  return "unknown coir error";
}

class category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "coir"; }
  std::string message(int code) const override { return text_of(static_cast<errc>(code)); }
};

}  // namespace

const std::error_category& coir_category() noexcept {
  static const category the_one;
  return the_one;
}

}  // namespace coir
