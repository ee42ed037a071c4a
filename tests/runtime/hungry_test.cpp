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
    CHECK(board->withdraw(i));
    CHECK_FALSE(board->withdraw(i));
  }
  board->announce(200);
  CHECK_FALSE(board->any(64));  // nobody asks for more words than it has workers
}

TEST_CASE("hungry: beside each name stands whether it may be fed with one alone") {
  const auto board = std::make_unique<hungry_board>();
  for (const unsigned i : {0u, 64u, 255u})
    for (const bool for_one : {true, false, false, true, true}) {
      board->announce(i, for_one);
      CHECK(board->any(256));
      CHECK(board->any_for_one(256) == for_one);
      CHECK(board->look_for_one().contains(i) == for_one);
      CHECK(board->look_for_one().size() == (for_one ? 1u : 0u));
      CHECK(board->take_away(i));
      CHECK_FALSE(board->any_for_one(256));  // that alone is no announcement
      CHECK(board->look_for_one().size() == 0);
    }
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
