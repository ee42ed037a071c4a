// accepting.hpp: what every listener does, whatever kind of stream it gives.
//
// Always true:
//   - A connection that failed while it waited is skipped; a full table of descriptors is waited
//     out.
//   - serve_each keeps count of its handlers and returns only when the last has ended; a connection
//     that found no fiber is closed.
//
// Comes from: net, unix_socket.   Goes to: io, spawn, scope.
#pragma once

#include <functional>

#include "coir/fiber.hpp"
#include "coir/io.hpp"

namespace coir::net {

/// The next connection of `listener`. Fibers only.
[[nodiscard]] result<int> accept_one(const io::unique_fd& listener, deadline until);

/// Whether the backend of whoever calls pays a thread for each accept or connect on a socket that
/// blocks.
bool better_non_blocking() noexcept;

/// tcp_listener::serve says what it does; `handler` gets the connection itself.
[[nodiscard]] result<> serve_each(const io::unique_fd& listener,
                                  const std::function<void(io::unique_fd)>& handler,
                                  const spawn_options& each);

}  // namespace coir::net
