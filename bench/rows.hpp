// rows.hpp: the rows of the benchmark, one function per room of questions.
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

void add_switch(rows& to, const settings& chosen);
void add_yield(rows& to, const settings& chosen);
void add_spawn(rows& to, const settings& chosen);
void add_parked(rows& to, const settings& chosen);
void add_sleep(rows& to, const settings& chosen);
void add_timer(rows& to, const settings& chosen);
void add_nop(rows& to, const settings& chosen);
void add_file_read(rows& to, const settings& chosen);
void add_echo(rows& to, const settings& chosen);
void add_deadline(rows& to, const settings& chosen);
void add_effects(rows& to, const settings& chosen);
void add_kv(rows& to, const settings& chosen);
void add_mesh(rows& to, const settings& chosen);
void add_pingpong(rows& to, const settings& chosen);

/// A step that a sound run always takes.
template <class T>
T sure(coir::result<T> answer) {
  if (!answer) throw std::runtime_error("coir: " + answer.error().message());
  if constexpr (!std::is_void_v<T>) return std::move(*answer);
}

/// Runs `root`, on one worker if nothing else is said, and returns its answer; an error of the
/// runtime is thrown.
template <class F>
auto on_coir(F&& root, const coir::options& chosen = {.workers = 1}) {
  return sure(coir::run(std::forward<F>(root), chosen));
}

/// What coir counted since this was made, per operation. On a fiber.
class counting {
 public:
  counting() : from_(coir::snapshot().total()) {}
  counted per(double operations) const {
    const coir::worker_stats now = coir::snapshot().total();
    const auto each = [&](std::uint64_t to, std::uint64_t from) {
      return static_cast<double>(to - from) / operations;
    };
    return {each(now.switches, from_.switches), each(now.sqes, from_.sqes),
            each(now.enters, from_.enters)};
  }

 private:
  coir::worker_stats from_;
};

/// An entry for the program peer_go with these arguments, on the CPUs of its row; it prints one
/// line of figures.
entry go_entry(const settings& chosen, const std::string& arguments);

}  // namespace bench
