// scripted.hpp: a source and a sink that answer what a test has written down, one answer a call.
//
// Always true:
//   - An answer gives or takes the bytes it says, also beside "not now", "more" or an error.
//   - After the last answer a source has ended, and a sink takes everything.
//
// Comes from: tests/api/copy_test.cpp, tests/api/tee_test.cpp.   Goes to: coir/copy.hpp.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <deque>
#include <string>
#include <system_error>
#include <utility>

#include "coir/copy.hpp"

namespace test {

inline const std::error_code broken = std::make_error_code(std::errc::io_error);
inline const std::error_code later = std::make_error_code(std::errc::operation_would_block);

struct given {
  std::string text;
  coir::outcome how = coir::outcome::ok;
  std::error_code error = {};
};

struct scripted_source {
  std::deque<given> answers;
  unsigned reads = 0;

  coir::io::moved read_some(std::span<std::byte> into, coir::deadline) {
    ++reads;
    if (answers.empty()) return {};
    given& next = answers.front();
    const std::size_t n = std::min(next.text.size(), into.size());
    std::memcpy(into.data(), next.text.data(), n);
    if (n < next.text.size()) {  // what does not fit comes first next time, and says the rest then
      next.text.erase(0, n);
      return {n};
    }
    const given last = std::move(next);
    answers.pop_front();
    return {n, last.how, last.error};
  }
};

/// The same with a place to go back to, which it refuses when it is told to.
struct seekable_source {
  std::string text;
  bool refuses = false;
  std::size_t at = 0;
  unsigned seeks = 0;

  coir::io::moved read_some(std::span<std::byte> into, coir::deadline) {
    const std::size_t n = std::min(text.size() - at, into.size());
    std::memcpy(into.data(), text.data() + at, n);
    at += n;
    return {n};
  }
  coir::result<> seek_back(std::size_t n) {
    ++seeks;
    if (refuses) return coir::fail(std::errc::invalid_seek);
    at -= n;
    return {};
  }
};

struct taken {
  std::size_t most;
  coir::outcome how = coir::outcome::ok;
  std::error_code error = {};
};

struct scripted_sink {
  std::deque<taken> answers = {};
  std::string text = {};
  unsigned writes = 0;

  coir::io::moved write_some(std::span<const std::byte> from, coir::deadline) {
    ++writes;
    taken next{from.size()};
    if (!answers.empty()) {
      next = answers.front();
      answers.pop_front();
    }
    const std::size_t n = std::min(next.most, from.size());
    text.append(reinterpret_cast<const char*>(from.data()), n);
    return {n, next.how, next.error};
  }
};

inline std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace test
