// resolve.cpp: one lookup on a fiber of its own, and the attempts to connect that follow.
//
// Always true:
//   - The fiber of a lookup owns the name, and its stack holds what the thread of the pool writes:
//     it stays until the thread has ended. Its answer is a value, which nobody need be there for.
//   - An attempt that failed has closed its socket before the next begins.
//
// Comes from: coir/resolve.hpp.   Goes to: blocking, spawn, net.
#include "coir/resolve.hpp"

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <memory>

#include "coir/blocking.hpp"
#include "coir/effects.hpp"
#include "runtime/base.hpp"

namespace coir::net {
namespace {

class category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "coir resolve"; }
  std::string message(int code) const override { return ::gai_strerror(code); }
  std::error_condition default_error_condition(int code) const noexcept override {
    if (code == EAI_MEMORY) return std::errc::not_enough_memory;
    return {code, *this};
  }
};

/// Blocks.
result<std::vector<address>> look_up(const std::string& host, std::uint16_t port) {
  addrinfo wanted{};
  wanted.ai_family = AF_UNSPEC;
  wanted.ai_socktype = SOCK_STREAM;  // else each address comes once for every kind of socket
  addrinfo* found = nullptr;
  if (const int refused = ::getaddrinfo(host.c_str(), nullptr, &wanted, &found)) {
    if (refused == EAI_SYSTEM) return fail(std::error_code(errno, std::generic_category()));
    return fail(std::error_code(refused, resolve_category()));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> all(found, &::freeaddrinfo);
  std::vector<address> each;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    auto a = address::copy_of(one->ai_addr, one->ai_addrlen);
    if (!a) continue;  // of a family that we have no sockets for
    a->set_port(port);
    each.push_back(*a);
  }
  if (each.empty()) return fail(std::error_code(EAI_NONAME, resolve_category()));
  return each;
}

/// When the first of `attempts` must have ended, so that each has an equal share.
deadline share_of(deadline until, std::size_t attempts) noexcept {
  const deadline now = clock::now();
  if (until == never || until <= now || COIR_MUTANT(first_address_takes_all)) return until;
  return now + (until - now) / static_cast<clock::rep>(attempts);
}

}  // namespace

const std::error_category& resolve_category() noexcept {
  static const category the_one;
  return the_one;
}

result<std::vector<address>> resolve(const std::string& host, std::uint16_t port, deadline until) {
  if (host.empty() || host.find('\0') != host.npos) return fail(std::errc::invalid_argument);
  if (const auto numeric = address::numeric(host, port)) return std::vector{*numeric};
  if (this_fiber::id() == fiber_id{}) return look_up(host, port);
  auto asked = spawn(
      [host, port]() -> result<std::vector<address>> {
        return blocking([&] { return look_up(host, port); });
      },
      {.name = "resolve", .until = until});
  auto found = asked.join(until);
  if (!COIR_MUTANT(lookup_not_withdrawn))
    asked.cancel();  // if no thread has taken it yet, none needs to
  return found;
}

result<tcp_stream> connect(std::span<const address> each, deadline until) {
  result<tcp_stream> made = fail(std::errc::invalid_argument);
  while (!each.empty()) {
    made = tcp_stream::connect(each.front(), share_of(until, each.size()));
    if (made || made.error() == std::errc::operation_canceled) break;
    if (until != never && clock::now() >= until) break;  // nobody waits for a further one
    each = each.subspan(1);
  }
  return made;
}

result<tcp_stream> connect(const std::string& host, std::uint16_t port, deadline until) {
  const bool may_park = this_fiber::id() != fiber_id{} || detail::handlers_are_there();
  if (!may_park) return fail(errc::not_in_fiber);
  const auto each = resolve(host, port, until);
  if (!each) return fail(each.error());
  return connect(*each, until);
}

}  // namespace coir::net
