// flight_bench.hpp: operations and the flight that has them, over a backend that the test plays.
//
// Always true:
//   - No fiber runs here: a record is only what complete() gives back.
//
// Comes from: runtime/flight.hpp.   Goes to: flight_test, flight_cancels_test.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include "runtime/flight.hpp"
#include "scripted_backend.hpp"

namespace flight_test {

using namespace coir::detail;

inline constexpr std::uint32_t fds_max = 4096;

/// One operation and the fiber that would wait for it.
struct asked {
  explicit asked(std::uint8_t opcode, int fd = -1) {
    entry->opcode = opcode;
    entry->fd = fd;
    p.fiber = &fiber;
    p.entry = entry.get();
  }
  record fiber;
  std::unique_ptr<io_uring_sqe> entry = std::make_unique<io_uring_sqe>();
  pending p;
};

struct bench {
  scripted::script s;
  scripted::outside outside{s};
  flight f{outside, fds_max};
  std::vector<record*> ready;
  void turn() {
    outside.wait(no_wait_ns);
    f.turn([this](record& r) noexcept { ready.push_back(&r); });
  }
};

}  // namespace flight_test
