// main.cpp: the entry of every C++ test program.
//
// Always true:
//   - The runner's own output is the only thing on stdout.
//
// Comes from: ctest.   Goes to: every TEST_CASE linked into the program.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
