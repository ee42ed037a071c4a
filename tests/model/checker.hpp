// checker.hpp: every interleaving of a few threads over the real headers, up to a bound.
//
// A test is a world: its constructor sets up, run(i) is what thread i does, judge() looks at the
// end. explore() runs worlds one after the other, each with other decisions: who goes on at each
// access to a shared word, and which of the stores that the memory model allows a load finds.
//
// Always true:
//   - A world is deterministic but for those decisions and choose(), so a failure is repeated by
//     its schedule: the few decisions that were not the first choice.
//   - A world allocates nothing on its threads: a failed execution is left where it stands.
//   - `exhausted` is said only when every execution within the bounds was looked at.
//
// Comes from: tests/model/*_test.cpp.   Goes to: memory.hpp, arch/context.hpp.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "coir/detail/atomic.hpp"
#include "runtime/base.hpp"

namespace coir::check {

struct view;

class world {
 public:
  world() = default;
  world(const world&) = delete;
  world& operator=(const world&) = delete;
  virtual ~world() = default;
  virtual void run(unsigned thread) = 0;
  virtual void judge() {}
};
using maker = std::function<std::unique_ptr<world>()>;

struct bounds {
  unsigned preemptions = 3;              ///< how often a thread that could go on has to wait
  unsigned stale = 2;                    ///< how often one thread finds an older store of one word
  unsigned spurious = 0;                 ///< how often a weak compare fails without a reason
  unsigned steps = 2'000;                ///< an execution that takes more does not end
  std::uint64_t executions = 5'000'000;  ///< then the search is cut, and not exhausted
};

struct verdict {
  bool failed = false;
  bool exhausted = false;
  std::string why;
  std::string schedule;
  std::string trace;  ///< of the failed execution, one access a line
  std::uint64_t executions = 0;
  std::uint64_t steps = 0;

  bool sound() const noexcept { return exhausted && !failed; }
  std::string text() const;
};

/// Looks at every execution, and stops at the first that fails.
verdict explore(unsigned threads, const maker& make, const bounds& limits = {});

/// The one execution that `schedule` names, with its trace.
verdict replay(unsigned threads, const maker& make, const std::string& schedule,
               const bounds& limits = {});

/// Weakens each order that the world's threads use, one after the other, and returns those of which
/// no execution fails without it: "file function: access order -> weaker order".
std::vector<std::string> unneeded_orders(unsigned threads, const maker& make,
                                         const bounds& limits = {});

/// The search with one order weakened, which unneeded_orders would call `order`.
verdict explore_weakened(const std::string& order, std::memory_order weaker, unsigned threads,
                         const maker& make, const bounds& limits = {});

/// The same for worlds of type W, made from `arguments`.
template <class W, class... Arguments>
maker make_of(Arguments... arguments) {
  return [=] { return std::make_unique<W>(arguments...); };
}

/// Turns one COIR_MUTANT on while it lives.
class mutant {
 public:
  explicit mutant(const char* name) noexcept;
  ~mutant();
  mutant(const mutant&) = delete;
  mutant& operator=(const mutant&) = delete;

 private:
  std::uint64_t before_;
};

// -- for the threads of a world

/// What must hold. The execution ends where it does not.
void require(bool holds, const char* what);
/// Something of the world's own that may be one way or the other: 0 to count - 1.
unsigned choose(unsigned count);
/// The thread that runs.
unsigned self() noexcept;

/// Where a thread sleeps in the kernel until somebody opens it: a backend's wake. Who passes sees
/// all that was done before it was opened, and closes it behind itself.
class gate {
 public:
  gate() noexcept;
  ~gate();
  void open();
  void pass();
  bool is_open() const noexcept { return open_; }

 private:
  bool open_ = false;
  std::unique_ptr<view> view_;  // what was done before it was opened
};

}  // namespace coir::check
