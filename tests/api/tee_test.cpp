// tee_test.cpp: the two tees: what is counted, what is told, and what the side is owed.
//
// Always true:
//   - What the side has taken and what it is owed, one after the other, is what went past.
//
// Comes from: coir/tee.hpp.   Goes to: runtime/copy.cpp.
#include "coir/tee.hpp"

#include <doctest/doctest.h>

#include <array>
#include <ostream>
#include <string>

#include "scripted.hpp"

namespace io = coir::io;
using coir::outcome;
using coir::io::tee_reader;
using coir::io::tee_writer;
using test::broken;
using test::later;
using test::scripted_sink;
using test::scripted_source;
using test::text_of;

TEST_CASE("tee: T2 both sides get everything, and the copy counts it once") {
  scripted_source from{{{"abc"}, {"de"}}};
  scripted_sink to, side;
  tee_reader tee(from, side);
  auto r = io::copy(tee, to);
  CHECK(r.written == 5);
  CHECK(r.how == outcome::ok);
  CHECK(to.text == "abcde");
  CHECK(side.text == "abcde");
  CHECK(tee.side_taken() == 5);

  scripted_source again{{{"abc"}, {"de"}}};
  scripted_sink primary, other;
  tee_writer both(primary, other);
  r = io::copy(again, both);
  CHECK(r.written == 5);
  CHECK(primary.text == "abcde");
  CHECK(other.text == "abcde");
}

TEST_CASE("tee: T2 a reader counts what its source gave, also when the side fails") {
  for (const outcome how : {outcome::failure, outcome::would_block, outcome::more}) {
    CAPTURE(static_cast<int>(how));
    scripted_source from{{{"abcdef"}}};
    scripted_sink side{{{2, how, later}}};
    tee_reader tee(from, side);
    std::array<std::byte, 16> b{};
    const auto m = tee.read_some(b);
    CHECK(m.count == 6);
    CHECK(m.how == how);
    CHECK(m.error == later);
    CHECK(text_of(std::span(b).first(6)) == "abcdef");
    CHECK(tee.side_taken() == 2);
    CHECK(text_of(tee.side_owed()) == "cdef");
    // A copy writes the six before it tells.
    scripted_sink to;
    scripted_source same{{{"abcdef"}}};
    scripted_sink failing{{{2, how, later}}};
    tee_reader second(same, failing);
    const auto r = io::copy(second, to);
    CHECK(r.written == 6);
    CHECK(r.how == how);
    CHECK(to.text == "abcdef");
  }
}

TEST_CASE("tee: T2 what the side is owed goes there before anything new is read") {
  scripted_source from{{{"abcdef"}, {"gh"}}};
  scripted_sink side{{{2, outcome::would_block}, {1, outcome::would_block}}};
  tee_reader tee(from, side);
  std::array<std::byte, 16> b{};
  CHECK(tee.read_some(b).count == 6);
  const auto blocked = tee.read_some(b);
  CHECK(blocked.count == 0);
  CHECK(blocked.how == outcome::would_block);
  CHECK(from.reads == 1);
  CHECK(text_of(tee.side_owed()) == "def");
  const auto m = tee.read_some(b);
  CHECK(m.count == 2);
  CHECK(m.how == outcome::ok);
  CHECK(side.text == "abcdefgh");
  CHECK(tee.side_owed().empty());
  CHECK(tee.side_taken() == 8);
}

TEST_CASE("tee: T2 a writer counts what its primary took, and the side gets no more than that") {
  scripted_sink primary{{{4}}};
  scripted_sink side{{{1, outcome::failure, broken}}};
  tee_writer tee(primary, side);
  const auto bytes = std::as_bytes(std::span("abcdef", 6));
  auto m = tee.write_some(bytes);
  CHECK(m.count == 4);
  CHECK(m.how == outcome::failure);
  CHECK(m.error == broken);
  CHECK(primary.text == "abcd");
  CHECK(side.text == "a");
  CHECK(text_of(tee.side_owed()) == "bcd");
  m = tee.write_some(bytes.subspan(4));
  CHECK(m.count == 2);
  CHECK(m.how == outcome::ok);
  CHECK(primary.text == "abcdef");
  CHECK(side.text == "abcdef");
}

TEST_CASE("tee: T2 the first side's failure is the one that is told") {
  scripted_source from{{{"abc", outcome::failure, later}}};
  scripted_sink side{{{0, outcome::failure, broken}}};
  tee_reader tee(from, side);
  std::array<std::byte, 16> b{};
  const auto m = tee.read_some(b);
  CHECK(m.count == 3);
  CHECK(m.error == later);
  scripted_sink primary{{{1, outcome::failure, later}}};
  scripted_sink other{{{0, outcome::failure, broken}}};
  tee_writer writer(primary, other);
  const auto w = writer.write_some(std::as_bytes(std::span("abc", 3)));
  CHECK(w.count == 1);
  CHECK(w.error == later);
}

TEST_CASE("tee: T2 the policy is asked per side, with the step's own name") {
  using coir::io::copy_step;
  using coir::io::decision;
  const auto only = [](copy_step allowed) {
    return [allowed](copy_step step, outcome) {
      return step == allowed ? decision::retry : decision::stop;
    };
  };
  std::array<std::byte, 16> b{};
  const auto bytes = std::as_bytes(std::span("abc", 3));
  {
    scripted_source from{{{"", outcome::would_block}, {"abc"}}};
    scripted_sink side;
    tee_reader tee(from, side, only(copy_step::tee_reader_read));
    CHECK(tee.read_some(b).count == 3);
  }
  {
    scripted_source from{{{"", outcome::would_block}, {"abc"}}};
    scripted_sink side{{{1, outcome::would_block}}};
    tee_reader tee(from, side, only(copy_step::tee_reader_side));
    CHECK(tee.read_some(b).how == outcome::would_block);
    const auto m = tee.read_some(b);
    CHECK(m.count == 3);
    CHECK(m.how == outcome::ok);
    CHECK(side.text == "abc");
  }
  {
    scripted_sink primary{{{0, outcome::would_block}}};
    scripted_sink side;
    tee_writer tee(primary, side, only(copy_step::tee_writer_primary));
    CHECK(tee.write_some(bytes).count == 3);
  }
  {
    scripted_sink primary{{{0, outcome::would_block}}};
    scripted_sink side{{{1, outcome::would_block}}};
    tee_writer tee(primary, side, only(copy_step::tee_writer_side));
    CHECK(tee.write_some(bytes).how == outcome::would_block);
    CHECK(tee.write_some(bytes).how == outcome::ok);
    CHECK(side.text == "abc");
  }
}
