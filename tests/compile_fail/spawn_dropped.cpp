// spawn_dropped.cpp: the handle of a free spawn is not dropped by accident; a scope's may be.
//
// Always true:
//   - The file compiles with COIR_CORRECTED, so that what is refused is the mistake alone.
//
// Comes from: docs/design.md, section 5.1.   Goes to: the compiler, which must refuse it.
// refused: nodiscard
#include "coir/coir.hpp"

void start_and_forget(coir::scope& all) {
  all.spawn([] {});
#if defined(COIR_CORRECTED)
  coir::spawn([] {}).detach();
#else
  coir::spawn([] {});
#endif
}
