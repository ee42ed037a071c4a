// checked.hpp: coir::detail::atomic, plain and fence as the checker has them: each access is told
// to it, with the place in the sources where it stands.
//
// Always true:
//   - An atomic holds its newest value and nothing else, so it is as large as std::atomic and
//     zeroed memory is a valid one. What older values a thread may still read is memory.hpp's to
//     know.
//   - Outside an exploration (setting up, judging) these are plain variables.
//
// Comes from: coir/detail/atomic.hpp, where COIR_CHECK is this file.   Goes to: checker.cpp.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace coir::check {

/// Where an access stands in the sources.
struct spot {
  const char* file = "";
  const char* function = "";
  int line = 0;
  static constexpr spot here(const char* file = __builtin_FILE(),
                             const char* function = __builtin_FUNCTION(),
                             int line = __builtin_LINE()) noexcept {
    return {file, function, line};
  }
};

/// What a read-modify-write makes of the value it finds.
using change = std::uint64_t (*)(std::uint64_t found, std::uint64_t operand);

/// True on a thread of an exploration.
extern bool watching;

/// Before each access: other threads may have their turn.
void turn(const void* at, spot where);

// After that, each is told the newest value, which is what lies in memory.
std::uint64_t on_load(const void* at, std::uint64_t newest, std::memory_order order, spot where);
void on_store(const void* at, std::uint64_t newest, std::uint64_t value, std::memory_order order,
              spot where);
/// `newest` becomes what was made of it. Returns what was found.
std::uint64_t on_change(const void* at, std::uint64_t& newest, change make, std::uint64_t operand,
                        std::memory_order order, spot where);
bool on_compare(const void* at, std::uint64_t& newest, std::uint64_t& expected,
                std::uint64_t desired, bool weak, std::memory_order success,
                std::memory_order failure, spot where);
void on_fence(std::memory_order order, spot where);
void on_birth(const void* at);
void on_death(const void* at);
void on_plain_read(const void* at, spot where);
void on_plain_write(const void* at, spot where);

template <class T>
std::uint64_t bits_of(T value) noexcept {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
T value_of(std::uint64_t bits) noexcept {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace coir::check

namespace coir::detail {

template <class T>
class atomic {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
  using order = std::memory_order;
  using spot = check::spot;

 public:
  constexpr atomic() noexcept : atomic(T{}) {}
  constexpr atomic(T value) noexcept : value_(value) {
    if (!std::is_constant_evaluated() && check::watching) check::on_birth(this);
  }
  atomic(const atomic&) = delete;
  atomic& operator=(const atomic&) = delete;
  constexpr ~atomic() {
    if (!std::is_constant_evaluated() && check::watching) check::on_death(this);
  }

  T load(order o = order::seq_cst, spot w = spot::here()) const noexcept {
    if (!check::watching) return value_;
    check::turn(this, w);
    return check::value_of<T>(check::on_load(this, check::bits_of(value_), o, w));
  }
  void store(T value, order o = order::seq_cst, spot w = spot::here()) noexcept {
    if (check::watching) {
      check::turn(this, w);
      check::on_store(this, check::bits_of(value_), check::bits_of(value), o, w);
    }
    value_ = value;
  }
  T exchange(T value, order o = order::seq_cst, spot w = spot::here()) noexcept {
    return rmw([](std::uint64_t, std::uint64_t b) { return b; }, value, o, w);
  }
  T fetch_add(T n, order o = order::seq_cst, spot w = spot::here()) noexcept {
    return rmw(
        [](std::uint64_t a, std::uint64_t b) {
          return check::bits_of(static_cast<T>(check::value_of<T>(a) + check::value_of<T>(b)));
        },
        n, o, w);
  }
  T fetch_sub(T n, order o = order::seq_cst, spot w = spot::here()) noexcept {
    return fetch_add(static_cast<T>(T{} - n), o, w);
  }
  T fetch_or(T n, order o = order::seq_cst, spot w = spot::here()) noexcept {
    return rmw([](std::uint64_t a, std::uint64_t b) { return a | b; }, n, o, w);
  }
  T fetch_and(T n, order o = order::seq_cst, spot w = spot::here()) noexcept {
    return rmw([](std::uint64_t a, std::uint64_t b) { return a & b; }, n, o, w);
  }
  bool compare_exchange_strong(T& expected, T desired, order success, order failure,
                               spot w = spot::here()) noexcept {
    return compare(expected, desired, false, success, failure, w);
  }
  bool compare_exchange_strong(T& expected, T desired, order o = order::seq_cst,
                               spot w = spot::here()) noexcept {
    return compare(expected, desired, false, o, failing(o), w);
  }
  bool compare_exchange_weak(T& expected, T desired, order success, order failure,
                             spot w = spot::here()) noexcept {
    return compare(expected, desired, true, success, failure, w);
  }
  bool compare_exchange_weak(T& expected, T desired, order o = order::seq_cst,
                             spot w = spot::here()) noexcept {
    return compare(expected, desired, true, o, failing(o), w);
  }

 private:
  static constexpr order failing(order o) noexcept {
    if (o == order::acq_rel) return order::acquire;
    return o == order::release ? order::relaxed : o;
  }
  T rmw(check::change make, T operand, order o, spot w) noexcept {
    if (!check::watching) {
      const T found = value_;
      value_ = check::value_of<T>(make(check::bits_of(found), check::bits_of(operand)));
      return found;
    }
    check::turn(this, w);
    return check::value_of<T>(commit([&](std::uint64_t& newest) {
      return check::on_change(this, newest, make, check::bits_of(operand), o, w);
    }));
  }
  bool compare(T& expected, T desired, bool weak, order success, order failure, spot w) noexcept {
    if (!check::watching) {
      const bool equal = check::bits_of(value_) == check::bits_of(expected);
      (equal ? value_ : expected) = equal ? desired : value_;
      return equal;
    }
    check::turn(this, w);
    std::uint64_t wanted = check::bits_of(expected);
    const bool done = commit([&](std::uint64_t& newest) {
      return check::on_compare(this, newest, wanted, check::bits_of(desired), weak, success,
                               failure, w);
    });
    if (!done) expected = check::value_of<T>(wanted);
    return done;
  }
  /// Lets `act` change the newest value.
  template <class Act>
  auto commit(Act act) noexcept {
    std::uint64_t newest = check::bits_of(value_);
    const auto answer = act(newest);
    value_ = check::value_of<T>(newest);
    return answer;
  }

  T value_;
};

/// Data that is not atomic, watched for accesses that no order keeps apart.
template <class T>
class plain {
  using spot = check::spot;

 public:
  constexpr plain() noexcept : value_{} {}
  constexpr plain(T value) noexcept : value_(value) {
    if (!std::is_constant_evaluated()) wrote(spot{});
  }
  plain(const plain& other) noexcept : plain(other.get()) {}
  plain& operator=(const plain& other) noexcept { return *this = other.get(); }
  plain& operator=(T value) noexcept {
    wrote(spot{});
    value_ = value;
    return *this;
  }
  /// The end of its life is a write: whoever reads it later reads what is gone.
  constexpr ~plain() {
    if (!std::is_constant_evaluated()) wrote(spot{});
  }
  T get(spot w = spot::here()) const noexcept {
    if (check::watching) check::on_plain_read(this, w);
    return value_;
  }
  void set(T value, spot w = spot::here()) noexcept {
    wrote(w);
    value_ = value;
  }
  operator T() const noexcept { return get(spot{}); }
  T operator->() const noexcept { return get(spot{}); }

 private:
  void wrote(spot w) noexcept {
    if (check::watching) check::on_plain_write(this, w);
  }
  T value_;
};

inline void fence(std::memory_order order, check::spot w = check::spot::here()) noexcept {
  if (check::watching) check::on_fence(order, w);
}

}  // namespace coir::detail
