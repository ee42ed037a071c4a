// hello.cpp: the smallest program: two fibers take turns, and the root fiber gets their answers.
//
// Comes from: a shell.   Goes to: coir/coir.hpp.
#include <chrono>
#include <coir/coir.hpp>
#include <cstdio>

using namespace std::chrono_literals;

int main() {
  const auto count = [](const char* name) {
    int turns = 0;
    while (turns < 3) {
      std::printf("%s %d\n", name, ++turns);
      if (!coir::this_fiber::sleep_for(1ms)) break;  // the other one's turn
    }
    return turns;
  };
  const auto hello = [&]() -> coir::result<int> {
    auto tick = coir::spawn([&] { return count("tick"); });
    auto tock = coir::spawn([&] { return count("tock"); });
    const auto ticks = tick.join();
    const auto tocks = tock.join();
    if (!ticks) return coir::fail(ticks.error());
    if (!tocks) return coir::fail(tocks.error());
    std::printf("hello from %d fibers' turns\n", *ticks + *tocks);
    return 0;
  };
  return coir::run_main(hello, {.workers = 1});
}
