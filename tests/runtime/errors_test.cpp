// errors_test.cpp: each of coir's own errors has a text of its own, and is nobody else's error.
//
// Comes from: coir/result.hpp.   Goes to: runtime/errors.cpp.
#include <doctest/doctest.h>

#include <cerrno>
#include <ostream>
#include <set>
#include <string>
#include <system_error>

#include "coir/result.hpp"

namespace {

constexpr int last = static_cast<int>(coir::errc::opcode_refused);
const std::string unknown = coir::coir_category().message(0);

}  // namespace

TEST_CASE("errors: every enumerator has a text of its own, and what is none has another") {
  std::set<std::string> texts;
  for (int code = 1; code <= last; ++code) {
    CAPTURE(code);
    const std::string text = std::error_code(code, coir::coir_category()).message();
    CHECK(text != unknown);
    CHECK(text.size() > 10);
    CHECK(texts.insert(text).second);
  }
  // A new enumerator without a text would be the first number that says "unknown" below.
  for (const int code : {0, -1, last + 1, 1000})
    CHECK(coir::coir_category().message(code) == unknown);
}

TEST_CASE("errors: a text that names an option or a call says what to do with it") {
  const auto text = [](coir::errc e) { return coir::make_error_code(e).message(); };
  CHECK(text(coir::errc::arena_full).find("options::fibers_max") != std::string::npos);
  CHECK(text(coir::errc::mailbox_full).find("options::mailbox_slots") != std::string::npos);
  CHECK(text(coir::errc::offload_full).find("options::offload_queue") != std::string::npos);
  CHECK(text(coir::errc::stack_limit).find("vm.max_map_count") != std::string::npos);
  CHECK(text(coir::errc::not_started).find("start") != std::string::npos);
}

TEST_CASE("errors: they are their own category, equal only to themselves") {
  CHECK(std::string(coir::coir_category().name()) == "coir");
  const std::error_code full = coir::errc::arena_full;
  CHECK(full == coir::errc::arena_full);
  CHECK(full != coir::errc::mailbox_full);
  for (int code = 1; code <= last; ++code)
    CHECK(std::error_code(code, coir::coir_category()) !=
          std::error_code(code, std::generic_category()));
  const coir::result<int> failed = coir::fail(coir::errc::arena_full);
  CHECK(failed.error() == full);
  CHECK(coir::detail::system_error(-ENOENT) == std::errc::no_such_file_or_directory);
}
