// options_test.cpp: how the suite is made small: what COIR_TEST_OPTIONS changes and what not.
//
// Always true:
//   - Without it the small run would pass by running the large one.
//
// Comes from: ctest.   Goes to: tests/test_options.hpp.
#include <doctest/doctest.h>
#include <stdlib.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coir/coir.hpp"
#include "tests/catalogue/child.hpp"
#include "tests/test_options.hpp"

using test::tested;

namespace {

/// Sets the variable, and gives back afterwards what it was.
class environment {
 public:
  explicit environment(const char* value) {
    if (const char* const old = ::getenv(name)) before_ = old;
    ::setenv(name, value, 1);
  }
  environment(const environment&) = delete;
  environment& operator=(const environment&) = delete;
  ~environment() {
    if (before_) {
      ::setenv(name, before_->c_str(), 1);
    } else {
      ::unsetenv(name);
    }
  }

 private:
  static constexpr const char* name = "COIR_TEST_OPTIONS";
  std::optional<std::string> before_;
};

constexpr const char* small = "ring_entries=8,mailbox_slots=1,fibers_max=64";

}  // namespace

TEST_CASE("options: the environment lowers what is larger, whoever chose it, and raises nothing") {
  const environment set(small);
  const coir::options o = tested({.workers = 3, .fibers_max = 65, .ring_entries = 4});
  CHECK(o.workers == 3);
  CHECK(o.fibers_max == 64);
  CHECK(o.ring_entries == 4);
  CHECK(o.mailbox_slots == 1);
  CHECK(o.run_budget == coir::options().run_budget);
  CHECK(test::tested_config(2).fibers_max == 64);
}

TEST_CASE("options: a runtime of the small configuration has room for 64 fibers and no more") {
  const environment set(small);
  const auto filled = coir::run(
      [] {
        coir::event go;
        std::vector<coir::handle<void>> all;
        while (auto h = coir::try_spawn([&go] { CHECK(go.wait().has_value()); }))
          all.push_back(std::move(*h));
        go.set();
        for (auto& h : all) CHECK(h.join().has_value());
        return all.size();
      },
      tested({.workers = 1}));
  CHECK(filled.value() == 63);  // and the one that counts
}

TEST_CASE("options: a mailbox of the small configuration has one place") {
  const environment set(small);
  const auto made = coir::runtime::create(tested({.workers = 1}));
  REQUIRE(made.has_value());
  // Nobody empties it before the start.
  auto first = (*made)->try_spawn([] {});
  REQUIRE(first.has_value());
  CHECK((*made)->try_spawn([] {}).error() == coir::errc::mailbox_full);
  CHECK((*made)->shutdown().has_value());
}

TEST_CASE("options: a name or a number that is not understood ends the program") {
  for (const char* wrong : {"fiber_max=64", "fibers_max", "fibers_max=", "fibers_max=x"}) {
    const environment set(wrong);
    const test::ending end = test::in_child([] { (void)tested({}); });
    CHECK(end.code == 2);
    CHECK(end.says("is not understood"));
  }
}
