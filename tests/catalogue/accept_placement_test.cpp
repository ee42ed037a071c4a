// accept_placement_test.cpp: long-lived connections spread over the workers by live fibers, however
// slowly they arrive.
//
// Always true:
//   - Each connection is one live fiber that only waits, so no worker is ever hot.
//   - Those that stay are not moved, so whoever leaves may leave one worker fuller; those that come
//     make up for it, and then the fullest worker has at most 1.1 times the mean again.
//
// Comes from: the acceptance of placement.   Goes to: net::tcp_listener::serve.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using test::tested;

namespace {

constexpr std::size_t connections = 1000;

struct connection {
  coir::net::tcp_stream stream;
  std::byte worker;  // that serves it
};

/// One after the other, each answered by its handler before the next one comes.
void open_until(std::vector<connection>& all, std::size_t count, std::uint16_t port) {
  while (all.size() < count) {
    auto s = coir::net::tcp_stream::connect("127.0.0.1", port);
    REQUIRE(s.has_value());
    std::byte worker{};
    REQUIRE(s->read_exact({&worker, 1}).has_value());
    all.push_back({std::move(*s), worker});
  }
}

/// Half of them leave: of four three on worker 0, and one on worker 1.
void close_half(std::vector<connection>& all) {
  std::array<unsigned, 2> seen{};
  std::erase_if(all, [&](const connection& c) {
    const auto worker = std::to_integer<unsigned>(c.worker);
    return (seen[worker]++ % 4 == 0) == (worker == 1);
  });
}

std::uint64_t live() { return coir::snapshot().total().live; }

/// The fullest worker's live fibers over the mean.
double imbalance() {
  const coir::stats now = coir::snapshot();
  std::uint64_t most = 0;
  for (const auto& w : now.workers) most = std::max(most, w.live);
  return static_cast<double>(most) * static_cast<double>(now.workers.size()) /
         static_cast<double>(now.total().live);
}

}  // namespace

TEST_CASE(
    "accept_placement: a thousand connections that come one by one stay within 1.1 of the mean, "
    "also after half of them left and others came") {
  const auto done = coir::run(
      [] {
        auto listener = coir::net::tcp_listener::listen();
        REQUIRE(listener.has_value());
        coir::scope serving;
        serving.spawn([&] {
          return listener->serve([](coir::net::tcp_stream s) {
            std::byte b{static_cast<unsigned char>(coir::this_fiber::worker())};
            if (s.write_all({&b, 1})) (void)s.read_some({&b, 1});
          });
        });
        std::vector<connection> all;
        open_until(all, connections, listener->port());
        CHECK(live() >= connections);
        CHECK(imbalance() <= 1.1);
        close_half(all);
        while (live() > all.size() + 4) coir::this_fiber::yield();
        CHECK(imbalance() > 1.3);  // or there is nothing to make up for
        open_until(all, connections, listener->port());
        CHECK(live() >= connections);
        CHECK(imbalance() <= 1.1);
        all.clear();
        CHECK(listener->close().has_value());
        CHECK(serving.join().has_value());
      },
      tested({.workers = 2}));
  CHECK(done.has_value());
}
