// signals.hpp: signals such as SIGTERM as a stream that a fiber reads.
//
// Always true:
//   - While the object lives, its signals are delivered to it and to nothing else, whatever thread
//     the kernel picks; when it ends, the previous dispositions are back.
//   - In the child of a fork the previous dispositions are back, and the object answers
//     errc::foreign_runtime.
//   - The handler only writes one byte to a pipe. signalfd(2) is not used: it sees a signal only
//     when every thread of the process blocks it, and coir does not own the threads it did not
//     start.
//
// Comes from: the user.   Goes to: coir/io.hpp.
#pragma once

#include <initializer_list>
#include <vector>

#include "coir/io.hpp"

namespace coir {

class COIR_API signals {
 public:
  /// Takes over the given signals (SIGTERM, SIGINT, SIGHUP, SIGUSR1, ...; not SIGKILL, SIGSTOP, the
  /// fatal ones or those that the C library keeps for itself: invalid_argument).
  /// device_or_resource_busy when another object holds one of them. Any thread.
  [[nodiscard]] static result<signals> create(std::initializer_list<int> numbers);
  /// The next signal's number. Fibers only. Repeats of one signal may be merged, as the system
  /// does.
  [[nodiscard]] result<int> next(deadline until = never);

  signals(signals&&) noexcept;
  signals& operator=(signals&&) noexcept;
  ~signals();

 private:
  signals() = default;
  void restore() noexcept;
  io::unique_fd read_end_;
  int write_end_ = -1;
  std::vector<int> numbers_;
  unsigned forks_ = 0;  // seen by this process when it was made
};

}  // namespace coir
