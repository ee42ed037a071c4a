// main.cpp: the half of the consumer that runs the runtime; 0 when the answer is right.
//
// Comes from: tests/programs/installed.sh.   Goes to: answer.cpp.
#include <coir/coir.hpp>
#include <cstdio>

coir::result<int> answer();

int main() {
  const auto got = coir::run(&answer, {.workers = 2, .fibers_max = 64});
  std::printf("%s\n", got ? "answered" : got.error().message().c_str());
  return got && *got == 42 ? 0 : 1;
}
