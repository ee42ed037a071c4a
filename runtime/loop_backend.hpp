// loop_backend.hpp: the backend of a worker as the outside of a loop, for those who have one.
//
// Always true:
//   - It is attached to the thread that asked for it.
//
// Comes from: make_backend, and tests with a backend of their own.   Goes to: loop_backend.cpp.
#pragma once

#include <memory>
#include <memory_resource>

#include "coir/backend.hpp"
#include "runtime/backend.hpp"
#include "runtime/offload.hpp"

namespace coir::detail {

/// `pool`: whose threads `inner` uses, or null. Errors: why `inner` could not be attached.
result<std::unique_ptr<coir::backend>> make_loop_backend(
    std::unique_ptr<backend> inner, std::unique_ptr<offload_pool> pool, const options& o,
    std::pmr::memory_resource* memory = std::pmr::get_default_resource());

}  // namespace coir::detail
