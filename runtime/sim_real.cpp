// sim_real.cpp: one poll(2) for all who wait.
//
// Always true:
//   - Who rings says so first and looks for the bell afterwards; who sleeps shows the bell first
//     and then asks whether somebody has rung. One of the two sees the other.
//
// Comes from: sim_real.hpp.   Goes to: the kernel.
#include "runtime/sim_real.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "runtime/asking.hpp"
#include "runtime/base.hpp"
#include "runtime/futex.hpp"

namespace coir::detail {
namespace {
atomic<std::int64_t> ahead_ns{0};  // of the real time
}  // namespace

// relaxed, all of them: a number of its own. Who was told something by a simulated world has seen,
// on the same way, what that had told before.
std::int64_t thread_now_ns() noexcept {
  return monotonic_ns() + ahead_ns.load(std::memory_order_relaxed);
}

void tell_thread_now(std::int64_t simulated_ns) noexcept {
  const std::int64_t ahead = simulated_ns - monotonic_ns();
  std::int64_t seen = ahead_ns.load(std::memory_order_relaxed);
  while (seen < ahead && !ahead_ns.compare_exchange_weak(seen, ahead, std::memory_order_relaxed))
    continue;
}

std::int64_t real_ns_of(std::int64_t thread_ns) noexcept {
  if (thread_ns == INT64_MAX || thread_ns == INT64_MIN) return thread_ns;
  return thread_ns - ahead_ns.load(std::memory_order_relaxed);
}

sim_real::~sim_real() {
  // relaxed: nobody rings any more.
  if (const int bell = bell_fd_.load(std::memory_order_relaxed); bell >= 0)
    (void)ask([bell] { return ::close(bell); });
}

void sim_real::wait_for(const void* whose, std::uint64_t number, int fd, std::uint32_t events) {
  waiting_[{whose, number}] = {fd, events};
}

void sim_real::forget_all(const void* whose) noexcept {
  std::erase_if(waiting_, [whose](const auto& one) { return one.first.first == whose; });
}

bool sim_real::anybody_told() const noexcept {
  return std::ranges::any_of(waiting_, [](const auto& one) { return one.second.told; });
}

bool sim_real::sleep(int most_ms) {
  // relaxed: only we write it.
  if (bell_fd_.load(std::memory_order_relaxed) < 0) {
    const std::int32_t made = ask([] { return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); });
    // Without one nobody can wake us: look again every millisecond.
    if (made < 0) most_ms = 1;
    // seq_cst: before the question below; partner: ring().
    if (made >= 0) bell_fd_.store(made, std::memory_order_seq_cst);
  }
  if (rung_.exchange(false, std::memory_order_seq_cst) && !COIR_MUTANT(early_ring_unheard))
    return false;
  const bool told = look_at_all(most_ms);
  const int bell = bell_fd_.load(std::memory_order_relaxed);
  std::uint64_t rings = 0;
  if (bell >= 0) (void)ask([&] { return ::read(bell, &rings, sizeof rings); });
  // acquire: what was done before the ring is seen.
  if (rings != 0) (void)rung_.exchange(false, std::memory_order_acquire);
  return told;
}

void sim_real::ring() noexcept {
  // seq_cst: said before the bell is looked for; partner: sleep().
  if (rung_.exchange(true, std::memory_order_seq_cst)) return;
  const int bell = bell_fd_.load(std::memory_order_seq_cst);
  const std::uint64_t once = 1;
  if (bell >= 0) (void)ask([&] { return ::write(bell, &once, sizeof once); });
}

bool sim_real::look_at_all(int most_ms) {
  const bool sleeps = most_ms != 0;
  if (waiting_.empty() && !sleeps) return false;
  std::vector<pollfd> all;
  all.reserve(waiting_.size() + 1);
  for (const auto& [name, one] : waiting_)
    all.push_back({one.told ? -1 : one.fd, static_cast<short>(one.events), 0});
  // relaxed: only we write it.
  if (sleeps) all.push_back({bell_fd_.load(std::memory_order_relaxed), POLLIN, 0});
  const std::int32_t n = ask([&] { return ::poll(all.data(), all.size(), most_ms); });
  if (n <= 0) return false;
  bool told = false;
  auto at = all.begin();
  for (auto& [name, one] : waiting_) {
    const bool now = (at++)->revents != 0;
    one.told |= now;
    told |= now;
  }
  return told;
}

std::vector<std::uint64_t> sim_real::take_told(const void* whose) {
  std::vector<std::uint64_t> told;
  for (auto at = waiting_.lower_bound({whose, 0});
       at != waiting_.end() && at->first.first == whose;) {
    if (!at->second.told) {
      ++at;
      continue;
    }
    told.push_back(at->first.second);
    at = waiting_.erase(at);
  }
  return told;
}

}  // namespace coir::detail
