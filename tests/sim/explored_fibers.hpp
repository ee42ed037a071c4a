// explored_fibers.hpp: parts of a generated program that spawn, join, cancel, wait for each other,
// move and sleep.
//
// Always true:
//   - Each count is known beforehand, so who ran twice, or never, is seen.
//
// Comes from: explorer.hpp.   Goes to: explored.hpp.
#pragma once

#include <deque>
#include <mutex>

#include "explored.hpp"

namespace explored {

/// A tree of spawns; each answers how many it is.
inline std::uint64_t grow(const part& p, std::uint64_t depth) {
  std::uint64_t sum = 1;
  if (p.w.choose(4) == 3) p.pass_time();
  if (depth == 0) return sum;
  std::vector<coir::handle<std::uint64_t>> children;
  coir::scope own;
  for (std::uint64_t n = p.choose(0, 3); n != 0; --n)
    children.push_back(own.spawn([&p, depth] { return grow(p, depth - 1); }, p.anywhere("leaf")));
  for (auto& child : children) {
    for (;;) {
      const auto got = child.join(p.deadline());
      if (!got && got.error() == std::errc::timed_out) continue;
      check(got.has_value(), "join of a child");
      sum += *got;
      break;
    }
  }
  return sum;
}

inline void tree(const part& p) {
  const std::uint64_t sum = grow(p, p.choose(0, 2));
  check(sum >= 1 && sum <= 1 + 3 + 9, "a tree");
}

/// Some are joined, some let go, some cancelled before or while they run; each ends once.
inline void crowd(const part& p) {
  const std::uint64_t count = p.choose(1, 7);
  auto begun = std::make_shared<std::uint64_t>(0), ended = std::make_shared<std::uint64_t>(0);
  std::vector<coir::handle<std::uint64_t>> all;
  std::uint64_t refused = 0;
  coir::scope own;
  for (std::uint64_t i = 0; i < count; ++i) {
    all.push_back(own.spawn(
        [&p, i, begun, ended] {
          ++*begun;
          p.pass_time();
          ++*ended;
          return i;
        },
        p.anywhere("one")));
    if (p.w.choose(4) == 3) all.back().cancel();
    if (p.w.choose(4) == 3) p.pass_time();
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    if (p.w.choose(3) == 2) {
      const coir::fiber_id id = all[i].id();
      const auto waited = coir::wait(id);
      check(waited.has_value() || waited.error() == coir::errc::stale_handle, "wait by name");
    }
    if (p.w.choose(5) == 4) all[i].cancel();
    const auto got = all[i].join();
    if (got) check(*got == i, "the answer of another one");
    if (!got) {
      check(got.error() == std::errc::operation_canceled, "cancelled before it ran");
      ++refused;
    }
  }
  check(*begun == *ended && *begun + refused == count, "each runs once, or is told why not");
}

/// A counter behind a mutex; whoever is cancelled has it or has it not.
inline void lock_and_count(const part& p) {
  struct shared {
    coir::mutex lock;
    std::uint64_t count = 0, inside = 0;
  } all;
  const std::uint64_t fibers = p.choose(1, 3), rounds = p.choose(1, 4);
  std::uint64_t done = 0;
  std::vector<coir::handle<std::uint64_t>> counting;
  coir::scope own;
  for (std::uint64_t i = 0; i < fibers; ++i)
    counting.push_back(own.spawn(
        [&] {
          std::uint64_t mine = 0;
          for (std::uint64_t left = rounds; left != 0; --left) {
            const auto locked = all.lock.lock_until(p.deadline());
            if (!locked) {
              check(is_passing(locked.error()), "lock_until");
              continue;
            }
            check(++all.inside == 1, "two are inside");
            const std::uint64_t before = all.count;
            if (p.maybe()) p.pass_time();
            all.count = before + 1;
            ++mine;
            check(--all.inside == 0, "two were inside");
            all.lock.unlock();
          }
          return mine;
        },
        p.anywhere("counter")));
  if (p.w.choose(3) == 2) {
    p.pass_time();
    counting.front().cancel();
  }
  for (auto& one : counting) done += one.join().value_or(0);
  check(done == all.count, "each that had the lock counted once");
}

/// A queue of few places: what goes in comes out, once, in order.
inline void queue(const part& p) {
  struct shared {
    coir::mutex lock;
    coir::condition_variable changed;
    std::deque<std::uint64_t> items;
    bool over = false;
  } q;
  const std::uint64_t total = p.choose(0, 12), room = p.choose(1, 2);
  std::uint64_t next = 0;
  bool over = false;
  coir::scope own;  // ends before what its fibers use
  auto putting = own.spawn(
      [&] {
        for (std::uint64_t i = 0; i < total; ++i) {
          std::unique_lock held(q.lock);
          check(q.changed.wait(held, [&] { return q.items.size() < room; }).has_value(), "room");
          q.items.push_back(i);
          q.changed.notify_all();
        }
        const std::lock_guard held(q.lock);
        q.over = true;
        q.changed.notify_all();
      },
      p.anywhere("putter"));
  while (!over) {
    auto taking = own.spawn(
        [&] {
          for (std::uint64_t left = p.choose(1, 4); left != 0; --left) {
            std::unique_lock held(q.lock);
            const auto waited = q.changed.wait(
                held, [&] { return !q.items.empty() || q.over; }, p.deadline());
            if (!waited) {
              check(is_passing(waited.error()), "a wait");
              return;
            }
            if (q.items.empty()) return (void)(over = true);
            check(q.items.front() == next++, "an item is another one");
            q.items.pop_front();
            q.changed.notify_all();
          }
        },
        p.anywhere("taker"));
    if (p.w.choose(4) == 3) {
      p.pass_time();
      taking.cancel();
    }
    const auto joined = taking.join();
    check(joined.has_value() || joined.error() == std::errc::operation_canceled, "join a taker");
  }
  check(putting.join().has_value(), "join the putter");
  check(next == total, "what went in came out");
}

/// Many wait for one gate.
inline void gate(const part& p) {
  coir::event open;
  std::uint64_t through = 0, late = 0;
  const std::uint64_t count = p.choose(1, 4);
  coir::scope all;
  for (std::uint64_t i = 0; i < count; ++i)
    (void)all.spawn(
        [&] {
          const auto waited = open.wait(p.deadline());
          if (!waited) check(waited.error() == std::errc::timed_out, "a gate");
          ++(waited ? through : late);
          if (waited) check(open.is_set(), "through a closed gate");
        },
        p.anywhere("waiter"));
  p.pass_time();
  open.set();
  check(all.join().has_value(), "join of a scope");
  check(through + late == count, "everybody went through or gave up");
}

/// Sleeps are never too short, and a cancel ends one.
inline void sleepers(const part& p) {
  for (std::uint64_t left = p.choose(1, 3); left != 0; --left) {
    const auto span = p.moment();
    const auto before = coir::clock::now();
    const auto slept = coir::this_fiber::sleep_for(span);
    check(slept.has_value(), "a sleep");
    check(coir::clock::now() - before >= span, "a sleep was too short");
  }
  coir::scope own;
  auto forever =
      own.spawn([] { return coir::this_fiber::sleep_until(coir::never); }, p.anywhere("dreamer"));
  p.pass_time();
  forever.cancel();
  const auto woken = forever.join();
  check(!woken && woken.error() == std::errc::operation_canceled, "a cancel ends a sleep");
}

/// Goes from worker to worker while others wait for it.
inline void move_about(const part& p) {
  coir::spawn_options o = p.anywhere("mover");
  o.sw = coir::switcher::cross_thread_no_float;
  coir::scope own;
  auto moving = own.spawn(
      [&p] {
        std::uint64_t moves = 0;
        for (std::uint64_t left = p.choose(1, 3); left != 0; --left) {
          const auto to = static_cast<unsigned>(p.w.choose(p.workers));
          check(coir::this_fiber::move_to(to).has_value(), "move_to");
          check(coir::this_fiber::worker() == to, "a move ends elsewhere");
          ++moves;
          if (p.maybe()) p.pass_time();
        }
        return moves;
      },
      o);
  auto watching = own.spawn(
      [&p, id = moving.id()] {
        if (p.maybe()) p.pass_time();
        const auto waited = coir::wait(id);
        check(waited.has_value() || waited.error() == coir::errc::stale_handle, "wait for a mover");
      },
      p.anywhere("watcher"));
  if (p.maybe()) p.pass_time();
  check(moving.join().value_or(0) >= 1, "join of a mover");
  check(watching.join().has_value(), "join of a watcher");
}

/// What is cancelled while it waits for the world is told, and nothing of it is left.
inline void give_up(const part& p) {
  const auto [reader, writer] = p.w.pipe();
  const int in = reader, out = writer;
  std::array<std::byte, 4> buffer{};
  coir::scope own;
  auto waiting = own.spawn([&] { return coir::io::read(in, buffer); }, p.anywhere("hopeless"));
  p.pass_time();
  waiting.cancel();
  const auto got = waiting.join();
  check(!got && is_passing(got.error()), "a read of nothing");
  const auto late = coir::io::read(in, buffer, coir::in(p.moment()));
  check(!late && is_passing(late.error()), "a deadline of a read");
  close(in);
  close(out);
}

}  // namespace explored
