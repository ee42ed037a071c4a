// exceptions_test.cpp: two stacks on one thread, each with exceptions of its own.
//
// Always true:
//   - No doctest check stands inside a fiber: bodies note what they saw, the thread judges it.
#include "arch/exceptions.hpp"

#include <doctest/doctest.h>

#include <exception>
#include <string>
#include <vector>

#include "tests/arch/loose_fiber.hpp"
#include "tests/arch/two_threads.hpp"

namespace {

using namespace coir;
using namespace coir::test;
using fiber = loose_fiber<>;

struct of_fiber {
  int number;
};
struct of_thread {
  int number;
};

/// What the C++ runtime says about the stack it is asked on.
struct in_flight {
  int uncaught = -1;
  bool current = true;
  static in_flight now() {
    return {std::uncaught_exceptions(), std::current_exception() != nullptr};
  }
  bool operator==(const in_flight&) const = default;
};
constexpr in_flight nothing{0, false};

/// Parks in its destructor and notes what was in flight before and after.
struct parks_while_destroyed {
  fiber& self;
  in_flight& before;
  in_flight& after;
  ~parks_while_destroyed() {
    before = in_flight::now();
    self.park();
    after = in_flight::now();
  }
};

/// Resumes a fiber in its destructor.
struct resumes_while_destroyed {
  fiber& other;
  in_flight& before;
  in_flight& after;
  ~resumes_while_destroyed() {
    before = in_flight::now();
    other.resume();
    after = in_flight::now();
  }
};

/// The number of the exception that is being handled, rethrown to be seen.
template <class Kind>
int rethrown_number() {
  try {
    throw;
  } catch (const Kind& it) {
    return it.number;
  } catch (...) {
    return -1;
  }
}

}  // namespace

TEST_CASE("exceptions: A4 a fresh fiber has none, although the thread unwinds and handles some") {
  in_flight in_unwinding, in_handler, before, after;
  fiber first([&](auto&) { in_unwinding = in_flight::now(); });
  fiber second([&](auto&) { in_handler = in_flight::now(); });
  try {
    const resumes_while_destroyed guard{first, before, after};
    throw of_thread{1};
  } catch (const of_thread&) {
    second.resume();
    CHECK(in_flight::now() == in_flight{0, true});
  }
  CHECK(in_unwinding == nothing);
  CHECK(in_handler == nothing);
  CHECK(before.uncaught == 1);
  CHECK(after == before);
  CHECK(in_flight::now() == nothing);
}

TEST_CASE("exceptions: A4 a fiber may park in a destructor while an exception unwinds it") {
  in_flight before, after, at_end;
  int caught = 0;
  fiber unwinding([&](auto& self) {
    try {
      const parks_while_destroyed guard{self, before, after};
      throw of_fiber{7};
    } catch (const of_fiber& it) {
      caught = it.number;
    }
    at_end = in_flight::now();
  });
  unwinding.resume();
  const in_flight on_thread = in_flight::now();
  int thread_caught = 0;
  try {
    throw of_thread{8};
  } catch (const of_thread& it) {
    thread_caught = it.number;
    unwinding.resume();
    CHECK(rethrown_number<of_thread>() == 8);
  }
  CHECK(before.uncaught == 1);
  CHECK(on_thread == nothing);
  CHECK(after == before);
  CHECK(caught == 7);
  CHECK(thread_caught == 8);
  CHECK(at_end == nothing);
  CHECK(in_flight::now() == nothing);
}

TEST_CASE("exceptions: A4 a fiber that parked in a handler rethrows its own exception") {
  int rethrown = 0;
  in_flight in_handler;
  fiber handling([&](auto& self) {
    try {
      throw of_fiber{21};
    } catch (...) {
      self.park();
      in_handler = in_flight::now();
      rethrown = rethrown_number<of_fiber>();
    }
  });
  handling.resume();
  CHECK(in_flight::now() == nothing);
  try {
    throw of_thread{22};
  } catch (...) {
    handling.resume();
    CHECK(rethrown_number<of_thread>() == 22);
  }
  CHECK(in_handler == in_flight{0, true});
  CHECK(rethrown == 21);
}

TEST_CASE("exceptions: A4 two fibers nest handlers in turns and each leaves its own") {
  std::vector<int> seen;
  const auto nest = [&seen](fiber& self, int base) {
    try {
      throw of_fiber{base};
    } catch (...) {
      self.park();
      try {
        throw of_fiber{base + 1};
      } catch (...) {
        self.park();
        seen.push_back(rethrown_number<of_fiber>());
        self.park();
      }
      seen.push_back(rethrown_number<of_fiber>());
      self.park();
    }
    seen.push_back(std::current_exception() == nullptr ? 0 : -1);
  };
  fiber one([&](fiber& self) { nest(self, 10); });
  fiber two([&](fiber& self) { nest(self, 20); });
  while (!one.done() || !two.done()) {
    if (!one.done()) one.resume();
    if (!two.done()) two.resume();
  }
  CHECK(seen == std::vector<int>{11, 21, 10, 20, 0, 0});
}

TEST_CASE("exceptions: A4 a handler that was left is not found again by a later park") {
  in_flight after_handler;
  int uncaught_later = -1;
  fiber once([&](auto& self) {
    try {
      throw of_fiber{1};
    } catch (...) {
      self.park();
    }
    self.park();
    after_handler = in_flight::now();
    try {
      throw of_fiber{2};
    } catch (...) {
      uncaught_later = std::uncaught_exceptions();
    }
  });
  while (!once.done()) once.resume();
  CHECK(after_handler == nothing);
  CHECK(uncaught_later == 0);
}

TEST_CASE("exceptions: A5 a handler of everything in a fiber stays on that fiber") {
  std::string order;
  fiber swallowing([&](auto& self) {
    for (int round = 0; round < 3; ++round) {
      try {
        throw of_fiber{round};
      } catch (...) {
        order += 'c';
        self.park();
      }
      order += 'p';
      self.park();
    }
  });
  while (!swallowing.done()) {
    swallowing.resume();
    order += 't';
  }
  CHECK(order == "ctptctptctptt");
  CHECK(in_flight::now() == nothing);
}

TEST_CASE("exceptions: a swap moves one state in and the other out, and costs nothing when empty") {
  int somewhere = 0;
  arch::exception_state live{&somewhere, 2}, save, restore;
  arch::swap_exception_state(live, save, restore);
  CHECK(live.any() == 0);
  CHECK(save.caught == &somewhere);
  CHECK(save.uncaught == 2);

  arch::exception_state nobody;
  arch::swap_exception_state(live, nobody, save);
  CHECK(live.caught == &somewhere);
  CHECK(live.uncaught == 2);
  CHECK(save.any() == 0);
  CHECK(nobody.any() == 0);

  // An exception on its way that nobody caught yet counts, and so does a caught one.
  CHECK((arch::exception_state{nullptr, 1}.any() != 0));
  CHECK((arch::exception_state{&somewhere, 0}.any() != 0));
}

TEST_CASE("exceptions: the state of this thread is the one the C++ runtime uses") {
  const auto* live = arch::thread_exception_state();
  CHECK(live->any() == 0);
  try {
    throw of_thread{5};
  } catch (...) {
    CHECK(live->caught != nullptr);
    CHECK(live == arch::thread_exception_state());
  }
  CHECK(live->any() == 0);
}

TEST_CASE("exceptions: A4 a fiber that changed its thread asks again and is told the new place") {
  const arch::exception_state* before = nullptr;
  const arch::exception_state* after = nullptr;
  const arch::exception_state* of_thread[2] = {};
  int rethrown = 0;
  in_flight at_end;
  fiber wanders([&](auto& self) {
    before = arch::thread_exception_state();
    try {
      throw of_fiber{33};
    } catch (...) {
      self.park_in_place();
      after = arch::thread_exception_state();
      rethrown = rethrown_number<of_fiber>();
    }
    at_end = in_flight::now();
  });
  two_threads threads;
  for (unsigned which : {0u, 1u}) {
    threads.on(which, [&, which] {
      of_thread[which] = arch::thread_exception_state();
      wanders.bare().adopt();
      wanders.resume();
    });
  }
  CHECK(before == of_thread[0]);
  CHECK(after == of_thread[1]);
  CHECK(before != after);
  CHECK(rethrown == 33);
  CHECK(at_end == nothing);
}
