// release_error_lost.cpp: the error of a release is not lost where a bracket cannot answer it.
//
// Always true:
//   - The file compiles with COIR_CORRECTED, so that what is refused is the mistake alone.
//
// Comes from: include/coir/error_effects.hpp.   Goes to: the compiler, which must refuse it.
// refused: its error would be lost
#include "coir/coir.hpp"

int bytes_of(int fd) {
  return coir::bracket([=] { return fd; }, [](int) { return 1; },
#if defined(COIR_CORRECTED)
                       [](int held) { (void)coir::io::close(held); });
#else
                       [](int held) { return coir::io::close(held); });
#endif
}
