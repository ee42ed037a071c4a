// backoff.cpp: where a backoff gets its first number from.
//
// Always true:
//   - On a fiber it depends on who the fiber is and on nothing else, so a simulated run can be
//     repeated.
//
// Comes from: coir/backoff.hpp.   Goes to: this_fiber::id.
#include "coir/backoff.hpp"

#include "coir/fiber.hpp"

namespace coir::detail {

std::uint64_t backoff_seed(const void* object) noexcept {
  const fiber_id me = this_fiber::id();
  std::uint64_t n =
      me == fiber_id{} ? reinterpret_cast<std::uintptr_t>(object) : (me.generation << 24) ^ me.slot;
  // The steps of splitmix64: neighbours in, strangers out.
  n += 0x9e3779b97f4a7c15;
  n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9;
  n = (n ^ (n >> 27)) * 0x94d049bb133111eb;
  n ^= n >> 31;
  return n != 0 ? n : 1;
}

}  // namespace coir::detail
