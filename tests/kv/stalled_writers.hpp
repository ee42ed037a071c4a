// stalled_writers.hpp: writers of a journal who wait while a sync does, and what is found on a
// disk.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "on_fibers.hpp"
#include "recording_file.hpp"

namespace kv_test {

using texts = std::vector<std::string>;

inline texts replay(disk& d) {
  recorder r;
  auto log = open_journal(d, r);
  REQUIRE(log.has_value());
  return r.texts;
}

/// Appends `count` texts, each on a fiber of its own, while the sync of an earlier one waits.
struct stalled_writers {
  std::vector<coir::handle<std::uint64_t>> all;
  stalled_writers(kv::journal& log, disk& d, int count) {
    d.stalled = true;
    all.push_back(start([&log] { return log.append(bytes_of("first")); }));
    REQUIRE(d.at_the_sync.wait().has_value());
    for (int i = 0; i < count; ++i)
      all.push_back(
          start([&log, i] { return log.append(bytes_of("later " + std::to_string(i))); }));
  }
  void go_on(disk& d) {
    d.stalled = false;
    d.go_on.set();
  }
};

}  // namespace kv_test
