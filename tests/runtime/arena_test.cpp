// arena_test.cpp: what arena.hpp promises: bounds, layout, zeroed first lives, exact fullness, one
// owner for each cell, and the tag that keeps it so.
//
// Always true:
//   - Every check of single ownership goes through a bitmap that is set on take and cleared on
//     give.
//
// Comes from: runtime/arena.hpp.   Goes to: ctest.
#include "runtime/arena.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

namespace {
using coir::detail::arena;
using coir::detail::arena_layout;
using coir::detail::chain;
using coir::detail::no_record;
using coir::detail::record_cache;
using coir::detail::records_limit;
using coir::detail::tagged_stack;

constexpr std::size_t record_bytes = 192;
constexpr std::size_t link_offset = 16;

arena made(std::uint32_t records_max, std::uint32_t magazine = 0) {
  return std::move(arena::make(records_max, record_bytes, link_offset, {0, magazine}).value());
}

/// Takes until the arena says full; false if a cell came twice or lay outside.
template <class Take>
bool drain(const arena& a, std::vector<std::uint32_t>& into, Take take) {
  std::set<std::uint32_t> seen(into.begin(), into.end());
  for (std::uint32_t index; (index = take()) != no_record; into.push_back(index))
    if (index >= a.capacity() || !seen.insert(index).second) return false;
  return true;
}

/// Asks the kernel whether it could read the byte; a guard answers EFAULT instead of a signal.
bool readable(const void* at) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const auto written = ::write(ends[1], at, 1);
  const bool faulted = written < 0 && errno == EFAULT;
  ::close(ends[0]);
  ::close(ends[1]);
  REQUIRE((faulted || written == 1));
  return !faulted;
}
}  // namespace

TEST_CASE("arena: sizes that make no sense or do not fit are refused by name") {
  const auto refused = [](std::uint32_t records, std::size_t bytes, std::size_t link) {
    const auto a = arena::make(records, bytes, link);
    return a ? std::error_code{} : a.error();
  };
  CHECK(refused(0, 64, 0) == std::errc::invalid_argument);
  CHECK(refused(records_limit + 1, 64, 0) == std::errc::invalid_argument);
  CHECK(refused(UINT32_MAX, 64, 0) == std::errc::invalid_argument);
  for (const std::size_t odd :
       {std::size_t{0}, std::size_t{1}, std::size_t{63}, std::size_t{100}, SIZE_MAX})
    CHECK(refused(1, odd, 0) == std::errc::invalid_argument);
  CHECK(refused(1, 64, 2) == std::errc::invalid_argument);
  CHECK(refused(1, 64, 64) == std::errc::invalid_argument);
  CHECK(refused(1, 64, SIZE_MAX - 3) == std::errc::invalid_argument);
  CHECK(refused(1, SIZE_MAX & ~std::size_t{63}, 0) == std::errc::value_too_large);
  CHECK(refused(2, std::size_t{1} << 63, 0) == std::errc::value_too_large);
  CHECK(refused(records_limit, std::size_t{1} << 40, 0) == std::errc::value_too_large);
  CHECK(refused(1, std::size_t{1} << 62, 0) == std::errc::not_enough_memory);
  CHECK(refused(1, 64, 60) == std::error_code{});
  CHECK(refused(records_limit, 256, 0) == std::error_code{});
}

TEST_CASE("arena: B8 no part of the mapping overlaps another, whatever the page size") {
  for (const std::size_t page : {4096u, 16384u, 65536u}) {
    for (const std::uint32_t records : {1u, 63u, 64u, 4096u, 1u << 20, records_limit}) {
      const arena_layout plan = arena_layout::plan(records, record_bytes, page).value();
      CHECK(plan.links_offset == page);
      CHECK(plan.cells_offset == plan.links_offset + plan.links_bytes + page);
      CHECK(plan.bytes == plan.cells_offset + plan.cells_bytes + page);
      CHECK(plan.links_bytes >= records * sizeof(std::uint32_t) + 2 * 64);
      CHECK(plan.cells_bytes >= records * record_bytes);
      CHECK((plan.links_bytes | plan.cells_bytes) % page == 0);
    }
  }
  CHECK(arena_layout::plan(1, 64, 3000).error() == std::errc::invalid_argument);
}

TEST_CASE("arena: an inaccessible page lies on both sides of the cells") {
  for (const std::size_t page : {std::size_t{0}, std::size_t{65536}}) {
    const auto a = std::move(arena::make(100, record_bytes, link_offset, {page, 0}).value());
    const std::size_t guard = page != 0 ? page : static_cast<std::size_t>(::getpagesize());
    const auto* const first = static_cast<const std::byte*>(a.at(0));
    const std::byte* const end = first + coir::detail::round_up(100 * record_bytes, guard);
    CHECK(readable(first));
    CHECK(readable(end - 1));
    CHECK_FALSE(readable(first - 1));
    CHECK_FALSE(readable(first - guard));
    CHECK_FALSE(readable(end));
    CHECK_FALSE(readable(end + guard - 1));
  }
}

TEST_CASE("arena: a cell is zero before its first life and keeps its bytes but the link after it") {
  arena a = made(4);
  const std::uint32_t index = a.take();
  auto* const cell = static_cast<unsigned char*>(a.at(index));
  CHECK(std::all_of(cell, cell + record_bytes, [](unsigned char b) { return b == 0; }));
  std::fill(cell, cell + record_bytes, static_cast<unsigned char>(0xa5));
  a.give(index);
  REQUIRE(a.take() == index);
  for (std::size_t i = 0; i < record_bytes; ++i)
    if (i < link_offset || i >= link_offset + 4) REQUIRE(cell[i] == 0xa5);
}

TEST_CASE("arena: an index and an address name the same cell") {
  const arena a = made(5000);
  for (const std::uint32_t index : {0u, 1u, 4999u}) {
    CHECK(a.index_of(a.at(index)) == index);
    CHECK(reinterpret_cast<std::uintptr_t>(a.at(index)) % 64 == 0);
  }
}

TEST_CASE("arena: capacity 64 means 64, although another worker gave none back") {
  arena a = made(64);
  record_cache here;
  record_cache there;
  std::vector<std::uint32_t> taken{a.take(there)};
  REQUIRE(drain(a, taken, [&] { return a.take(here); }));
  CHECK(taken.size() == 64);
  CHECK(a.take(there) == no_record);
  CHECK(a.take() == no_record);
  CHECK(here.size() + there.size() == 0);
  a.give(there, taken.back());
  CHECK(there.size() == 0);
  CHECK(a.take(here) == taken.back());
  CHECK(a.take(here) == no_record);
}

TEST_CASE("arena: through a cache and past it, every cell comes exactly once") {
  for (const std::uint32_t records : {1u, 63u, 4095u, 4096u, 4097u, 10'000u}) {
    arena a = made(records);
    record_cache cache;
    std::vector<std::uint32_t> taken;
    REQUIRE(drain(a, taken, [&] { return taken.size() % 3 == 0 ? a.take() : a.take(cache); }));
    REQUIRE(drain(a, taken, [&] { return a.take(cache); }));
    CHECK(taken.size() == records);
    CHECK(a.touched() == records);
    for (const std::uint32_t index : taken) index % 2 == 0 ? a.give(index) : a.give(cache, index);
    a.flush(cache);
    taken.clear();
    REQUIRE(drain(a, taken, [&] { return a.take(); }));
    CHECK(taken.size() == records);
  }
}

TEST_CASE(
    "arena: a cache is last in first out, keeps at most two magazines, and flush empties it") {
  arena a = made(4096);
  record_cache cache;
  record_cache starving;
  std::vector<std::uint32_t> taken;
  REQUIRE(drain(a, taken, [&] { return a.take(cache); }));
  for (const std::uint32_t index : taken) {
    a.give(cache, index);
    REQUIRE(cache.size() <= 128);
  }
  CHECK(a.take(cache) == taken.back());
  a.give(cache, taken.back());
  std::vector<std::uint32_t> rest;
  REQUIRE(drain(a, rest, [&] { return a.take(starving); }));
  CHECK(rest.size() == 4096 - cache.size());
  a.flush(cache);
  CHECK(cache.size() == 0);
  REQUIRE(drain(a, rest, [&] { return a.take(starving); }));
  CHECK(rest.size() == 4096);
}

TEST_CASE("arena: fresh cells reserved by a cache are given back by flush") {
  arena a = made(4096);
  record_cache cache;
  const std::uint32_t index = a.take(cache);
  CHECK(cache.size() == 63);
  a.flush(cache);
  a.give(index);
  std::vector<std::uint32_t> taken;
  REQUIRE(drain(a, taken, [&] { return a.take(); }));
  CHECK(taken.size() == 4096);
}

TEST_CASE("arena: used cells are preferred to fresh ones") {
  arena a = made(4096);
  const std::uint32_t index = a.take();
  for (int i = 0; i < 10; ++i) {
    a.give(index);
    REQUIRE(a.take() == index);
  }
  CHECK(a.touched() == 1);
}

TEST_CASE("arena: a moved arena keeps its cells, and the one moved from is empty") {
  arena a = made(10);
  const std::uint32_t index = a.take();
  void* const cell = a.at(index);
  arena b = std::move(a);
  CHECK(a.capacity() == 0);  // NOLINT(bugprone-use-after-move): the promise
  CHECK(b.at(index) == cell);
  b = made(3);
  CHECK(b.capacity() == 3);
  CHECK(b.touched() == 0);
}

// ---- the tag

namespace {
/// A pop is cut in two: cell 0 lies on cell 1 when its first half looks, and again when its second
/// half acts, after exactly four pushes; but cell 1 has been taken. True if the pop believed it.
template <unsigned TagBits>
bool taken_twice() {
  std::array<std::atomic<std::uint32_t>, 2> links{};
  tagged_stack<TagBits> stack(links.data());
  stack.push({1, 1});
  stack.push({0, 1});
  const auto seen = stack.look();
  CHECK(stack.pop().first == 0);
  CHECK(stack.pop().first == 1);  // stays with its owner
  stack.push({0, 1});
  for (int i = 0; i < 3; ++i) {
    CHECK(stack.pop().first == 0);
    stack.push({0, 1});
  }
  if (!stack.take(seen)) return false;
  return stack.pop().first == 1;
}

/// Three threads, each `pop, pop, push what the first pop gave`, with every pop cut in two, run in
/// every order there is. Counts the orders in which a cell had two owners.
template <unsigned TagBits>
class every_order {
 public:
  unsigned orders = 0;
  unsigned doubled = 0;

  void explore() {
    std::array<std::uint8_t, 3 * steps> order{};
    extend(order, 0, {0, 0, 0});
  }

 private:
  static constexpr unsigned steps = 5;
  struct thread_state {
    typename tagged_stack<TagBits>::sight seen{};
    std::uint32_t held[2] = {no_record, no_record};
  };

  void extend(std::array<std::uint8_t, 3 * steps>& order, unsigned length,
              std::array<unsigned, 3> done) {
    if (length == order.size()) {
      ++orders;
      if (!sound(order)) ++doubled;
      return;
    }
    for (std::uint8_t who = 0; who < 3; ++who) {
      if (done[who] == steps) continue;
      order[length] = who;
      ++done[who];
      extend(order, length + 1, done);
      --done[who];
    }
  }

  static bool sound(const std::array<std::uint8_t, 3 * steps>& order) {
    std::array<std::atomic<std::uint32_t>, 5> links{};
    tagged_stack<TagBits> stack(links.data());
    for (std::uint32_t i = 5; i-- > 0;) stack.push({i, 1});
    std::array<thread_state, 3> threads{};
    std::array<unsigned, 3> done{};
    unsigned owned = 0;
    for (const std::uint8_t who : order) {
      thread_state& t = threads[who];
      const unsigned step = done[who]++;
      if (step == 4) {
        if (t.held[0] == no_record) continue;
        owned &= ~(1u << t.held[0]);
        stack.push({t.held[0], 1});
      } else if (step % 2 == 0) {
        t.seen = stack.look();
      } else if (!t.seen.empty() && stack.take(t.seen)) {
        const std::uint32_t index = stack.chain_in(t.seen).first;
        if (owned >> index & 1) return false;
        owned |= 1u << index;
        t.held[step / 2] = index;
      }
    }
    for (chain left; (left = stack.pop()).count != 0;) {
      if (owned >> left.first & 1) return false;
      owned |= 1u << left.first;
    }
    return true;
  }
};
}  // namespace

TEST_CASE("arena: a two-bit tag lets a cell be taken twice (B6), the real tag does not") {
  CHECK(taken_twice<2>());
  CHECK_FALSE(taken_twice<32>());
}

TEST_CASE("arena: B6 over every order of three threads a one-bit tag fails and the real tag holds" *
          doctest::skip(COIR_TSAN)) {  // one thread, and slow there
  every_order<1> weak;
  weak.explore();
  CHECK(weak.orders == 756'756);
  CHECK(weak.doubled > 0);
  every_order<32> real;
  real.explore();
  CHECK(real.orders == 756'756);
  CHECK(real.doubled == 0);
}

TEST_CASE("arena: an empty stack is not believed while a chain is split, nor after one came back") {
  std::array<std::atomic<std::uint32_t>, 64> links{};
  tagged_stack<32> stack(links.data());
  const auto fresh = stack.look();
  CHECK(fresh.empty());
  CHECK_FALSE(stack.may_be_hidden(fresh));

  stack.push({0, 64});
  const auto full = stack.look();
  CHECK(stack.chain_in(full).first == 0);
  CHECK(stack.chain_in(full).count == 64);
  CHECK(stack.may_be_hidden(fresh));
  REQUIRE(stack.take_to_split(full));
  const auto during = stack.look();
  CHECK(during.empty());
  CHECK(stack.may_be_hidden(during));
  CHECK_FALSE(stack.take_to_split(full));  // too late, and not announced for ever
  stack.put_back({1, 63});
  CHECK(stack.may_be_hidden(during));
  CHECK(stack.pop().count == 63);
  CHECK(stack.may_be_hidden(during));  // empty again, but it was not in between

  const auto after = stack.look();
  CHECK(after.empty());
  CHECK_FALSE(stack.may_be_hidden(after));
}

// ---- threads

namespace {
/// `threads` threads take and give at random, half through their caches, and mark what they hold.
/// Returns how often a cell had two owners or none when it should have had one.
unsigned stress(arena& a, unsigned threads, unsigned rounds, std::size_t hold_max) {
  const auto owned = std::make_unique<std::atomic<std::uint8_t>[]>(a.capacity());
  std::atomic<unsigned> faults{0};
  const auto body = [&](unsigned seed) {
    record_cache cache;
    std::vector<std::uint32_t> held;
    std::uint32_t random = seed * 2654435761u + 1;
    const auto give = [&](bool cached) {
      const std::uint32_t index = held.back();
      held.pop_back();
      *static_cast<std::uint32_t*>(a.at(index)) += 1;  // a plain write: the owner is alone
      // relaxed: the arena must order it; this bitmap must not help.
      faults += owned[index].exchange(0, std::memory_order_relaxed) != 1;
      cached ? a.give(cache, index) : a.give(index);
    };
    for (unsigned round = 0; round < rounds; ++round) {
      random ^= random << 13, random ^= random >> 17, random ^= random << 5;
      const bool cached = (random & 0x100) != 0;
      if (!held.empty() && ((random & 1) != 0 || held.size() == hold_max)) {
        give(cached);
        continue;
      }
      const std::uint32_t index = cached ? a.take(cache) : a.take();
      if (index == no_record) continue;
      faults += owned[index].exchange(1, std::memory_order_relaxed) != 0;
      held.push_back(index);
    }
    while (!held.empty()) give(true);
    a.flush(cache);
  };
  std::vector<std::thread> crew;
  for (unsigned i = 0; i < threads; ++i) crew.emplace_back(body, i);
  for (std::thread& each : crew) each.join();
  return faults;
}
}  // namespace

TEST_CASE("arena: B6 with four threads each cell has one owner, and none is lost") {
  for (const auto& [records, magazine] : {std::pair{6u, 1u}, {64u, 4u}, {5000u, 64u}}) {
    arena a = made(records, magazine);
    CHECK(stress(a, 4, 100'000, records / 3) == 0);
    std::vector<std::uint32_t> taken;
    REQUIRE(drain(a, taken, [&] { return a.take(); }));
    CHECK(taken.size() == records);
  }
}

TEST_CASE("arena: past the caches, full is never said while a cell is free") {
  // Again and again all four cells are one magazine and two threads take two each. Both must get
  // them, although the first has the only magazine in its hands while it splits it.
  arena a = made(4, 4);
  std::atomic<unsigned> refused{0};
  std::atomic<unsigned> arrived{0};
  const auto meet = [&](unsigned& meetings) {
    ++arrived;
    for (++meetings; arrived.load() < 2 * meetings;) std::this_thread::yield();
  };
  const auto body = [&](bool leader) {
    unsigned meetings = 0;
    for (int round = 0; round < (COIR_TSAN ? 2'000 : 50'000); ++round) {
      record_cache cache;
      std::array<std::uint32_t, 4> all{};
      if (leader) {
        for (std::uint32_t& index : all) index = a.take(cache);
        for (const std::uint32_t index : all) a.give(cache, index);
        a.flush(cache);
      }
      meet(meetings);
      const std::uint32_t held[] = {a.take(), a.take()};
      meet(meetings);
      for (const std::uint32_t index : held) index == no_record ? void(++refused) : a.give(index);
      meet(meetings);
    }
  };
  std::thread other(body, false);
  body(true);
  other.join();
  CHECK(refused == 0);
}
