// fiber_test.cpp: the record: what a fresh one says, how large it is, and that its words fit
// together.
//
// Comes from: runtime/fiber.hpp.   Goes to: ctest.
#include "runtime/fiber.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <new>
#include <set>

using namespace coir::detail;

TEST_CASE("fiber: the memory that was never used is zero, and says that no record was there") {
  auto bytes = std::make_unique<std::byte[]>(record_bytes + cache_line_bytes);
  void* place = bytes.get();
  std::size_t space = record_bytes + cache_line_bytes;
  REQUIRE(std::align(cache_line_bytes, record_bytes, place, space) != nullptr);
  std::memset(place, 0, record_bytes);
  CHECK(static_cast<record*>(place)->shared == nullptr);
  auto* const r = ::new (place) record;
  CHECK(r->at == stage::finished);
  CHECK(r->home.load() == no_home);
  CHECK(r->generation.load() == 0);
  CHECK(r->held == holds::nothing);
  CHECK_FALSE(r->waits_to_start());
  CHECK(r->stack_slot == nullptr);
  r->~record();
}

TEST_CASE("fiber: a record waits to start while it is in its worker's list, and only then") {
  record a;
  record b;
  list<record, queue_node> unstarted;
  list<record, scope_node> children;
  unstarted.push_back(a);
  children.push_back(b);
  CHECK(a.waits_to_start());
  CHECK_FALSE(b.waits_to_start());
  children.push_back(a);
  CHECK(unstarted.pop_front() == &a);
  CHECK_FALSE(a.waits_to_start());
  CHECK(children.pop_front() == &b);
  CHECK(children.pop_front() == &a);
}

TEST_CASE("fiber: the flags of the wake word are separate, and lie below the epoch") {
  const std::set<std::uint64_t> flags{wake_queued, wake_claimed, wake_cancelled, wake_orphan};
  CHECK(flags.size() == 4);
  std::uint64_t all = 0;
  for (const std::uint64_t f : flags) {
    CHECK((f & (f - 1)) == 0);
    all |= f;
  }
  CHECK(all < wake_epoch);
  CHECK((wake_epoch & (wake_epoch - 1)) == 0);
}

TEST_CASE("fiber: what a parked fiber costs beside its stack page stays within 256 bytes") {
  CHECK(record_bytes <= 256);
  CHECK(record_bytes % cache_line_bytes == 0);
  CHECK(alignof(record) <= cache_line_bytes);
  CHECK(sizeof(stack_head) <= stack_header_bytes);
}

TEST_CASE("fiber: a refusal is kept in the record and read back as it was") {
  record r;
  r.fail_with(coir::make_error_code(coir::errc::stack_limit));
  CHECK(r.held == holds::error);
  CHECK(r.error() == coir::errc::stack_limit);
}
