// program.hpp: small random programs of writes, reads, erasures, resets and restarts; what a map
// would answer to each; and how a program that goes wrong becomes a short one.
//
// Always true:
//   - What shrink() returns goes wrong, too, and no command of it can be left out.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace kv_test {

struct command {
  enum class kind { write, read, erase, reset, restart } what = kind::read;
  std::string key = {};
  std::int64_t value = 0;
};
using program = std::vector<command>;

inline std::string text_of(const program& p) {
  static constexpr const char* names[] = {"write", "read", "erase", "reset", "restart"};
  std::string text;
  for (const command& c : p) {
    text += text.empty() ? "" : "; ";
    text += names[static_cast<int>(c.what)];
    if (!c.key.empty()) text += " " + c.key;
    if (c.what == command::kind::write) text += " " + std::to_string(c.value);
  }
  return text;
}

inline program random_program(std::mt19937_64& random, std::size_t commands) {
  using kind = command::kind;
  program p;
  while (p.size() < commands) {
    const std::string key(1, "abc"[random() % 3]);
    const auto dice = random() % 40;
    if (dice < 2)
      p.push_back({.what = kind::reset});
    else if (dice < 4)
      p.push_back({.what = kind::restart});
    else if (dice < 8)
      p.push_back({.what = kind::erase, .key = key});
    else if (dice < 20)
      p.push_back({.what = kind::write, .key = key, .value = static_cast<std::int64_t>(random())});
    else
      p.push_back({.what = kind::read, .key = key});
  }
  return p;
}

/// How often each kind of answer was asked for.
struct coverage {
  unsigned present = 0, absent = 0, overwritten = 0, erased = 0, after_reset = 0, after_restart = 0;
};

/// Runs `p` on `s`, which has write, read, erase, reset, restart. Returns the place of the first
/// answer that a map would not give.
template <class System>
std::optional<std::size_t> first_wrong(System& s, const program& p, coverage* seen = nullptr) {
  using kind = command::kind;
  std::map<std::string, std::int64_t> model;
  std::map<std::string, unsigned> writes;
  bool was_reset = false, was_restarted = false;
  coverage ignored;
  coverage& n = seen != nullptr ? *seen : ignored;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const command& c = p[i];
    switch (c.what) {
      case kind::write:
        s.write(c.key, c.value);
        model[c.key] = c.value;
        ++writes[c.key];
        break;
      case kind::erase:
        n.erased += model.contains(c.key) ? 1 : 0;
        if (s.erase(c.key) != (model.erase(c.key) != 0)) return i;
        break;
      case kind::reset:
        s.reset();
        model.clear();
        was_reset = true;
        break;
      case kind::restart:
        s.restart();
        was_restarted = true;
        break;
      case kind::read: {
        const auto at = model.find(c.key);
        const bool there = at != model.end();
        (there ? n.present : n.absent) += 1;
        n.overwritten += there && writes[c.key] > 1 ? 1 : 0;
        n.after_reset += was_reset ? 1 : 0;
        n.after_restart += was_restarted && there ? 1 : 0;
        const std::optional<std::int64_t> answer = s.read(c.key);
        if (answer.has_value() != there || (there && *answer != at->second)) return i;
        break;
      }
    }
  }
  return {};
}

/// The shortest program that can be made of `p` by leaving commands out and making values small.
template <class GoesWrong>
program shrink(program p, GoesWrong goes_wrong) {
  for (bool smaller = true; smaller;) {
    smaller = false;
    for (std::size_t many = p.size(); many > 0; many /= 2)
      for (std::size_t i = 0; i + many <= p.size();) {
        program less = p;
        const auto from = less.begin() + static_cast<std::ptrdiff_t>(i);
        less.erase(from, from + static_cast<std::ptrdiff_t>(many));
        if (goes_wrong(less)) {
          p = std::move(less);
          smaller = true;
        } else {
          ++i;
        }
      }
    for (command& c : p)
      for (const std::int64_t value : {std::int64_t{0}, c.value / 2, c.value - 1}) {
        if (c.what != command::kind::write || c.value <= value || value < 0) continue;
        const std::int64_t before = std::exchange(c.value, value);
        if (goes_wrong(p)) {
          smaller = true;
          break;
        }
        c.value = before;
      }
  }
  return p;
}

}  // namespace kv_test
