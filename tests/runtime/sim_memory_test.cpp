// sim_memory_test.cpp: the oracle sees what it must see, and touches nothing that is not lent.
#include "runtime/sim_memory.hpp"

#include <doctest/doctest.h>
#include <sys/uio.h>

#include <array>
#include <cstring>

using coir::detail::sim_memory;

namespace {

io_uring_sqe entry(std::uint8_t opcode, const void* place, std::size_t bytes) {
  io_uring_sqe e{};
  e.opcode = opcode;
  e.addr = reinterpret_cast<std::uintptr_t>(place);
  e.len = static_cast<std::uint32_t>(bytes);
  return e;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

TEST_CASE(
    "sim_memory: a buffer lent to be written changes at every scribble, its neighbours never") {
  struct {
    std::array<char, 16> before{}, lent{}, after{};
  } frame;
  sim_memory memory;
  memory.lend(1, entry(IORING_OP_READ, frame.lent.data(), frame.lent.size()));
  const auto untouched = frame.before;
  memory.scribble();
  const auto first = frame.lent;
  memory.scribble();
  CHECK(first != untouched);
  CHECK(frame.lent != first);
  memory.put(1, bytes_of("answer"));
  CHECK(std::memcmp(frame.lent.data(), "answer", 6) == 0);
  memory.scribble();
  CHECK(std::memcmp(frame.lent.data(), "answer", 6) == 0);
  memory.give_back(1);
  const auto last = frame.lent;
  memory.scribble();
  CHECK(frame.lent == last);
  CHECK(frame.before == untouched);
  CHECK(frame.after == untouched);
  CHECK(memory.violations() == 0);
  CHECK(memory.lent() == 0);
}

TEST_CASE("sim_memory: of a large buffer both ends are watched") {
  for (const std::size_t at : {std::size_t{0}, std::size_t{99'999}}) {
    std::vector<char> large(100'000);
    sim_memory memory;
    memory.lend(1, entry(IORING_OP_RECV, large.data(), large.size()));
    memory.scribble();
    large[at] = static_cast<char>(~large[at]);
    memory.scribble();
    CHECK(memory.violations() == 1);
  }
}

TEST_CASE("sim_memory: one changed byte of lent memory is reported, of every kind of loan") {
  std::array<char, 8> text{};
  std::array<iovec, 1> parts{{{text.data(), text.size()}}};
  for (const auto opcode : {IORING_OP_WRITE, IORING_OP_SEND, IORING_OP_WRITEV}) {
    const bool vector = opcode == IORING_OP_WRITEV;
    sim_memory memory;
    memory.lend(1, vector ? entry(opcode, parts.data(), 1) : entry(opcode, text.data(), 8));
    ++text[7];
    CHECK(memory.fetch(1).size() == 8);
    CHECK(memory.violations() == 1);
    CHECK(memory.fetch(1)[7] == std::byte(text[7] - 1));  // what had been lent is what counts
  }
  sim_memory memory;
  memory.lend(1, entry(IORING_OP_READV, parts.data(), 1));
  parts[0].iov_len = 4;
  memory.give_back(1);
  CHECK(memory.first_violation().find("iovec") != std::string::npos);
}

TEST_CASE("sim_memory: an answer goes into the parts in their order, and not beyond them") {
  std::array<char, 3> one{};
  std::array<char, 4> two{};
  const std::array<iovec, 2> parts{{{one.data(), 2}, {two.data(), 3}}};
  sim_memory memory;
  memory.lend(1, entry(IORING_OP_READV, parts.data(), 2));
  CHECK(memory.room(1) == 5);
  memory.put(1, bytes_of("abcdefgh"));
  CHECK(std::string(one.data(), 3) == std::string("ab\0", 3));
  CHECK(std::string(two.data(), 4) == std::string("cde\0", 4));
}

TEST_CASE("sim_memory: a path is what it was when it was lent") {
  char path[] = "old";
  sim_memory memory;
  memory.lend(1, entry(IORING_OP_OPENAT, path, 0));
  path[0] = 'g';
  CHECK(memory.path(1) == "old");
  CHECK(memory.violations() == 1);
}

TEST_CASE("sim_memory: an address is answered with its length") {
  std::array<char, 16> address{};
  std::uint32_t length = 16;
  io_uring_sqe e = entry(IORING_OP_ACCEPT, address.data(), 0);
  e.addr2 = reinterpret_cast<std::uintptr_t>(&length);
  sim_memory memory;
  memory.lend(1, e);
  memory.scribble();
  memory.put(1, bytes_of("here"));
  memory.give_back(1);
  CHECK(length == 4);
  CHECK(std::string(address.data(), 4) == "here");
  CHECK(memory.violations() == 0);
}
