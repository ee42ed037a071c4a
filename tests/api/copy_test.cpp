// copy_test.cpp: T2 to T4: what a copy tells of every way in which it can end, and that no byte is
// lost in any of them.
//
// Always true:
//   - The bytes that a sink has, what is left over and what the source still has are the text.
//
// Comes from: coir/copy.hpp.   Goes to: runtime/copy.cpp.
#include <doctest/doctest.h>

#include <array>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "on_fiber.hpp"
#include "scripted.hpp"

namespace io = coir::io;
using coir::outcome;
using coir::io::copy_buffer;
using coir::io::copy_step;
using coir::io::decision;
using test::broken;
using test::later;
using test::scripted_sink;
using test::scripted_source;
using test::seekable_source;
using test::text_of;

namespace coir {
std::ostream& operator<<(std::ostream& to, outcome o) { return to << to_string(o); }
}  // namespace coir

namespace {

/// Says what it was told for each attempt, and remembers what it was asked.
struct scripted_policy {
  decision always = decision::retry;
  std::vector<std::pair<copy_step, outcome>> asked = {};
  decision operator()(copy_step step, outcome how) {
    asked.emplace_back(step, how);
    return always;
  }
};

}  // namespace

TEST_CASE("copy: T2 the end of the source is ok, with all that came before it") {
  scripted_source from{{{"abc"}, {"de"}}};
  scripted_sink to;
  const auto r = io::copy(from, to);
  CHECK(r.written == 5);
  CHECK(r.how == outcome::ok);
  CHECK_FALSE(r.error);
  CHECK(r.leftover.empty());
  CHECK_FALSE(r.held);
  CHECK(to.text == "abcde");
  CHECK(from.reads == 3);
}

TEST_CASE("copy: T2 a read of nothing that is ok stops, also as the very first") {
  scripted_source from{{{""}, {"not asked for"}}};
  scripted_sink to;
  const auto r = io::copy(from, to);
  CHECK(r.written == 0);
  CHECK(r.how == outcome::ok);
  CHECK(from.reads == 1);
  CHECK(to.writes == 0);
}

TEST_CASE("copy: T2 not now and more of the source are told beside the count") {
  for (const outcome how : {outcome::would_block, outcome::more}) {
    CAPTURE(how);
    SUBCASE("with no data in the same call") {
      scripted_source from{{{"abc"}, {"", how, how == outcome::more ? std::error_code() : later}}};
      scripted_sink to;
      const auto r = io::copy(from, to);
      CHECK(r.written == 3);
      CHECK(r.how == how);
      CHECK(r.error == (how == outcome::more ? std::error_code() : later));
      CHECK(to.text == "abc");
    }
    SUBCASE("with data in the same call, which is written first") {
      scripted_source from{{{"abc"}, {"de", how}, {"f"}}};
      scripted_sink to;
      auto r = io::copy(from, to);
      CHECK(r.written == 5);
      CHECK(r.how == how);
      CHECK(to.text == "abcde");
      r = io::copy(from, to);
      CHECK(r.written == 1);
      CHECK(r.how == outcome::ok);
      CHECK(to.text == "abcdef");
    }
  }
}

TEST_CASE("copy: T2 a failure of the source comes after its data") {
  scripted_source from{{{"abc"}, {"de", outcome::failure, broken}}};
  scripted_sink to;
  const auto r = io::copy(from, to);
  CHECK(r.written == 5);
  CHECK(r.how == outcome::failure);
  CHECK(r.error == broken);
  CHECK(to.text == "abcde");
  // One that gives no reason gets one.
  scripted_source nameless{{{"", outcome::failure}}};
  CHECK(io::copy(nameless, to).error == std::errc::io_error);
}

TEST_CASE("copy: T2 a short write goes on with the rest, and one of nothing is an error") {
  scripted_source from{{{"abcdef"}}};
  scripted_sink to{{{1}, {2}, {1}}};
  auto r = io::copy(from, to);
  CHECK(r.written == 6);
  CHECK(r.how == outcome::ok);
  CHECK(to.text == "abcdef");
  CHECK(to.writes == 4);

  scripted_source again{{{"abcdef"}}};
  scripted_sink full{{{2}, {0}}};
  r = io::copy(again, full);
  CHECK(r.written == 2);
  CHECK(r.how == outcome::failure);
  CHECK(r.error == std::errc::io_error);
  CHECK(text_of(r.leftover) == "cdef");
}

TEST_CASE("copy: T2 a partial write and then an error, not now or more: the source goes back") {
  for (const outcome how : {outcome::failure, outcome::would_block, outcome::more}) {
    CAPTURE(how);
    for (const bool in_one_call : {true, false}) {
      CAPTURE(in_one_call);
      seekable_source from{"abcdef"};
      scripted_sink to;
      if (in_one_call) {
        to.answers = {{2, how, later}};
      } else {
        to.answers = {{2}, {0, how, later}};
      }
      auto r = io::copy(from, to);
      CHECK(r.written == 2);
      CHECK(r.how == how);
      CHECK(r.error == later);
      CHECK(r.leftover.empty());
      CHECK_FALSE(r.held);
      CHECK(from.at == 2);
      CHECK(from.seeks == 1);
      // So another call goes on where this one stopped.
      r = io::copy(from, to);
      CHECK(r.written == 4);
      CHECK(r.how == outcome::ok);
      CHECK(to.text == "abcdef");
    }
  }
}

TEST_CASE("copy: T2 what a source cannot take back is given to the caller, byte by byte") {
  for (const outcome how : {outcome::failure, outcome::would_block, outcome::more}) {
    CAPTURE(how);
    SUBCASE("a source that refuses to go back") {
      seekable_source from{"abcdef", true};
      scripted_sink to{{{2, how, later}}};
      const auto r = io::copy(from, to);
      CHECK(r.written == 2);
      CHECK(r.how == how);
      CHECK(r.error == later);  // of the sink: that the source could not go back loses nothing
      CHECK(from.seeks == 1);
      CHECK(text_of(r.leftover) == "cdef");
    }
    SUBCASE("one that knows no way back, with a buffer of the copy") {
      scripted_source from{{{"abcdef"}, {"gh"}}};
      scripted_sink to{{{2, how, later}}};
      auto r = io::copy(from, to);
      CHECK(r.how == how);
      const auto moved = std::move(r);
      CHECK(text_of(moved.leftover) == "cdef");  // it lies in what the result holds
      CHECK(moved.held);
      // The caller writes it first, and nothing is missing.
      CHECK(to.write_some(moved.leftover, coir::never).count == 4);
      CHECK(io::copy(from, to).how == outcome::ok);
      CHECK(to.text == "abcdefgh");
    }
    SUBCASE("with a buffer of the caller") {
      std::array<std::byte, 4> buffer{};
      scripted_source from{{{"abcdef"}}};
      scripted_sink to{{{4}, {1, how, later}}};
      const auto r = io::copy(from, to, buffer);
      CHECK(r.written == 5);
      CHECK(r.how == how);
      CHECK(text_of(r.leftover) == "f");
      CHECK(r.leftover.data() == buffer.data() + 1);
      CHECK_FALSE(r.held);
    }
  }
}

TEST_CASE("copy: T2 a failure of the source is not hidden by a sink that says not now or more") {
  for (const outcome how : {outcome::would_block, outcome::more}) {
    scripted_source from{{{"abc", outcome::failure, broken}}};
    scripted_sink to{{{2, how}}};
    const auto r = io::copy(from, to);
    CHECK(r.written == 2);
    CHECK(r.how == outcome::failure);
    CHECK(r.error == broken);
    CHECK(text_of(r.leftover) == "c");
  }
}

TEST_CASE("copy: T2 exactly n bytes are read and written, and what lies behind them stays") {
  for (const std::size_t room : {1u, 2u, 3u, 5u, 64u}) {
    CAPTURE(room);
    std::vector<std::byte> buffer(room);
    seekable_source from{"abcdefgh"};
    scripted_sink to;
    auto r = io::copy_n(from, to, 5, buffer);
    CHECK(r.written == 5);
    CHECK(r.how == outcome::ok);
    CHECK(to.text == "abcde");
    CHECK(from.at == 5);
    r = io::copy_n(from, to, 0, buffer);
    CHECK(r.written == 0);
    CHECK(r.how == outcome::ok);
    CHECK(from.at == 5);
  }
  scripted_source from{{{"abc", outcome::more}}};
  scripted_sink to{{{3, outcome::more}}};
  const auto r = io::copy_n(from, to, 3);  // all are there: what comes after them is not asked for
  CHECK(r.written == 3);
  CHECK(r.how == outcome::ok);
  scripted_source broken_at_last{{{"abc", outcome::failure, broken}}};
  const auto f = io::copy_n(broken_at_last, to, 3);
  CHECK(f.written == 3);
  CHECK(f.error == broken);
}

TEST_CASE("copy: T2 a source that ends before n bytes is an error, with the count of what came") {
  scripted_source from{{{"abc"}}};
  scripted_sink to;
  auto r = io::copy_n(from, to, 5);
  CHECK(r.written == 3);
  CHECK(r.how == outcome::failure);
  CHECK(r.error == coir::errc::unexpected_end);
  CHECK(to.text == "abc");
  // Not now is not the end.
  scripted_source slow{{{"abc"}, {"", outcome::would_block}, {"de"}}};
  r = io::copy_n(slow, to, 5);
  CHECK(r.written == 3);
  CHECK(r.how == outcome::would_block);
  CHECK(io::copy_n(slow, to, 5 - r.written).how == outcome::ok);
}

TEST_CASE("copy: T2 an empty buffer is refused before anything is read") {
  scripted_source from{{{"abc"}}};
  scripted_sink to;
  for (const auto& r : {io::copy(from, to, std::span<std::byte>()),
                        io::copy_n(from, to, 3, std::span<std::byte>())}) {
    CHECK(r.how == outcome::failure);
    CHECK(r.error == std::errc::invalid_argument);
    CHECK(r.written == 0);
  }
  CHECK(from.reads == 0);
}

TEST_CASE("copy: T2 the policy is asked for each side, and going on keeps the place") {
  for (const outcome how : {outcome::would_block, outcome::more}) {
    CAPTURE(how);
    SUBCASE("of the source") {
      scripted_source from{{{"ab", how}, {"", how}, {"cd"}}};
      scripted_sink to;
      scripted_policy policy;
      const auto r = io::copy(from, to, {}, policy);
      CHECK(r.written == 4);
      CHECK(r.how == outcome::ok);
      CHECK(to.text == "abcd");
      CHECK(policy.asked == std::vector{std::pair(copy_step::read, how), {copy_step::read, how}});
    }
    SUBCASE("of the sink, in the middle of what was read") {
      seekable_source from{"abcdef"};
      scripted_sink to{{{2, how}, {0, how}, {3}}};
      scripted_policy policy;
      const auto r = io::copy(from, to, {}, policy);
      CHECK(r.written == 6);
      CHECK(r.how == outcome::ok);
      CHECK(to.text == "abcdef");
      CHECK(from.seeks == 0);
      CHECK(policy.asked == std::vector{std::pair(copy_step::write, how), {copy_step::write, how}});
    }
    SUBCASE("and it may stop either") {
      scripted_source from{{{"ab", how}, {"cd"}}};
      scripted_sink to{{{1, how}}};
      scripted_policy policy{decision::stop};
      auto r = io::copy(from, to, {}, policy);
      CHECK(r.written == 1);
      CHECK(r.how == how);
      CHECK(text_of(r.leftover) == "b");
      r = io::copy(from, to, {}, policy);
      CHECK(r.how == outcome::ok);
      CHECK(policy.asked == std::vector{std::pair(copy_step::write, how)});
      scripted_source other{{{"ab", how}}};
      CHECK(io::copy(other, to, {}, policy).how == how);
      CHECK(policy.asked.back() == std::pair(copy_step::read, how));
    }
  }
}

TEST_CASE("copy: T2 the ready-made policies go on where their names say") {
  const auto written_with = [](auto policy, outcome of_source, outcome of_sink) {
    scripted_source from{{{"ab", of_source}, {"cd"}}};
    scripted_sink to{{{1, of_sink}}};
    return io::copy(from, to, {}, policy).written;
  };
  constexpr auto ok = outcome::ok, block = outcome::would_block, more = outcome::more;
  using namespace coir::io;
  CHECK(written_with(return_policy(), ok, block) == 1);
  CHECK(written_with(return_policy(), block, ok) == 2);
  CHECK(written_with(yield_policy(), block, block) == 4);
  CHECK(written_with(yield_policy(), ok, more) == 1);
  CHECK(written_with(yield_policy(), more, ok) == 2);
  CHECK(written_with(yield_on_write_policy(), ok, block) == 4);
  CHECK(written_with(yield_on_write_policy(), block, ok) == 2);
  CHECK(written_with(yield_on_write_policy(), ok, more) == 1);
  const pause_policy soon{coir::backoff(std::chrono::nanoseconds(1))};
  CHECK(written_with(soon, block, more) == 4);
  CHECK(written_with(soon, more, block) == 4);
}

TEST_CASE("copy: going on for ever ends by the deadline and by a cancel, and loses nothing") {
  const auto never_now = [](std::span<const std::byte>, coir::deadline) {
    return coir::io::moved(0, outcome::would_block);
  };
  scripted_source from{{{"abc"}}};
  auto r = io::copy(from, never_now, {}, coir::io::yield_policy(), coir::no_wait);
  CHECK(r.how == outcome::failure);
  CHECK(r.error == std::errc::timed_out);
  CHECK(text_of(r.leftover) == "abc");
  test::on_fiber([&] {
    const auto nothing_yet = [](std::span<std::byte>, coir::deadline) {
      return coir::io::moved(0, outcome::would_block);
    };
    scripted_sink to;
    auto copying =
        coir::spawn([&] { return io::copy(nothing_yet, to, {}, coir::io::yield_policy()).error; });
    test::settle();
    CHECK_FALSE(copying.done());
    copying.cancel();
    CHECK(copying.join().value() == std::errc::operation_canceled);
  });
}

TEST_CASE("copy: a count that cannot be true is refused") {
  std::array<std::byte, 4> buffer{};
  const auto boasts = [](auto bytes, coir::deadline) { return coir::io::moved(bytes.size() + 1); };
  scripted_sink to;
  auto r = io::copy(boasts, to, buffer);
  CHECK(r.error == std::errc::result_out_of_range);
  CHECK(r.written == 0);
  scripted_source from{{{"abc"}}};
  r = io::copy(from, boasts, buffer);
  CHECK(r.error == std::errc::result_out_of_range);
  CHECK(r.written == 0);
  CHECK(text_of(r.leftover) == "abc");
}

TEST_CASE("copy: T3 a source of several answers is copied call by call: 2, 2 and 2 bytes") {
  scripted_source from{{{"ab", outcome::more}, {"cd", outcome::more}, {"ef"}}};
  scripted_sink to;
  std::vector<std::pair<std::uint64_t, outcome>> calls;
  for (;;) {
    const auto r = io::copy(from, to);
    calls.emplace_back(r.written, r.how);
    if (r.how != outcome::more) break;
  }
  CHECK(calls == std::vector<std::pair<std::uint64_t, outcome>>{
                     {2, outcome::more}, {2, outcome::more}, {2, outcome::ok}});
  CHECK(to.text == "abcdef");
}

TEST_CASE("copy: T4 not now, and then it goes well: the second call has all of it") {
  scripted_source from{{{"", outcome::would_block, later}, {"abc"}}};
  scripted_sink to;
  auto r = io::copy(from, to);
  CHECK(r.written == 0);
  CHECK(r.how == outcome::would_block);
  CHECK(r.error == later);
  r = io::copy(from, to);
  CHECK(r.written == 3);
  CHECK(r.how == outcome::ok);
  // The same from something that answers with an error code, as sockets do.
  bool ready = false;
  const auto socket = [&](std::span<std::byte> into, coir::deadline) -> coir::result<std::size_t> {
    if (!std::exchange(ready, true)) return coir::fail(later);
    if (to.text.size() >= 6) return 0;
    into[0] = std::byte{'x'};
    return 1;
  };
  CHECK(io::copy(socket, to).how == outcome::would_block);
  CHECK(io::copy(socket, to).written == 3);
  CHECK(to.text == "abcxxx");
}
