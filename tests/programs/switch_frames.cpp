// switch_frames.cpp: frames that give a compiler every reason to hide something in a register, and
// switches of both forms among them. Without the library: two files and a compiler make it.
//
// Always true:
//   - Without an argument: three fibers and the thread take turns, and the answer is 0 only when
//     every value of every frame is as it was.
//   - With "steps": between steps_begin() and steps_end() one fiber is entered, parked, resumed and
//     left, by the form that is named; a debugger walks from one to the other.
//
// Comes from: switch_matrix.sh, switch_steps.sh.   Goes to: arch/context.hpp.
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "arch/context.hpp"

namespace {

using coir::arch::context;
using number = std::uint64_t;

constexpr unsigned fibers = 3, rounds = 40;
alignas(16) unsigned char stacks[fibers][64 << 10];
context thread, places[fibers];
unsigned changed = 0, ended = 0;

/// A value whose origin no compiler sees.
[[gnu::noinline]] number opaque(number value) {
  asm volatile("" : "+r"(value));
  return value;
}

struct inlined {
  [[gnu::always_inline]] static inline void go(context& from, context& to) {
    coir::arch::switch_inlined(from, to);
  }
};
struct called {
  [[gnu::always_inline]] static inline void go(context& from, context& to) {
    coir::arch::switch_called(from, to);
  }
};

/// Twelve integers and eight doubles live across each switch, in a frame that is over-aligned and
/// grows. `hop(round)` is where it leaves.
template <class Hop>
[[gnu::always_inline]] inline void crowded(number seed, Hop hop) {
  alignas(64) number aligned[24];
  const number extra = 64 + opaque(seed % 5) * 24;
  auto* grown = static_cast<unsigned char*>(__builtin_alloca(extra));
  for (unsigned i = 0; i < 24; ++i) aligned[i] = seed * 31 + i;
  for (number i = 0; i < extra; ++i) grown[i] = static_cast<unsigned char>(seed + i);
  changed += reinterpret_cast<std::uintptr_t>(&aligned[0]) % 64 != 0;
  for (unsigned round = 0; round < rounds; ++round) {
    const number base = opaque(seed + round);
    const number a = opaque(base + 1), b = opaque(base + 2), c = opaque(base + 3),
                 d = opaque(base + 4), e = opaque(base + 5), f = opaque(base + 6),
                 g = opaque(base + 7), h = opaque(base + 8), i = opaque(base + 9),
                 j = opaque(base + 10), k = opaque(base + 11), l = opaque(base + 12);
    const auto real = [](number value) { return static_cast<double>(value) / 3.0; };
    const double m = real(a), n = real(b), o = real(c), p = real(d), q = real(e), r = real(f),
                 s = real(g), t = real(h);
    hop(round);
    changed += a != base + 1 || b != base + 2 || c != base + 3 || d != base + 4;
    changed += e != base + 5 || f != base + 6 || g != base + 7 || h != base + 8;
    changed += i != base + 9 || j != base + 10 || k != base + 11 || l != base + 12;
    changed += m != real(opaque(a)) || n != real(opaque(b)) || o != real(opaque(c));
    changed += p != real(opaque(d)) || q != real(opaque(e)) || r != real(opaque(f));
    changed += s != real(opaque(g)) || t != real(opaque(h));
  }
  for (unsigned i = 0; i < 24; ++i) changed += aligned[i] != seed * 31 + i;
  for (number i = 0; i < extra; ++i) changed += grown[i] != static_cast<unsigned char>(seed + i);
}

/// One fiber parks by one form, the next by the other, and each is resumed by both.
template <unsigned Id>
[[gnu::noinline]] void fiber_frame() {
  crowded(1'000 + 7'777 * Id, [](unsigned round) {
    if ((round + Id) % 2 == 0) {
      inlined::go(places[Id], thread);
    } else {
      called::go(places[Id], thread);
    }
  });
}

template <unsigned Id>
[[noreturn]] void body(void*) noexcept {
  fiber_frame<Id>();
  ++ended;
  called::go(places[Id], thread);
  __builtin_trap();
}

[[gnu::noinline]] void thread_frame() {
  crowded(123'456, [](unsigned round) {
    for (unsigned id = 0; id < fibers; ++id) {
      if ((round / 2 + id) % 2 == 0) {
        inlined::go(thread, places[id]);
      } else {
        called::go(thread, places[id]);
      }
    }
  });
}

int take_turns() {
  void (*const bodies[fibers])(void*) noexcept = {body<0>, body<1>, body<2>};
  for (unsigned id = 0; id < fibers; ++id) {
    coir::arch::prepare(places[id], stacks[id] + sizeof stacks[id], bodies[id], nullptr);
  }
  thread_frame();
  for (unsigned id = 0; id < fibers; ++id) called::go(thread, places[id]);
  std::printf("%u values changed, %u fibers ended\n", changed, ended);
  return changed == 0 && ended == fibers ? 0 : 1;
}

}  // namespace

// ---- for a debugger: names it can find, and nothing inlined that is not meant to be ------------

extern "C" {
[[gnu::noinline]] void steps_begin() { asm volatile("" : : : "memory"); }
[[gnu::noinline]] void steps_end() { asm volatile("" : : : "memory"); }
volatile unsigned signals_handled = 0;
void steps_signal(int) { signals_handled = signals_handled + 1; }
}

template <class Form>
[[noreturn]] void steps_body(void*) noexcept {
  Form::go(places[0], thread);
  Form::go(places[0], thread);
  __builtin_trap();
}

template <class Form>
[[gnu::noinline]] void steps() {
  coir::arch::prepare(places[0], stacks[0] + sizeof stacks[0], &steps_body<Form>, nullptr);
  steps_begin();
  Form::go(thread, places[0]);
  Form::go(thread, places[0]);
  steps_end();
}

int main(int count, char** arguments) {
  if (count < 2 || std::strcmp(arguments[1], "steps") != 0) return take_turns();
  std::signal(SIGUSR1, &steps_signal);
  if (count > 2 && std::strcmp(arguments[2], "inlined") == 0) {
    steps<inlined>();
  } else {
    steps<called>();
  }
  return 0;
}
