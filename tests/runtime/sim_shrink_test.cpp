// sim_shrink_test.cpp: long lists that fail become short ones that fail.
#include "runtime/sim_shrink.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "runtime/sim_dice.hpp"

using namespace coir::detail;

namespace {

decision_list random_list(std::uint64_t seed, std::size_t length) {
  sim_dice dice(seed);
  decision_list list(length);
  for (auto& one : list) one = dice.below(1000);
  return list;
}

decision_list shrunk_to_the_end(decision_list list, const still_fails& fails) {
  unsigned runs = 1'000'000;
  return shrunk(std::move(list), fails, runs);
}

}  // namespace

TEST_CASE(
    "sim_shrink: of a thousand decisions those are left that are needed, as low as they may be") {
  decision_list list = random_list(1, 1000);
  list[17] = 900;
  list[400] = 700;
  const auto fails = [](const decision_list& l) {
    return l.size() > 400 && l[17] >= 500 && l[400] >= 7;
  };
  const decision_list least = shrunk_to_the_end(list, fails);
  CHECK(fails(least));
  CHECK(unusual(least) == 2);
  CHECK(least.size() == 401);
  CHECK(least[17] == 500);
  CHECK(least[400] == 7);
}

TEST_CASE("sim_shrink: where the place does not matter, what lies in between is taken out") {
  const auto fails = [](const decision_list& l) {
    return std::ranges::count_if(l, [](std::uint64_t n) { return n > 990; }) >= 3;
  };
  decision_list list = random_list(2, 2000);
  REQUIRE(fails(list));
  const decision_list least = shrunk_to_the_end(list, fails);
  CHECK(least == decision_list{991, 991, 991});
}

TEST_CASE("sim_shrink: what fails without any decision becomes the empty list") {
  CHECK(shrunk_to_the_end(random_list(3, 500), [](decision_list&) { return true; }).empty());
}

TEST_CASE("sim_shrink: no more runs are made than allowed, and the answer was seen to fail") {
  const decision_list list = random_list(4, 300);
  unsigned made = 0;
  decision_list last = list;
  unsigned runs = 10;
  const decision_list least = shrunk(
      list,
      [&](decision_list& l) {
        ++made;
        const bool fails = l.size() > 100;
        if (fails) last = l;
        return fails;
      },
      runs);
  CHECK(made <= 10);
  CHECK(runs == 10 - made);
  CHECK(least == last);
}
