// hungry_test.cpp: names on a board, each taken away once.
//
// Comes from: ctest.   Goes to: runtime/hungry.hpp.
#include "runtime/hungry.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

using coir::detail::hungry_board;

TEST_CASE("hungry: a name stands until it is taken away or withdrawn, in every word of the board") {
  const auto board = std::make_unique<hungry_board>();
  for (const unsigned i : {0u, 63u, 64u, 130u, 255u}) {
    CHECK_FALSE(board->any(256));
    board->announce(i);
    board->announce(i);
    CHECK(board->any(256));
    CHECK(board->any(i + 1));
    CHECK(board->look().contains(i));
    CHECK(board->look().size() == 1);
    CHECK(board->take_away(i));
    CHECK_FALSE(board->take_away(i));
    board->announce(i);
    board->withdraw(i);
    board->withdraw(i);
  }
  board->announce(200);
  CHECK_FALSE(board->any(64));  // nobody asks for more words than it has workers
}

TEST_CASE("hungry: of all who want to feed one exactly one may") {
  constexpr unsigned rounds = 2'000;
  const auto board = std::make_unique<hungry_board>();
  std::atomic<unsigned> fed{0};
  std::atomic<unsigned> round{0};
  std::vector<std::thread> feeders;
  for (int i = 0; i < 3; ++i)
    feeders.emplace_back([&] {
      for (unsigned mine = 1; mine <= rounds; ++mine) {
        while (round.load() < mine) std::this_thread::yield();
        if (board->take_away(7)) fed.fetch_add(1);
      }
    });
  for (unsigned i = 1; i <= rounds; ++i) {
    board->announce(7);
    round.store(i);
    while (fed.load() < i) std::this_thread::yield();
  }
  for (std::thread& t : feeders) t.join();
  CHECK(fed == rounds);
}
