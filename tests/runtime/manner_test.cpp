// manner_test.cpp: one byte, every combination.
//
// Comes from: ctest.   Goes to: runtime/manner.hpp.
#include "runtime/manner.hpp"

#include <doctest/doctest.h>

using namespace coir;

TEST_CASE("manner: what goes in comes out, and only the usual one looks usual") {
  unsigned usual_levels = 0;
  for (unsigned p = 0; p < 4; ++p)
    for (unsigned k = 0; k < 4; ++k)
      for (unsigned w = 0; w < 4; ++w) {
        detail::manner m{static_cast<priority>(p), static_cast<workload>(k),
                         static_cast<affinity>(w)};
        for (unsigned hop = 0; hop < 6; ++hop) {
          CHECK(m.prio() == static_cast<priority>(p));
          CHECK(m.kind() == static_cast<workload>(k));
          CHECK(m.where() == static_cast<affinity>(w));
          CHECK(m.hops() == (hop < 3 ? hop : 3));
          m.count_hop();
        }
        usual_levels += m.usual_level() ? 1 : 0;
        CHECK(m.usual_level() == (m.prio() == priority::normal));
        CHECK((m.price() == 1) == (m.kind() == workload::io));
      }
  CHECK(usual_levels == 16);
  CHECK(detail::manner().usual());
}
