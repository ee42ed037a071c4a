// poll_setup.cpp: makes a backend of epoll, or says what was refused.
//
// Always true:
//   - The bell is registered with EPOLLET and never read: each ring is an edge, and one that comes
//     before the wait ends that. So a sleeper pays for no read.
//   - A refusal leaves no descriptor open.
//
// Comes from: outside.   Goes to: poll.hpp.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

#include "runtime/poll.hpp"

namespace coir::detail {

result<std::unique_ptr<backend>> make_poll(offload_pool& pool,
                                           const std::function<void(const log_record&)>& log) {
  int fds[2] = {-1, -1};
  const auto refuse = [&](const char* what, int error) {
    for (const int fd : fds)
      if (fd >= 0) ::close(fd);
    const std::error_code why(error, std::generic_category());
    const char* const name = ::strerrorname_np(error);
    std::string text = std::string(what) + ": " + (name != nullptr ? name : "?");
    if (error == EMFILE || error == ENFILE) {
      rlimit limit{};
      ::getrlimit(RLIMIT_NOFILE, &limit);
      text += " (file descriptors, limit " + std::to_string(limit.rlim_cur) +
              "): raise `ulimit -n`; each worker needs two";
    }
    log({log_record::level::error, text});
    return fail(why);
  };
  fds[0] = ::epoll_create1(EPOLL_CLOEXEC);
  if (fds[0] < 0) return refuse("epoll_create1", errno);
  fds[1] = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fds[1] < 0) return refuse("eventfd", errno);
  epoll_event bell{};
  bell.events = EPOLLIN | (COIR_MUTANT(poll_bell_rings_once) ? EPOLLONESHOT : EPOLLET);
  bell.data.u64 = poll::bell_mark;
  if (::epoll_ctl(fds[0], EPOLL_CTL_ADD, fds[1], &bell) != 0) return refuse("epoll_ctl", errno);
  poll* const made = new (std::nothrow) poll(fds[0], fds[1], pool);
  if (made == nullptr) {
    for (const int fd : fds) ::close(fd);
    return fail(std::errc::not_enough_memory);
  }
  return std::unique_ptr<backend>(made);
}

}  // namespace coir::detail
