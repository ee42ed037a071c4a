// c_errors.hpp: how coir's answers look to C: one errno for each refusal, and a text for each
// errno.
//
// Always true:
//   - Every error code has an errno above zero; a new errc without one is a compiler warning.
//   - Texts are literals or the C library's own constants: valid for ever, on every thread.
//   - Nothing leaves guarded() but an answer; where something would, the process ends.
//
// Comes from: every c_*.cpp.   Goes to: coir/result.hpp.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <exception>
#include <new>
#include <system_error>

#include "coir/result.hpp"
#include "runtime/base.hpp"

namespace coir::detail {

/// The errno that C gets for `code`. `after_fork`: this process inherited runtimes from its parent,
/// so a runtime that is not ours is one whose threads do not exist here (EOWNERDEAD).
int errno_of(const std::error_code& code, bool after_fork) noexcept;

/// The same for this process.
int errno_of(const std::error_code& code) noexcept;

inline int code_of(const result<>& answer) noexcept {
  return answer ? 0 : -errno_of(answer.error());
}
inline int code_of(const result<int>& answer) noexcept {
  return answer ? *answer : -errno_of(answer.error());
}
inline int code_of(const result<unsigned>& answer) noexcept {
  return answer ? static_cast<int>(*answer) : -errno_of(answer.error());
}
inline ssize_t count_of(const result<std::size_t>& answer) noexcept {
  return answer ? static_cast<ssize_t>(*answer) : -errno_of(answer.error());
}

/// Runs `call` and turns whatever it throws into a negated errno.
template <class F>
auto guarded(F&& call) noexcept -> decltype(call()) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    if (COIR_MUTANT(c_calls_throw)) std::rethrow_exception(std::current_exception());
    return -ENOMEM;
  } catch (const std::system_error& e) {
    return -errno_of(e.code());
  } catch (...) {
    return -EIO;
  }
}

/// What a return of the C interface means and what to do about it; `code` may be negated or not.
/// Never null.
const char* text_of_errno(int code) noexcept;

}  // namespace coir::detail
