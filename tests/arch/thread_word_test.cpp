// thread_word_test.cpp: the one pointer that each thread has.
//
// Always true:
//   - What is checked on a second thread is told to the first; only that one counts it.
//
// Comes from: ctest.   Goes to: arch/thread_word.hpp.
#include "arch/thread_word.hpp"

#include <doctest/doctest.h>

#include <thread>

using coir::arch::set_thread_word;
using coir::arch::thread_word;

TEST_CASE("thread_word: each thread has its own, null until it gives itself one") {
  int here = 0;
  int there = 0;
  void* const before = thread_word();
  set_thread_word(&here);
  void* first = &here;
  void* second = nullptr;
  std::thread([&] {
    first = thread_word();
    set_thread_word(&there);
    second = thread_word();
  }).join();
  CHECK(first == nullptr);
  CHECK(second == &there);
  CHECK(thread_word() == &here);
  set_thread_word(before);
  CHECK(thread_word() == before);
}
