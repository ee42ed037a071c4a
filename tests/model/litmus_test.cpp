// litmus_test.cpp: the checker itself: the classical small programs, each with the outcomes that
// the memory model of C++ allows, no fewer and no more.
//
// Always true:
//   - An outcome is the registers of the readers, joined by commas.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>

#include "tests/model/checker.hpp"

using namespace coir::check;
using coir::detail::atomic;
using coir::detail::fence;
using coir::detail::plain;
using order = std::memory_order;
using outcomes = std::set<std::string>;

namespace {

constexpr auto relaxed = order::relaxed;
constexpr auto acquire = order::acquire;
constexpr auto release = order::release;
constexpr auto acq_rel = order::acq_rel;
constexpr auto seq_cst = order::seq_cst;

/// Words and registers; what the threads do comes from the test.
struct small {
  atomic<int> x{0}, y{0}, z{0};
  plain<int> data{0};
  int r[4] = {};
};
using body = std::function<void(small&)>;

struct program : world {
  program(std::vector<body> b, outcomes& f, unsigned n)
      : bodies(std::move(b)), found(f), shown(n) {}
  void run(unsigned thread) override { bodies[thread](words); }
  void judge() override {
    std::string text;
    for (unsigned i = 0; i < shown; ++i) text += (i == 0 ? "" : ",") + std::to_string(words.r[i]);
    found.insert(text);
  }
  std::vector<body> bodies;
  outcomes& found;
  unsigned shown;
  small words;
};

/// All outcomes of these threads. No bound but that of the programs themselves.
outcomes of(unsigned registers, std::vector<body> bodies) {
  outcomes found;
  bounds all;
  all.preemptions = 100;
  all.stale = 100;
  const auto threads = static_cast<unsigned>(bodies.size());
  const verdict v = explore(
      threads, [&] { return std::make_unique<program>(bodies, found, registers); }, all);
  CHECK_MESSAGE(v.sound(), v.text());
  return found;
}

verdict whole(std::vector<body> bodies) {
  outcomes found;
  const auto threads = static_cast<unsigned>(bodies.size());
  return explore(threads, [&] { return std::make_unique<program>(bodies, found, 0); });
}

outcomes store_buffering(order stores, order loads, bool fenced) {
  return of(2, {[=](small& s) {
                  s.x.store(1, stores);
                  if (fenced) fence(seq_cst);
                  s.r[0] = s.y.load(loads);
                },
                [=](small& s) {
                  s.y.store(1, stores);
                  if (fenced) fence(seq_cst);
                  s.r[1] = s.x.load(loads);
                }});
}

outcomes message_passing(order publish, order look) {
  return of(2, {[=](small& s) {
                  s.x.store(1, relaxed);
                  s.y.store(1, publish);
                },
                [=](small& s) {
                  s.r[0] = s.y.load(look);
                  s.r[1] = s.x.load(relaxed);
                }});
}

outcomes independent_reads(order stores, order loads) {
  const auto reader = [=](atomic<int> small::*first, atomic<int> small::*second, unsigned at) {
    return [=](small& s) {
      s.r[at] = (s.*first).load(loads);
      s.r[at + 1] = (s.*second).load(loads);
    };
  };
  return of(4, {[=](small& s) { s.x.store(1, stores); }, [=](small& s) { s.y.store(1, stores); },
                reader(&small::x, &small::y, 0), reader(&small::y, &small::x, 2)});
}

}  // namespace

TEST_CASE("litmus: store buffering: both may miss the other unless seq_cst keeps them apart") {
  const outcomes strong = {"0,1", "1,0", "1,1"};
  outcomes weak = strong;
  weak.insert("0,0");
  CHECK(store_buffering(relaxed, relaxed, false) == weak);
  CHECK(store_buffering(release, acquire, false) == weak);
  CHECK(store_buffering(relaxed, relaxed, true) == strong);
  CHECK(store_buffering(seq_cst, seq_cst, false) == strong);
  CHECK(store_buffering(seq_cst, acquire, false) == weak);
}

TEST_CASE("litmus: message passing: release and acquire together, neither alone") {
  const outcomes strong = {"0,0", "0,1", "1,1"};
  outcomes weak = strong;
  weak.insert("1,0");
  CHECK(message_passing(release, acquire) == strong);
  CHECK(message_passing(relaxed, acquire) == weak);
  CHECK(message_passing(release, relaxed) == weak);
  CHECK(message_passing(relaxed, relaxed) == weak);
}

TEST_CASE("litmus: message passing by fences: a release fence before, an acquire fence after") {
  const auto with = [](order before, order after) {
    return of(2, {[=](small& s) {
                    s.x.store(1, relaxed);
                    if (before != relaxed) fence(before);
                    s.y.store(1, relaxed);
                  },
                  [=](small& s) {
                    s.r[0] = s.y.load(relaxed);
                    if (after != relaxed) fence(after);
                    s.r[1] = s.x.load(relaxed);
                  }});
  };
  CHECK(with(release, acquire) == outcomes{"0,0", "0,1", "1,1"});
  CHECK(with(acq_rel, acq_rel) == outcomes{"0,0", "0,1", "1,1"});
  CHECK(with(relaxed, acquire) == outcomes{"0,0", "0,1", "1,0", "1,1"});
  CHECK(with(release, relaxed) == outcomes{"0,0", "0,1", "1,0", "1,1"});
}

TEST_CASE("litmus: coherence: one thread never sees a word go back") {
  CHECK(of(2, {[](small& s) {
                 s.x.store(1, relaxed);
                 s.x.store(2, relaxed);
               },
               [](small& s) {
                 s.r[0] = s.x.load(relaxed);
                 s.r[1] = s.x.load(relaxed);
               }}) == outcomes{"0,0", "0,1", "0,2", "1,1", "1,2", "2,2"});
  // Nor does it miss its own store.
  CHECK(of(1, {[](small& s) {
                 s.x.store(1, relaxed);
                 s.r[0] = s.x.load(relaxed);
               },
               [](small& s) { s.x.store(2, relaxed); }}) == outcomes{"1", "2"});
}

TEST_CASE("litmus: a relaxed load may find an old store although the new one was made long ago") {
  CHECK(of(2, {[](small& s) {
                 s.x.store(1, relaxed);
                 s.y.store(1, relaxed);
               },
               [](small& s) {
                 while (s.y.load(relaxed) == 0) return;
                 s.r[0] = 1;
                 s.r[1] = s.x.load(relaxed);
               }}) == outcomes{"0,0", "1,0", "1,1"});
}

TEST_CASE("litmus: independent reads of independent writes: one order for all at seq_cst only") {
  const outcomes strong = independent_reads(seq_cst, seq_cst);
  const outcomes weak = independent_reads(release, acquire);
  CHECK(strong.size() == 15);
  CHECK(strong.count("1,0,1,0") == 0);
  CHECK(weak.size() == 16);
  CHECK(weak.count("1,0,1,0") == 1);
}

TEST_CASE("litmus: who reads through somebody else still sees what came before") {
  const auto chain = [](order last) {
    return of(2, {[](small& s) {
                    s.x.store(1, relaxed);
                    s.y.store(1, release);
                  },
                  [](small& s) {
                    if (s.y.load(acquire) == 1) s.z.store(1, release);
                  },
                  [=](small& s) {
                    s.r[0] = s.z.load(last);
                    s.r[1] = s.x.load(relaxed);
                  }});
  };
  CHECK(chain(acquire) == outcomes{"0,0", "0,1", "1,1"});
  CHECK(chain(relaxed) == outcomes{"0,0", "0,1", "1,0", "1,1"});
}

TEST_CASE("litmus: a read-modify-write finds the newest store, and goes on with its release") {
  const auto add = [](small& s) { s.x.fetch_add(1, relaxed); };
  const auto last = [](unsigned at) {
    return [at](small& s) { s.r[at] = s.x.fetch_add(1, relaxed); };
  };
  CHECK(of(2, {last(0), last(1), add}) == outcomes{"0,1", "1,0", "0,2", "2,0", "1,2", "2,1"});
  // Another thread's relaxed change keeps the release of the store before; its store does not.
  const auto through = [](bool changes) {
    return of(2, {[](small& s) {
                    s.y.store(1, relaxed);
                    s.x.store(1, release);
                  },
                  [=](small& s) {
                    int one = 1;
                    if (changes) {
                      s.x.compare_exchange_strong(one, 2, relaxed, relaxed);
                    } else if (s.x.load(relaxed) == 1) {
                      s.x.store(2, relaxed);
                    }
                  },
                  [](small& s) {
                    s.r[0] = s.x.load(acquire) == 2;
                    s.r[1] = s.y.load(relaxed);
                  }});
  };
  CHECK(through(true) == outcomes{"0,0", "0,1", "1,1"});
  CHECK(through(false) == outcomes{"0,0", "0,1", "1,0", "1,1"});
}

TEST_CASE("litmus: of many compares with one value exactly one succeeds; who fails may read old") {
  const auto claim = [](unsigned at) {
    return [at](small& s) {
      int zero = 0;
      s.r[at] = s.x.compare_exchange_strong(zero, 1, relaxed, relaxed) ? 1 : 0;
    };
  };
  CHECK(of(3, {claim(0), claim(1), claim(2)}) == outcomes{"1,0,0", "0,1,0", "0,0,1"});
  CHECK(of(1, {[](small& s) {
                 s.x.store(1, relaxed);
                 s.x.store(2, relaxed);
               },
               [](small& s) {
                 int seen = 7;
                 s.x.compare_exchange_strong(seen, 8, relaxed, relaxed);
                 s.r[0] = seen;
               }}) == outcomes{"0", "1", "2"});
}

TEST_CASE("checker: plain data needs an order between the one who writes and the one who reads") {
  const auto passed_with = [](order publish, order look) {
    return whole({[=](small& s) {
                    s.data = 1;
                    s.y.store(1, publish);
                  },
                  [=](small& s) {
                    if (s.y.load(look) == 1) require(s.data == 1, "the data is there");
                  }});
  };
  CHECK(passed_with(release, acquire).sound());
  for (const auto& v : {passed_with(relaxed, acquire), passed_with(release, relaxed)}) {
    CHECK(v.failed);
    CHECK(v.why.find("races") != std::string::npos);
    CHECK_FALSE(v.trace.empty());
  }
  // Fences that do not meet in a word order nothing plain.
  CHECK(whole({[](small& s) {
                 s.data = 1;
                 fence(seq_cst);
               },
               [](small& s) {
                 fence(seq_cst);
                 (void)s.data.get();
               }})
            .failed);
}

TEST_CASE("checker: threads that wait for each other are found, and so are those that spin") {
  struct crossed : world {
    gate a, b;
    void run(unsigned thread) override {
      (thread == 0 ? a : b).pass();
      (thread == 0 ? b : a).open();
    }
  };
  const verdict v = explore(2, make_of<crossed>());
  CHECK(v.failed);
  CHECK(v.why.find("nobody can go on") != std::string::npos);
  CHECK(whole({[](small& s) {
          while (s.x.load(relaxed) == 0) (void)s.y.load(relaxed);
        }}).why.find("does not end") != std::string::npos);
}

TEST_CASE("checker: a schedule repeats its failure, and only the bound decides whether it is met") {
  // Needs three preemptions: the second thread has to come in twice, and to be left once.
  struct twice : world {
    atomic<int> x{0}, y{0};
    void run(unsigned thread) override {
      if (thread == 0) {
        x.store(1, relaxed);
        const int first = y.load(seq_cst);
        x.store(2, relaxed);
        const int second = y.load(seq_cst);
        require(!(first == 1 && second == 2), "the other one came in twice");
      } else {
        while (x.load(seq_cst) < 1) return;
        y.store(1, seq_cst);
        while (x.load(seq_cst) < 2) return;
        y.store(2, seq_cst);
      }
    }
  };
  bounds few;
  few.preemptions = 2;
  CHECK(explore(2, make_of<twice>(), few).sound());
  bounds enough;
  enough.preemptions = 3;
  const verdict v = explore(2, make_of<twice>(), enough);
  REQUIRE(v.failed);
  const verdict again = replay(2, make_of<twice>(), v.schedule, enough);
  CHECK(again.failed);
  CHECK(again.why == v.why);
  CHECK(again.trace == v.trace);
  CHECK(std::count(v.schedule.begin(), v.schedule.end(), 't') == 3);
  CHECK_FALSE(replay(2, make_of<twice>(), "").failed);
}

TEST_CASE("checker: a search that is cut does not say that it was exhausted") {
  bounds cut;
  cut.executions = 3;
  outcomes found;
  const std::vector<body> two = {[](small& s) { s.x.fetch_add(1); },
                                 [](small& s) {
                                   for (int i = 0; i < 4; ++i) s.x.fetch_add(1);
                                 }};
  const verdict v = explore(
      2, [&] { return std::make_unique<program>(two, found, 0); }, cut);
  CHECK_FALSE(v.exhausted);
  CHECK_FALSE(v.sound());
}

TEST_CASE("checker: an order that nothing depends on is named, one that something needs is not") {
  outcomes found;
  const std::vector<body> passing = {[](small& s) {
                                       s.data = 1;
                                       s.x.store(1, release);
                                       s.y.store(1, release);
                                     },
                                     [](small& s) {
                                       if (s.y.load(acquire) == 1) (void)s.data.get();
                                     }};
  const auto unneeded =
      unneeded_orders(2, [&] { return std::make_unique<program>(passing, found, 0); });
  REQUIRE(unneeded.size() == 1);
  CHECK(unneeded[0].find("release -> relaxed") != std::string::npos);
}
