// small_worker.hpp: one worker as the protocols of its records see it: the real inbox and the real
// reading of links, and a gate in place of its ring.
//
// Always true:
//   - A record's link is in an inbox at most once; a fiber is made ready only while it is parked;
//     nobody recycles a record twice, nor one whose link is under way.
#pragma once

#include <array>

#include "runtime/ending.hpp"
#include "runtime/waits.hpp"
#include "tests/model/checker.hpp"

namespace coir::check {

struct watched_record : detail::record {
  detail::plain<int> body = 0;    // what belongs to whoever has the record at the moment
  detail::plain<int> handle = 0;  // what the holder uses until it lets go
  bool link_under_way = false;
  unsigned recycled = 0;
};

struct small_worker {
  explicit small_worker(std::uint32_t number) : index(number) {}

  // -- any thread
  void send_wake(watched_record& r) {
    require(!r.link_under_way, "a link is in an inbox at most once");
    r.link_under_way = true;
    wakes.push(r);
    ring.open();
  }
  void send_errand(detail::errand& what) {
    wakes.push(what);
    ring.open();
  }

  // -- its own thread
  void take_wakes() {
    wakes.take(
        [this](detail::record& fiber) {
          auto& r = static_cast<watched_record&>(fiber);
          r.link_under_way = false;
          const unsigned passed_before = passed;
          detail::hear(fiber, index, *this);
          if (passed == passed_before) ++heard;
        },
        [this](detail::errand& what) { what.run(what, this); });
  }
  /// Until something arrives.
  void sleep() {
    ring.pass();
    take_wakes();
  }
  void park(watched_record& r, detail::park_site& site) {
    r.parked_at = &site;
    r.at = detail::stage::parked;
    site.why = detail::woken::by_item;
    if (detail::is_cancelled(r)) stop_parked(r);
  }

  // -- what news lead to
  void pass_on(detail::record& fiber) {
    ++passed;
    forward(static_cast<watched_record&>(fiber));
  }
  void recycle(detail::record& fiber) { reuse(static_cast<watched_record&>(fiber)); }
  void drop_unheld(detail::record& fiber) {
    ++dropped;
    reuse(static_cast<watched_record&>(fiber));
  }
  void make_ready(detail::record& fiber) {
    require(fiber.at == detail::stage::parked, "only a parked fiber is made ready");
    look_into(fiber);
    fiber.at = detail::stage::runnable;
  }
  void stop_parked(detail::record& fiber) { stop(fiber, detail::woken::by_cancel); }
  void stop(detail::record& fiber, detail::woken why) {
    look_into(fiber);
    if (fiber.at != detail::stage::parked || fiber.parked_at->stop == nullptr) return;
    fiber.parked_at->stop(*fiber.parked_at, fiber, why);
  }

  /// A race where it is not this worker's.
  static void look_into(detail::record& fiber) {
    (void)static_cast<watched_record&>(fiber).body.get();
  }

  /// What recycle() does with the record: the next life begins at once.
  static void reuse(watched_record& r) {
    if (!detail::may_recycle(r)) return;
    require(!r.link_under_way, "a record is recycled only when its link is not under way");
    require(r.recycled++ == 0, "a record is recycled once");
    r.body = -1;  // both race with whoever still uses this life
    r.handle = -1;
    detail::next_life(r);
  }

  std::uint32_t index;
  detail::wake_inbox wakes;
  gate ring;
  std::function<void(watched_record&)> forward = [](watched_record&) {
    require(false, "nobody's link comes here");
  };
  unsigned passed = 0, heard = 0, dropped = 0;
};

}  // namespace coir::check
