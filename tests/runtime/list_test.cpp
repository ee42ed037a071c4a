// list_test.cpp: what list.hpp promises, against std::deque and by death where the promise is to
// stop.
//
// Always true:
//   - Random programs come from fixed seeds, so a failure repeats.
//
// Comes from: runtime/list.hpp.   Goes to: ctest.
#include "runtime/list.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <deque>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

namespace {
using coir::detail::list;
using coir::detail::list_node;
using coir::detail::queue;

struct other_node : list_node {};
struct member_node : list_node {};
struct member : member_node, other_node {
  int name = 0;
};
using line = list<member, member_node>;
using other_line = list<member, other_node>;
using chain = queue<member, member_node>;

static_assert(std::is_trivially_destructible_v<line> && std::is_trivially_destructible_v<chain>);
constinit line line_made_at_compile_time;

std::vector<member> named(int count) {
  std::vector<member> made(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) made[static_cast<std::size_t>(i)].name = i;
  return made;
}

template <class Line>
std::vector<int> drained(Line& from) {
  std::vector<int> names;
  while (member* const one = from.pop_front()) names.push_back(one->name);
  return names;
}

/// True if `act` ends its process by SIGABRT.
template <class Act>
bool stops(Act act) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::signal(SIGABRT, SIG_DFL);
    ::dup2(::open("/dev/null", O_WRONLY), STDERR_FILENO);
    act();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}
}  // namespace

TEST_CASE("list: members leave in the order they came, and front jumps the line") {
  auto m = named(4);
  line l;
  CHECK(l.empty());
  CHECK(l.pop_front() == nullptr);
  l.push_back(m[1]);
  l.push_back(m[2]);
  l.push_front(m[0]);
  l.push_back(m[3]);
  CHECK(l.front() == &m[0]);
  CHECK(l.back() == &m[3]);
  CHECK(l.after(m[1]) == &m[2]);
  CHECK(l.after(m[3]) == nullptr);
  CHECK(drained(l) == std::vector<int>{0, 1, 2, 3});
  CHECK(l.empty());
  CHECK(l.front() == nullptr);
}

TEST_CASE("list: a random program agrees with a deque, and each member knows if it is linked") {
  std::mt19937 random(1);
  auto m = named(16);
  line l;
  std::deque<member*> model;
  for (int step = 0; step < 20'000; ++step) {
    member& one = m[random() % m.size()];
    const auto at = std::find(model.begin(), model.end(), &one);
    REQUIRE(one.member_node::linked() == (at != model.end()));
    if (at != model.end()) {
      l.erase(one);
      model.erase(at);
    } else if (random() % 4 == 0) {
      l.push_front(one);
      model.push_front(&one);
    } else if (random() % 4 == 0) {
      const auto place = model.begin() + static_cast<std::ptrdiff_t>(random() % (model.size() + 1));
      l.insert(place == model.end() ? nullptr : *place, one);
      model.insert(place, &one);
    } else {
      l.push_back(one);
      model.push_back(&one);
    }
    REQUIRE(l.empty() == model.empty());
    REQUIRE(l.front() == (model.empty() ? nullptr : model.front()));
    REQUIRE(l.back() == (model.empty() ? nullptr : model.back()));
    if (random() % 64 == 0 && !model.empty()) {
      REQUIRE(l.pop_front() == model.front());
      model.pop_front();
    }
  }
}

TEST_CASE("list: a member may stand in two lists, one for each of its nodes") {
  auto m = named(2);
  line l;
  other_line o;
  for (member& one : m) {
    l.push_back(one);
    o.push_front(one);
  }
  l.erase(m[0]);
  CHECK_FALSE(m[0].member_node::linked());
  CHECK(m[0].other_node::linked());
  CHECK(drained(o) == std::vector<int>{1, 0});
  CHECK(drained(l) == std::vector<int>{1});
}

TEST_CASE("list: a list made at compile time is empty and usable") {
  auto m = named(1);
  CHECK(line_made_at_compile_time.empty());
  line_made_at_compile_time.push_back(m[0]);
  CHECK(line_made_at_compile_time.pop_front() == &m[0]);
}

TEST_CASE_TEMPLATE("list: splice appends all members in order and leaves the other one empty", Line,
                   line, chain) {
  for (int ours = 0; ours <= 2; ++ours) {
    for (int theirs = 0; theirs <= 2; ++theirs) {
      auto m = named(ours + theirs + 1);
      Line a;
      Line b;
      std::vector<int> expected;
      for (int i = 0; i < ours + theirs; ++i) {
        (i < ours ? a : b).push_back(m[static_cast<std::size_t>(i)]);
        expected.push_back(i);
      }
      a.splice_back(std::move(b));
      CHECK(b.empty());       // NOLINT(bugprone-use-after-move): the promise
      a.push_back(m.back());  // both ends still work
      expected.push_back(ours + theirs);
      CHECK(drained(a) == expected);
      b.push_back(m[0]);
      CHECK(drained(b) == std::vector<int>{0});
    }
  }
}

TEST_CASE("list: members of a queue leave in the order they came, and the last one is linked too") {
  auto m = named(4);
  chain q;
  CHECK(q.pop_front() == nullptr);
  q.push_back(m[1]);
  CHECK(chain::linked(m[1]));
  CHECK(chain::after(m[1]) == nullptr);
  q.push_back(m[2]);
  q.push_front(m[0]);
  q.push_back(m[3]);
  CHECK(chain::after(m[1]) == &m[2]);
  CHECK(q.front() == &m[0]);
  CHECK(drained(q) == std::vector<int>{0, 1, 2, 3});
  for (const member& one : m) CHECK_FALSE(chain::linked(one));
  q.push_front(m[2]);
  q.push_back(m[3]);
  CHECK(drained(q) == std::vector<int>{2, 3});
}

TEST_CASE("list: a random program on a queue agrees with a deque") {
  std::mt19937 random(2);
  auto m = named(16);
  chain q;
  std::deque<member*> model;
  for (int step = 0; step < 20'000; ++step) {
    member& one = m[random() % m.size()];
    if (chain::linked(one)) {
      REQUIRE(q.pop_front() == model.front());
      model.pop_front();
    } else if (random() % 4 == 0) {
      q.push_front(one);
      model.push_front(&one);
    } else {
      q.push_back(one);
      model.push_back(&one);
    }
    REQUIRE(q.empty() == model.empty());
    REQUIRE(q.front() == (model.empty() ? nullptr : model.front()));
  }
}

TEST_CASE("list: a moved queue takes its members along") {
  auto m = named(2);
  chain from;
  from.push_back(m[0]);
  from.push_back(m[1]);
  chain to(std::move(from));
  CHECK(from.empty());  // NOLINT(bugprone-use-after-move): the promise
  CHECK(drained(to) == std::vector<int>{0, 1});
}

TEST_CASE("list: linking a linked member or taking out an unlinked one stops the process") {
  auto m = named(1);
  line l;
  chain q;
  CHECK_FALSE(stops([&] { l.push_back(m[0]), l.erase(m[0]), q.push_back(m[0]), q.pop_front(); }));
  CHECK(stops([&] { l.erase(m[0]); }));
  CHECK(stops([&] { l.push_back(m[0]), l.push_back(m[0]); }));
  CHECK(stops([&] { l.push_back(m[0]), l.push_front(m[0]); }));
  CHECK(stops([&] { l.push_back(m[0]), l.erase(m[0]), l.erase(m[0]); }));
  CHECK(stops([&] { q.push_back(m[0]), q.push_back(m[0]); }));
  CHECK(stops([&] { q.push_back(m[0]), q.push_front(m[0]); }));
  CHECK(stops([&] { chain::after(m[0]); }));
}
