// task_awaited_twice.cpp: a task is given away when it is awaited, and that is written there.
//
// Always true:
//   - The file compiles with COIR_CORRECTED, so that what is refused is the mistake alone.
//
// Comes from: include/coir/coroutine.hpp.   Goes to: the compiler, which must refuse it.
// refused: deleted
#include "coir/coir.hpp"

coir::task<int> twice(coir::task<int> once) {
#if defined(COIR_CORRECTED)
  co_return co_await std::move(once);
#else
  co_return co_await once;
#endif
}
