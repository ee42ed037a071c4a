// coir.hpp: everything of the C++ interface.
//
// Always true:
//   - Public headers include the standard library and tl::expected only.
//
// Comes from: the user.   Goes to: the headers below.
#pragma once

#include "coir/blocking.hpp"
#include "coir/clock.hpp"
#include "coir/effects.hpp"
#include "coir/fiber.hpp"
#include "coir/handlers.hpp"
#include "coir/io.hpp"
#include "coir/loop.hpp"
#include "coir/net.hpp"
#include "coir/no_park.hpp"
#include "coir/operations.hpp"
#include "coir/options.hpp"
#include "coir/result.hpp"
#include "coir/runtime.hpp"
#include "coir/scope.hpp"
#include "coir/signals.hpp"
#include "coir/stepping.hpp"
#include "coir/sync.hpp"
