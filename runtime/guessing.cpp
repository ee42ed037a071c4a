// guessing.cpp: whether a receive is worth a try before epoll tells.
//
// Always true:
//   - A wrong guess costs time alone: who stands in line by one is told at once of what is there,
//     and is tried before it is given up.
//   - One receive in sixteen is tried whatever was guessed, so a wrong guess does not last.
//
// How: a server's receive that emptied its stream is usually followed by one that comes too early;
// under load it comes too late, and a try spares epoll two calls. The last try says which of the
// two it is. CPU a message of `echo` beside always trying and never (8 to 12 runs by turns): 1
// connection 15.8 to 17.7, 20.3 and 19.0 us; 50: 7.2 to 8.4, 8.6 and 10.1; 1,000: 9.7, 9.7
// and 11.8.
//
// Comes from: poll.cpp.   Goes to: attempt.
#include "runtime/poll.hpp"

#include <sys/epoll.h>

#include <cerrno>

namespace coir::detail {

namespace {
constexpr std::uint8_t guesses_per_try = 15;
}

/// Where the last try was in vain, who has received all there was asks again before there is more.
bool poll::would_wait(const io_uring_sqe& entry) noexcept {
  if (!is_plain_receive(entry) || entry.fd < 0) return false;
  watched* const w = watched_.find(static_cast<std::size_t>(entry.fd));
  if (w == nullptr || !w->registered || !w->emptied || w->guesses == 0) return false;
  --w->guesses;
  return true;
}

/// What a first try has found.
void poll::learn(const io_uring_sqe& entry, std::int32_t res) noexcept {
  if (!is_plain_receive(entry) || entry.fd < 0) return;
  watched* const w = watched_.find(static_cast<std::size_t>(entry.fd));
  if (w != nullptr) w->guesses = res == not_ready ? guesses_per_try : 0;
}

/// The number is one that epoll watches for us: it knows nothing of another's.
bool poll::names_the_same(int fd) noexcept {
  if (COIR_MUTANT(poll_tries_for_others)) return true;
  const int kept = errno;
  epoll_event same{};
  const watched& w = *watched_.find(static_cast<std::size_t>(fd));
  same.events = w.armed | (w.changes ? EPOLLET : EPOLLONESHOT);  // as it is: others may wait
  same.data.u64 = static_cast<std::uint64_t>(fd);
  const bool known = ::epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &same) == 0;
  errno = kept;
  return known;
}

void poll::note_what_is_left(const effort& e, std::int32_t res) noexcept {
  const io_uring_sqe& s = e.entry();
  if (!is_plain_receive(s) || res <= 0) return;
  watched* const w = watched_.find(static_cast<std::size_t>(s.fd));
  if (w == nullptr || !w->registered) return;
  using kind = watched::kind;
  if (w->is == kind::unknown) w->is = tells_of_each_byte(s.fd) ? kind::stream : kind::other;
  w->emptied = w->is == kind::stream && static_cast<std::uint32_t>(res) < s.len;
}

}  // namespace coir::detail
