// signals.cpp: a handler that writes one byte, and a fiber that reads it.
//
// Always true:
//   - A signal number belongs to at most one object; the table of write ends is read by the
//     handler, so its entries are atomic.
//   - The handler is async-signal-safe: one load, one write(2), errno kept.
//   - In the child of a fork nobody listens: the pipe is the parent's as well. Until that is so the
//     thread that forks hears no signal, and nobody takes or gives back a number.
//
// Comes from: coir/signals.hpp.   Goes to: io::read.
#include "coir/signals.hpp"
#include "coir/detail/atomic.hpp"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <mutex>
#include <thread>

#include "runtime/registry.hpp"

namespace coir {
namespace {

constexpr int numbers_max = 65;
// One more than the write end for each signal, 0 when nobody listens. Lock-free, because a handler
// reads it.
constinit std::array<detail::atomic<int>, numbers_max> write_ends{};
std::array<struct sigaction, numbers_max> earlier;  // written by the owner of the number

// Held while a number changes hands, and around a fork: the child never sees half of it.
constinit std::mutex changing;
sigset_t heard_before_fork;  // by the thread that forks and has `changing`

// Handlers between their look at the table and the end of their write.
detail::atomic<int> inside{0};

void on_signal(int number) {
  const int saved = errno;
  // seq_cst: counted before the look; partner: restore() clears the table before it counts.
  inside.fetch_add(1, std::memory_order_seq_cst);
  const auto byte = static_cast<unsigned char>(number);
  // seq_cst: after the count; partner: as above. And the pipe exists.
  const int fd = write_ends[static_cast<std::size_t>(number)].load(std::memory_order_seq_cst) - 1;
  // A full pipe already holds what wakes the reader.
  if (fd >= 0) [[maybe_unused]]
    const auto written = ::write(fd, &byte, 1);
  inside.fetch_sub(1, std::memory_order_release);
  errno = saved;
}

bool may_be_taken(int number) noexcept {
  for (const int never_taken :
       {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS})
    if (number == never_taken) return false;
  return number > 0 && number < numbers_max;
}

}  // namespace

void detail::hold_signals() noexcept {
  changing.lock();
  sigset_t all;
  ::sigfillset(&all);
  if (COIR_MUTANT(fork_hears_signals)) ::sigemptyset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &heard_before_fork);
}

void detail::release_signals() noexcept {
  const sigset_t heard = heard_before_fork;
  changing.unlock();
  ::pthread_sigmask(SIG_SETMASK, &heard, nullptr);
}

void detail::leave_signals_to_the_parent() noexcept {
  if (COIR_MUTANT(signals_inherited)) return;
  for (std::size_t n = 0; n < write_ends.size(); ++n) {
    // relaxed: the child has one thread.
    if (write_ends[n].exchange(0, std::memory_order_relaxed) == 0) continue;
    ::sigaction(static_cast<int>(n), &earlier[n], nullptr);
  }
  inside.store(0, std::memory_order_relaxed);  // of handlers on threads that are not here
}

result<signals> signals::create(std::initializer_list<int> numbers) {
  for (const int n : numbers)
    if (!may_be_taken(n)) return fail(std::errc::invalid_argument);
  signals made;
  made.numbers_.reserve(numbers.size());
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail(std::error_code(errno, std::generic_category()));
  ::fcntl(ends[1], F_SETFL, O_NONBLOCK);  // ours: a handler must not block
  made.forks_ = detail::fork_generation();
  made.read_end_.reset(ends[0]);
  made.write_end_ = ends[1];
  std::unique_lock held(changing);
  const auto refused = [&](std::errc why) {
    held.unlock();
    made.restore();
    return fail(why);
  };
  for (const int n : numbers) {
    int nobody = 0;
    if (!write_ends[static_cast<std::size_t>(n)].compare_exchange_strong(nobody, ends[1] + 1))
      return refused(std::errc::device_or_resource_busy);
    struct sigaction action {};
    action.sa_handler = &on_signal;
    action.sa_flags = SA_RESTART | SA_ONSTACK;
    ::sigfillset(&action.sa_mask);
    if (::sigaction(n, &action, &earlier[static_cast<std::size_t>(n)]) != 0) {
      // The C library keeps some numbers for itself. The handler never saw this one.
      write_ends[static_cast<std::size_t>(n)].store(0, std::memory_order_relaxed);
      return refused(std::errc::invalid_argument);
    }
    made.numbers_.push_back(n);
  }
  return made;
}

result<int> signals::next(deadline until) {
  if (forks_ != detail::fork_generation()) return fail(errc::foreign_runtime);
  unsigned char number = 0;
  const auto n = io::read(read_end_.get(), std::as_writable_bytes(std::span(&number, 1)), until);
  if (!n) return fail(n.error());
  return static_cast<int>(number);
}

void signals::restore() noexcept {
  if (forks_ != detail::fork_generation()) numbers_.clear();  // they are nobody's here
  for (const int n : numbers_) {
    const std::lock_guard held(changing);
    ::sigaction(n, &earlier[static_cast<std::size_t>(n)], nullptr);
    write_ends[static_cast<std::size_t>(n)].store(0, std::memory_order_seq_cst);
  }
  numbers_.clear();
  // A handler on another thread may hold the number: it must not be somebody else's yet.
  while (inside.load(std::memory_order_seq_cst) != 0) std::this_thread::yield();
  if (write_end_ >= 0) ::close(std::exchange(write_end_, -1));
}

signals::signals(signals&& from) noexcept
    : read_end_(std::move(from.read_end_)),
      write_end_(std::exchange(from.write_end_, -1)),
      numbers_(std::exchange(from.numbers_, {})),
      forks_(from.forks_) {}

signals& signals::operator=(signals&& from) noexcept {
  if (this == &from) return *this;
  restore();
  read_end_ = std::move(from.read_end_);
  write_end_ = std::exchange(from.write_end_, -1);
  numbers_ = std::exchange(from.numbers_, {});
  forks_ = from.forks_;
  return *this;
}

signals::~signals() { restore(); }

}  // namespace coir
