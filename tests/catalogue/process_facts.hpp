// process_facts.hpp: what a process holds: descriptors, threads and mappings, for "as many as
// before".
//
// Always true:
//   - A count is exact for the caller's own doings; threads that have been joined may linger in
//     /proc for a moment, so threads are waited for.
//
// Comes from: tests of the catalogue and of the life of a runtime.   Goes to: /proc/self.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

namespace test {

inline std::size_t entries_of(const char* folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder),
                                                std::filesystem::directory_iterator()));
}

/// Open descriptors, the one that looks included.
inline std::size_t open_fds() { return entries_of("/proc/self/fd"); }

inline std::size_t live_threads() { return entries_of("/proc/self/task"); }

/// Mappings: the lines of /proc/self/maps.
inline std::size_t mappings() {
  std::ifstream maps("/proc/self/maps");
  return static_cast<std::size_t>(
      std::count(std::istreambuf_iterator<char>(maps), std::istreambuf_iterator<char>(), '\n'));
}

/// How often thread `id` of this process has gone to sleep.
inline std::uint64_t sleeps_of_thread(long id) {
  std::ifstream status("/proc/self/task/" + std::to_string(id) + "/status");
  for (std::string word; status >> word;) {
    std::uint64_t count = 0;
    if (word == "voluntary_ctxt_switches:" && status >> count) return count;
  }
  return 0;
}

/// True when every other thread of this process sleeps in the kernel.
inline bool others_sleep() {
  const std::string self = std::to_string(::gettid());
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    if (task.path().filename() == self) continue;
    std::ifstream stat(task.path() / "stat");
    std::string line;
    // The state follows the name, which may hold anything, also parentheses.
    if (!std::getline(stat, line)) continue;  // it has ended meanwhile
    if (line.compare(line.rfind(')') + 1, 2, " S") != 0) return false;
  }
  return true;
}

/// Rings and joined threads end a moment after they were given up. True when `count` says `wanted`
/// within many looks.
template <class Count>
bool comes_down_to(std::size_t wanted, Count count) {
  for (int looks = 0; looks < 100'000; ++looks) {
    if (count() <= wanted) return true;
    std::this_thread::yield();
  }
  return false;
}

}  // namespace test
