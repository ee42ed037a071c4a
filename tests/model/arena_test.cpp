// arena_test.cpp: the shared stack of magazines and the arena over it under the checker: who takes
// a cell has it alone, and "full" is said only when it is.
//
// Always true:
//   - Taking a cell is noted in plain data of that cell, so two owners at a time are a race.
//
// Comes from: runtime/arena.hpp.   Goes to: ctest.
#include "runtime/arena.hpp"

#include <array>

#include "tests/model/protocol.hpp"

using namespace coir::check;
using coir::detail::arena;
using coir::detail::atomic;
using coir::detail::chain;
using coir::detail::no_record;
using coir::detail::plain;
using coir::detail::record_cache;
using coir::detail::tagged_stack;

namespace {

/// Each thread pops and pushes chains of one cell; a pop is the two halves that another thread may
/// come between. TagBits decides how soon a head looks as it did before.
template <unsigned TagBits>
struct recycling : world {
  explicit recycling(unsigned taker_rounds, unsigned other_rounds)
      : rounds{taker_rounds, other_rounds, other_rounds} {
    stack.push({1, 1});
    stack.push({0, 1});
  }
  void run(unsigned thread) override {
    std::array<chain, 2> held;
    for (unsigned i = 0; i < rounds[thread]; ++i) {
      for (chain& each : held) {
        each = stack.pop();
        if (each.count != 0) own(thread, each);
      }
      for (chain& each : held)
        if (each.count != 0) stack.push(each);
    }
  }
  void own(unsigned thread, const chain& c) {
    require(c.first < owner.size() && c.count == 1, "a chain that was pushed");
    owner[c.first] = thread;  // a race if somebody else has it as well
  }
  void judge() override {
    unsigned found = 0;
    for (chain c = stack.pop(); c.count != 0; c = stack.pop()) {
      require(c.first < owner.size() && (found & 1u << c.first) == 0, "each is there once");
      found |= 1u << c.first;
    }
    require(found == 3, "none is lost");
  }
  std::array<unsigned, 3> rounds;
  std::array<atomic<std::uint32_t>, 2> links;
  tagged_stack<TagBits> stack{links.data()};
  std::array<plain<unsigned>, 2> owner;
};

constexpr std::size_t cell_bytes = 64;

/// Workers with a cache each, and a thread without one, on an arena that is a little too small.
struct sharing : world {
  sharing(std::uint32_t cells, std::uint32_t magazine, unsigned times)
      : records(
            std::move(*arena::make(cells, cell_bytes, 0, {.page_bytes = 0, .magazine = magazine}))),
        rounds(times) {}
  /// 0 and 1 are workers, 2 is a plain thread.
  void run(unsigned thread) override {
    if (thread == 2) {
      const std::uint32_t cell = records.take();
      if (cell == no_record) return;
      own(thread, cell);
      kept = cell;
      return;
    }
    record_cache& cache = caches[thread];
    for (unsigned i = 0; i < rounds; ++i) {
      const std::uint32_t cell = records.take(cache);
      if (cell == no_record) continue;
      own(thread, cell);
      records.give(cache, cell);
    }
    records.flush(cache);
  }
  void own(unsigned thread, std::uint32_t cell) {
    require(cell < records.capacity(), "a cell of the arena");
    owner[cell] = thread;
  }
  void judge() override {
    for (record_cache& cache : caches) records.flush(cache);
    if (kept != no_record) records.give(kept);
    std::uint64_t seen = 0;
    unsigned count = 0;
    for (std::uint32_t cell = records.take(); cell != no_record; cell = records.take(), ++count) {
      require((seen >> cell & 1) == 0, "each cell is free once");
      seen |= std::uint64_t{1} << cell;
    }
    require(count == records.capacity(), "no cell is lost");
  }
  arena records;
  std::array<record_cache, 2> caches;
  std::array<plain<unsigned>, 8> owner;
  unsigned rounds;
  std::uint32_t kept = no_record;  // by the plain thread
};

/// A magazine of two is split by one thread while another one looks for a cell: the second cell is
/// hidden for a moment, and "full" must not be said.
struct splitting : world {
  splitting()
      : records(std::move(*arena::make(3, cell_bytes, 0, {.page_bytes = 0, .magazine = 2}))) {
    record_cache one;
    std::array<std::uint32_t, 3> all;
    for (auto& cell : all) cell = records.take(one);
    for (const auto cell : all) records.give(one, cell);
    records.flush(one);
  }
  void run(unsigned thread) override {
    const std::uint32_t cell = records.take();
    require(cell != no_record, "there are as many cells as threads");
    owner[cell] = thread;
  }
  arena records;
  std::array<plain<unsigned>, 3> owner;
};

}  // namespace

TEST_CASE("arena: a chain has one owner, and none is lost, however heads come back") {
  must_hold("two threads", 2, make_of<recycling<32>>(1u, 1u));
  must_hold("one that is slow, one that comes twice", 2, make_of<recycling<32>>(1u, 2u));
}

TEST_CASE("arena: its broken twins are noticed: A-B-A without a tag, with one of one bit, orders") {
  {
    const mutant broken("arena_tag_frozen");
    must_fail("a tag that never grows", 2, make_of<recycling<32>>(1u, 2u), "none is lost");
  }
  must_fail("a tag of one bit", 2, make_of<recycling<1>>(1u, 2u), "none is lost");
  // A pop looks with acquire before it takes with acq_rel: the second acquire finds nothing newer,
  // and the release is for who finds the stack empty (below).
  needs_every_order(
      2, make_of<recycling<32>>(1u, 1u),
      {"arena.hpp take: compare acq_rel -> acquire", "arena.hpp take: compare acq_rel -> release"});
}

TEST_CASE("arena: workers with caches and a thread without share cells, and each has one owner") {
  must_hold("magazines of one, two workers", 2, make_of<sharing>(2u, 1u, 2u));
  must_hold("magazines of one, two workers and a thread", 3, make_of<sharing>(2u, 1u, 1u));
  must_hold("magazines of two, two workers", 2, make_of<sharing>(3u, 2u, 2u));
}

TEST_CASE("arena: while a magazine is split nobody is told that the arena is full") {
  must_hold("two threads, three cells", 2, make_of<splitting>());
  must_hold("three threads, three cells", 3, make_of<splitting>());
  // Who finds the stack empty must also see that somebody splits, and that he has put back.
  must_need("arena.hpp take: compare acq_rel", std::memory_order_acquire, 3, make_of<splitting>());
  must_need("arena.hpp put_back: change release", std::memory_order_relaxed, 3,
            make_of<splitting>());
}
