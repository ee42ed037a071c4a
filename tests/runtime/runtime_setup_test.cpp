// runtime_setup_test.cpp: what options and the environment make of a runtime: the backend, the
// number of workers, stacks that keep nothing, and none at all where fibers cannot run.
//
// Always true:
//   - The environment is as before when a test has ended.
//
// Comes from: runtime/runtime_setup.cpp.   Goes to: ctest.
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "coir/coir.hpp"
#include "runtime/runtime.hpp"
#include "tests/arch/pretended_status.hpp"
#include "tests/test_options.hpp"

namespace {

coir::options small() { return test::tested({.workers = 1, .fibers_max = 64, .ring_entries = 8}); }

/// A tree of control groups: each folder's cpu.max, and where a process stands.
class groups {
 public:
  groups() {
    std::string pattern = (std::filesystem::temp_directory_path() / "groups-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    root_ = pattern;
  }
  ~groups() { std::filesystem::remove_all(root_); }
  groups(const groups&) = delete;
  groups& operator=(const groups&) = delete;

  groups& allow(const std::string& group, const std::string& cpu_max) {
    std::filesystem::create_directories(root_ + group);
    std::ofstream(root_ + group + "/cpu.max") << cpu_max << '\n';
    return *this;
  }
  groups& allow_old(const std::string& group, const std::string& quota) {
    std::filesystem::create_directories(root_ + "/cpu" + group);
    std::ofstream(root_ + "/cpu" + group + "/cpu.cfs_quota_us") << quota << '\n';
    std::ofstream(root_ + "/cpu" + group + "/cpu.cfs_period_us") << "100000\n";
    return *this;
  }
  coir::detail::quota_files in(const std::string& lines) const {
    std::ofstream(root_ + "/mine") << lines;
    return {root_ + "/mine", root_};
  }
  unsigned quota_in(const std::string& lines) const {
    return coir::detail::quota_processors(in(lines));
  }

 private:
  std::string root_;
};

}  // namespace

TEST_CASE(
    "runtime_setup: the quota of a process is the least of its control group and those above") {
  groups g;
  g.allow("", "max 100000").allow("/a", "250000 100000").allow("/a/b", "max 100000");
  g.allow("/a/b/c", "50000 100000").allow("/d", "nonsense");
  CHECK(g.quota_in("0::/\n") == 0);
  CHECK(g.quota_in("0::/a\n") == 3);
  CHECK(g.quota_in("0::/a/b\n") == 3);
  CHECK(g.quota_in("0::/a/b/c\n") == 1);
  CHECK(g.quota_in("0::/d\n") == 0);
  CHECK(g.quota_in("1:cpu:/a\n0::/a\n") == 3);
  // A path that this mount does not show, as in a container, leaves what it does show.
  g.allow("", "400000 100000");
  CHECK(g.quota_in("0::/elsewhere/x\n") == 4);
  CHECK(g.quota_in("0::/../y\n") == 4);
  CHECK(g.quota_in("") == 4);
}

TEST_CASE("runtime_setup: a quota of a control group of version 1 counts, the least of all does") {
  groups g;
  g.allow_old("", "-1").allow_old("/a", "250000").allow_old("/a/b", "-1").allow_old("/c", "");
  CHECK(g.quota_in("4:cpu,cpuacct:/\n") == 0);
  CHECK(g.quota_in("4:cpu,cpuacct:/a\n") == 3);
  CHECK(g.quota_in("4:cpuacct,cpu:/a/b\n") == 3);
  CHECK(g.quota_in("4:cpu:/c\n") == 0);
  CHECK(g.quota_in("4:cpuset:/a\n5:memory:/a\n") == 0);
  g.allow("/u", "150000 100000");
  CHECK(g.quota_in("4:cpu:/a\n0::/u\n") == 2);
  g.allow("/u", "900000 100000");
  CHECK(g.quota_in("4:cpu:/a\n0::/u\n") == 3);
}

TEST_CASE("runtime_setup: a runtime has no more workers than the quota of its process allows") {
  groups g;
  g.allow("/one", "90000 100000").allow_old("/one", "100000");
  coir::options o = small();
  o.workers = 0;
  for (const char* const told : {"0::/one\n", "7:cpu,cpuacct:/one\n"}) {
    const auto core = coir::detail::runtime_core::create(o, {}, {}, g.in(told));
    REQUIRE(core.has_value());
    CHECK((*core)->workers() == 1);
  }
  o.workers = 2;  // who says how many wants so many
  const auto core = coir::detail::runtime_core::create(o, {}, {}, g.in("0::/one\n"));
  REQUIRE(core.has_value());
  CHECK((*core)->workers() == 2);
}

TEST_CASE(
    "runtime_setup: COIR_BACKEND decides for automatic, and one that is not known is refused") {
  const char* const was = std::getenv("COIR_BACKEND");
  const std::string before = was == nullptr ? "" : was;
  const auto made_with = [](const char* wish, coir::backend_kind asked, std::string& said) {
    ::setenv("COIR_BACKEND", wish, 1);
    coir::options o = small();
    o.backend = asked;
    o.log = [&said](const coir::log_record& l) { said += l.text; };
    const auto made = coir::runtime::create(std::move(o));
    return made ? std::error_code() : made.error();
  };
  std::string said;
  CHECK_FALSE(made_with("", coir::backend_kind::automatic, said));
  CHECK_FALSE(made_with("uring", coir::backend_kind::automatic, said));
  CHECK_FALSE(made_with("nonsense", coir::backend_kind::uring, said));
  CHECK_FALSE(made_with("poll", coir::backend_kind::automatic, said));
  CHECK_FALSE(made_with("uring", coir::backend_kind::poll, said));
  CHECK(said.empty());
  CHECK(made_with("nonsense", coir::backend_kind::automatic, said) == std::errc::invalid_argument);
  CHECK(said.find("COIR_BACKEND=nonsense") != std::string::npos);
  CHECK(said.find("uring, poll or sim") != std::string::npos);
  ::setenv("COIR_BACKEND", "poll", 1);
  const auto which = [](coir::backend_kind asked) {
    coir::options o = small();
    o.backend = asked;
    return coir::run([] { return std::string(coir::snapshot().backend); }, std::move(o)).value();
  };
  CHECK(which(coir::backend_kind::automatic) == "poll");
  CHECK(which(coir::backend_kind::uring) == "uring");
  ::setenv("COIR_BACKEND", "uring", 1);
  CHECK(which(coir::backend_kind::automatic) == "uring");
  CHECK(which(coir::backend_kind::poll) == "poll");
  was == nullptr ? ::unsetenv("COIR_BACKEND") : ::setenv("COIR_BACKEND", before.c_str(), 1);
}

namespace {

constexpr std::size_t deep_bytes = 4096;

/// Fills the lower end of a large frame and says where it was.
[[gnu::noinline]] void leave_secrets(std::uintptr_t& where) {
  std::array<volatile unsigned char, 4 * deep_bytes> frame;
  for (auto& b : frame) b = 0x5A;
  where = reinterpret_cast<std::uintptr_t>(frame.data());
}

/// How many of them are there; the memory is nobody's frame now.
[[gnu::noinline, gnu::no_sanitize_address, gnu::no_sanitize_thread]] std::size_t secrets_at(
    std::uintptr_t where) {
  const auto* const bytes = reinterpret_cast<const volatile unsigned char*>(where);
  std::size_t found = 0;
  for (std::size_t i = 0; i < deep_bytes; ++i)
    if (bytes[i] == 0x5A) ++found;
  return found;
}

/// What a second fiber finds of the first one's on the stack that it got from it.
std::size_t secrets_found(bool scrub) {
  coir::options o = small();
  o.scrub_on_exit = scrub;
  const auto found = coir::run(
      [] {
        std::uintptr_t where = 0;
        CHECK(coir::spawn([&] { leave_secrets(where); }).join().has_value());
        return coir::spawn([&] {
                 const auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
                 REQUIRE(here > where);
                 REQUIRE(here - where < (256u << 10));  // the same stack
                 return secrets_at(where);
               })
            .join();
      },
      std::move(o));
  REQUIRE(found.has_value());
  return *found;
}

}  // namespace

TEST_CASE(
    "runtime_setup: with scrub_on_exit a fiber finds nothing of the one before it on its stack") {
  CHECK(secrets_found(true) == 0);
  CHECK(secrets_found(false) > deep_bytes / 2);  // else the look above would prove nothing
}

#if COIR_CAN_PRETEND

TEST_CASE(
    "runtime_setup: A13 on a thread with a shadow stack there is no runtime, and one line says "
    "why") {
  enum { made_one, other_code, other_log, refused };
  const auto create = [] {
    coir::options o = small();
    std::string said;
    unsigned lines = 0;
    o.log = [&](const coir::log_record& l) {
      said += l.text;
      lines += l.severity == coir::log_record::level::error ? 1 : 100;
    };
    const auto made = coir::runtime::create(std::move(o));
    if (made) return made_one;
    if (made.error() != std::errc::operation_not_supported) return other_code;
    const bool told = lines == 1 && said.find("shadow stack (CET)") != said.npos &&
                      said.find("GLIBC_TUNABLES=") != said.npos;
    return told ? refused : other_log;
  };
  const int without = test::asked_with(0, create);
  if (without == test::cannot_pretend) return;
  CHECK(without == made_one);
  CHECK(test::asked_with(1, create) == refused);
}

#endif
