// soak.cpp: as many messages as one likes, each to a worker that sleeps until it is rung: how many
// were lost, and the longest that one of them took.
//
// Always true:
//   - A message that has not arrived after `lost_after` is lost: the program says what the workers
//     were doing and ends with 1.
//   - The times are those of the sender, who waits for nothing else, so they contain what the
//     machine did meanwhile.
//
// Comes from: `./dev soak`, with how many.   Goes to: forced_sleep.hpp.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "tests/life/forced_sleep.hpp"

namespace {

using steady = std::chrono::steady_clock;
constexpr auto lost_after = std::chrono::seconds(10);

double us_of(steady::duration d) { return std::chrono::duration<double, std::micro>(d).count(); }

void tell_workers(const coir::runtime& rt) {
  unsigned index = 0;
  for (const coir::worker_stats& w : rt.snapshot().workers)
    std::printf(
        "worker %u: live %lu, unstarted %lu, ready %lu, parked %lu, mail %lu, turns %lu, "
        "sleeps %lu, wakes taken %lu, bells rung %lu\n",
        index++, w.live, w.unstarted, w.ready, w.parked, w.mailbox_depth, w.turns, w.sleeps,
        w.wakes_taken, w.bells_rung);
}

}  // namespace

int main(int count, char** arguments) {
  std::uint64_t wanted = 10'000'000;
  if (count > 1) {
    const char* const end = arguments[1] + std::strlen(arguments[1]);
    if (std::from_chars(arguments[1], end, wanted).ptr != end || wanted == 0) {
      std::fprintf(stderr, "soak: how many messages? '%s' is no number\n", arguments[1]);
      return 2;
    }
  }
  auto made = coir::runtime::create(test::sleepy_options());
  if (!made || !(*made)->start()) return 2;
  steady::duration longest{}, longest_of_all{};
  test::sleep_messages messages(**made, [&longest](auto arrived) {
    const auto sent_at = steady::now();
    while (!arrived()) {
      if (steady::now() - sent_at > lost_after) return false;
      std::this_thread::yield();
    }
    longest = std::max(longest, steady::now() - sent_at);
    return true;
  });
  const std::uint64_t each = (wanted + test::messages_kinds - 1) / test::messages_kinds;
  std::uint64_t sent = 0;
  for (unsigned kind = 0; kind < test::messages_kinds; ++kind) {
    longest = {};
    const std::uint64_t arrived = messages.send(static_cast<test::message>(kind), each);
    sent += arrived;
    longest_of_all = std::max(longest_of_all, longest);
    std::printf("%-18s %lu of %lu arrived, the slowest after %.0f us\n", test::message_names[kind],
                arrived, each, us_of(longest));
    std::fflush(stdout);
    if (arrived == each) continue;
    tell_workers(**made);
    std::printf("LOST after %lu messages\n", sent);
    std::fflush(stdout);
    std::_Exit(1);  // the one that was lost would keep its runtime alive
  }
  if (!(*made)->shutdown()) return 1;
  std::printf("%lu messages, none lost, the longest stall %.0f us\n", sent, us_of(longest_of_all));
  return 0;
}
