// machine_test.cpp: what is read of a machine that the test writes down as the kernel would, and
// what the workers of a runtime make of it.
//
// Comes from: ctest.   Goes to: runtime/machine.hpp, runtime_setup.cpp.
#include "runtime/machine.hpp"

#include <doctest/doctest.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "coir/coir.hpp"
#include "runtime/runtime.hpp"
#include "tests/runtime/scripted_backend.hpp"
#include "tests/test_options.hpp"

using namespace coir::detail;
using test::tested;

namespace {

/// A folder like /sys/devices/system, gone with this.
class written {
 public:
  written() {
    char name[] = "/tmp/coir_machine_XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    root_ = name;
  }
  ~written() { std::filesystem::remove_all(root_); }
  written(const written&) = delete;
  written& operator=(const written&) = delete;

  void say(const std::string& file, const std::string& text) const {
    const std::filesystem::path at = std::filesystem::path(root_) / file;
    std::filesystem::create_directories(at.parent_path());
    std::ofstream(at) << text << '\n';
  }
  void processor(unsigned n, const std::string& siblings, const std::string& sharing) const {
    const std::string one = "cpu/cpu" + std::to_string(n);
    say(one + "/topology/thread_siblings_list", siblings);
    say(one + "/cache/index0/level", "1");
    say(one + "/cache/index0/shared_cpu_list", siblings);
    say(one + "/cache/index1/level", "3");
    say(one + "/cache/index1/shared_cpu_list", sharing);
  }
  const std::string& root() const { return root_; }

 private:
  std::string root_;
};

/// Two nodes of two caches of two cores of two threads, numbered as Linux does: 0 and 8 are one
/// core.
machine two_nodes() {
  const written w;
  std::vector<unsigned> all;
  for (unsigned n = 0; n < 16; ++n) {
    const unsigned core = n % 8;
    const unsigned cache = core / 2 * 2;
    const auto pair = [](unsigned a, unsigned b) {
      return std::to_string(a) + "," + std::to_string(b);
    };
    w.processor(n, pair(core, core + 8),
                std::to_string(cache) + "-" + std::to_string(cache + 1) + "," +
                    std::to_string(cache + 8) + "-" + std::to_string(cache + 9));
    all.push_back(n);
  }
  w.say("node/online", "0-1");
  w.say("node/node0/cpulist", "0-3,8-11");
  w.say("node/node1/cpulist", "4-7,12-15");
  return machine::read(w.root(), all);
}

std::unique_ptr<runtime_core> core_on(const machine& where, coir::options o) {
  o.workers = 16;
  auto made = runtime_core::create(tested(std::move(o)), {}, where);
  REQUIRE(made.has_value());
  return std::move(*made);
}
unsigned as_near(runtime_core& core, distance d) {
  return core.at(0).as_pusher().around->within(d);
}

/// The node of the page that lies at `place`; -1: the kernel does not say.
int node_of(const void* place) {
  int node = -1;
  return ::syscall(SYS_get_mempolicy, &node, nullptr, 0, place, MPOL_F_NODE | MPOL_F_ADDR) == 0
             ? node
             : -1;
}

constexpr const char* left_out = "left out where set_mempolicy is refused, as in containers";

/// If not, says what is left out.
bool nodes_may_be_chosen() {
  if (prefer_own_node() == 0) return true;
  MESSAGE(left_out);
  return false;
}

}  // namespace

TEST_CASE("machine: who shares a core, a cache, a node is read from the kernel's lists") {
  const machine m = two_nodes();
  const auto apart = [&m](unsigned a, unsigned b) { return between(m.of(a), m.of(b)); };
  CHECK(apart(0, 8) == distance::sibling);
  CHECK(apart(0, 0) == distance::sibling);
  CHECK(apart(0, 1) == distance::cluster);
  CHECK(apart(0, 9) == distance::cluster);
  CHECK(apart(0, 2) == distance::node);
  CHECK(apart(3, 11) == distance::sibling);
  CHECK(apart(0, 4) == distance::any);
  CHECK(apart(7, 12) == distance::node);
  CHECK(m.widest() == distance::any);
  CHECK(m.of(16).number == 0);  // more workers than processors
}

TEST_CASE("machine: what is not told is far away") {
  const written w;
  w.processor(0, "0", "0-1");
  w.say("cpu/cpu1/topology/thread_siblings_list", "");
  w.say("node/online", "0");
  w.say("node/node0/cpulist", "0");
  const machine m = machine::read(w.root(), {0, 1, 2});
  for (unsigned a = 0; a < 3; ++a)
    for (unsigned b = 0; b < 3; ++b)
      CHECK(between(m.of(a), m.of(b)) == (a == b ? distance::sibling : distance::any));
  CHECK(machine().widest() == distance::any);
}

namespace {

/// A kernel that thinks 4,096 processors possible, and gives this process three of them.
int ask_large_kernel(std::size_t bytes, cpu_set_t* into) noexcept {
  if (bytes < 4096 / 8) return EINVAL;
  CPU_ZERO_S(bytes, into);
  for (const unsigned n : {5, 1500, 4095}) CPU_SET_S(n, bytes, into);
  return 0;
}
int refuse(std::size_t, cpu_set_t*) noexcept { return EPERM; }
int find_too_small(std::size_t, cpu_set_t*) noexcept { return EINVAL; }

/// What became of `o` where nobody tells which processors there are, and what was said of it.
struct told {
  std::error_code error = {};
  unsigned workers = 0;
  std::string said = {};
};
told create_unseeing(coir::options o) {
  told all;
  o.log = [&all](const coir::log_record& line) { all.said += std::string(line.text) + "\n"; };
  scripted::script s;
  const auto make = [&s](unsigned, const coir::options&) {
    return coir::result<std::unique_ptr<backend>>(std::make_unique<scripted::outside>(s));
  };
  const auto made = runtime_core::create(tested(std::move(o)), make, {}, {}, &refuse);
  if (made) all.workers = (*made)->workers();
  if (!made) all.error = made.error();
  return all;
}

}  // namespace

TEST_CASE("machine: however many processors are possible, those of this process are found") {
  CHECK(allowed_processors(&ask_large_kernel).value() == std::vector<unsigned>{5, 1500, 4095});
  CHECK(allowed_processors(&refuse).error() == std::errc::operation_not_permitted);
  CHECK(allowed_processors(&find_too_small).error() == std::errc::invalid_argument);
  const auto mine = allowed_processors();
  REQUIRE(mine.has_value());
  CHECK_FALSE(mine->empty());
  CHECK(std::ranges::is_sorted(*mine));
  const auto core = runtime_core::create(tested({}), {}, {}, {}, &ask_large_kernel);
  REQUIRE(core.has_value());
  CHECK((*core)->processors() <= 3);  // a quota may say less
  CHECK((*core)->workers() == (*core)->processors());
  CHECK(pin_to({processors_most}) == EINVAL);
}

TEST_CASE("machine: where nobody tells the processors, who is to be pinned is refused") {
  const told pinned = create_unseeing({.workers = 1, .pin_workers = true});
  REQUIRE(pinned.error == std::errc::operation_not_permitted);
  CHECK(pinned.said.find("sched_getaffinity: ") == 0);
  CHECK(pinned.said.find("options::pin_workers") != pinned.said.npos);
  const told near = create_unseeing({.workers = 2, .pin_workers = true, .numa_placement = true});
  CHECK(near.error == std::errc::operation_not_permitted);
  // Everybody else is told what was taken instead.
  const told any = create_unseeing({});
  CHECK_FALSE(any.error);
  CHECK(any.workers == 1);
  CHECK(any.said.find("set options::workers") != any.said.npos);
  const told two = create_unseeing({.workers = 2});
  CHECK(two.workers == 2);
  CHECK(two.said.find("equally far") != two.said.npos);
  CHECK(create_unseeing({.workers = 1}).said.empty());
}

TEST_CASE("machine: memory near workers of whose nodes nothing is known is told of") {
  if (!nodes_may_be_chosen()) return;
  for (const unsigned node : {0u, processor::nothing}) {
    std::string said;
    coir::options o{.workers = 2, .pin_workers = true, .numa_placement = true};
    o.log = [&said](const coir::log_record& line) { said += line.text; };
    const machine where({{0, 0, 0, node}, {1, 1, 1, node}});
    CHECK(runtime_core::create(tested(o), {}, where).has_value());
    CHECK((said.find("numa_placement") != said.npos) == (node == processor::nothing));
  }
  CHECK(::syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0) == 0);
}

TEST_CASE("machine: pinned workers are as far from each other as their processors") {
  const auto core = core_on(two_nodes(), {.pin_workers = true});
  CHECK(as_near(*core, distance::sibling) == 1);
  CHECK(as_near(*core, distance::cluster) == 3);
  CHECK(as_near(*core, distance::node) == 7);
  CHECK(as_near(*core, distance::any) == 15);
}

TEST_CASE("machine: workers that wander are as far as it can be, in a global one nobody is near") {
  const auto wandering = core_on(two_nodes(), {});
  CHECK(as_near(*wandering, distance::node) == 0);
  CHECK(as_near(*wandering, distance::any) == 15);
  const auto global = core_on(two_nodes(), {.topo = coir::topology::global, .pin_workers = true});
  CHECK(as_near(*global, distance::node) == 0);
  CHECK(as_near(*global, distance::any) == 15);
  std::vector<processor> one_cache;
  for (unsigned n = 0; n < 16; ++n) one_cache.push_back({n, n, 0, 0});
  const auto small = core_on(machine(one_cache), {});
  CHECK(as_near(*small, distance::sibling) == 0);
  CHECK(as_near(*small, distance::cluster) == 15);
}

TEST_CASE(
    "machine: threads for what blocks run where the process may, also where workers are pinned") {
  const auto all = allowed_processors();
  REQUIRE(all.has_value());
  auto made = coir::runtime::create(tested({.workers = 1, .pin_workers = true}));
  REQUIRE(made.has_value());
  const auto ended = (*made)->run([&] {
    CHECK(allowed_processors()->size() == 1);
    const auto there = coir::blocking([] { return allowed_processors()->size(); });
    REQUIRE(there.has_value());
    CHECK(*there == all->size());
  });
  CHECK(ended.has_value());
}

TEST_CASE("machine: a pinned worker runs on its processor and no other, its memory is its node's") {
  for (const bool near : {false, true}) {
    auto made =
        coir::runtime::create(tested({.workers = 2, .pin_workers = true, .numa_placement = near}));
    // A container may refuse set_mempolicy; then the line in the log says so, and there is nothing
    // to see.
    if (!made && near && made.error() == std::errc::operation_not_permitted) {
      MESSAGE(left_out);
      continue;
    }
    REQUIRE(made.has_value());
    const auto here = allowed_processors();
    REQUIRE(here.has_value());
    const auto ended = (*made)->run([&] {
      for (unsigned i = 0; i < 2; ++i) {
        const auto looked =
            coir::spawn(
                [&, i] {
                  cpu_set_t set;
                  CPU_ZERO(&set);
                  CHECK(::sched_getaffinity(0, sizeof set, &set) == 0);
                  CHECK(CPU_COUNT(&set) == 1);
                  CHECK(CPU_ISSET((*here)[i % here->size()], &set));
                  int mode = -1;
                  if (near) {
                    CHECK(::syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 0) == 0);
                    CHECK(mode == MPOL_LOCAL);
                    unsigned here_node = 0;
                    CHECK(::getcpu(nullptr, &here_node) == 0);
                    worker* const mine = worker::current();
                    // The record, the stack, and the queues and the mailbox of the worker.
                    const void* const places[] = {mine->stands_on(), &mode, mine, &mine->mail()};
                    for (const void* place : places) CHECK(node_of(place) == int(here_node));
                  }
                },
                {.worker = i})
                .join();
        CHECK(looked.has_value());
      }
    });
    CHECK(ended.has_value());
  }
}

TEST_CASE("machine: a node is preferred for a while, and then what was wanted before") {
  const auto policy = [] {
    int mode = -1;
    CHECK(::syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 0) == 0);
    return mode;
  };
  if (!nodes_may_be_chosen()) return;
  {
    const prefers_node near(0);
    REQUIRE(near.refusal() == 0);
    CHECK(policy() == MPOL_PREFERRED);
  }
  CHECK(policy() == MPOL_LOCAL);
  CHECK(::syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0) == 0);
}

TEST_CASE("machine: what is made for a worker, its ring, queues and mailbox, comes from its node") {
  if (!nodes_may_be_chosen()) return;
  scripted::script s;
  unsigned made = 0;
  bool near = false;
  const auto make = [&](unsigned, const coir::options&) -> coir::result<std::unique_ptr<backend>> {
    int mode = -1;
    std::array<unsigned long, 16> nodes{};
    CHECK(::syscall(SYS_get_mempolicy, &mode, nodes.data(), 64 * nodes.size(), nullptr, 0) == 0);
    CHECK(mode == (near ? MPOL_PREFERRED : MPOL_LOCAL));
    if (near) CHECK(nodes[0] == 1);
    ++made;
    return std::unique_ptr<backend>(std::make_unique<scripted::outside>(s));
  };
  const std::vector<processor> node_0{{0, 0, 0, 0}, {1, 1, 1, 0}};
  for (const bool asked : {false, true}) {
    near = asked;
    const coir::options o{.workers = 2, .pin_workers = true, .numa_placement = asked};
    CHECK(runtime_core::create(tested(o), make, machine(node_0)).has_value());
  }
  CHECK(made == 4);
  CHECK(::syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0) == 0);
}

TEST_CASE("machine: memory near a worker that wanders is refused with a line") {
  std::string said;
  coir::options o{.workers = 1, .numa_placement = true};
  o.log = [&said](const coir::log_record& line) { said += line.text; };
  const auto made = coir::runtime::create(tested(o));
  CHECK(made.error() == std::errc::invalid_argument);
  CHECK(said.find("pin_workers") != said.npos);
}
