// coir.hpp: everything of the C++ interface.
//
// Always true:
//   - Public headers include the standard library and tl::expected only.
//
// Comes from: the user.   Goes to: the headers below.
#pragma once

#include "coir/address.hpp"
#include "coir/backoff.hpp"
#include "coir/blocking.hpp"
#include "coir/byte_stream.hpp"
#include "coir/clock.hpp"
#include "coir/copy.hpp"
#include "coir/copy_policy.hpp"
#include "coir/coroutine.hpp"
#include "coir/effects.hpp"
#include "coir/error_effects.hpp"
#include "coir/fiber.hpp"
#include "coir/fiber_local.hpp"
#include "coir/handlers.hpp"
#include "coir/io.hpp"
#include "coir/loop.hpp"
#include "coir/multishot.hpp"
#include "coir/net.hpp"
#include "coir/no_park.hpp"
#include "coir/operations.hpp"
#include "coir/options.hpp"
#include "coir/outcome.hpp"
#include "coir/resolve.hpp"
#include "coir/result.hpp"
#include "coir/runtime.hpp"
#include "coir/scope.hpp"
#include "coir/signals.hpp"
#include "coir/started.hpp"
#include "coir/state_machine.hpp"
#include "coir/stepping.hpp"
#include "coir/streams.hpp"
#include "coir/sync.hpp"
#include "coir/tee.hpp"
#include "coir/udp.hpp"
#include "coir/unix_socket.hpp"
