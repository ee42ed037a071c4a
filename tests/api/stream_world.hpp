// stream_world.hpp: sockets, and what is left of a stream, for its tests on the real ring.
//
// Always true:
//   - The peers are plain system calls of the test: nothing here waits.
#pragma once

#include "coir/streams.hpp"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "on_fiber.hpp"
#include "runtime/worker.hpp"

namespace stream_test {

inline std::size_t descriptors_open() {
  DIR* const folder = ::opendir("/proc/self/fd");
  REQUIRE(folder != nullptr);
  std::size_t count = 0;
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

inline coir::detail::worker& here() { return *coir::detail::worker::current(); }
inline std::uint64_t open_now() { return here().operations().open_count(); }
inline std::uint64_t sqes() { return here().outside().counts().sqes.get(); }

/// A listener and clients that a kernel connects without anybody's help.
struct server {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in at{};
  std::vector<int> clients;
  server() {
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    REQUIRE(::listen(fd, 128) == 0);
    socklen_t bytes = sizeof at;
    REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &bytes) == 0);
  }
  ~server() {
    for (const int client : clients) ::close(client);
    if (fd >= 0) (void)coir::io::close(fd);
  }
  void connect(int count) {
    for (; count != 0; --count) {
      const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      REQUIRE(::connect(client, reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
      clients.push_back(client);
    }
  }
};

struct sockets {
  int one, other;
  sockets() {
    int both[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, both) == 0);
    one = both[0];
    other = both[1];
  }
  ~sockets() {
    if (one >= 0) (void)coir::io::close(one);
    if (other >= 0) (void)coir::io::close(other);
  }
  void send(std::string_view text) const {
    REQUIRE(::send(other, text.data(), text.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(text.size()));
  }
};

/// Everything that is there, and the end.
inline std::string all_of(coir::multishot<coir::leased_bytes>& stream) {
  std::string all;
  for (auto part : stream) {
    REQUIRE(part.has_value());
    all += part->text();
  }
  return all;
}

/// Until `stream` has so many items: the loop has its turn at each.
template <class T>
void wait_for(const coir::multishot<T>& stream, std::size_t count) {
  while (stream.buffered() < count) REQUIRE(coir::perform(coir::nop{}).has_value());
}

}  // namespace stream_test
