// thread_two_workers_race.cpp: two fibers of two workers write one variable without any order
// between them, so that ThreadSanitizer can show that it tells fibers of different threads apart.
//
// Always true:
//   - The program commits the fault in every build; only a sanitizer says so.
//
// Comes from: entry A16 of the failure catalogue.   Goes to: the report of the sanitizer.
#include <atomic>
#include <cstdio>
#include <thread>

#include "coir/coir.hpp"

namespace {

int shared_by_mistake = 0;
std::atomic<int> arrived{0};

void write_often() {
  // relaxed: they shall meet, not synchronise.
  arrived.fetch_add(1, std::memory_order_relaxed);
  while (arrived.load(std::memory_order_relaxed) < 2) std::this_thread::yield();
  for (int i = 0; i < 1000; ++i) shared_by_mistake = shared_by_mistake + 1;
}

}  // namespace

int main() {
  return coir::run_main(
      [] {
        auto one = coir::spawn(&write_often, {.worker = 0});
        auto two = coir::spawn(&write_often, {.worker = 1});
        (void)one.join();
        (void)two.join();
        std::printf("%d\n", shared_by_mistake);
      },
      {.workers = 2});
}
