// c_this_fiber.cpp: what a fiber of C asks of itself: to let others run, to sleep, to go elsewhere,
// where it is.
//
// Always true:
//   - On a plain thread each of them answers or is refused, as its C++ twin.
//
// Comes from: coir.h.   Goes to: coir/fiber.hpp, c_caller.hpp, c_handles.hpp, c_errors.hpp.
#include <cerrno>
#include <climits>

#include "coir.h"
#include "coir/fiber.hpp"
#include "runtime/c_caller.hpp"
#include "runtime/c_errors.hpp"
#include "runtime/c_handles.hpp"

using namespace coir::detail;

void coir_yield(void) { coir::this_fiber::yield(); }

int coir_yield_to(coir_fiber fiber) {
  return guarded([&] {
    coir::fiber_id id;
    {
      const c_handles::visit visit(c_handles::here(), fiber);
      if (visit.refusal() != 0) return -visit.refusal();
      id = id_of(visit.fiber());
    }
    return code_of(coir::this_fiber::yield_to(id));
  });
}

int coir_move_to(unsigned worker) {
  return guarded([&] { return code_of(coir::this_fiber::move_to(worker)); });
}

int coir_worker(void) {
  const unsigned index = coir::this_fiber::worker();
  return index == UINT_MAX ? -EPERM : static_cast<int>(index);
}

int coir_sleep(int64_t ns) {
  if (ns < 0) return -EINVAL;
  if (on_loop()) return -EPERM;
  return guarded([&] { return code_of(coir::this_fiber::sleep_for(coir::clock::duration(ns))); });
}

int coir_sleep_until(int64_t until_ns) {
  if (on_loop()) return -EPERM;
  return guarded([&] { return code_of(coir::this_fiber::sleep_until(until(until_ns))); });
}

int coir_cancelled(void) { return coir::this_fiber::cancelled() ? 1 : 0; }
