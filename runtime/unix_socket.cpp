// unix_socket.cpp: Unix sockets: names, the files that some of them are, and who may remove those.
//
// Always true:
//   - A file is removed only when device and inode say that it is the one our bind made, while our
//     socket is still open and so keeps its inode from naming another one.
//   - A connect is over at once, unless the backlog is full. Of that poll(2) tells nothing (an
//     unconnected socket is always ready), and of a socket that waits a ring hands such a connect
//     to a thread of the kernel, on the way to which a cancel does not find it (ENOENT). So it is
//     asked of one that does not wait, and again after pauses (verdict::later).
//   - Why a name is taken is asked without a connection that its owner would notice.
//
// Comes from: coir/unix_socket.hpp.   Goes to: io, accepting.
#include "coir/unix_socket.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "coir/operations.hpp"
#include "runtime/accepting.hpp"
#include "runtime/base.hpp"

namespace coir::net {
namespace {

static_assert(unix_name_bytes_max + 1 == sizeof(sockaddr_un::sun_path));

struct place {
  sockaddr_un name{};
  socklen_t bytes = 0;
  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&name); }
  bool is_file() const noexcept { return name.sun_path[0] != '\0'; }
};

result<place> place_of(const std::string& name) {
  place p;
  p.name.sun_family = AF_UNIX;
  const bool abstract = name.starts_with('@');
  const std::size_t bytes = name.size() - (abstract ? 1 : 0);
  if (bytes == 0) return fail(std::errc::invalid_argument);
  if (bytes > unix_name_bytes_max) return fail(errc::name_too_long);
  if (!abstract && name.find('\0') != name.npos) return fail(std::errc::invalid_argument);
  // The zero byte stands before an abstract name, where the @ was, and behind a path.
  std::memcpy(p.name.sun_path, name.data(), name.size());
  if (abstract) p.name.sun_path[0] = '\0';
  p.bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + bytes + 1);
  return p;
}

/// Why bind(2) said that the name is taken.
std::error_code why_taken(const place& p) noexcept {
  const auto in_use = std::make_error_code(std::errc::address_in_use);
  if (!p.is_file()) return in_use;
  struct stat there {};
  if (::lstat(p.name.sun_path, &there) != 0) return in_use;  // it was, a moment ago
  if (!S_ISSOCK(there.st_mode)) return std::make_error_code(std::errc::file_exists);
  // A datagram socket that connects to a stream socket is told that the types differ, and the other
  // side nothing; without a socket behind the file it is refused.
  const io::unique_fd probe(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!probe) return in_use;
  if (::connect(probe.get(), p.get(), p.bytes) == 0 || errno != ECONNREFUSED) return in_use;
  return make_error_code(errc::stale_socket);
}

}  // namespace

result<unix_stream> unix_stream::connect(const std::string& name, deadline until) {
  const auto target = place_of(name);
  if (!target) return fail(target.error());
  unix_stream made(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made) return fail(detail::system_error(-errno));
  const auto done = io::connect(made.fd(), target->get(), target->bytes, until);
  if (!done) return fail(done.error());
  ::fcntl(made.fd(), F_SETFL, 0);  // the ring waits by itself
  return made;
}

result<std::pair<unix_stream, unix_stream>> unix_stream::pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return fail(detail::system_error(-errno));
  return std::pair(unix_stream(ends[0]), unix_stream(ends[1]));
}

result<unix_listener> unix_listener::listen(const std::string& name, int backlog) {
  const auto wanted = place_of(name);
  if (!wanted) return fail(wanted.error());
  unix_listener made;
  made.name_ = name;
  const int unblocking = better_non_blocking() ? SOCK_NONBLOCK : 0;
  made.fd_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | unblocking, 0));
  if (!made.fd_) return fail(detail::system_error(-errno));
  if (::bind(made.fd(), wanted->get(), wanted->bytes) != 0) {
    if (errno == EADDRINUSE) return fail(why_taken(*wanted));
    return fail(detail::system_error(-errno));
  }
  struct stat there {};
  if (wanted->is_file() && ::lstat(wanted->name.sun_path, &there) == 0) {
    made.device_ = there.st_dev;
    made.inode_ = there.st_ino;
    made.process_ = ::getpid();
  }
  if (::listen(made.fd(), backlog) != 0) return fail(detail::system_error(-errno));
  return made;
}

result<unix_stream> unix_listener::accept(deadline until) {
  const auto fd = accept_one(fd_, until);
  if (!fd) return fail(fd.error());
  return unix_stream(*fd);
}

result<> unix_listener::serve(std::function<void(unix_stream)> handler, const spawn_options& each) {
  const auto handle = [&handler](io::unique_fd fd) { handler(unix_stream(fd.release())); };
  return serve_each(fd_, handle, each);
}

void unix_listener::remove_file() const noexcept {
  struct stat there {};
  const bool made_it = process_ == ::getpid() || COIR_MUTANT(child_removes_file);
  if (!made_it || ::lstat(name_.c_str(), &there) != 0) return;
  // Between the look and the unlink another file may take the place; Linux has no way to remove a
  // file by what it is.
  const bool ours = there.st_dev == device_ && there.st_ino == inode_;
  if (ours || COIR_MUTANT(unlinks_any_file)) ::unlink(name_.c_str());
}

result<> unix_listener::close() {
  const int fd = fd_.release();
  if (fd < 0) return fail(std::errc::bad_file_descriptor);
  if (process_ != 0) remove_file();
  return io::close(fd);
}

unix_listener& unix_listener::operator=(unix_listener&& from) noexcept {
  if (this == &from) return *this;
  if (fd_) (void)close();
  fd_ = std::move(from.fd_);
  name_ = std::move(from.name_);
  device_ = from.device_;
  inode_ = from.inode_;
  process_ = from.process_;
  return *this;
}

unix_listener::~unix_listener() {
  if (fd_) (void)close();
}

}  // namespace coir::net
