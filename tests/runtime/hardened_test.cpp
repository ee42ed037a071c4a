// hardened_test.cpp: which opcodes are admitted, and what a ring that was told so does with others.
//
// Always true:
//   - An operation of the library that is not on the list fails here, not in a program.
//
// Comes from: runtime/hardened.hpp.   Goes to: ctest.
#include "runtime/hardened.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "coir/operations.hpp"
#include "coir/streams.hpp"
#include "runtime/futex.hpp"
#include "runtime/uring.hpp"
#include "tests/needs.hpp"

using namespace coir::detail;

namespace {

template <class Op>
std::uint8_t opcode_of(const Op& op) {
  io_uring_sqe e{};
  op.fill(e);
  return e.opcode;
}

coir::options hardened(std::vector<std::uint8_t> listed = {}) {
  coir::options o;
  o.hardened_ring = true;
  o.ring_opcodes = std::move(listed);
  return o;
}

}  // namespace

TEST_CASE("hardened: whatever the library fills in is admitted, and by nobody's leave") {
  const opcodes own = admitted(hardened());
  msghdr m{};
  struct ::statx about {};
  const std::uint8_t all[] = {
      opcode_of(coir::nop{}),
      opcode_of(coir::read_operation(0, {})),
      opcode_of(coir::write_operation(0, {})),
      opcode_of(coir::readv_operation(0, {})),
      opcode_of(coir::writev_operation(0, {})),
      opcode_of(coir::fsync_operation(0)),
      opcode_of(coir::open_operation("", 0, 0)),
      opcode_of(coir::statx_operation(0, "", 0, 0, about)),
      opcode_of(coir::accept_operation(0, nullptr, nullptr)),
      opcode_of(coir::connect_operation(0, nullptr, 0)),
      opcode_of(coir::recv_operation(0, {})),
      opcode_of(coir::send_operation(0, {})),
      opcode_of(coir::send_zc_operation(0, {})),
      opcode_of(coir::splice_operation(0, 0, 0)),
      opcode_of(coir::recvmsg_operation(0, m)),
      opcode_of(coir::sendmsg_operation(0, m)),
      opcode_of(coir::shutdown_operation(0, 0)),
      opcode_of(coir::poll_operation(0, 0)),
      opcode_of(coir::accept_stream{0}),
      opcode_of(coir::recv_stream{0}),
      opcode_of(coir::read_stream{0}),
      opcode_of(coir::poll_stream{0, 0}),
      opcode_of(coir::tick_stream(std::chrono::seconds(1))),
  };
  for (const std::uint8_t opcode : all) CHECK(own.have(opcode));
  unsigned admitted_ones = 0;
  for (std::uint8_t opcode = 0; opcode < 64; ++opcode) admitted_ones += own.have(opcode) ? 1 : 0;
  CHECK(admitted_ones == 19);
}

TEST_CASE("hardened: the list adds, and only where the ring is a hardened one") {
  for (std::uint8_t opcode = 0; opcode < 64; ++opcode)
    CHECK(admitted(coir::options()).have(opcode));
  const coir::options o = hardened({IORING_OP_FADVISE, 62});
  for (const unsigned opcode : {unsigned{IORING_OP_FADVISE}, 62u, unsigned{IORING_OP_READ}})
    CHECK(admitted(o).have(static_cast<std::uint8_t>(opcode)));
  CHECK_FALSE(admitted(o).have(IORING_OP_MADVISE));
  // The runtime's own: nobody may perform them, and the ring has to take them.
  for (const std::uint8_t opcode : {IORING_OP_ASYNC_CANCEL, IORING_OP_CLOSE}) {
    CHECK_FALSE(admitted(o).have(opcode));
    CHECK(taken_by_ring(o).have(opcode));
  }
}

TEST_CASE("hardened: the kernel refuses by itself what the list does not have") {
  if (!test::on_a_ring("restrictions of a ring")) return;
  const opcodes taken = taken_by_ring(hardened({62}));
  auto ring = make_uring(
                  8, [](const coir::log_record&) {}, &taken)
                  .value();
  REQUIRE(ring->attach() == 0);
  std::vector<completion> seen;
  const auto ask = [&](std::uint8_t opcode) {
    io_uring_sqe e{};
    e.opcode = opcode;
    e.fd = -1;
    seen.clear();
    REQUIRE(ring->submit(e, token::make(1, 1, token_kind::operation), false));
    while (seen.empty()) {
      ring->wait(monotonic_ns() + 20'000'000'000);
      ring->reap({[](void* at, const completion& c) noexcept {
                    static_cast<std::vector<completion>*>(at)->push_back(c);
                  },
                  &seen});
    }
    return seen.at(0).res;
  };
  CHECK(ask(IORING_OP_NOP) == 0);
  CHECK(ask(IORING_OP_FADVISE) == -EACCES);
  CHECK(ask(IORING_OP_READ) == -EBADF);
  // The bell, cancels, buffers and the descriptor for foreign loops are there.
  ring->wake();
  ring->wait(monotonic_ns() + 20'000'000'000);
  CHECK(ring->cancel(token::make(2, 1, token_kind::operation)));
  alignas(4096) static std::array<std::byte, 4 * 64> room;
  CHECK(ring->lend_buffers(room.data(), 4, 64) == 0);
  CHECK(ring->native_fd() >= 0);
  ring->detach();
}
