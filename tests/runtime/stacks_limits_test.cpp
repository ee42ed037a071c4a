// stacks_limits_test.cpp: what happens where there is no further stack: a bound, the mappings, the
// address space, locked memory; what many stacks cost; and the next owner of a pool.
//
// Always true:
//   - What changes a limit of the process runs in a child of its own.
//
// Comes from: ctest.   Goes to: runtime/stacks.hpp.
#include "runtime/stacks.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "tests/runtime/stacks_seen.hpp"

using namespace coir::detail;
using coir::guard;

namespace {

using test::class_for;
using test::guarded;
using test::kib;
using test::pool_of;
using test::refused;
using test::usable;

std::size_t lines_of_maps() {
  std::ifstream maps("/proc/self/maps");
  return static_cast<std::size_t>(std::count(std::istreambuf_iterator<char>(maps), {}, '\n'));
}

std::size_t mappings_max() {
  std::size_t value = 0;
  std::ifstream("/proc/sys/vm/max_map_count") >> value;
  return value;
}

/// The figure of a line of /proc/self/status, in KiB.
std::size_t status_kib(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == name + ":") {
      std::size_t value = 0;
      status >> value;
      return value;
    }
  }
  return 0;
}

/// One mapping as /proc/self/smaps describes it.
struct vm_area {
  std::size_t bytes = 0;
  std::string flags = {};
  bool has(const char* flag) const { return flags.find(std::string(" ") + flag) != flags.npos; }
};

vm_area area_of(const std::byte* byte) {
  const auto at = reinterpret_cast<std::uintptr_t>(byte);
  vm_area area;
  std::ifstream smaps("/proc/self/smaps");
  for (std::string line; std::getline(smaps, line);) {
    unsigned long long low = 0, high = 0;
    if (std::sscanf(line.c_str(), "%llx-%llx ", &low, &high) == 2)
      area.bytes = low <= at && at < high ? high - low : 0;
    if (area.bytes != 0 && line.rfind("VmFlags:", 0) == 0) {
      area.flags = line;
      break;
    }
  }
  REQUIRE(area.bytes != 0);
  return area;
}

bool resident(const std::byte* page) {
  unsigned char answer = 0;
  auto at = reinterpret_cast<std::uintptr_t>(page) & ~(real_page_bytes() - 1);
  REQUIRE(mincore(reinterpret_cast<void*>(at), 1, &answer) == 0);
  return (answer & 1) != 0;
}

bool all_zero(const stack& s) {
  const std::byte* end = s.slot + stack_slot_bytes(s.klass);
  return std::all_of(static_cast<const std::byte*>(s.bottom), end,
                     [](std::byte b) { return b == std::byte{0}; });
}

bool guards_by_madvise() {
  auto pool = pool_of({});
  return pool->way() == guard_way::madvise;
}

/// Runs `body` in a child of its own; true when it says so. For limits and locks of a process.
template <class F>
bool in_child(F body) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) _exit(body() ? 0 : 1);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

struct log_lines {
  std::vector<std::string> lines;
  std::function<void(const coir::log_record&)> sink() {
    return [this](const coir::log_record& record) { lines.emplace_back(record.text); };
  }
};

}  // namespace

TEST_CASE(
    "stacks: a bound is exact, is told once, and one stack given back serves another worker") {
  log_lines log;
  int stirred = 0;
  stack_settings settings;
  settings.stacks_max = 8;
  settings.log = log.sink();
  settings.stir = [&] { ++stirred; };
  auto pool = pool_of(settings);
  stack_cache one(*pool), two(*pool);
  const unsigned klass = class_for(64 * kib), other = class_for(128 * kib);
  std::vector<stack> taken;
  for (int i = 0; i < 8; ++i) taken.push_back(one.take(klass));
  for (const stack& s : taken) CHECK(s);
  CHECK_FALSE(pool->starved());
  CHECK(stirred == 0);
  CHECK_FALSE(two.take(klass));
  CHECK_FALSE(two.take(other));
  CHECK(pool->starved());
  CHECK(pool->stats().limit_hits == 2);
  CHECK(pool->stats().slots == 8);
  REQUIRE(log.lines.size() == 1);
  CHECK(log.lines[0].find("fibers_max") != std::string::npos);

  CHECK(stirred == 1);  // once, for whoever keeps some
  one.give(taken.back());
  CHECK(stirred == 2);
  const stack served = two.take(other);
  CHECK(served);
  CHECK(pool->starved());  // the first class was refused too, and has not been served yet
  taken.back() = served;
  two.give(taken.front());
  taken.front() = one.take(klass);
  CHECK(taken.front());
  CHECK_FALSE(pool->starved());
  for (const stack& s : taken) two.give(s);
  CHECK(pool->stats().bound == 0);
}

TEST_CASE("stacks: while a worker starves, the others keep no stack to themselves") {
  stack_settings settings;
  settings.stacks_max = 8;
  settings.warm_max = 4;
  auto pool = pool_of(settings);
  stack_cache rich(*pool), poor(*pool);
  const unsigned klass = class_for(64 * kib);
  std::vector<stack> taken;
  for (int i = 0; i < 8; ++i) taken.push_back(rich.take(klass));
  rich.give(taken[0]);
  rich.give(taken[1]);
  CHECK(rich.warm() == 2);
  CHECK_FALSE(poor.take(klass));
  rich.give(taken[2]);
  CHECK(rich.warm() == 2);  // passed on to the pool
  const stack first = poor.take(klass);
  CHECK(first.slot == taken[2].slot);
  CHECK_FALSE(poor.take(klass));
  rich.flush();
  CHECK(rich.warm() == 0);
  const stack second = poor.take(klass);
  CHECK(second);
  poor.give(first);
  poor.give(second);
  for (int i = 3; i < 8; ++i) rich.give(taken[static_cast<std::size_t>(i)]);
  CHECK(pool->stats().bound == 0);
}

TEST_CASE("stacks: a worker's own warm stacks of other classes do not make the bound refuse it") {
  log_lines log;
  stack_settings settings;
  settings.stacks_max = 4;
  settings.warm_max = 4;
  settings.log = log.sink();
  auto pool = pool_of(settings);
  stack_cache cache(*pool);
  const unsigned klass = class_for(64 * kib), other = class_for(128 * kib);
  std::vector<stack> taken;
  for (int i = 0; i < 4; ++i) taken.push_back(cache.take(klass));
  for (const stack& s : taken) cache.give(s);
  const stack s = cache.take(other);
  CHECK(s);
  CHECK(pool->stats().limit_hits == 0);
  CHECK(log.lines.empty());
  cache.give(s);
}

TEST_CASE(
    "stacks: guards by mprotect stop at their share of vm.max_map_count, and one line says so") {
  log_lines log;
  stack_settings settings;
  settings.way = guard_way::mprotect;
  settings.log = log.sink();
  settings.guards_max = 20;
  auto pool = pool_of(settings);
  stack_cache cache(*pool);
  const unsigned klass = class_for(64 * kib);
  std::vector<stack> taken;
  while (const stack s = cache.take(klass)) taken.push_back(s);
  CHECK(taken.size() == 20);
  CHECK_FALSE(cache.take(klass));
  CHECK(pool->stats().limit_hits == 2);
  REQUIRE(log.lines.size() == 1);
  CHECK(log.lines[0].find("vm.max_map_count") != std::string::npos);
  CHECK(log.lines[0].find("sysctl") != std::string::npos);
  cache.give(taken.back());
  taken.back() = cache.take(klass);
  CHECK(taken.back());
  for (const stack& s : taken) cache.give(s);
}

TEST_CASE(
    "stacks: A10 the real limit of mappings is met with an answer, and mappings are left over") {
  const std::size_t lines = lines_of_maps();
  log_lines log;
  stack_settings settings;
  settings.way = guard_way::mprotect;
  settings.log = log.sink();
  auto pool = pool_of(settings);
  stack_cache cache(*pool);
  const unsigned klass = class_for(16 * kib);
  std::vector<stack> taken;
  // 200,000 is more than half of what a common limit allows; a machine with a higher one ends here.
  while (taken.size() < 200'000) {
    const stack s = cache.take(klass);
    if (!s) break;
    taken.push_back(s);
  }
  CHECK(taken.size() > 1000);
  if (taken.size() < 200'000) {
    CHECK(log.lines.size() == 1);
    CHECK(pool->stats().limit_hits == 1);
  }
  const bool own_mappings = COIR_ASAN || COIR_TSAN;  // sanitizers map pieces of their own
  CHECK((own_mappings || lines_of_maps() <= lines + mappings_max() / 2 + 10));
  void* more = mmap(nullptr, real_page_bytes(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(more != MAP_FAILED);
  munmap(more, real_page_bytes());
}

// ThreadSanitizer maps shadow for every stack, and its mappings are counted along with ours.
TEST_CASE("stacks: A10 50,000 stacks cost few mappings and 513 bytes of page table each" *
          doctest::skip(COIR_TSAN)) {
  if (!guards_by_madvise()) return;
  auto pool = pool_of({});
  stack_cache cache(*pool);
  const unsigned klass = class_for(256 * kib);
  const std::size_t lines = lines_of_maps();
  const std::size_t tables = status_kib("VmPTE");
  std::vector<stack> taken(50'000);
  for (stack& s : taken) s = cache.take(klass);
  CHECK(lines_of_maps() < lines + 100);
  const double each =
      1024.0 * static_cast<double>(status_kib("VmPTE") - tables) / static_cast<double>(50'000);
  CHECK(each < 540);
  CHECK_FALSE(resident(taken.back().top - 1));  // nobody ran on it: it costs no page
  CHECK(guarded(taken.front()));
  CHECK(guarded(taken.back()));
  for (std::size_t i = 0; i < taken.size(); i += 1000) *(taken[i].top - 1) = std::byte{1};
  CHECK(lines_of_maps() < lines + 100);
}

TEST_CASE("stacks: E6 only slots that were made can appear in a core dump") {
  auto pool = pool_of({});
  stack_cache cache(*pool);
  const stack s = cache.take(class_for(256 * kib));
  const vm_area area = area_of(s.top - 1);
  const std::size_t dumped_bytes = area.has("dd") ? 0 : area.bytes;
  CHECK(dumped_bytes >= s.bytes());
  CHECK(dumped_bytes <= std::size_t{64} << 20);  // of a region of 1 GiB
  cache.give(s);
}

TEST_CASE("stacks: no stack is ever part of a huge page") {
  void* const probe =
      mmap(nullptr, real_page_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(probe != MAP_FAILED);
  const bool known = madvise(probe, real_page_bytes(), MADV_NOHUGEPAGE) == 0;
  munmap(probe, real_page_bytes());
  if (!known) return;  // a kernel without huge pages
  for (const std::size_t bytes : {64 * kib, 256 * kib, stack_largest_bytes}) {
    auto pool = pool_of({});
    stack_cache cache(*pool);
    const stack s = cache.take(class_for(bytes));
    CHECK(area_of(s.bottom).has("nh"));
    CHECK(area_of(s.top - 1).has("nh"));
    cache.give(s);
  }
}

TEST_CASE(
    "stacks: locked memory gets guards that hold, small regions, and is scrubbed all the same") {
  const bool ok = in_child([] {
    // Asked of the kernel directly: sanitizers make the library's call do nothing.
    if (syscall(SYS_mlockall, MCL_FUTURE) != 0)
      return true;  // not allowed here: nothing to find out
    stack_settings settings;
    settings.scrub = true;
    auto made = stacks::make(settings);
    if (!made || (*made)->way() == guard_way::none) return false;
    stack_cache cache(**made);
    const stack s = cache.take(*stack_class(64 * kib));
    if (!s || !guarded(s) || !usable(s)) return false;
    std::memset(s.bottom, 0xa5, s.bytes());
    cache.give(s);
    return cache.take(s.klass).slot == s.slot && all_zero(s) && status_kib("VmLck") < 64 * kib;
  });
  CHECK(ok);
}

TEST_CASE("stacks: memory locked after the start moves the guards to mprotect, with one note") {
  const bool ok = in_child([] {
    log_lines log;
    stack_settings settings;
    settings.log = log.sink();
    settings.region_bytes = 128 * kib;
    auto pool = std::move(*stacks::make(settings));
    if (pool->way() != guard_way::madvise) return true;
    stack_cache cache(*pool);
    const unsigned klass = *stack_class(64 * kib);
    const stack before = cache.take(klass);
    if (syscall(SYS_mlock, before.slot + 64 * kib, 64 * kib) != 0) return true;
    const stack s = cache.take(klass), t = cache.take(klass);
    return guarded(before) && s.slot == before.slot + 64 * kib && guarded(s) && usable(s) &&
           guarded(t) && pool->way() == guard_way::mprotect && log.lines.size() == 1 &&
           log.lines[0].find("mlockall") != std::string::npos && pool->stats().limit_hits == 0;
  });
  CHECK(ok);
}

#if !COIR_ASAN && !COIR_TSAN  // their shadow is larger than any address space limit
TEST_CASE("stacks: E3 an address space limit is an empty answer that names it, and no abort") {
  const bool ok = in_child([] {
    const rlimit limit = {std::size_t{256} << 20, std::size_t{256} << 20};
    if (setrlimit(RLIMIT_AS, &limit) != 0) return false;
    log_lines log;
    stack_settings settings;
    settings.log = log.sink();
    auto pool = std::move(*stacks::make(settings));
    stack_cache cache(*pool);
    std::size_t count = 0;
    while (cache.take(*stack_class(1024 * kib))) ++count;
    return count >= 64 && count <= 256 && log.lines.size() == 1 &&
           log.lines[0].find("RLIMIT_AS") != std::string::npos;
  });
  CHECK(ok);
}
#endif

TEST_CASE("stacks: the next owner of a pool gets the same slots, guarded, as if they were new") {
  for (const guard guards : {guard::every, guard::grouped}) {
    stack_settings settings;
    settings.guards = guards;
    auto pool = pool_of(settings);
    const unsigned klass = class_for(64 * kib);
    const auto some = [&](std::size_t count) {
      stack_cache cache(*pool);
      std::vector<stack> all(count);
      for (stack& each : all) each = cache.take(klass);
      CHECK(pool->stats().slots == count);
      CHECK(pool->stats().guards == (guards == guard::every ? count : (count + 15) / 16));
      for (const stack& each : all) CHECK(usable(each));
      if (guards == guard::every)
        for (const stack& each : all) CHECK(guarded(each));
      std::vector<std::byte*> slots;
      for (const stack& each : all) slots.push_back(each.slot);
      for (const stack& each : all) cache.give(each);
      return slots;
    };
    const auto first = some(3);
    REQUIRE(pool->serve_next(settings));
    // More than the last owner had, in the order in which they are cut.
    const auto second = some(20);
    CHECK(std::equal(first.begin(), first.end(), second.begin()));
  }
}

TEST_CASE("stacks: a pool that is in use, or is another one's, serves nobody else") {
  auto pool = pool_of({});
  stack_settings alike;
  stack_settings others;
  others.scrub = true;
  CHECK_FALSE(pool->serve_next(others));
  others = {};
  others.guards = guard::none;
  CHECK_FALSE(pool->serve_next(others));
  {
    const stack_cache used(*pool);
    CHECK_FALSE(pool->serve_next(alike));
  }
  CHECK(pool->serve_next(alike));
  // A bound is the next owner's.
  stack_settings small;
  small.stacks_max = 1;
  CHECK(pool->serve_next(small));
  stack_cache cache(*pool);
  const stack only = cache.take(class_for(64 * kib));
  CHECK(only);
  CHECK_FALSE(cache.take(class_for(64 * kib)));
  cache.give(only);
}
