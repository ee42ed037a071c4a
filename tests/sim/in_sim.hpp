// in_sim.hpp: runs the body of a test on a fiber of a runtime whose outside is a sim_world.
//
// Always true:
//   - The whole run happens on the calling thread, and has ended when run_in_sim returns.
//   - Log lines are collected, not printed, so that a test can ask for them.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "coir/coir.hpp"
#include "runtime/runtime.hpp"
#include "runtime/sim.hpp"
#include "tests/test_options.hpp"

namespace sim_test {

using coir::detail::sim_event;
using coir::detail::sim_rule;
using coir::detail::sim_settings;
using coir::detail::sim_world;

inline coir::options small() {
  coir::options o;
  o.fibers_max = 4096;
  o.stack_bytes = 64 << 10;
  return o;
}

/// Runs `body` and every fiber that it starts. Errors: that of the body, errc::deadlock.
template <class F>
coir::detail::flat_result<F> run_in_sim(sim_world& outside, F&& body, coir::options o = small(),
                                        std::vector<std::string>* log = nullptr) {
  using namespace coir::detail;
  if (o.workers == 0) o.workers = 1;
  o.log = [log](const coir::log_record& line) {
    if (log != nullptr) log->emplace_back(line.text);
  };
  auto core = runtime_core::create(
      test::tested(o),
      [&outside](unsigned, const coir::options&) -> coir::result<std::unique_ptr<backend>> {
        return std::make_unique<sim>(outside);
      });
  REQUIRE(core.has_value());
  auto root =
      spawn_waiting(core->get(), std::forward<F>(body), {.name = "root"}, coir::site::here());
  REQUIRE(root);
  if (const std::error_code why = (*core)->run_here()) {
    root.detach();
    return coir::fail(why);
  }
  return root.join();
}

/// The same, until the power is cut after event number `event`. `at_the_cut` is called then: it may
/// look at outside.disk.crash(seed) and at what the program has said so far. Afterwards every
/// operation fails and every fiber is cancelled; what the program does then counts for nothing.
/// False: the program ended before.
template <class F>
bool run_until_cut(sim_world& outside, std::uint64_t event, F&& body,
                   std::function<void()> at_the_cut, coir::options o = small()) {
  outside.crash_after(event, [cut = std::move(at_the_cut)] {
    cut();
    coir::detail::current_core()->request_stop();
  });
  (void)run_in_sim(outside, std::forward<F>(body), std::move(o));
  return outside.crashed();
}

/// Spawns `body` and returns once it has run up to its first park.
template <class F>
auto start(F body) {
  bool begun = false;
  auto made = coir::spawn([&begun, body = std::move(body)]() mutable {
    begun = true;
    return body();
  });
  while (!begun) coir::this_fiber::yield();
  return made;
}

/// Cuts a file to `bytes`, as an operation; rings have it since Linux 6.9.
struct truncate_op {
  using value_type = void;
  static constexpr std::string_view name = "ftruncate";
  int fd;
  std::uint64_t bytes;
  void fill(io_uring_sqe& e) const noexcept {
    e.opcode = coir::detail::sim_op_ftruncate;
    e.fd = fd;
    e.off = bytes;
  }
  void complete(std::int32_t) const noexcept {}
};

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}
inline std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The virtual clock.
inline std::int64_t now_ns() { return coir::clock::now().time_since_epoch().count(); }

}  // namespace sim_test
