// watch.cpp: look, ask, and say.
//
// Always true:
//   - The handler calls only what a signal handler may: backtrace(3) was called once before, so it
//     loads nothing any more.
//   - One thread of the process is asked at a time, and whoever asked waits until it has answered
//     or the question was taken back.
//
// Comes from: watch.hpp.   Goes to: the worker's thread, by a signal, and the log.
#include "runtime/watch.hpp"

#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "runtime/futex.hpp"
#include "runtime/worker.hpp"

namespace coir::detail {
namespace {

// Ignored unless somebody handles it, and of no use to anybody without out-of-band data.
constexpr int question = SIGURG;
// A thread that blocks the signal never answers; one that only gets no CPU answers in time.
constexpr std::int64_t patience_ns = 2'000'000'000;

atomic<standing*> asked{nullptr};
struct sigaction earlier {};

void fill_in(standing& of) noexcept {
  worker* const here = worker::current();
  const record* const fiber = here == nullptr ? nullptr : here->self();
  of.on_fiber = fiber != nullptr;
  if (fiber != nullptr) {
    of.slot = fiber->slot;
    std::memcpy(of.name, fiber->name, sizeof of.name);
    of.file = fiber->file;
    of.line = fiber->line;
  }
  of.depth = ::backtrace(of.frames, standing::frames_max);
}

void answer(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  // acquire: pairs with the release of ask(): the question is complete.
  standing* of = asked.load(std::memory_order_acquire);
  if (of != nullptr && ::pthread_equal(of->thread, ::pthread_self()) != 0 &&
      asked.compare_exchange_strong(of, nullptr, std::memory_order_acquire)) {
    fill_in(*of);
    // release: publishes the answer to ask(). After the wake it is not touched again.
    of->told.store(1, std::memory_order_release);
    futex_wake(of->told, 1);
  } else if ((earlier.sa_flags & SA_SIGINFO) != 0) {
    earlier.sa_sigaction(signal, info, context);
  } else if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN) {
    earlier.sa_handler(signal);
  }
  errno = saved;
}

/// False when the thread does not answer.
bool ask(pthread_t thread, standing& of) noexcept {
  static std::mutex one_at_a_time;
  const std::lock_guard held(one_at_a_time);
  of.thread = thread;
  asked.store(&of, std::memory_order_release);
  if (::pthread_kill(thread, question) != 0) {
    asked.store(nullptr, std::memory_order_relaxed);
    return false;
  }
  std::int64_t until_ns = monotonic_ns() + patience_ns;
  // acquire: pairs with the release in answer().
  while (of.told.load(std::memory_order_acquire) == 0) {
    if (futex_wait(of.told, 0, until_ns)) continue;
    if (asked.exchange(nullptr, std::memory_order_acq_rel) == &of) return false;
    until_ns = INT64_MAX;  // it has begun to answer
  }
  return true;
}

/// True when the thread waits in futex(2), where a std::mutex waits; false when /proc does not
/// tell.
bool waits_for_a_lock(pid_t tid) noexcept {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/task/%d/syscall", static_cast<int>(tid));
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char text[32] = {};
  const auto n = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  return n > 0 && text[0] >= '0' && text[0] <= '9' && std::atol(text) == SYS_futex;
}

std::string places(const standing& of) {
  std::string text;
  char** const names = ::backtrace_symbols(of.frames, of.depth);
  for (int i = 0; i < of.depth; ++i) {
    char address[32];
    std::snprintf(address, sizeof address, "%p", of.frames[i]);
    text += (i == 0 ? "" : ", ") + std::string(names != nullptr ? names[i] : address);
  }
  std::free(names);
  return text;
}

}  // namespace

std::uint64_t beat_of(worker& w) noexcept {
  const worker_counters& c = w.counts();
  return w.switches() + c.turns.get() + c.sleeps.get() + c.spin_rounds.get();
}

watch::watch(std::int64_t after_ns, unsigned workers,
             const std::function<void(const log_record&)>& log)
    : after_ns_(after_ns), log_(log) {
  all_.reserve(workers);
  static const bool installed = [] {
    void* frame[1];
    (void)::backtrace(frame, 1);  // loads what it needs
    struct sigaction action {};
    action.sa_sigaction = &answer;
    action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
    return ::sigaction(question, &action, &earlier) == 0;
  }();
  (void)installed;
}

watch::~watch() {
  over_.store(1, std::memory_order_release);
  futex_wake(over_, 1);
  if (thread_.joinable()) thread_.join();
}

void watch::enter(worker& who) {
  sigset_t ours{};
  ::sigaddset(&ours, question);
  ::pthread_sigmask(SIG_UNBLOCK, &ours, nullptr);
  const std::lock_guard held(entering_);
  all_.push_back({&who, ::pthread_self(), static_cast<pid_t>(::syscall(SYS_gettid)), {}});
}

bool watch::begin() noexcept try {
  sigset_t all{};
  sigset_t before{};
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  struct restored {
    const sigset_t& mask;
    ~restored() { ::pthread_sigmask(SIG_SETMASK, &mask, nullptr); }
  } afterwards{before};
  thread_ = std::thread([this] { run(); });
  return true;
} catch (const std::exception&) {  // no memory, or no thread
  return false;
}

void watch::run() noexcept {
  ::pthread_setname_np(::pthread_self(), "coir/watch");
  while (over_.load(std::memory_order_acquire) == 0) {
    const std::int64_t now = monotonic_ns();
    for (watched& w : all_) look_at(w, now);
    (void)futex_wait(over_, 0, now + look_every_ns(after_ns_));
  }
}

std::int64_t standstill::look(std::uint64_t beat_now, bool awake, std::int64_t now_ns,
                              std::int64_t after_ns) noexcept {
  if (since_ns == 0 || beat_now != beat || !awake) {
    beat = beat_now;
    since_ns = now_ns;
    reported = COIR_MUTANT(stalls_unreported);
    return 0;
  }
  const std::int64_t stood_ns = now_ns - since_ns;
  if (reported || stood_ns < (COIR_MUTANT(stalls_told_late) ? 2 * after_ns : after_ns)) return 0;
  reported = !COIR_MUTANT(stalls_told_again);
  return stood_ns;
}

void watch::look_at(watched& w, std::int64_t now_ns) noexcept {
  const std::int64_t stood_ns =
      w.seen.look(beat_of(*w.who), w.who->resting() == rest::awake, now_ns, after_ns_);
  if (stood_ns == 0) return;
  try {
    report(w, stood_ns);
  } catch (const std::bad_alloc&) {
    w.seen.reported = false;
  }
}

void watch::report(const watched& w, std::int64_t stood_ns) const {
  const bool lock = waits_for_a_lock(w.tid);
  standing of;
  std::string text = "worker " + std::to_string(w.who->index()) + " has stood still for " +
                     std::to_string(stood_ns / 1'000'000) + " ms";
  if (!ask(w.thread, of)) {
    text += ", and does not say where";
  } else if (of.on_fiber) {
    text += " in fiber " + std::to_string(of.slot) + " '" + of.name + "' (" + of.file + ":" +
            std::to_string(of.line) + ")";
  } else {
    text += " between two fibers";
  }
  text += lock ? ": it waits for a lock of the operating system. OS mutex held by a parked fiber? "
                 "Use coir::mutex"
               : ": what blocks or computes for long belongs into coir::blocking()";
  if (of.depth != 0) text += "; at " + places(of);
  log_({log_record::level::warning, text});
}

}  // namespace coir::detail
