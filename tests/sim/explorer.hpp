// explorer.hpp: programs that nobody wrote: which parts there are, on how many workers, how large
// and in which order is decided by the run itself, and everything is checked.
//
// Always true:
//   - Faults come for a while; then they stop, and everybody must come to an end.
//   - At the end nothing is open, lent, armed or alive; coir::sim looks at that.
//   - A file's records that were promised are there after a cut of the power.
//
// Comes from: explorer_test.cpp, explorer.cpp.   Goes to: explored_fibers.hpp,
// explored_wires.hpp, explored_effects.hpp.
#pragma once

#include <fcntl.h>

#include "explored_effects.hpp"
#include "explored_fibers.hpp"

namespace explored {

/// Appends records, promises them once they are synced, and looks for them in the next life.
struct journal {
  static constexpr std::size_t record_bytes = 520;
  unsigned promised = 0;
  bool trusted = true;  // a sync that failed says nothing of what it was for

  void write(const part& p) {
    const auto fd = coir::io::open("journal", O_RDWR, 0, coir::never);
    if (!fd) return check(is_passing(fd.error()), "open");
    const auto count = static_cast<unsigned>(p.choose(1, 4));
    const std::uint64_t cut = p.w.choose(8);
    for (unsigned i = 0; i < count && trusted; ++i) {
      const std::vector<std::byte> record(record_bytes, static_cast<std::byte>('a' + i));
      trusted = put(*fd, record, i * record_bytes) && coir::io::fdatasync(*fd).has_value();
      if (trusted) ++promised;
      if (cut == i + 1) p.w.crash();
    }
    close(*fd);
  }
  static bool put(int fd, std::span<const std::byte> record, std::uint64_t at) {
    while (!record.empty()) {
      const auto n = coir::io::pwrite(fd, record, at);
      if (!n) return check(is_passing(n.error()), "pwrite"), false;
      record = record.subspan(*n);
      at += *n;
    }
    return true;
  }
  void look(world& w) const {
    const std::string log = w.file("journal").value_or("");
    for (unsigned i = 0; i < promised; ++i)
      check(log.size() >= (i + 1) * record_bytes &&
                log.compare(i * record_bytes, record_bytes,
                            std::string(record_bytes, static_cast<char>('a' + i))) == 0,
            "a promised record is lost");
  }
};

using part_function = void (*)(const part&);
inline constexpr part_function parts[] = {
    &tree,    &talk,     &crowd,      &lock_and_count, &queue,   &listen_to_stream,
    &gate,    &sleepers, &accept_all, &move_about,     &give_up, &close_under_reader,
    &handled, &stepped,  &first_of,   &machine,
};

/// One life: `parts_least` to three more of them side by side.
inline void live(world& w, journal& log, unsigned workers, unsigned parts_least) {
  std::vector<part> chosen;
  const std::uint64_t count = parts_least + w.choose(4);
  chosen.reserve(count);
  coir::scope all;
  for (std::uint64_t i = 0; i < count; ++i) {
    chosen.push_back({w, static_cast<unsigned>(i), workers});
    const part& p = chosen.back();
    const auto which = w.choose(std::size(parts) + 1);
    if (which == std::size(parts)) {
      if (i == 0) (void)all.spawn([&log, &p] { log.write(p); }, {.name = "journal"});
      continue;
    }
    (void)all.spawn([run = parts[which], &p] { run(p); }, p.anywhere("part"));
  }
  (void)coir::this_fiber::sleep_for(nanoseconds(w.choose(200'000)));
  w.stop_faults();
  check(all.join().has_value(), "join of all");
}

inline void any_program_of(world& w, unsigned parts_least) {
  w.put_file("journal", "");
  coir::options& o = w.next_life();
  o.workers = 1 + static_cast<unsigned>(w.choose(o.workers));
  o.mailbox_slots = 16u >> w.choose(5);
  o.stream_buffers = 8u >> w.choose(4);
  o.deflect_threshold = 1 + static_cast<unsigned>(w.choose(8));
  journal log;
  const bool whole =
      w.run([&w, &log, parts_least, workers = o.workers] { live(w, log, workers, parts_least); });
  if (whole) check(w.open_descriptors() == 0, "at the end a descriptor is open");
  log.look(w);
}

inline void any_program(world& w) { any_program_of(w, 1); }

}  // namespace explored
