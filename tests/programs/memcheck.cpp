// memcheck.cpp: an echo over loopback for Memcheck to watch, and one that reads a byte too many.
//
//   memcheck able   0: this build tells Memcheck what the kernel wrote; 77: it does not
//   memcheck echo   every operation that brings bytes, each byte looked at
//   memcheck past   the same, and one byte beyond those that came
//
// Always true: a branch depends on each byte, so that one which nobody wrote is reported.
//
// Comes from: memcheck.sh.   Goes to: coir::net, coir::io.
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <span>
#include <string_view>

#include "coir/coir.hpp"

namespace {

constexpr std::size_t message_bytes = 100;

/// How many of the bytes are what the other side has sent.
unsigned right_ones(std::span<const std::byte> bytes) {
  unsigned right = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    if (bytes[i] == static_cast<std::byte>(i + 1)) ++right;
  return right;
}

/// Memory of the heap, so that nobody has written to it.
struct fresh {
  std::span<std::byte> bytes{new std::byte[2 * message_bytes], 2 * message_bytes};
  ~fresh() { delete[] bytes.data(); }
};

void serve(coir::net::tcp_listener& listener) {
  auto peer = listener.accept();
  if (!peer) return;
  const fresh room;
  for (;;) {
    const auto got = peer->read_some(room.bytes);
    if (!got || *got == 0) return;
    if (!peer->write_all(room.bytes.first(*got))) return;
  }
}

bool by_tcp(bool past) {
  auto listener = coir::net::tcp_listener::listen();
  if (!listener) return false;
  auto server = coir::spawn([&] { serve(*listener); });
  auto stream = coir::net::tcp_stream::connect("127.0.0.1", listener->port());
  if (!stream) return false;
  std::array<std::byte, message_bytes> message{};
  for (std::size_t i = 0; i < message.size(); ++i) message[i] = static_cast<std::byte>(i + 1);
  if (!stream->write_all(message)) return false;
  const fresh room;
  std::size_t have = 0;
  while (have < message_bytes) {
    const auto got = stream->read_some(room.bytes.subspan(have));
    if (!got || *got == 0) return false;
    have += *got;
  }
  const unsigned right = right_ones(room.bytes.first(have + (past ? 1 : 0)));
  (void)stream->close();
  return server.join().has_value() && right >= message_bytes;
}

bool by_parts() {
  int ends[2];
  if (::pipe(ends) != 0) return false;
  std::array<std::byte, message_bytes> message{};
  for (std::size_t i = 0; i < message.size(); ++i) message[i] = static_cast<std::byte>(i + 1);
  bool right = coir::io::write(ends[1], message).value_or(0) == message_bytes;
  const fresh room;
  const iovec parts[] = {{room.bytes.data(), 30}, {room.bytes.data() + 30, 2 * message_bytes - 30}};
  const auto got = coir::io::readv(ends[0], parts);
  right = right && got.value_or(0) == message_bytes &&
          right_ones(room.bytes.first(message_bytes)) == message_bytes;
  ::close(ends[0]);
  ::close(ends[1]);
  return right;
}

}  // namespace

int main(int count, char** words) {
  const std::string_view what = count > 1 ? words[1] : "";
#if defined(COIR_VALGRIND)
  if (what == "able") return 0;
#else
  if (what == "able") return 77;
#endif
  return coir::run_main([&] { return by_tcp(what == "past") && by_parts() ? 0 : 1; },
                        {.workers = 2, .fibers_max = 64, .ring_entries = 32});
}
