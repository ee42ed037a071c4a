// rows_parked.cpp: what a fiber costs while it waits, and what it took to get there and back.
//
// Always true:
//   - Counted is the whole process, VmRSS and VmPTE, nothing subtracted, when the last fiber has
//     parked. No handle is kept: that is the user's memory, 16 bytes each.
//   - The time is from the first spawn until all have parked, and from the end of the file until
//     all have ended; looking at the memory in between is not in it.
//
// Comes from: coir_bench.cpp.   Goes to: peers.hpp.
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "bench/peers.hpp"
#include "bench/raw_switch.hpp"
#include "bench/rows.hpp"

namespace bench {

namespace {

struct parking {
  int fd;
  std::size_t wanted;
  std::size_t parked = 0;
  std::size_t ended = 0;
  coir::event all_ended;
};

[[gnu::noinline]] std::size_t third(parking& p) {
  std::array<std::byte, 1> byte{};
  ++p.parked;
  const std::size_t got = sure(coir::io::read(p.fd, byte));
  asm volatile("# frame 3");
  return got;
}
[[gnu::noinline]] std::size_t second(parking& p) {
  const std::size_t got = third(p);
  asm volatile("# frame 2");
  return got;
}
[[gnu::noinline]] std::size_t first(parking& p) {
  const std::size_t got = second(p);
  asm volatile("# frame 1");
  return got;
}

sample coir_parked(std::size_t count, std::size_t stack_bytes, coir::guard guards) {
  const auto root = [=]() -> sample {
    int ends[2];
    if (::pipe(ends) != 0) throw std::system_error(errno, std::system_category(), "pipe");
    parking p{.fd = ends[0], .wanted = count, .all_ended = {}};
    const counting counts;
    const std::int64_t began = now_ns();
    for (std::size_t i = 0; i < count; ++i)
      coir::spawn(
          [&p] {
            if (first(p) == 0 && ++p.ended == p.wanted) p.all_ended.set();
          },
          {.stack_bytes = stack_bytes})
          .detach();
    while (p.parked < count) coir::this_fiber::yield();
    const std::int64_t created = now_ns() - began;
    const double bytes = resident_bytes() / static_cast<double>(count);
    const std::int64_t ending = now_ns();
    ::close(ends[1]);
    sure(p.all_ended.wait());
    const auto spent = static_cast<double>(created + now_ns() - ending);
    sure(coir::io::close(ends[0]));
    sample got{bytes, spent / static_cast<double>(count)};
    got.per_operation = counts.per(static_cast<double>(count));
    return got;
  };
  return on_coir(root, {.workers = 1, .guards = guards});
}

row parked_row(const settings& chosen, std::size_t stack_bytes, double bytes_most) {
  const std::size_t count = chosen.many;
  const std::string kib = std::to_string(stack_bytes >> 10);
  row one{"parked/1000000/" + kib + "KiB",
          "a million fibers parked in read behind three functions, slots of " + kib + " KiB",
          {{"memory per fiber", "bytes"}, {"create and finish", "ns"}},
          {{"coir, a guard under each", role::ours,
            [=] { return coir_parked(count, stack_bytes, coir::guard::every); }},
           {"coir, a guard under each group", role::variant,
            [=] { return coir_parked(count, stack_bytes, coir::guard::grouped); }},
           {"coir, no guards", role::variant,
            [=] { return coir_parked(count, stack_bytes, coir::guard::none); }},
           {"by hand, no guards", role::raw, [=] { return raw_parked(count, stack_bytes); },
            raw::has_switch ? "" : "a switch for this CPU"}},
          {{reach::kind::at_most, bytes_most, 0}, {reach::kind::at_most, 4'000, 1}}};
  one.rounds_most = 2;
  one.smaller = count != 1'000'000;
  if (one.smaller) one.note = "with " + std::to_string(count) + " fibers in this run";
  return one;
}

}  // namespace

void add_parked(rows& to, const settings& chosen) {
  to.push_back(parked_row(chosen, 32 << 10, 4'500));
  const std::size_t fewer = chosen.many / 10;
  to.back().entries.push_back({"Boost.Fiber, 16 KiB, no guards, " + std::to_string(fewer),
                               role::peer, [=] { return boost_fiber_parked(fewer); },
                               boost_fiber_package, 1});
  to.back().entries.push_back(go_entry(chosen, "parked " + std::to_string(chosen.many)));
  to.back().entries.back().rounds_most = 1;
  to.push_back(parked_row(chosen, 256 << 10, 5'000));
}

}  // namespace bench
