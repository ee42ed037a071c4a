// resolve.hpp: names of hosts: what addresses they have, and a connection to one of them.
//
// Always true:
//   - The lookup is getaddrinfo(3) on a thread of the offload pool; the worker goes on meanwhile.
//   - Who gives up waiting for it leaves nothing behind that it could write into: the lookup owns
//     all it uses, and goes on alone.
//
// Comes from: the user.   Goes to: coir/blocking.hpp, coir/net.hpp.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "coir/net.hpp"

namespace coir::net {

/// What a lookup was refused with: the values are EAI_* of <netdb.h>, the texts gai_strerror(3)'s.
/// EAI_MEMORY equals std::errc::not_enough_memory, EAI_SYSTEM is told as the errno itself.
COIR_API const std::error_category& resolve_category() noexcept;

/// The addresses of `host`, each with `port`, in the order in which they should be tried; a numeric
/// one is itself and needs no lookup. Parks; on a plain thread it blocks and the deadline is not
/// heeded. Errors: those of resolve_category (EAI_NONAME: there is no such name), invalid_argument
/// (no name, or a zero byte in it), timed_out and operation_canceled (the lookup itself goes on in
/// its thread), and why no fiber could be spawned for it.
[[nodiscard]] COIR_API result<std::vector<address>> resolve(const std::string& host,
                                                            std::uint16_t port,
                                                            deadline until = never);

/// Connects to the first of these that answers. They are tried one after the other; each may use
/// its equal share of the time that is left, so one that does not answer keeps no later one from
/// its turn (without a deadline it takes as long as the kernel tries). Fibers only. Returns the
/// error of the last attempt: those of tcp_stream::connect; invalid_argument when there is none to
/// try.
[[nodiscard]] COIR_API result<tcp_stream> connect(std::span<const address> each,
                                                  deadline until = never);

/// Connects to `host`, a name or a numeric address: resolve, then the above, under one deadline.
/// Fibers only.
[[nodiscard]] COIR_API result<tcp_stream> connect(const std::string& host, std::uint16_t port,
                                                  deadline until = never);

}  // namespace coir::net
