// foreign_awaited.cpp: a task awaits what its driver can answer, and nothing else.
//
// Always true:
//   - The file compiles with COIR_CORRECTED, so that what is refused is the mistake alone.
//
// Comes from: include/coir/coroutine.hpp.   Goes to: the compiler, which must refuse it.
// refused: await_transform
#include "coir/coir.hpp"

coir::task<int> sleeps_for_ever() {
#if defined(COIR_CORRECTED)
  (void)co_await coir::nop{};
#else
  co_await std::suspend_always{};
#endif
  co_return 1;
}
