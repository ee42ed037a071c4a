// overflow.hpp: the last words of a fiber, or of a computation that is stepped by hand, that ran
// out of stack: one line that names it, then the death that the fault would have been anyway, with
// its core.
//
// Always true:
//   - The handler runs on the thread's own signal stack, calls only async-signal-safe functions,
//     and costs a running fiber nothing.
//   - A fault is an overflow because of where it is (the guard of the fiber that runs here), never
//     because of its si_code: a guard made by madvise and one made by mprotect differ there.
//   - Every other SIGSEGV and SIGBUS reaches the handler that was there before us, or the default.
//
// Comes from: runtime and stepping (install, describe, hold a signal_stack).   Goes to: fd 2.
#pragma once

#include <cstddef>
#include <cstdint>

#include "coir/result.hpp"
#include "runtime/base.hpp"

namespace coir::detail {

/// Who may run on the faulting thread. A computation runs on a fiber or a plain thread, and is
/// asked for first.
enum class overflow_subject : std::uint8_t { computation, fiber };

/// What the report says about who runs on the faulting thread.
struct overflow_view {
  const void* guard_low = nullptr;   ///< stack::slot
  const void* guard_high = nullptr;  ///< stack::bottom
  std::size_t stack_bytes = 0;       ///< what spawn_options or step_options would ask for: the slot
  std::uint64_t fiber = 0;           ///< slot of the fiber id
  std::uint64_t generation = 0;      ///< generation of the fiber id
  const char* name = nullptr;        ///< zero-terminated; null: no name
  const char* file = nullptr;        ///< where it was spawned; null: not known
  int line = 0;
};

/// Fills `out` with the one that runs on the calling thread; false when none does. Called inside
/// the signal handler: plain loads and initial-exec thread-locals only.
using overflow_describe = bool (*)(overflow_view& out) noexcept;

/// Takes SIGSEGV and SIGBUS over for the process and remembers who had them. The first call for
/// each subject decides; later ones change nothing. Any thread.
void install_overflow_report(overflow_describe describe,
                             overflow_subject of = overflow_subject::fiber) noexcept;

/// The stack on which this thread takes its signals: a fault on an exhausted stack has nowhere else
/// to go. Made and destroyed by the same thread; the thread's earlier signal stack comes back then.
class signal_stack {
 public:
  static result<signal_stack> make();  ///< errors: those of mmap(2) and sigaltstack(2)
  signal_stack(signal_stack&& other) noexcept;
  signal_stack& operator=(signal_stack&&) = delete;
  ~signal_stack();

 private:
  signal_stack() = default;

  void* mapping_ = nullptr;
  std::size_t mapped_bytes_ = 0;
  void* earlier_low_ = nullptr;  ///< the thread's signal stack before us, as sigaltstack(2) told it
  std::size_t earlier_bytes_ = 0;
  int earlier_flags_ = 0;
};

}  // namespace coir::detail
