// refusal_test.cpp: shadow stacks are refused by name, and nothing else is.
//
// Always true:
//   - A kernel that says "switched on" is played by a filter in a child of its own: no processor
//     with shadow stacks is needed.
#include "arch/refusal.hpp"

#include <doctest/doctest.h>

#include <string_view>

#include "tests/arch/pretended_status.hpp"

using namespace coir;

TEST_CASE("refusal: a thread with a shadow stack is refused, with the name and the remedy") {
  const char* const said = arch::refusal_of(0, 1);
  REQUIRE(said != nullptr);
  const std::string_view text = said;
  CHECK(text.find("switched on") != text.npos);
  CHECK(text.find("GLIBC_TUNABLES=") != text.npos);
  CHECK(arch::refusal_of(0, 3) == said);  // and programs may write to it
}

TEST_CASE("refusal: who has none, or a kernel that does not know them, is not refused") {
  CHECK(arch::refusal_of(0, 0) == nullptr);
  CHECK(arch::refusal_of(0, 2) == nullptr);
  CHECK(arch::refusal_of(-1, 0) == nullptr);
  CHECK(arch::refusal_of(-1, 1) == nullptr);
}

#if COIR_CAN_PRETEND

TEST_CASE("refusal: A13 it is the kernel that is asked, and what it says counts") {
  enum { not_refused, refused };
  const auto ask = [] { return arch::refusal() == nullptr ? not_refused : refused; };
  const int without = test::asked_with(0, ask);
  if (without == test::cannot_pretend) return;
  CHECK(without == not_refused);
  CHECK(test::asked_with(1, ask) == refused);
}

#endif
