// million.cpp: so many fibers parked in a read of one pipe, what each costs in memory, and how they
// all end.
//
// Always true:
//   - Options are the defaults: 256 KiB slots with a guard under each; every fiber has run and is
//     parked with an operation in flight when the figures are taken.
//   - RSS and page tables of the whole process are counted, nothing is subtracted.
//   - Ends with 0 only when both bounds held and every fiber had the answer that its end calls for.
//
// Comes from: tests/programs/million.sh.   Goes to: coir/coir.hpp.
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "coir/coir.hpp"

namespace {

#ifdef __OPTIMIZE__
constexpr double bytes_per_fiber_max = 5000;
#else
constexpr double bytes_per_fiber_max = 9000;  // frames are larger, and touch a second page
#endif
constexpr long mappings_max = 1000;

/// A field of /proc/self/status, in bytes.
double status_bytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind(field + ":", 0) == 0)
      return std::strtod(line.c_str() + field.size() + 1, nullptr) * 1024;
  return 0;
}

long mappings() {
  std::ifstream maps("/proc/self/maps");
  long count = 0;
  for (std::string line; std::getline(maps, line);) ++count;
  return count;
}

double seconds_since(std::chrono::steady_clock::time_point from) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
}

struct answers {
  std::atomic<long> woken{0}, cancelled{0}, other{0};
};

void read_until_ended(int fd, answers& seen) {
  std::byte one{};
  const auto n = coir::io::read(fd, {&one, 1});
  if (n && *n == 0) {
    ++seen.woken;
  } else if (!n && n.error() == std::errc::operation_canceled) {
    ++seen.cancelled;
  } else {
    ++seen.other;
  }
}

bool figures_hold(long count) {
  const double rss = status_bytes("VmRSS");
  const double tables = status_bytes("VmPTE");
  const double each = (rss + tables) / static_cast<double>(count);
  const long maps = mappings();
  std::printf("%ld parked: VmRSS %.0f MB, VmPTE %.0f MB, %.0f bytes per fiber, %ld mappings\n",
              count, rss / 1e6, tables / 1e6, each, maps);
  return each <= bytes_per_fiber_max && maps < mappings_max;
}

bool park_all(coir::runtime& rt, long count, int fd, answers& seen) {
  const auto parking = rt.run([&]() -> coir::result<> { return {}; });
  if (!parking) return false;
  for (long i = 0; i < count; ++i) {
    auto h = rt.spawn([fd, &seen] { read_until_ended(fd, seen); });
    if (!h) return false;
  }
  while (rt.snapshot().total().operations_open < static_cast<std::uint64_t>(count))
    ::usleep(10'000);
  return true;
}

int million(long count, bool by_cancel) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) return 1;
  auto made = coir::runtime::create();
  if (!made) return 1;
  coir::runtime& rt = **made;
  answers seen;
  auto from = std::chrono::steady_clock::now();
  if (!park_all(rt, count, ends[0], seen)) return 1;
  std::printf("spawned and parked in %.2f s\n", seconds_since(from));
  const bool held = figures_hold(count);
  if (const char* const keep = std::getenv("MILLION_KEEP")) ::sleep(std::atoi(keep));
  from = std::chrono::steady_clock::now();
  if (!by_cancel) ::close(ends[1]);
  if (!by_cancel)
    while (seen.woken + seen.other < count) ::usleep(1000);
  const double ended = seconds_since(from);
  if (auto done = rt.shutdown(coir::in(std::chrono::minutes(5))); !done) {
    std::printf("shutdown: %s\n", done.error().message().c_str());
    std::fflush(stdout);
    std::_Exit(1);
  }
  std::printf(
      "ended by %s in %.2f s, shut down after %.2f s: %ld woken, %ld cancelled, %ld other\n",
      by_cancel ? "cancel" : "end of file", ended, seconds_since(from), seen.woken.load(),
      seen.cancelled.load(), seen.other.load());
  const auto from_free = std::chrono::steady_clock::now();
  made->reset();
  std::printf("memory given back in %.2f s\n", seconds_since(from_free));
  return held && (by_cancel ? seen.cancelled : seen.woken) == count ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const long count = argc > 1 ? std::atol(argv[1]) : 100'000;
  const bool by_cancel = argc > 2 && std::strcmp(argv[2], "cancel") == 0;
  return million(count, by_cancel);
}
