// rows_io.cpp: round trips through the ring, and what a deadline that does not fire adds to one.
//
// Always true:
//   - The raw peer enters the kernel as often as coir may: once for as many operations as there
//     are fibers that wait.
//   - Nothing waits for a device: NOPs, a file in memory, and a pair of sockets.
//
// Comes from: coir_bench.cpp.   Goes to: peers.hpp.
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <system_error>

#include "bench/peers.hpp"
#include "bench/rows.hpp"

namespace bench {

namespace {

constexpr unsigned repeats = 5;
constexpr std::chrono::seconds far_away{100};

double coir_nop_ns(unsigned fibers, unsigned laps) {
  return on_coir([=] {
    std::vector<coir::handle<void>> all;
    all.reserve(fibers);
    return fastest_ns(repeats, double{1} * fibers * laps, [&] {
      for (unsigned i = 0; i < fibers; ++i)
        all.push_back(coir::spawn([laps] {
          for (unsigned lap = 0; lap < laps; ++lap) sure(coir::perform(coir::nop{}));
        }));
      for (auto& fiber : all) sure(fiber.join());
      all.clear();
    });
  });
}

enum class ends { never, once, each_time };

coir::deadline until(ends kind, coir::deadline once) {
  if (kind == ends::never) return coir::never;
  return kind == ends::once ? once : coir::in(far_away);
}

double coir_read_ns(unsigned reads, ends kind) {
  return on_coir([=] {
    const coir::io::unique_fd file(::memfd_create("bench", MFD_CLOEXEC));
    std::array<std::byte, 64> bytes{};
    if (::write(file.get(), bytes.data(), bytes.size()) != 64)
      throw std::system_error(errno, std::system_category(), "memfd");
    const coir::deadline once = coir::in(far_away);
    return fastest_ns(repeats, reads, [&] {
      for (unsigned i = 0; i < reads; ++i)
        sure(coir::io::pread(file.get(), bytes, 0, until(kind, once)));
    });
  });
}

/// One byte to and fro between two fibers: every read has to wait.
double coir_ping_ns(unsigned laps, ends kind) {
  return on_coir([=] {
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
      throw std::system_error(errno, std::system_category(), "socketpair");
    const coir::io::unique_fd left(pair[0]);
    const coir::io::unique_fd right(pair[1]);
    const auto serve = [&] {
      std::array<std::byte, 1> byte;
      while (sure(coir::io::recv(right.get(), byte)) == 1) sure(coir::io::send(right.get(), byte));
    };
    auto server = coir::spawn(serve);
    std::array<std::byte, 1> byte{};
    const coir::deadline once = coir::in(far_away);
    const double ns = fastest_ns(repeats, laps, [&] {
      for (unsigned i = 0; i < laps; ++i) {
        sure(coir::io::send(left.get(), byte));
        sure(coir::io::recv(left.get(), byte, 0, until(kind, once)));
      }
    });
    sure(coir::io::shutdown(left.get(), SHUT_WR));
    sure(server.join());
    return ns;
  });
}

}  // namespace

void add_nop(tables& to, const settings& chosen) {
  const unsigned all = chosen.quick ? 20'000 : 200'000;
  for (const unsigned fibers : {1u, 32u, 1'000u}) {
    const unsigned laps = all / fibers;
    to.push_back({"a parked NOP, " + std::to_string(fibers) + (fibers == 1 ? " fiber" : " fibers"),
                  "ns per NOP",
                  {{"coir", [=] { return sample{coir_nop_ns(fibers, laps)}; }},
                   {"liburing, batches of " + std::to_string(fibers),
                    [=] { return sample{raw_nop_ns(fibers, laps)}; }}}});
  }
}

void add_deadlines(tables& to, const settings& chosen) {
  const unsigned reads = chosen.quick ? 10'000 : 100'000;
  to.push_back({"pread of 64 cached bytes, with a deadline that does not fire",
                "ns per read",
                {{"coir, no deadline", [=] { return sample{coir_read_ns(reads, ends::never)}; }},
                 {"coir, a deadline", [=] { return sample{coir_read_ns(reads, ends::once)}; }},
                 {"coir, in(100 s) before each",
                  [=] { return sample{coir_read_ns(reads, ends::each_time)}; }},
                 {"liburing, no deadline", [=] { return sample{raw_read_ns(reads, limit::none)}; }},
                 {"liburing, linked timeout",
                  [=] { return sample{raw_read_ns(reads, limit::linked_timeout)}; }}}});
  const unsigned laps = reads / 5;
  to.push_back(
      {"a byte to and fro on a socket pair (2 sends, 2 recvs that wait)",
       "ns per round trip",
       {{"coir, no deadline", [=] { return sample{coir_ping_ns(laps, ends::never)}; }},
        {"coir, a deadline on one recv", [=] { return sample{coir_ping_ns(laps, ends::once)}; }},
        {"coir, in(100 s) before each",
         [=] { return sample{coir_ping_ns(laps, ends::each_time)}; }}}});
}

}  // namespace bench
