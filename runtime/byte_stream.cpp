// byte_stream.cpp: the calls of a stream that are more than one operation.
//
// Always true:
//   - Each goes on after a short one, under the one deadline, until all bytes have gone.
//
// Comes from: coir/byte_stream.hpp.   Goes to: io.
#include "coir/byte_stream.hpp"

namespace coir::net {

result<> byte_stream::read_exact(std::span<std::byte> into, deadline until) {
  while (!into.empty()) {
    const auto n = read_some(into, until);
    if (!n) return fail(n.error());
    if (*n == 0) return fail(std::errc::connection_aborted);
    into = into.subspan(*n);
  }
  return {};
}

result<> byte_stream::write_all(std::span<const std::byte> from, deadline until) {
  while (!from.empty()) {
    const auto n = write_some(from, until);
    if (!n) return fail(n.error());
    if (*n == 0) return fail(std::errc::io_error);  // it takes nothing and says nothing
    from = from.subspan(*n);
  }
  return {};
}

}  // namespace coir::net
