// hardened.cpp: the list of coir's own opcodes.
//
// Always true:
//   - An operation that the library fills in has its opcode here; the test fills each of them.
//   - ASYNC_CANCEL and CLOSE are the runtime's alone: the one names operations of anybody, the
//     other frees a number that others may be using.
//
// Comes from: hardened.hpp.   Goes to: flight, uring_setup.
#include "runtime/hardened.hpp"

namespace coir::detail {
namespace {

constexpr opcodes of_our_calls(IORING_OP_NOP, IORING_OP_READ, IORING_OP_READV, IORING_OP_WRITE,
                               IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_OPENAT, IORING_OP_STATX,
                               IORING_OP_ACCEPT, IORING_OP_CONNECT, IORING_OP_RECV, IORING_OP_SEND,
                               IORING_OP_SEND_ZC, IORING_OP_RECVMSG, IORING_OP_SENDMSG,
                               IORING_OP_SHUTDOWN, IORING_OP_POLL_ADD, IORING_OP_TIMEOUT,
                               IORING_OP_SPLICE);
constexpr opcodes unseen(IORING_OP_ASYNC_CANCEL, IORING_OP_CLOSE);
// What becomes of a READ and a WRITE.
constexpr opcodes of_fixed_buffers(IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED);

}  // namespace

opcodes admitted(const options& o) noexcept {
  if (!o.hardened_ring) return opcodes::all();
  opcodes all = of_our_calls;
  for (const std::uint8_t opcode : o.ring_opcodes) all = all.with(opcodes(opcode & 63));
  return all;
}

opcodes taken_by_ring(const options& o) noexcept {
  const opcodes all = admitted(o).with(unseen);
  return o.fixed_buffers.empty() ? all : all.with(of_fixed_buffers);
}

}  // namespace coir::detail
