// process_facts.hpp: what a process holds: descriptors and threads, for "as many as before".
//
// Always true:
//   - A count is exact for the caller's own doings; threads that have been joined may linger in
//     /proc for a moment, so threads are waited for.
//
// Comes from: tests of the catalogue.   Goes to: /proc/self.
#pragma once

#include <filesystem>
#include <iterator>
#include <thread>

namespace test {

inline std::size_t entries_of(const char* folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder),
                                                std::filesystem::directory_iterator()));
}

/// Open descriptors, the one that looks included.
inline std::size_t open_fds() { return entries_of("/proc/self/fd"); }

inline std::size_t live_threads() { return entries_of("/proc/self/task"); }

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
