// sanitizers.hpp: what AddressSanitizer, ThreadSanitizer and Valgrind must be told about stacks.
//
// Always true:
//   - In a build without any of them the notes are an empty struct and every call is nothing.
//   - The calls are always inlined: ThreadSanitizer keeps a shadow call stack per fiber, and a
//     function that entered on one fiber must not leave on another. The function around the switch
//     is COIR_UNINSTRUMENTED for the same reason; the entry function too, because it runs before
//     note_arrive() told AddressSanitizer where it is.
//   - What is always inlined into an uninstrumented function is uninstrumented as well: g++ would
//     keep the poison of its temporaries there, and nobody would lift it.
//   - note_leave() comes right before the switch, note_arrive() right after it, and it is also the
//     first thing an entry function does.
//   - A stack given to note_stack() carries no poison of its previous tenant.
//
// Comes from: exceptions.hpp, fiber.hpp, worker.hpp.   Goes to: the runtimes of the sanitizers.
#pragma once

#include <cstddef>

#include "runtime/base.hpp"

#if defined(COIR_VALGRIND) && COIR_VALGRIND && defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#define COIR_NOTES_VALGRIND 1
#include <valgrind/memcheck.h>
#endif
#endif
#if !defined(COIR_NOTES_VALGRIND)
#define COIR_NOTES_VALGRIND 0
#endif

#if COIR_ASAN
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if COIR_TSAN
#include <sanitizer/tsan_interface.h>
#endif

/// For the function that holds a switch.
#if COIR_ASAN
#define COIR_UNINSTRUMENTED __attribute__((no_sanitize("address")))
#elif COIR_TSAN
#define COIR_UNINSTRUMENTED __attribute__((no_sanitize("thread")))
#else
#define COIR_UNINSTRUMENTED
#endif

namespace coir::arch {

/// Whether any note is taken in this build.
inline constexpr bool notes_are_taken = COIR_ASAN || COIR_TSAN || COIR_NOTES_VALGRIND;

/// Memcheck does not see what the kernel writes for a ring: what it wrote is as good as any.
inline constexpr bool kernel_writes_are_noted = COIR_NOTES_VALGRIND;
inline void note_written([[maybe_unused]] const void* place,
                         [[maybe_unused]] std::size_t bytes) noexcept {
#if COIR_NOTES_VALGRIND
  (void)VALGRIND_MAKE_MEM_DEFINED(place, bytes);
#endif
}

#if COIR_ASAN || COIR_TSAN || COIR_NOTES_VALGRIND

/// What the tools know about one stack. `fake_stack` is AddressSanitizer's own of a stack that is
/// not running; it must be null when a fiber first runs.
struct switch_notes {
#if COIR_ASAN
  void* fake_stack = nullptr;
  const void* stack_bottom = nullptr;
  std::size_t stack_bytes = 0;
#endif
#if COIR_TSAN
  void* tsan_fiber = nullptr;
#endif
#if COIR_NOTES_VALGRIND
  unsigned valgrind_id = 0;
#endif
};

#define COIR_NOTE [[gnu::always_inline]] COIR_UNINSTRUMENTED inline

/// Once on each thread that will switch, for the context of the thread itself.
COIR_NOTE void note_thread([[maybe_unused]] switch_notes& self) noexcept {
#if COIR_ASAN
  pthread_attr_t attributes;
  void* bottom = nullptr;
  const int refused = pthread_getattr_np(pthread_self(), &attributes);
  COIR_ASSERT(refused == 0);
  pthread_attr_getstack(&attributes, &bottom, &self.stack_bytes);
  pthread_attr_destroy(&attributes);
  self.stack_bottom = bottom;
#endif
#if COIR_TSAN
  self.tsan_fiber = __tsan_get_current_fiber();
#endif
}

/// Before a fiber first runs on the stack of `bytes` bytes that starts at `bottom`.
COIR_NOTE void note_stack(switch_notes& self, [[maybe_unused]] void* bottom,
                          [[maybe_unused]] std::size_t bytes) noexcept {
  self = switch_notes{};
#if COIR_ASAN
  self.stack_bottom = bottom;
  self.stack_bytes = bytes;
  // A fiber leaves for good with its last frames still open, and so with their red zones poisoned.
  __asan_unpoison_memory_region(bottom, bytes);
#endif
#if COIR_TSAN
  self.tsan_fiber = __tsan_create_fiber(0);
#endif
#if COIR_NOTES_VALGRIND
  self.valgrind_id = VALGRIND_STACK_REGISTER(bottom, static_cast<char*>(bottom) + bytes);
#endif
}

/// Right before a switch. `for_good`: `from` will not run again.
COIR_NOTE void note_leave([[maybe_unused]] switch_notes& from, [[maybe_unused]] switch_notes& to,
                          [[maybe_unused]] bool for_good) noexcept {
#if COIR_ASAN
  // Null tells AddressSanitizer to free the fake stack of the one that leaves.
  __sanitizer_start_switch_fiber(for_good ? nullptr : &from.fake_stack, to.stack_bottom,
                                 to.stack_bytes);
#endif
#if COIR_TSAN
  __tsan_switch_to_fiber(to.tsan_fiber, 0);
#endif
}

/// Right after a switch returned, and first thing in an entry function.
COIR_NOTE void note_arrive([[maybe_unused]] switch_notes& self) noexcept {
#if COIR_ASAN
  __sanitizer_finish_switch_fiber(self.fake_stack, nullptr, nullptr);
  self.fake_stack = nullptr;
#endif
}

/// After the fiber left for good, from another stack. Not for the notes of a thread.
COIR_NOTE void note_gone([[maybe_unused]] switch_notes& self) noexcept {
#if COIR_TSAN
  __tsan_destroy_fiber(self.tsan_fiber);
#endif
#if COIR_NOTES_VALGRIND
  VALGRIND_STACK_DEREGISTER(self.valgrind_id);
#endif
  self = switch_notes{};
}

#undef COIR_NOTE

#else

struct switch_notes {};

inline void note_thread(switch_notes&) noexcept {}
inline void note_stack(switch_notes&, void*, std::size_t) noexcept {}
inline void note_leave(switch_notes&, switch_notes&, bool) noexcept {}
inline void note_arrive(switch_notes&) noexcept {}
inline void note_gone(switch_notes&) noexcept {}

#endif

}  // namespace coir::arch
