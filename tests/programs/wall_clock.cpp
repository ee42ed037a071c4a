// wall_clock.cpp: deadlines of every kind while the wall clock jumps by a day at each look.
//
// Always true:
//   - clock_gettime(2) and its relatives are this program's own, for coir and for libstdc++ alike:
//     they count who asks for the time of the wall, and let it jump.
//   - The kernel is watched too: a wait for a time of the wall ends the process (SIGSYS).
//   - Ends with 0 when every deadline came, none too early, and nobody asked for the wall's time.
//   - "control" asks, and "control_wait" waits, for the wall: what must be noticed.
//
// Comes from: tests/programs/wall_clock.sh.   Goes to: coir.hpp, the kernel.
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string_view>
#include <thread>

#include "coir/coir.hpp"
#include "tests/played_kernel.hpp"

using namespace std::chrono_literals;

namespace {

std::atomic<unsigned> asked_wall{0}, asked_monotonic{0};

/// A day forward, a day back, and so on.
constexpr time_t day = 24 * 60 * 60;
time_t jump() { return asked_wall.fetch_add(1) % 2 == 0 ? day : -day; }

int real_clock(clockid_t id, timespec* out) {
  return static_cast<int>(::syscall(SYS_clock_gettime, id, out));
}

}  // namespace

extern "C" int clock_gettime(clockid_t id, timespec* out) noexcept {
  const bool wall = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE || id == CLOCK_TAI;
  const int n = real_clock(id, out);
  if (wall) {
    out->tv_sec += jump();
  } else {
    asked_monotonic.fetch_add(1);
  }
  return n;
}

extern "C" int gettimeofday(timeval* out, void*) noexcept {
  timespec now{};
  real_clock(CLOCK_REALTIME, &now);
  *out = {now.tv_sec + jump(), now.tv_nsec / 1000};
  return 0;
}

extern "C" time_t time(time_t* out) noexcept {
  timespec now{};
  real_clock(CLOCK_REALTIME, &now);
  const time_t t = now.tv_sec + jump();
  if (out != nullptr) *out = t;
  return t;
}

namespace {

/// From now on whoever waits in the kernel for a time of the wall ends the process: futex with
/// FUTEX_CLOCK_REALTIME and a limit, clock_nanosleep, timerfd and a ring's clock (its opcode is
/// 29).
bool forbid_wall_in_kernel() {
  constexpr unsigned register_clock = 29;
  const auto of_the_wall = test::argument(0).is(CLOCK_REALTIME);
  const auto has_a_limit = test::pointer(3).is_not(0);
  return test::play_kernel(
      {{SYS_clock_nanosleep, {of_the_wall}, test::ends_the_process},
       {SYS_timerfd_create, {of_the_wall}, test::ends_the_process},
       {SYS_timer_create, {of_the_wall}, test::ends_the_process},
       {SYS_futex,
        {test::argument(1).has(FUTEX_CLOCK_REALTIME), has_a_limit},
        test::ends_the_process},
       {SYS_io_uring_register, {test::argument(1).is(register_clock)}, test::ends_the_process}});
}

int wrong = 0;

/// `wait` gets a deadline in two milliseconds; it must answer timed_out, and not before.
template <class Wait>
void expect(const char* what, Wait wait) {
  const coir::deadline until = coir::in(2ms);
  const std::error_code why = wait(until);
  if (why == std::errc::timed_out && coir::clock::now() >= until) return;
  std::printf("%s: answered '%s'%s\n", what, why.message().c_str(),
              coir::clock::now() < until ? " before its deadline" : "");
  ++wrong;
}

template <class T>
std::error_code error_of(const coir::result<T>& r) {
  return r ? std::error_code() : r.error();
}

/// Everything that takes a deadline and may be called on a fiber or on a thread.
void wait_everywhere() {
  coir::event never_set;
  coir::mutex held;
  held.lock();
  expect("event::wait", [&](auto until) { return error_of(never_set.wait(until)); });
  expect("mutex::lock_until", [&](auto until) { return error_of(held.lock_until(until)); });
  coir::condition_variable never_told;
  coir::mutex own;
  std::unique_lock lock(own);
  expect("condition_variable::wait",
         [&](auto until) { return error_of(never_told.wait(lock, until)); });
  held.unlock();
}

void wait_on_a_fiber() {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) ++wrong;
  std::byte one{};
  expect("read", [&](auto until) { return error_of(coir::io::read(ends[0], {&one, 1}, until)); });
  auto sleeper = coir::spawn([] { return coir::this_fiber::sleep_until(coir::never); });
  expect("join", [&](auto until) { return error_of(sleeper.join(until)); });
  sleeper.cancel();
  if (sleeper.join().error() != std::errc::operation_canceled) ++wrong;
  const coir::deadline until = coir::in(2ms);
  if (!coir::this_fiber::sleep_until(until) || coir::clock::now() < until) ++wrong;
  wait_everywhere();
  for (const int fd : ends) ::close(fd);
}

int look_at_deadlines() {
  auto made = coir::runtime::create({.workers = 2, .fibers_max = 64});
  if (!made || !(*made)->start()) return 2;
  coir::event go;
  auto waits = (*made)->spawn([&go] { return go.wait(); });
  expect("join of a thread", [&](auto until) { return error_of(waits.join(until)); });
  wait_everywhere();
  if (!(*made)->spawn(&wait_on_a_fiber).join()) return 3;
  (void)(*made)->spawn([] { return coir::blocking([] { return 1; }); }).join();
  go.set();
  (void)waits.join();
  if (!(*made)->shutdown(coir::in(30s))) return 4;
  if (asked_wall != 0) std::printf("asked for the wall's time %u times\n", asked_wall.load());
  if (asked_monotonic == 0) std::printf("nobody asked through this program's clock_gettime\n");
  return wrong == 0 && asked_wall == 0 && asked_monotonic > 0 ? 0 : 1;
}

/// As a runtime would that keeps its deadlines by the wall.
int wait_for_the_wall() {
  timespec until{};
  real_clock(CLOCK_REALTIME, &until);
  pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t c = PTHREAD_COND_INITIALIZER;
  ::pthread_mutex_lock(&m);
  until.tv_nsec = until.tv_nsec < 999'000'000 ? until.tv_nsec + 1'000'000 : until.tv_nsec;
  (void)::pthread_cond_timedwait(&c, &m, &until);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (!forbid_wall_in_kernel()) {
    std::printf("seccomp is not available: %s\n", std::strerror(errno));
    return 77;
  }
  if (what == "control_wait") return wait_for_the_wall();
  if (what == "control") {
    (void)std::chrono::system_clock::now();
    (void)::time(nullptr);
    return asked_wall == 2 ? 0 : 1;
  }
  return look_at_deadlines();
}
