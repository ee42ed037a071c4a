// accept_placement_test.cpp: long-lived connections spread over the workers by live fibers, however
// slowly they arrive.
//
// Always true:
//   - Each connection is one live fiber that only waits, so no worker is ever hot.
//   - After each change the fullest worker has at most 1.1 times the mean.
//
// Comes from: the acceptance of placement.   Goes to: net::tcp_listener::serve.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "coir/coir.hpp"
#include "tests/test_options.hpp"

using test::tested;

namespace {

constexpr std::size_t connections = 1000;

using streams = std::vector<coir::net::tcp_stream>;

/// One after the other, each answered by its handler before the next one comes.
void open_until(streams& all, std::size_t count, std::uint16_t port) {
  while (all.size() < count) {
    auto s = coir::net::tcp_stream::connect("127.0.0.1", port);
    REQUIRE(s.has_value());
    std::byte hello{};
    REQUIRE(s->read_exact({&hello, 1}).has_value());
    all.push_back(std::move(*s));
  }
}

void close_half(streams& all, unsigned seed) {
  std::shuffle(all.begin(), all.end(), std::mt19937(seed));
  all.resize(all.size() / 2);
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
            std::byte b{};
            if (s.write_all("!")) (void)s.read_some({&b, 1});
          });
        });
        streams all;
        open_until(all, connections, listener->port());
        CHECK(live() >= connections);
        CHECK(imbalance() <= 1.1);
        close_half(all, 7);
        while (live() > connections / 2 + 4) coir::this_fiber::yield();
        CHECK(imbalance() <= 1.1);
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
