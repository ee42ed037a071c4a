// guards.hpp: how a page becomes one that nobody can touch, found out by its effect.
//
// Always true:
//   - A way of making guards is used only after a write(2) from such a page gave EFAULT and its
//     neighbours did not: return codes are not believed.
//   - COIR_GUARD wins over the program's wish, and a word that means nothing is refused.
//   - What cannot be probed is refused with one line that names the limit.
//
// Comes from: stacks.   Goes to: madvise(2), mprotect(2).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "coir/options.hpp"
#include "coir/result.hpp"

namespace coir::detail {

/// MADV_GUARD_INSTALL (Linux 6.13) splits no mapping; mprotect(2) costs one for each guard.
enum class guard_way : std::uint8_t { none, madvise, mprotect };

/// Makes [at, at + bytes) a guard; 0 or the errno.
int install_guard(guard_way way, std::byte* at, std::size_t bytes) noexcept;

/// Fresh pages for stacks, or null: errno tells.
std::byte* map_pages(void* hint, std::size_t bytes) noexcept;

struct guard_wish {
  guard guards = guard::every;
  std::optional<guard_way> way = {};  ///< as COIR_GUARD, which wins over it
  std::size_t page_bytes = 0;
};

struct guard_answer {
  guard_way way = guard_way::none;
  bool memory_is_locked = false;  ///< by mlockall(2) with MCL_FUTURE
};

/// Errors: EINVAL (COIR_GUARD has no meaning), EOPNOTSUPP (what was asked for does not guard),
/// EMFILE and ENOMEM; each is told to `log`, or to stderr where that is empty.
result<guard_answer> choose_guards(const guard_wish& wish,
                                   const std::function<void(const log_record&)>& log);

}  // namespace coir::detail
