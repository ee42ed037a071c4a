// rows.hpp: the tables of the benchmark, one function per room of questions.
//
// Always true:
//   - A function only describes what is to be measured; nothing runs before measure().
//
// Comes from: coir_bench.cpp.   Goes to: rows_*.cpp.
#pragma once

#include <coir/coir.hpp>
#include <stdexcept>
#include <string>

#include "bench/measure.hpp"

namespace bench {

void add_switch(tables& to, const settings& chosen);
void add_yield(tables& to, const settings& chosen);
void add_spawn(tables& to, const settings& chosen);
void add_nop(tables& to, const settings& chosen);
void add_deadlines(tables& to, const settings& chosen);
void add_timers(tables& to, const settings& chosen);
void add_memory(tables& to, const settings& chosen);
void add_echo(tables& to, const settings& chosen);

/// Runs `root` on one worker and returns its answer; an error of the runtime is thrown.
template <class F>
auto on_coir(F&& root) {
  auto answer = coir::run(std::forward<F>(root), {.workers = 1});
  if (!answer) throw std::runtime_error("coir: " + answer.error().message());
  return *answer;
}

/// A step that a sound run always takes.
template <class T>
T sure(coir::result<T> answer) {
  if (!answer) throw std::runtime_error("coir: " + answer.error().message());
  if constexpr (!std::is_void_v<T>) return std::move(*answer);
}

/// An entry for the program peer_go with these arguments; it prints one number.
entry go_entry(const settings& chosen, const std::string& arguments);

}  // namespace bench
