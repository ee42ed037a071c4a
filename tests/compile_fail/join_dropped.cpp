// join_dropped.cpp: the answer of a join is not dropped by accident.
//
// Always true:
//   - The file compiles with COIR_CORRECTED, so that what is refused is the mistake alone.
//
// Comes from: docs/design.md, section 5.1.   Goes to: the compiler, which must refuse it.
// refused: nodiscard
#include "coir/coir.hpp"

void wait_and_forget(coir::handle<int>& h) {
#if defined(COIR_CORRECTED)
  if (!h.join()) return;
#else
  h.join();
#endif
}
