// adder.hpp: the machine that most tests of state_machine are about: it adds what comes in.
#pragma once

#include <doctest/doctest.h>

#include <utility>
#include <vector>

#include "coir/coir.hpp"
#include "on_fiber.hpp"

namespace test {

struct counter {
  int value = 0;
};

using adder = coir::state_machine<int, int, counter>;

/// What a machine holds after `inputs` inputs at once have each run `body`; and who was refused.
template <class Body>
std::pair<int, int> sum_of(int inputs, Body body) {
  int refused = 0, sum = 0;
  on_fiber([&] {
    auto m = adder::create({}, [&](int add, adder::context& ctx) -> coir::result<int> {
      if (add != 0) return body(ctx);
      return ctx.peek()->value;
    });
    std::vector<coir::handle<int>> callers;
    for (int i = 0; i < inputs; ++i) callers.push_back(coir::spawn([&m] { return m->call(1); }));
    for (auto& c : callers) {
      const auto answer = c.join();
      if (answer) continue;
      CHECK(answer.error() == coir::errc::state_changed);
      ++refused;
    }
    sum = m->call(0).value();
  });
  return {sum, refused};
}

inline void park() { CHECK(coir::perform(coir::nop{}).has_value()); }

}  // namespace test
