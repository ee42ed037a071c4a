// explored.hpp: what all parts of a generated program share: choices, places, and which errors are
// the world's.
//
// Always true:
//   - Whatever a part does follows from its choices, and the choice 0 is the smallest program.
//   - EINTR and EAGAIN are nobody's business: no part accepts them.
//
// Comes from: explorer.hpp.   Goes to: coir/sim.hpp.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "coir/coir.hpp"
#include "coir/sim.hpp"

namespace explored {

using coir::sim::check;
using coir::sim::world;
using std::chrono::nanoseconds;

struct part {
  world& w;
  unsigned id;
  unsigned workers;

  /// `least` to `least + more`.
  std::uint64_t choose(std::uint64_t least, std::uint64_t more) const {
    return least + w.choose(more + 1);
  }
  bool maybe() const { return w.choose(2) == 1; }
  /// On some worker, or wherever it is put.
  coir::spawn_options anywhere(const char* name) const {
    coir::spawn_options o{.name = name};
    if (const auto n = w.choose(workers + 1); n != 0) o.worker = static_cast<unsigned>(n - 1);
    return o;
  }
  nanoseconds moment() const { return nanoseconds(w.choose(60'000)); }
  /// Now and then a deadline.
  coir::deadline deadline() const { return maybe() ? coir::in(moment()) : coir::never; }
  /// Lets others go on, in one way or another.
  void pass_time() const {
    switch (w.choose(3)) {
      case 0:
        return coir::this_fiber::yield();
      case 1:
        return (void)coir::this_fiber::sleep_for(moment());
      default:
        return (void)coir::perform(coir::nop{});
    }
  }
};

/// The connection is gone, for both sides.
inline bool is_broken(const std::error_code& e) {
  return e == std::errc::connection_reset || e == std::errc::broken_pipe;
}

/// What the world, a deadline or a cancel may answer, and what can be tried again.
inline bool is_passing(const std::error_code& e) {
  for (const std::errc one :
       {std::errc::operation_canceled, std::errc::timed_out, std::errc::not_enough_memory,
        std::errc::no_buffer_space, std::errc::too_many_files_open, std::errc::io_error,
        std::errc::no_space_on_device, std::errc::connection_aborted})
    if (e == one) return true;
  return false;
}

inline std::byte pattern(std::uint64_t at, unsigned id) {
  return static_cast<std::byte>(at * 31 + at / 256 + id * 7);
}

/// Closes, whatever the world says: the number is gone in any case.
inline void close(int fd) {
  const auto closed = coir::io::close(fd);
  check(closed.has_value() || is_passing(closed.error()), "close");
}

}  // namespace explored
