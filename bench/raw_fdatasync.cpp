// raw_fdatasync.cpp: how long the disk takes to keep what was appended to a file: no server can
// answer a durable write sooner.
//
// Always true:
//   - The file grows, as a journal does, so each sync also has to keep its length.
//   - The append itself is not in the time.
//
// Comes from: peers.hpp.   Goes to: histogram.hpp.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <vector>

#include "bench/histogram.hpp"
#include "bench/peers.hpp"

namespace bench {

double raw_fdatasync_us(const std::string& folder, std::size_t bytes) {
  const auto must = [](const char* what, bool good) {
    if (!good) throw std::system_error(errno, std::system_category(), what);
  };
  const std::string path = folder + "/fdatasync.dat";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  must("open", fd >= 0);
  ::unlink(path.c_str());
  const std::vector<char> record(bytes, 'x');
  const auto append = [&] {
    must("write", ::write(fd, record.data(), bytes) == static_cast<ssize_t>(bytes));
  };
  histogram all;
  const std::int64_t until = now_ns() + 10 * spend_ns;
  for (unsigned i = 0; i < 64 || now_ns() < until; ++i) {
    append();
    const std::int64_t began = now_ns();
    must("fdatasync", ::fdatasync(fd) == 0);
    if (i >= 16) all.add(now_ns() - began);  // the first ones make the file
  }
  ::close(fd);
  return all.quantile_us(0.5);
}

}  // namespace bench
