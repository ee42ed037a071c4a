// precompiled.hpp: what nearly every test includes, compiled once for a program instead of once for
// a file.
//
// Always true:
//   - Nothing depends on it: a file that forgets an include fails where COIR_TEST_PCH is off, as
//     with clang.
//
// Comes from: cmake/coir_tests.cmake.   Goes to: every test but main.cpp.
#pragma once

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
