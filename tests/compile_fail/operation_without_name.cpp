// operation_without_name.cpp: an operation without a name cannot be performed.
//
// Always true:
//   - The file compiles with COIR_CORRECTED, so that what is refused is the mistake alone.
//
// Comes from: docs/design.md, section 5.1.   Goes to: the compiler, which must refuse it.
// refused: constraints not satisfied
#include "coir/coir.hpp"

struct look {
  using value_type = int;
#if defined(COIR_CORRECTED)
  static constexpr std::string_view name = "look";
#endif
  void fill(io_uring_sqe&) const {}
  int complete(std::int32_t res) const { return res; }
};

bool looked() { return coir::perform(look{}).has_value(); }
