// refusal.hpp: what a processor may do to this thread that none of our switches can live with.
//
// Always true:
//   - Shadow stacks are refused by name before the first switch: afterwards there would only be a
//     fault, at the first return on a stack that the processor does not know.
//   - A kernel that does not know the question has nothing switched on.
//
// Comes from: the start of a runtime, the first step of a thread.   Goes to: arch_prctl(2),
// prctl(2).
#pragma once

namespace coir::arch {

/// Null when fibers can run on this thread; else one line that says what stands against it and what
/// to do. Costs a system call; asked once for each thread that will switch, or once for a process.
[[nodiscard]] const char* refusal() noexcept;

/// The same, told what the kernel answered: `asked` is the return value of the system call,
/// `features` what it wrote.
[[nodiscard]] const char* refusal_of(long asked, unsigned long features) noexcept;

}  // namespace coir::arch
