// on_fibers.hpp: runs the body of a test on a fiber, and gives it a folder that is gone afterwards.
#pragma once

#include <doctest/doctest.h>
#include <stdlib.h>

#include <coir/coir.hpp>
#include <filesystem>
#include <ostream>
#include <string>
#include <utility>

#include "../test_options.hpp"

namespace kv_test {

/// An exception of the body, such as that of a failed REQUIRE, comes out here.
template <class F>
void on_fibers(F body, unsigned workers = 2) {
  const auto ended = coir::run(std::move(body), test::tested({.workers = workers}));
  REQUIRE_MESSAGE(ended.has_value(), ended.error().message());
}

/// Spawns `body` on this worker and returns once it has run up to its first park. For one worker.
template <class F>
auto start(F body) {
  bool begun = false;
  auto made = coir::spawn(
      [&begun, body = std::move(body)] {
        begun = true;
        return body();
      },
      {.worker = coir::this_fiber::worker()});
  while (!begun) coir::this_fiber::yield();
  return made;
}

class folder {
 public:
  folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "kv-test-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  folder(const folder&) = delete;
  folder& operator=(const folder&) = delete;
  ~folder() { std::filesystem::remove_all(path_); }
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

}  // namespace kv_test
