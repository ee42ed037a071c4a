// poll.cpp: operations in their lines, events out of epoll, and the pool's answers.
//
// Always true:
//   - A thread of the pool touches an operation only until it has told its end; the news goes
//     through `finished_`, and whoever puts the first one there rings.
//
// Comes from: poll.hpp.   Goes to: the kernel.
#include "runtime/poll.hpp"

#include <poll.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <utility>

#include "runtime/futex.hpp"

namespace coir::detail {
namespace {

constexpr std::int64_t hurry_again_ns = 5'000'000;
constexpr unsigned looks_per_question = 32;  // a look costs 1 ns, to ask the kernel 150

/// The caller's errno is a fiber's.
class keeps_errno {
 public:
  keeps_errno() noexcept : was_(errno) {}
  ~keeps_errno() { errno = was_; }
  keeps_errno(const keeps_errno&) = delete;
  keeps_errno& operator=(const keeps_errno&) = delete;

 private:
  int was_;
};

}  // namespace

poll::poll(int epoll_fd, int bell_fd, offload_pool& pool) noexcept
    : epoll_fd_(epoll_fd), bell_fd_(bell_fd), pool_(pool) {
  for (operation& each : spare_) spares_.push_back(each);
}

poll::~poll() {
  ::close(epoll_fd_);
  ::close(bell_fd_);
}

// -- in

bool poll::submit(const io_uring_sqe& entry, token t, bool) noexcept {
  operation* const op = operations_.at(t.slot());
  if (op == nullptr) return refuse(t);
  COIR_ASSERT(op->at == place::nowhere);
  ++counts_.sqes;
  op->home = this;
  op->name = t;
  op->unwanted = false;
  op->what.begin(entry);
  if (entry.opcode == IORING_OP_CLOSE) forget(entry.fd);
  op->untried = would_wait(entry);
  if (op->untried) {
    settle(*op, wait_for(op->what, entry.fd, POLLIN));
  } else {
    const std::int32_t res = try_now(op->what, is_polled(entry.fd));
    learn(entry, res);
    settle(*op, res);
  }
  tell_outside();
  return true;
}

/// There is no memory for it, and none that an end of others would bring: it ends with ENOMEM.
/// False: so many have ended so that they must be reaped first.
bool poll::refuse(token t) noexcept {
  operation* const spare = spares_.pop_front();
  if (spare == nullptr) return false;
  ++counts_.sqes;
  spare->name = t;
  end(*spare, -ENOMEM);
  tell_outside();
  return true;
}

/// Whoever waits for native_fd() cannot see what ended without epoll.
void poll::tell_outside() noexcept {
  if (!watched_from_outside_ || rung_ || ended_.empty() || COIR_MUTANT(poll_ends_unseen)) return;
  rung_ = true;
  wake();
}

int poll::native_fd() const noexcept {
  // From now on; and of what has ended before.
  if (!std::exchange(watched_from_outside_, true)) const_cast<poll*>(this)->tell_outside();
  return epoll_fd_;
}

std::int32_t poll::send_now(const io_uring_sqe& entry) noexcept { return send_at_once(entry); }

bool poll::is_polled(int fd) noexcept {
  const watched* const w = fd < 0 ? nullptr : watched_.find(static_cast<std::size_t>(fd));
  return w != nullptr && w->registered;
}

/// What an attempt has brought: the end, or a place to wait.
void poll::settle(operation& op, std::int32_t res) noexcept {
  if (res == for_a_thread) return to_pool(op);
  if (res == not_ready) return stand_in_line(op);
  note_what_is_left(op.what, res);
  end(op, res);
}

void poll::end(operation& op, std::int32_t res) noexcept {
  op.at = place::ended;
  op.res = res;
  ended_.push_back(op);
}

void poll::give_up(operation& op, int why) noexcept { end(op, given_up(op.what, why)); }

// -- lines

void poll::stand_in_line(operation& op) noexcept {
  const int fd = op.what.waits_on;
  if (fd < 0) return end(op, -EBADF);
  watched* const w = watched_.at(static_cast<std::size_t>(fd));
  if (w == nullptr) return end(op, -ENOMEM);
  const int refused = arm(*w, fd, w->armed | op.what.events);
  if (op.untried && (refused != 0 || !w->emptied)) {  // the number names something else by now
    op.untried = false;
    return settle(op, try_now(op.what, false));
  }
  if (refused == -EPERM && op.what.entry().opcode != IORING_OP_POLL_ADD) return to_pool(op);
  if (refused != 0) return end(op, refused);
  op.at = place::in_line;
  w->line.push_back(op);
  if (fd != op.what.entry().fd) beside_.push_back(op);
  ++in_line_;
}

/// Has epoll tell of `events` on `fd` once, or of each change. 0, or a negative errno: -EPERM for
/// what cannot be waited for.
int poll::arm(watched& w, int fd, std::uint32_t events, bool changes) noexcept {
  const keeps_errno kept;
  epoll_event e{};
  e.events = events | (changes ? EPOLLET : EPOLLONESHOT);
  e.data.u64 = static_cast<std::uint64_t>(fd);
  const auto control = [&](int how) {
    return ::epoll_ctl(epoll_fd_, how, fd, &e) == 0 ? 0 : -errno;
  };
  if (w.registered && COIR_MUTANT(poll_trusts_numbers)) return 0;
  int res = w.registered ? control(EPOLL_CTL_MOD) : -ENOENT;
  if (res == -ENOENT) {
    // The number names something else by now. Who waits here waits for what is gone.
    w.registered = w.emptied = false;
    w.is = watched::kind::unknown;
    while (operation* const left = COIR_MUTANT(poll_reads_for_others) ? nullptr : w.line.front()) {
      leave_line(*left);
      give_up(*left, EBADF);
    }
    res = control(EPOLL_CTL_ADD);
    if (res == -EEXIST) res = control(EPOLL_CTL_MOD);  // it was here before, under this number
  }
  if (res != 0) return res;
  w.registered = true;
  w.armed = events;
  w.changes = changes;
  return 0;
}

void poll::leave_line(operation& op) noexcept {
  watched_.find(static_cast<std::size_t>(op.what.waits_on))->line.erase(op);
  if (static_cast<beside&>(op).linked()) beside_.erase(op);
  --in_line_;
}

void poll::heard(int fd, std::uint32_t events) noexcept {
  watched* const w = watched_.find(static_cast<std::size_t>(fd));
  if (w == nullptr) return;
  if (!w->changes) w->armed = 0;
  w->emptied = false;
  std::uint32_t left = 0;  // what those who stay wait for
  std::uint32_t vain = 0;  // that it was told of, and is over already
  bool served = false;
  for (operation* op = w->line.front(); op != nullptr;) {
    operation* const after = w->line.after(*op);
    const std::uint32_t wanted = op->what.events;
    const std::uint32_t always = COIR_MUTANT(poll_hangup_untold) ? 0 : EPOLLERR | EPOLLHUP;
    const bool told = (events & (wanted | always)) != 0;
    // A poll is asked about what it wants, whatever others found of it.
    const bool polls = op->what.entry().opcode == IORING_OP_POLL_ADD;
    if (told && (polls || (wanted & ~vain) != 0)) {
      op->untried = false;
      const std::int32_t res = try_now(op->what, true);
      const bool stays = res == not_ready && op->what.waits_on == fd;
      if (!stays) {
        served = true;
        w->line.erase(*op);  // this one: the try may have named another number to wait for
        if (static_cast<beside&>(*op).linked()) beside_.erase(*op);
        --in_line_;
        settle(*op, res);
      } else if (!polls) {
        vain |= wanted;
      }
      if (stays) left |= op->what.events;
    } else {
      left |= wanted;
    }
    op = after;
  }
  if ((w->line.empty() && !w->changes) || COIR_MUTANT(poll_tells_once)) return;
  // Who stays has tried in vain, so the next change is all that matters to him.
  if (w->changes && !w->line.empty() && (left & ~w->armed) == 0) return;
  const bool stands = !served && (events & (EPOLLERR | EPOLLHUP)) != 0 && !w->line.empty() &&
                      !COIR_MUTANT(poll_error_told_for_ever);
  const int refused = arm(*w, fd, left | (w->changes ? 0 : w->armed), stands);
  while (operation* const op = refused == 0 ? nullptr : w->line.front()) {
    leave_line(*op);
    give_up(*op, -refused);
  }
}

// -- the pool

void poll::to_pool(operation& op) noexcept {
  op.run = &on_thread;
  op.argument = &op;
  op.finished = &thread_has_finished;
  op.counted = COIR_MUTANT(poll_files_bounded);
  op.at = place::in_pool;
  beside_.push_back(op);
  if (!pool_.submit(op)) return;
  // No thread, and no memory for one.
  beside_.erase(op);
  end(op, -ENOMEM);
}

void poll::on_thread(void* at) noexcept {
  auto& op = *static_cast<operation*>(at);
  op.res = do_now(op.what);
}

void poll::thread_has_finished(offload_call& call) noexcept {
  auto& op = static_cast<operation&>(call);
  poll& home = *op.home;
  operation* before = home.finished_.load(std::memory_order_relaxed);
  do {
    op.told_after = before;
    // release: the answer and the link are seen by the worker, whose take is an acquire.
  } while (!home.finished_.compare_exchange_weak(before, &op, std::memory_order_release,
                                                 std::memory_order_relaxed));
  if (before == nullptr) home.wake();
}

/// What threads have done is over, or goes on in a line.
void poll::take_finished() noexcept {
  // relaxed: a look; the exchange orders what matters.
  if (finished_.load(std::memory_order_relaxed) == nullptr) return;
  // acquire: pairs with the release of the thread, whose answers are read here.
  operation* newest = finished_.exchange(nullptr, std::memory_order_acquire);
  operation* oldest = nullptr;
  while (newest != nullptr) {
    operation* const next = newest->told_after;
    newest->told_after = oldest;
    oldest = newest;
    newest = next;
  }
  while (oldest != nullptr) {
    operation& op = *oldest;
    oldest = op.told_after;
    beside_.erase(op);
    const bool connects = op.what.entry().opcode == IORING_OP_CONNECT;
    if (op.unwanted && connects) --hurried_;
    // Success wins; but a connect that hurry() has met is shut down, whatever connect(2) said.
    if (op.unwanted && (op.res == not_ready || connects)) {
      give_up(op, ECANCELED);
    } else if (op.res == not_ready) {
      settle(op, op.res);  // into the line that the thread named
    } else {
      end(op, op.res);
    }
  }
}

// -- the end of an operation

bool poll::cancel(token target) noexcept {
  operation* const op = operations_.find(target.slot());
  if (op == nullptr || op->name != target) return true;
  if (op->at == place::in_line && !COIR_MUTANT(poll_cancel_forgotten)) {
    leave_line(*op);
    const bool try_first =
        op->untried && names_the_same(op->what.waits_on) && !COIR_MUTANT(poll_given_up_untried);
    const std::int32_t res = try_first ? try_now(op->what, true) : not_ready;
    res == not_ready ? give_up(*op, ECANCELED) : settle(*op, res);
  } else if (op->at == place::in_pool && !op->unwanted) {
    if (!COIR_MUTANT(poll_never_withdraws) && pool_.withdraw(*op)) {
      beside_.erase(*op);
      give_up(*op, ECANCELED);
    } else {
      op->unwanted = true;
      if (op->what.entry().opcode == IORING_OP_CONNECT) ++hurried_;
      hurry(op->what);
    }
  }
  tell_outside();
  return true;
}

bool poll::cancel_fd(int fd) noexcept {
  if (fd < 0) return true;
  if (watched* const w = watched_.find(static_cast<std::size_t>(fd))) {
    for (operation* op = w->line.front(); op != nullptr;) {
      operation* const after = w->line.after(*op);
      if (op->what.entry().fd == fd) cancel(op->name);
      op = after;
    }
  }
  for (operation* op = beside_.front(); op != nullptr;) {
    operation* const after = beside_.after(*op);
    if (op->what.entry().fd == fd) cancel(op->name);
    op = after;
  }
  return true;
}

void poll::forget(int fd) noexcept {
  watched* const w = fd < 0 ? nullptr : watched_.find(static_cast<std::size_t>(fd));
  if (w == nullptr || !w->registered) return;
  const keeps_errno kept;
  w->registered = w->emptied = false;
  w->is = watched::kind::unknown;
  w->armed = 0;
  while (operation* const left = w->line.front()) {  // a splice from here to elsewhere
    leave_line(*left);
    give_up(*left, EBADF);
  }
  // Without this the description, if it lives on under another number, would go on to tell us.
  epoll_event unused{};
  if (!COIR_MUTANT(poll_never_forgets)) ::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, &unused);
}

// -- the wait

void poll::wait(std::int64_t until_ns) noexcept {
  woke_early_ = false;
  take_finished();
  const bool rests = until_ns != no_wait_ns && ended_.empty();
  // Who is watched from outside hears a bell by epoll alone.
  if (!rests && in_line_ == 0 && !rung_ && !watched_from_outside_) return;
  // Who had no time left when it asked is late, whatever else has happened meanwhile.
  bool had_time = false;
  const int events = ask_epoll(rests ? until_ns : no_wait_ns, had_time);
  woke_early_ = had_time && events > 0;
  take_finished();
  tell_outside();
}

/// Sleeps until then at most, and has everybody try who was told of; how many events there were.
/// `had_time`: it was still to come.
int poll::ask_epoll(std::int64_t until_ns, bool& had_time) noexcept {
  const keeps_errno kept;
  std::array<epoll_event, 128> events;
  ++counts_.enters;
  const bool sleeps = until_ns != no_wait_ns;
  std::int64_t left = 0;
  if (sleeps) left = until_ns == never_ns ? -1 : std::max<std::int64_t>(until_ns - now_ns(), 0);
  had_time = left != 0 || COIR_MUTANT(late_called_early);
  // A thread may have been asked to hurry a moment before it began.
  if (hurried_ != 0 && sleeps) left = left < 0 ? hurry_again_ns : std::min(left, hurry_again_ns);
  int n = -1;
  if (!whole_ms_) {
    const timespec limit{left / 1'000'000'000, left % 1'000'000'000};
    n = ::epoll_pwait2(epoll_fd_, events.data(), events.size(), left < 0 ? nullptr : &limit,
                       nullptr);
    // A profile of before Linux 5.11 may call what it does not know forbidden.
    whole_ms_ = n < 0 && (errno == ENOSYS || errno == EPERM) && !COIR_MUTANT(poll_needs_pwait2);
  }
  if (whole_ms_) {
    const std::int64_t ms =
        left < 0 ? -1 : std::min<std::int64_t>((left + 999'999) / 1'000'000, INT_MAX);
    n = ::epoll_wait(epoll_fd_, events.data(), events.size(), static_cast<int>(ms));
  }
  COIR_ASSERT(n >= 0 || errno == EINTR);
  rung_ = false;
  told_ = false;
  for (int i = 0; i < n; ++i) {
    const epoll_event& e = events[static_cast<std::size_t>(i)];
    if (e.data.u64 != bell_mark) heard(static_cast<int>(e.data.u64), e.events);
  }
  if (hurried_ != 0)
    for (operation* op = beside_.front(); op != nullptr; op = beside_.after(*op))
      if (op->unwanted) hurry(op->what);
  return n;
}

unsigned poll::reap(completion_sink sink) noexcept {
  take_finished();
  unsigned taken = 0;
  while (operation* const op = ended_.pop_front()) {
    ++taken;
    op->at = place::nowhere;
    if (op >= spare_.data() && op < spare_.data() + spare_.size()) spares_.push_back(*op);
    sink.deliver(sink.context, {op->name, op->res, 0});
  }
  counts_.cqes += taken;
  return taken;
}

bool poll::ready() const noexcept {
  // relaxed: a hint; who acts on it takes with acquire.
  if (!ended_.empty() || finished_.load(std::memory_order_relaxed) != nullptr) return true;
  if (in_line_ == 0) return false;
  // Who spins has to ask for what waits in epoll; whoever is told so waits next, which takes it.
  if (++looks_ % looks_per_question != 0 || COIR_MUTANT(poll_spins_blind)) return told_;
  const keeps_errno kept;
  pollfd one{epoll_fd_, POLLIN, 0};
  told_ = ::poll(&one, 1, 0) > 0;
  return told_;
}

bool poll::pending() const noexcept { return in_line_ != 0 || rung_ || ready(); }

void poll::wake() noexcept {
  const keeps_errno kept;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(bell_fd_, &one, sizeof one);
}

std::int64_t poll::now_ns() const noexcept { return monotonic_ns(); }

}  // namespace coir::detail
