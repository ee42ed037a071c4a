// blocking.cpp: how a fiber waits for a call on the offload pool.
//
// Always true:
//   - A call that was taken by a thread is waited for, whatever the deadline and a cancel say: its
//     captures live on our stack.
//   - Who was let out of the line for a place takes it, or gives it on.
//
// Comes from: coir::blocking.   Goes to: offload.
#include "coir/blocking.hpp"

#include "runtime/waiting.hpp"

namespace coir::detail {

std::error_code offload(offload_function run, void* argument, deadline until) noexcept {
  runtime_core* const core = current_core();
  record* const me = current_fiber();
  if (core == nullptr || me == nullptr) {
    run(argument);
    return {};
  }
  if (is_cancelled(*me)) {
    worker::current()->count_ignored(*me);
    return std::make_error_code(std::errc::operation_canceled);
  }
  if (core->is_driven()) {  // there is one thread, and it is this one
    run(argument);
    return {};
  }
  awaited_call call;
  call.run = run;
  call.argument = argument;
  // The fiber is in the queue of `done` before a thread can take the call, because submit happens
  // under its lock.
  refusal refused;
  const auto submit = [&] {
    return wait_in(call.done, call.caller, ns_of(until), true,
                   [&] { return !(refused = core->offload().submit(call)); });
  };
  woken why = submit();
  while (refused.code() == errc::offload_full) {
    if (until == no_wait || COIR_MUTANT(offload_refuses)) return refused.code();
    waiter in_line;
    why = wait_in(core->offload().room, in_line, ns_of(until), true,
                  [&] { return core->offload().full(); });
    if (why != woken::by_item) return error_of(why);
    why = submit();
  }
  if (refused) {
    const std::error_code code = refused.code();
    if (core->offload().tell_of_no_thread())
      core->chosen.log(
          {log_record::level::error,
           "no thread for coir::blocking: raise `ulimit -u` or pids.max of the control "
           "group, or give the process more memory"});
    return code;
  }
  if (why == woken::by_item) return {};
  if (core->offload().withdraw(call)) return error_of(why);
  // A thread has it. wait_in left the queue; go back in, unless the end came in between.
  waiter again;
  (void)wait_in(call.done, again, never_ns, false, [&] { return !call.ended; });
  return {};
}

}  // namespace coir::detail
