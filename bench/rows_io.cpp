// rows_io.cpp: round trips through the ring, and what a deadline that does not fire adds to one.
//
// Always true:
//   - The raw twin enters the kernel as often as coir may: once for as many operations as there are
//     fibers that wait.
//   - Nothing waits for a device: NOPs, and a file whose one page is cached. It is on a real file
//     system: tmpfs does not answer io_uring at once and costs a change of threads.
//
// Comes from: coir_bench.cpp.   Goes to: peers.hpp.
#include <array>
#include <string>

#include "bench/peers.hpp"
#include "bench/rows.hpp"

namespace bench {

namespace {

constexpr std::chrono::seconds far_away{100};

sample coir_nop(unsigned fibers, unsigned laps) {
  return on_coir([=] {
    std::vector<coir::handle<void>> all;
    all.reserve(fibers);
    const counting counts;
    double nops = 0;
    sample got(fastest_cpu_ns(double{1} * fibers * laps, [&] {
      for (unsigned i = 0; i < fibers; ++i)
        all.push_back(coir::spawn([laps] {
          for (unsigned lap = 0; lap < laps; ++lap) sure(coir::perform(coir::nop{}));
        }));
      for (auto& fiber : all) sure(fiber.join());
      all.clear();
      nops += double{1} * fibers * laps;
    }));
    got.per_operation = counts.per(nops);
    return got;
  });
}

row nop_row(unsigned fibers) {
  const unsigned laps = std::max(20'000 / fibers, 20u);
  const std::string number = std::to_string(fibers);
  row one{"nop/" + number,
          "a parked NOP, " + number + (fibers == 1 ? " fiber" : " fibers"),
          {{"CPU per NOP", "ns"}},
          {{"coir", role::ours, [=] { return coir_nop(fibers, laps); }},
           {"liburing, batches of " + number, role::raw,
            [=] { return sample(raw_nop_cpu_ns(fibers, laps)); }}},
          {{reach::kind::of_raw, 1.15}}};
  return one;
}

enum class ends { never, once, each_time };

coir::deadline until(ends kind, coir::deadline once) {
  if (kind == ends::never) return coir::never;
  return kind == ends::once ? once : coir::in(far_away);
}

sample coir_read(const std::string& folder, unsigned reads, ends kind) {
  return on_coir([&] {
    const coir::io::unique_fd file(cached_file(folder));
    std::array<std::byte, 64> bytes{};
    const coir::deadline once = coir::in(far_away);
    const counting counts;
    double all = 0;
    sample got(fastest_ns(reads, [&] {
      for (unsigned i = 0; i < reads; ++i)
        sure(coir::io::pread(file.get(), bytes, 0, until(kind, once)));
      all += reads;
    }));
    got.per_operation = counts.per(all);
    return got;
  });
}

}  // namespace

void add_nop(rows& to, const settings&) {
  for (const unsigned fibers : {1u, 32u, 1'000u}) to.push_back(nop_row(fibers));
}

void add_deadline(rows& to, const settings& chosen) {
  const std::string& in = chosen.folder;
  constexpr unsigned reads = 10'000;
  to.push_back(
      {"deadline",
       "pread of 64 cached bytes with a deadline that does not fire",
       {{"read", "ns"}},
       {{"coir, a deadline", role::ours, [=] { return coir_read(in, reads, ends::once); }},
        {"coir, no deadline", role::base, [=] { return coir_read(in, reads, ends::never); }},
        {"coir, in(100 s) before each", role::variant,
         [=] { return coir_read(in, reads, ends::each_time); }},
        {"liburing, linked timeout", role::raw,
         [=] { return sample(raw_read_ns(in, reads, limit::linked_timeout)); }},
        {"liburing, no deadline", role::variant,
         [=] { return sample(raw_read_ns(in, reads, limit::none)); }}},
       {{reach::kind::over_base, 8}}});
}

}  // namespace bench
