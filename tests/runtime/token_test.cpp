// token_test.cpp: names of operations: what is refused, what is used again, and how far.
//
// Comes from: runtime/token.hpp.   Goes to: ctest.
#include "runtime/token.hpp"

#include <doctest/doctest.h>

#include <set>
#include <vector>

using namespace coir::detail;

namespace {

using table = token_table<int>;

/// Reaches a generation near its wrap without four thousand million operations: an explicit
/// instantiation may name what is private.
auto& chunks_of(table& t);
template <auto Member>
struct reach {
  friend auto& chunks_of(table& t) { return t.*Member; }
};
template struct reach<&table::chunks_>;

}  // namespace

TEST_CASE("token: its three parts come back as they were put in, at both ends of their ranges") {
  for (const std::uint32_t slot : {0u, 1u, 0xabcdefu, (1u << 24) - 1})
    for (const std::uint32_t generation : {0u, 1u, 0x12345678u, UINT32_MAX})
      for (const token_kind kind :
           {token_kind::operation, token_kind::cancel, token_kind::bell, token_kind::descriptor}) {
        const token t = token::make(slot, generation, kind);
        CHECK(t.slot() == slot);
        CHECK(t.generation() == generation);
        CHECK(t.kind() == kind);
      }
}

TEST_CASE("token: a stale one is refused, although its slot is in use again") {
  table all;
  int first = 1;
  int second = 2;
  const token old = all.open(first);
  all.close(old);
  const token young = all.open(second);
  REQUIRE(young.slot() == old.slot());
  CHECK(all.find(old) == nullptr);
  CHECK(all.find(young) == &second);
}

TEST_CASE("token: an unknown, a forged and a zero one find nobody") {
  table all;
  CHECK(all.find(token{0}) == nullptr);
  CHECK(all.find(token{UINT64_MAX}) == nullptr);
  int owner = 0;
  const token mine = all.open(owner);
  CHECK(all.find(token{0}) == nullptr);
  CHECK(all.find(token::make(mine.slot(), 0, token_kind::operation)) == nullptr);
  CHECK(all.find(token::make(mine.slot(), mine.generation() + 1, mine.kind())) == nullptr);
  CHECK(all.find(token::make(mine.slot() + 4096, mine.generation(), mine.kind())) == nullptr);
  // A slot of the table that is not open has a generation, too, and nobody behind it.
  CHECK(all.find(token::make(mine.slot() + 1, 1, mine.kind())) == nullptr);
}

TEST_CASE("token: the slot that was closed last is opened first") {
  table all;
  int owner = 0;
  std::vector<token> open;
  for (int i = 0; i < 8; ++i) open.push_back(all.open(owner));
  all.close(open[3]);
  all.close(open[6]);
  CHECK(all.open(owner).slot() == open[6].slot());
  CHECK(all.open(owner).slot() == open[3].slot());
}

TEST_CASE("token: ten thousand at once are all different, and all are found") {
  table all;
  std::vector<int> owners(10'000);
  std::vector<token> open;
  std::set<std::uint64_t> names;
  for (int& o : owners) {
    open.push_back(all.open(o));
    names.insert(open.back().raw);
  }
  CHECK(names.size() == owners.size());
  CHECK(all.open_count() == owners.size());
  for (std::size_t i = 0; i < owners.size(); ++i) REQUIRE(all.find(open[i]) == &owners[i]);
  std::size_t visited = 0;
  all.for_each([&](int&) { ++visited; });
  CHECK(visited == owners.size());
  for (const token t : open) all.close(t);
  CHECK(all.open_count() == 0);
  all.for_each([&](int&) { ++visited; });
  CHECK(visited == owners.size());
}

TEST_CASE("token: a generation that wraps skips zero and still refuses the one before") {
  table all;
  int owner = 0;
  all.close(all.open(owner));
  chunks_of(all)[0][0].generation = UINT32_MAX - 1;
  std::vector<std::uint32_t> seen;
  token before{};
  for (int i = 0; i < 4; ++i) {
    const token t = all.open(owner);
    REQUIRE(t.slot() == 0);
    CHECK(all.find(before) == nullptr);
    seen.push_back(t.generation());
    all.close(t);
    before = t;
  }
  CHECK(seen == std::vector<std::uint32_t>{UINT32_MAX - 1, UINT32_MAX, 1, 2});
}

TEST_CASE("token: its kind is part of the name that the kernel sees, not of the owner's search") {
  table all;
  int owner = 0;
  const token t = all.open(owner, token_kind::descriptor);
  CHECK(t.kind() == token_kind::descriptor);
  CHECK(all.find(t) == &owner);
}
