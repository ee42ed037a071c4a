// result_dropped.cpp: the answer of a call that can fail is not dropped by accident.
//
// Always true:
//   - The file compiles with COIR_CORRECTED, so that what is refused is the mistake alone.
//
// Comes from: docs/design.md, section 5.1.   Goes to: the compiler, which must refuse it.
// refused: nodiscard
#include "coir/coir.hpp"

void sleep_and_forget() {
#if defined(COIR_CORRECTED)
  if (!coir::this_fiber::sleep_for(std::chrono::seconds(1))) return;
#else
  coir::this_fiber::sleep_for(std::chrono::seconds(1));
#endif
}
