// programs.hpp: other programs as peers: started, listened to, and ended.
//
// Always true:
//   - A program dies with the measurement that started it, and each is waited for.
//
// Comes from: rows_*.cpp.   Goes to: programs.cpp.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace bench {

class program {
 public:
  /// Starts `words` (a path and its arguments) on `cpu` and reads its stdout. Throws.
  /// `same_cpus`: where this process may run.
  static constexpr int same_cpus = -1;
  program(const std::vector<std::string>& words, int cpu);
  program(const program&) = delete;
  program& operator=(const program&) = delete;
  ~program();  ///< kills it if it still runs

  /// The next line of its stdout, without the newline; throws at the end of the output.
  std::string line();
  /// False at the end of the output.
  bool another_line();
  /// User and system time of all its threads so far.
  std::int64_t cpu_ns() const;
  /// Sends SIGTERM and waits; throws unless it ended with 0.
  void end();
  /// Waits; throws unless it ended with 0.
  void wait();

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  std::string unread_;
  std::string name_;
};

}  // namespace bench
