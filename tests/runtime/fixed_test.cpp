// fixed_test.cpp: which piece of known memory a buffer lies in, and that a ring makes use of it.
//
// Always true:
//   - Which way a read went is seen by the memory itself: a ring that knows it writes into the
//     pages that were there when it was told, whatever is mapped there now.
//
// Comes from: runtime/fixed.hpp, uring::fix_buffers.   Goes to: ctest.
#include "runtime/fixed.hpp"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "coir/operations.hpp"
#include "runtime/futex.hpp"
#include "runtime/hardened.hpp"
#include "runtime/uring.hpp"
#include "tests/needs.hpp"

using namespace coir::detail;

namespace {

using range = std::span<std::byte>;

/// Addresses alone are looked at: nothing has to be there.
range at(std::uintptr_t address, std::size_t bytes) {
  return {reinterpret_cast<std::byte*>(address), bytes};
}

class pages {
 public:
  static constexpr std::size_t bytes = 8192;
  pages()
      : first_(static_cast<std::byte*>(
            ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    REQUIRE(static_cast<void*>(first_) != MAP_FAILED);
  }
  ~pages() { ::munmap(first_, bytes); }
  pages(const pages&) = delete;
  pages& operator=(const pages&) = delete;
  range all() const { return {first_, bytes}; }
  /// Others of zeros at the same place.
  void exchange() const {
    REQUIRE(::mmap(first_, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                   -1, 0) == first_);
  }

 private:
  std::byte* first_;
};

std::unique_ptr<backend> ring_that_knows(memory_ranges all, const opcodes* only = nullptr) {
  auto ring = make_uring(
                  8, [](const coir::log_record&) {}, only)
                  .value();
  REQUIRE(ring->fix_buffers(all) == 0);
  REQUIRE(ring->attach() == 0);
  return ring;
}

template <class Op>
std::int32_t ask(backend& ring, const Op& op) {
  io_uring_sqe e{};
  op.fill(e);
  REQUIRE(ring.submit(e, token::make(1, 1, token_kind::operation), false));
  std::vector<completion> seen;
  while (seen.empty()) {
    ring.wait(monotonic_ns() + 20'000'000'000);
    ring.reap({[](void* to, const completion& c) noexcept {
                 static_cast<std::vector<completion>*>(to)->push_back(c);
               },
               &seen});
  }
  return seen.at(0).res;
}

struct pipe_pair {
  pipe_pair() { REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0); }
  ~pipe_pair() {
    for (const int end : ends) ::close(end);
  }
  pipe_pair(const pipe_pair&) = delete;
  pipe_pair& operator=(const pipe_pair&) = delete;
  std::array<int, 2> ends{};
};

}  // namespace

TEST_CASE("fixed: a buffer lies in a piece from its first to its last byte, or in none") {
  const std::array all{at(0x9000, 0x1000), at(0x3000, 0x2000), at(0x5000, 0x1000)};
  REQUIRE(fixed_refusal(all).empty());
  const fixed_map map(all);
  REQUIRE(map.pieces().size() == 3);
  CHECK(map.index_of(0x3000, 0x2000) == 0);
  CHECK(map.index_of(0x4fff, 1) == 0);
  CHECK(map.index_of(0x5000, 1) == 1);
  CHECK(map.index_of(0x9fff, 1) == 2);
  CHECK(map.index_of(0x4fff, 2) < 0);  // of two neighbours
  CHECK(map.index_of(0x2fff, 2) < 0);
  CHECK(map.index_of(0x2fff, 1) < 0);
  CHECK(map.index_of(0x6000, 1) < 0);
  CHECK(map.index_of(0x9fff, 2) < 0);
  CHECK(map.index_of(0xa000, 1) < 0);
  CHECK(map.index_of(0, 1) < 0);
  CHECK(map.index_of(~std::uint64_t{0}, ~std::uint32_t{0}) < 0);
  CHECK(map.index_of(0x3000, 0) < 0);
  CHECK(fixed_map().empty());
  CHECK(fixed_map().index_of(0x3000, 1) < 0);
}

TEST_CASE("fixed: a large range is cut where the kernel takes no more in one piece") {
  const std::array all{at(std::size_t{1} << 40, 2 * fixed_piece_bytes + 4096)};
  REQUIRE(fixed_refusal(all).empty());
  const fixed_map map(all);
  REQUIRE(map.pieces().size() == 3);
  CHECK(map.pieces()[2].iov_len == 4096);
  const std::uint64_t first = std::uint64_t{1} << 40;
  CHECK(map.index_of(first + fixed_piece_bytes - 1, 1) == 0);
  CHECK(map.index_of(first + fixed_piece_bytes, 4096) == 1);
  CHECK(map.index_of(first + 2 * fixed_piece_bytes, 4096) == 2);
  CHECK(map.index_of(first + fixed_piece_bytes - 1, 2) < 0);
}

TEST_CASE("fixed: what is empty, given twice or too much is refused by its number") {
  using namespace std::string_literals;
  CHECK(fixed_refusal(std::array{at(0x3000, 1), range{}}) ==
        "options::fixed_buffers[1] is empty: leave it out"s);
  CHECK(fixed_refusal(std::array{at(0x5000, 0x1000), at(0x9000, 1), at(0x4000, 0x1001)}) ==
        "options::fixed_buffers[2] and [0] overlap: give each byte once"s);
  const std::array same{at(0x5000, 0x1000), at(0x5000, 0x1000)};
  CHECK(fixed_refusal(same).find("overlap") != std::string::npos);
  CHECK(fixed_refusal(std::array{at(4096, fixed_pieces_max * fixed_piece_bytes)}).empty());
  CHECK(fixed_refusal(std::array{at(4096, fixed_pieces_max * fixed_piece_bytes + 1)}) ==
        "options::fixed_buffers are 16385 pieces of 1 GiB at most: they may be 16384"s);
}

TEST_CASE("fixed: a read and a write in known memory go by it, others do not") {
  if (!test::on_a_ring("fixed buffers")) return;
  const pages known, other;
  const std::array all{known.all()};
  const auto ring = ring_that_knows(all);
  const pipe_pair pipe;
  std::ranges::fill(known.all(), std::byte{'k'});
  known.exchange();
  // What was known is written, not the zeros that are mapped now.
  REQUIRE(ask(*ring, coir::write_operation(pipe.ends[1], known.all().subspan(1, 3))) == 3);
  char text[4] = {};
  REQUIRE(::read(pipe.ends[0], text, 3) == 3);
  CHECK(std::strcmp(text, "kkk") == 0);
  // And read into: what is mapped now stays as it is.
  REQUIRE(::write(pipe.ends[1], "abc", 3) == 3);
  REQUIRE(ask(*ring, coir::read_operation(pipe.ends[0], known.all().last(2))) == 2);
  CHECK(known.all().back() == std::byte{0});
  // Elsewhere memory is what is mapped.
  REQUIRE(ask(*ring, coir::read_operation(pipe.ends[0], other.all().first(1))) == 1);
  CHECK(other.all()[0] == std::byte{'c'});
  ring->detach();
}

TEST_CASE("fixed: a buffer that reaches beyond known memory is read into as it is mapped") {
  if (!test::on_a_ring("fixed buffers")) return;
  const pages all_of_it;
  const range half = all_of_it.all().first(4096);
  const auto ring = ring_that_knows(std::array{half});
  all_of_it.exchange();
  const pipe_pair pipe;
  REQUIRE(::write(pipe.ends[1], "abcd", 4) == 4);
  REQUIRE(ask(*ring, coir::read_operation(pipe.ends[0], all_of_it.all().subspan(4094, 4))) == 4);
  CHECK(all_of_it.all()[4094] == std::byte{'a'});
  CHECK(all_of_it.all()[4097] == std::byte{'d'});
  ring->detach();
}

TEST_CASE("fixed: a hardened ring takes what becomes of a read and a write") {
  if (!test::on_a_ring("fixed buffers")) return;
  const pages known;
  coir::options o;
  o.hardened_ring = true;
  CHECK_FALSE(taken_by_ring(o).have(IORING_OP_READ_FIXED));
  o.fixed_buffers = {known.all()};
  CHECK_FALSE(admitted(o).have(IORING_OP_READ_FIXED));  // nobody names a piece by himself
  const opcodes taken = taken_by_ring(o);
  const auto ring = ring_that_knows(o.fixed_buffers, &taken);
  const pipe_pair pipe;
  std::ranges::fill(known.all(), std::byte{'h'});
  CHECK(ask(*ring, coir::write_operation(pipe.ends[1], known.all().first(2))) == 2);
  CHECK(ask(*ring, coir::read_operation(pipe.ends[0], known.all().last(2))) == 2);
  ring->detach();
}

TEST_CASE("fixed: what the kernel refuses leaves a ring that works, and knows nothing") {
  if (!test::on_a_ring("fixed buffers")) return;
  auto ring = make_uring(8, [](const coir::log_record&) {}).value();
  void* const closed = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(closed != MAP_FAILED);
  const std::array all{range(static_cast<std::byte*>(closed), 4096)};
  CHECK(ring->fix_buffers(all) == -EFAULT);
  REQUIRE(::mprotect(closed, 4096, PROT_READ | PROT_WRITE) == 0);
  REQUIRE(ring->attach() == 0);
  const pipe_pair pipe;
  REQUIRE(::write(pipe.ends[1], "ab", 2) == 2);
  CHECK(ask(*ring, coir::read_operation(pipe.ends[0], all[0])) == 2);
  CHECK(all[0][1] == std::byte{'b'});
  ring->detach();
  ::munmap(closed, 4096);
}
