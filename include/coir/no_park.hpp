// no_park.hpp: lines in which a fiber must not be exchanged for another one.
//
// Always true:
//   - Nothing is checked, and nearly nothing is paid, where the library was built for release
//     (NDEBUG).
//
// Comes from: the user.   Goes to: runtime/no_park.cpp.
#pragma once

#include "coir/result.hpp"

namespace coir {

/// While it lives its fiber must not park: for lines that hold what belongs to the thread, such as
/// a std::mutex or a value in a thread_local. A library built for debugging (without NDEBUG) stops
/// the process at such a park and names `what` and the fiber. On a plain thread it means nothing.
/// Scopes may be nested, and end in reverse order; `what` must outlive its scope.
class COIR_API no_park {
 public:
  explicit no_park(const char* what) noexcept;
  ~no_park();
  no_park(const no_park&) = delete;
  no_park& operator=(const no_park&) = delete;

 private:
  const char* outer_ = nullptr;  ///< of the scope around this one
};

}  // namespace coir
