// outcome_test.cpp: T1: what each error says of an attempt, also one that comes in another's
// category.
//
// Comes from: coir/outcome.hpp.   Goes to: coir/outcome.hpp.
#include "coir/outcome.hpp"

#include <doctest/doctest.h>

#include <cerrno>
#include <ostream>
#include <string>

#include "coir/result.hpp"

using coir::classify;
using coir::outcome;

namespace {

// A library's own codes, the first of which means what EAGAIN means.
class foreign_category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "foreign"; }
  std::string message(int) const override { return "foreign"; }
  std::error_condition default_error_condition(int code) const noexcept override {
    if (code == 1) return std::errc::operation_would_block;
    if (code == 2) return std::errc::resource_unavailable_try_again;
    return {code, *this};
  }
};
const foreign_category foreign;

static_assert(outcome{} == outcome::failure);
static_assert(coir::is_progress(outcome::ok) && coir::is_progress(outcome::more));
static_assert(!coir::is_progress(outcome::would_block) && !coir::is_progress(outcome::failure));
static_assert(coir::is_semantic(outcome::would_block) && coir::is_semantic(outcome::more));
static_assert(!coir::is_semantic(outcome::ok) && !coir::is_semantic(outcome::failure));
static_assert(coir::to_string(outcome::ok) == "ok");
static_assert(coir::to_string(outcome::would_block) == "would_block");
static_assert(coir::to_string(outcome::more) == "more");
static_assert(coir::to_string(outcome::failure) == "failure");
static_assert(coir::to_string(static_cast<outcome>(77)) == "failure");

struct row {
  std::error_code code;
  outcome expected;
};

}  // namespace

TEST_CASE("outcome: T1 none is ok, what says try again would block, everything else is a failure") {
  const row table[] = {
      {{}, outcome::ok},
      {{0, foreign}, outcome::ok},
      {{EAGAIN, std::generic_category()}, outcome::would_block},
      {{EWOULDBLOCK, std::system_category()}, outcome::would_block},
      {std::make_error_code(std::errc::operation_would_block), outcome::would_block},
      {std::make_error_code(std::errc::resource_unavailable_try_again), outcome::would_block},
      {{1, foreign}, outcome::would_block},  // wrapped: equivalent, not equal
      {{2, foreign}, outcome::would_block},
      {{3, foreign}, outcome::failure},
      {{EAGAIN, foreign}, outcome::failure},  // the number alone says nothing
      {{EINPROGRESS, std::generic_category()}, outcome::failure},
      {{EPIPE, std::system_category()}, outcome::failure},
      {std::make_error_code(std::errc::operation_canceled), outcome::failure},
      {std::make_error_code(std::errc::timed_out), outcome::failure},
      {coir::errc::arena_full, outcome::failure},
      {coir::errc::mailbox_full, outcome::failure},
  };
  for (const row& r : table) {
    CAPTURE(r.code.category().name());
    CAPTURE(r.code.value());
    CHECK(classify(r.code) == r.expected);
  }
}
