// asked.hpp: operations of no kernel, and a dispatcher that answers them out of a script.
#pragma once

#include <doctest/doctest.h>

#include <string_view>
#include <utility>
#include <vector>

#include "coir/handlers.hpp"

namespace test {

using coir::dispatched;

/// Gives back a number; of nothing that a kernel knows.
struct ask_number {
  using value_type = int;
  static constexpr std::string_view name = "test.ask_number";
  int about = 0;
};

struct tell {
  using value_type = void;
  static constexpr std::string_view name = "test.tell";
  int what = 0;
};

inline int number(int about = 0) { return coir::perform(ask_number{about}).value_or(-1); }

/// Answers ask_number out of a script.
struct scripted {
  using handles = coir::operations<ask_number>;
  std::vector<dispatched<int>> script;
  std::size_t asked = 0;
  dispatched<int> dispatch(const ask_number&, coir::dispatch_context<ask_number>&) {
    REQUIRE(asked < script.size());
    return std::move(script[asked++]);
  }
};

template <class... D>
scripted script_of(D... each) {
  scripted s;
  (s.script.push_back(std::move(each)), ...);
  return s;
}

}  // namespace test
