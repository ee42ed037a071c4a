// c_errors_test.cpp: each refusal has its errno, each errno its text.
//
// Comes from: ctest.   Goes to: runtime/c_errors.hpp.
#include "runtime/c_errors.hpp"

#include <doctest/doctest.h>
#include <netdb.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <future>
#include <new>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>

#include "coir/resolve.hpp"

using coir::errc;
using coir::detail::errno_of;
using coir::detail::text_of_errno;

namespace {

struct row {
  errc refusal;
  int number;
};

// The contract with C programs: changing a row breaks them.
constexpr row table[] = {
    {errc::unhandled_effect, ENOSYS},
    {errc::resumed_twice, EALREADY},
    {errc::stale_handle, ESTALE},
    {errc::already_joined, ESTALE},
    {errc::arena_full, EAGAIN},
    {errc::stack_limit, ENOMEM},
    {errc::mailbox_full, EAGAIN},
    {errc::deadlock, EDEADLK},
    {errc::shutting_down, ESHUTDOWN},
    {errc::survivors, EBUSY},
    {errc::not_in_fiber, EPERM},
    {errc::wrong_operation, EINVAL},
    {errc::backend_refused, ENOSYS},
    {errc::not_parked, EAGAIN},
    {errc::finished, ESRCH},
    {errc::not_started, ENOTCONN},
    {errc::already_started, EALREADY},
    {errc::foreign_runtime, EINVAL},
    {errc::offload_full, EAGAIN},
    {errc::wrong_thread, EINVAL},
    {errc::name_too_long, ENAMETOOLONG},
    {errc::unexpected_end, ENODATA},
    {errc::stale_socket, EADDRINUSE},
    {errc::queue_full, EAGAIN},
    {errc::state_changed, EAGAIN},
    {errc::update_would_park, EINVAL},
    {errc::opcode_refused, EACCES},
};

}  // namespace

TEST_CASE("c_errors: every refusal of coir has the errno that the table names") {
  for (const row& r : table) {
    CAPTURE(make_error_code(r.refusal).message());
    CHECK(errno_of(r.refusal, false) == r.number);
  }
}

TEST_CASE("c_errors: the table of refusals is complete") {
  std::set<int> seen;
  for (const row& r : table) seen.insert(static_cast<int>(r.refusal));
  CHECK(seen.size() == std::size(table));
  CHECK(*seen.begin() == 1);
  CHECK(*seen.rbegin() == static_cast<int>(std::size(table)));
  // One further has no text of its own, so nobody added a refusal and forgot the table.
  const auto text_of = [](int code) { return make_error_code(static_cast<errc>(code)).message(); };
  CHECK(text_of(*seen.rbegin()) != text_of(INT_MAX));
  CHECK(text_of(*seen.rbegin() + 1) == text_of(INT_MAX));
  CHECK(errno_of(make_error_code(static_cast<errc>(INT_MAX)), false) == EIO);
}

TEST_CASE("c_errors: after a fork a foreign runtime is one whose owner died") {
  CHECK(errno_of(errc::foreign_runtime, true) == EOWNERDEAD);
  CHECK(errno_of(errc::stale_handle, true) == ESTALE);
}

TEST_CASE("c_errors: an errno of the system passes through, and nothing else does") {
  for (int number = 1; number < 134; ++number) {
    CHECK(errno_of({number, std::generic_category()}, false) == number);
    CHECK(errno_of({number, std::system_category()}, true) == number);
  }
  CHECK(errno_of(make_error_code(std::errc::operation_canceled), false) == ECANCELED);
  CHECK(errno_of(make_error_code(std::errc::timed_out), false) == ETIMEDOUT);
  CHECK(errno_of(make_error_code(std::future_errc::broken_promise), false) == EIO);
  CHECK(errno_of({0, std::generic_category()}, false) == EIO);
  CHECK(errno_of({-4, std::generic_category()}, false) == EIO);
}

TEST_CASE("c_errors: a lookup that failed has the errno of what C would do about it") {
  const auto number = [](int code) {
    return errno_of({code, coir::net::resolve_category()}, false);
  };
  CHECK(number(EAI_NONAME) == EHOSTUNREACH);
  CHECK(number(EAI_FAIL) == EHOSTUNREACH);
  CHECK(number(EAI_AGAIN) == EAGAIN);
  CHECK(number(EAI_MEMORY) == ENOMEM);
  CHECK(std::string(text_of_errno(EHOSTUNREACH)).find("name") != std::string::npos);
}

TEST_CASE(
    "c_errors: whatever is thrown inside a call of the C interface is an errno outside of it") {
  using coir::detail::guarded;
  CHECK(guarded([] { return 7; }) == 7);
  CHECK(guarded([]() -> int { throw std::bad_alloc(); }) == -ENOMEM);
  CHECK(guarded([]() -> ssize_t { throw std::system_error(EMFILE, std::generic_category()); }) ==
        -EMFILE);
  CHECK(guarded([]() -> int { throw std::system_error(make_error_code(errc::deadlock)); }) ==
        -EDEADLK);
  CHECK(guarded([]() -> int { throw std::runtime_error("anything else"); }) == -EIO);
  CHECK(guarded([]() -> int { throw 42; }) == -EIO);
}

TEST_CASE("c_errors: what coir refuses has a text that says what to do") {
  for (const row& r : table) {
    const std::string text = text_of_errno(-r.number);
    CAPTURE(text);
    CHECK(text != ::strerrordesc_np(r.number));
    CHECK(text.find(": ") != std::string::npos);
  }
}

TEST_CASE("c_errors: any number has a text, with or without its sign") {
  CHECK(std::string(text_of_errno(ENOENT)) == ::strerrordesc_np(ENOENT));
  CHECK(text_of_errno(-ENOENT) == text_of_errno(ENOENT));
  CHECK(std::string(text_of_errno(0)) == ::strerrordesc_np(0));
  for (const int odd : {INT_MIN, INT_MIN + 1, -100000, 100000, INT_MAX})
    CHECK(std::string(text_of_errno(odd)).find("Unknown") == 0);
}
