// stream_sim.hpp: a world in which streams run with the kernel's help and without it.
//
// Always true:
//   - No test may lend memory longer than it may: each world is asked at its end.
#pragma once

#include "coir/streams.hpp"

#include <cerrno>
#include <string>
#include <vector>

#include "in_sim.hpp"

using coir::detail::completion;
using coir::detail::token;
using coir::detail::worker;

namespace stream_sim {

using namespace sim_test;
using namespace std::chrono_literals;

inline worker& here() { return *worker::current(); }
inline std::uint64_t open_now() { return here().operations().open_count(); }
inline std::uint64_t stale() { return here().operations().stale(); }

/// Runs `body(world)` in both modes.
template <class F>
void in_both(F body, sim_settings s = {}) {
  for (const bool goes_on : {true, false}) {
    CAPTURE(goes_on);
    s.goes_on = goes_on;
    sim_world world(s);
    body(world);
    CHECK_MESSAGE(world.memory.violations() == 0, world.describe());
  }
}

/// As many connections as there are, taken one by one and closed; how many.
inline int take_all(coir::multishot<coir::io::unique_fd>& incoming) {
  int taken = 0;
  for (;;) {
    auto one = incoming.next(coir::in(1ms));
    if (!one || !one->has_value()) return taken;
    ++taken;
  }
}

struct peers {
  sim_world& world;
  std::vector<int> fds;
  int listening = world.listener(80);
  void connect(int count) {
    for (; count != 0; --count) fds.push_back(world.connect_to(listening));
  }
  ~peers() {
    for (const int fd : fds) world.close(fd);
    world.close(listening);
    CHECK_MESSAGE(world.open_fds() == 0, world.describe());
  }
};

inline std::string pulled(coir::multishot<coir::leased_bytes>& bytes, std::size_t count) {
  std::string all;
  while (all.size() < count) {
    auto part = bytes.next(coir::in(1s));
    REQUIRE(part.has_value());
    REQUIRE(part->has_value());
    all += (*part)->text();
  }
  return all;
}

}  // namespace stream_sim
