// fixed_buffers_test.cpp: memory that the rings of a runtime know: the same bytes as without, on
// every backend, and words for what cannot be.
//
// Always true:
//   - Known memory outlives the runtime that was told of it.
//
// Comes from: options::fixed_buffers.   Goes to: runtime/outside.cpp, fixed.hpp.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "coir/coir.hpp"
#include "tests/catalogue/child.hpp"
#include "tests/needs.hpp"
#include "tests/test_options.hpp"

using test::tested;

namespace {

using coir::io::unique_fd;
using range = std::span<std::byte>;

/// Anonymous memory, or what else mmap(2) is asked for.
class mapping {
 public:
  explicit mapping(std::size_t bytes, int protection = PROT_READ | PROT_WRITE, int fd = -1)
      : bytes_(bytes),
        first_(::mmap(nullptr, bytes, protection, fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED,
                      fd, 0)) {
    REQUIRE(first_ != MAP_FAILED);
  }
  ~mapping() { ::munmap(first_, bytes_); }
  mapping(const mapping&) = delete;
  mapping& operator=(const mapping&) = delete;
  range all() const { return {static_cast<std::byte*>(first_), bytes_}; }

 private:
  std::size_t bytes_;
  void* first_;
};

struct heard {
  std::string said;
  coir::options about(std::vector<range> known, unsigned workers = 1) {
    coir::options o = tested({.workers = workers});
    o.fixed_buffers = std::move(known);
    o.log = [this](const coir::log_record& line) { said += std::string(line.text) + '\n'; };
    return o;
  }
};

/// Writes `out`, reads it back at both ends of a pair, and says whether it came.
bool goes_through(int to, int from, range out, range in) {
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(i * 7);
  std::ranges::fill(in, std::byte{0});
  if (!coir::io::write_all(to, out)) return false;
  std::size_t got = 0;
  while (got < in.size()) {
    const auto some = coir::io::read(from, in.subspan(got));
    if (!some || *some == 0) return false;
    got += *some;
  }
  return std::ranges::equal(out, in);
}

}  // namespace

TEST_CASE("fixed buffers: files, pipes and sockets give and take the same bytes") {
  const mapping memory(16 << 10), other(16 << 10);
  heard h;
  const unique_fd file(::memfd_create("fixed", MFD_CLOEXEC));
  REQUIRE(file.get() >= 0);
  const auto ended = coir::run(
      [&] {
        // Within, across the end of what is known, and elsewhere.
        const range in = memory.all().first(5'000), out = memory.all().subspan(8'000, 5'000);
        for (const auto& [from, to] :
             {std::pair{out, in}, {other.all().first(5'000), in}, {out, other.all().last(5'000)}}) {
          std::array<int, 2> pair{};
          REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0);
          const unique_fd one(pair[0]), two(pair[1]);
          CHECK(goes_through(one.get(), two.get(), from, to));
          REQUIRE(::pipe2(pair.data(), O_CLOEXEC) == 0);
          const unique_fd end(pair[0]), begin(pair[1]);
          CHECK(goes_through(begin.get(), end.get(), from, to));
          REQUIRE(coir::io::pwrite(file.get(), from, 100).value() == from.size());
          std::ranges::fill(to, std::byte{0});
          REQUIRE(coir::io::pread(file.get(), to, 100).value() == to.size());
          CHECK(std::ranges::equal(from, to));
        }
      },
      h.about({memory.all().first(8'192), memory.all().subspan(8'192, 4'096)}, 2));
  CHECK(ended.has_value());
  const bool on_ring = h.said.empty();
  INFO(h.said);
  if (!on_ring) {
    CHECK(h.said.find("options::fixed_buffers: nothing is gained on ") != std::string::npos);
    CHECK(h.said.find("fixed_buffers") == h.said.rfind("fixed_buffers"));  // for all workers
  }
}

TEST_CASE("fixed buffers: numbers that know no vectors are read as well") {
  const mapping memory(4096);
  heard h;
  const auto over = coir::run(
      [&] {
        const unique_fd event(::eventfd(7, EFD_CLOEXEC));
        REQUIRE(coir::io::read(event.get(), memory.all().first(8)).value() == 8);
        CHECK(memory.all()[0] == std::byte{7});
        const unique_fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
        itimerspec soon{};
        soon.it_value.tv_nsec = 1;
        REQUIRE(::timerfd_settime(timer.get(), 0, &soon, nullptr) == 0);
        REQUIRE(coir::io::read(timer.get(), memory.all().subspan(8, 8)).value() == 8);
        CHECK(memory.all()[8] == std::byte{1});
      },
      h.about({memory.all()}));
  CHECK(over.has_value());
}

TEST_CASE("fixed buffers: where there is no ring the log says once that nothing is gained") {
  COIR_NOT_IN_SIM(other);
  const mapping memory(4096);
  for (const auto kind : {coir::backend_kind::poll, coir::backend_kind::sim}) {
    heard h;
    coir::options o = h.about({memory.all()}, 2);
    o.backend = kind;
    CHECK(coir::run([] { return 1; }, o).value() == 1);
    CHECK(h.said == std::string("options::fixed_buffers: nothing is gained on ") +
                        (kind == coir::backend_kind::sim ? "sim" : "poll") +
                        ", which has no ring that knows them\n");
  }
}

TEST_CASE("fixed buffers: a loop over a ring knows them, too") {
  const mapping memory(4096);
  heard h;
  auto ring = coir::make_backend(h.about({memory.all()}));
  REQUIRE(ring.has_value());
  auto refused = coir::make_backend(h.about({range{}}));
  CHECK(refused.error() == std::errc::invalid_argument);
  CHECK(h.said.find("options::fixed_buffers[0] is empty") != std::string::npos);
}

TEST_CASE("fixed buffers: what cannot be known is an error of create, which names it") {
  const mapping memory(8192);
  heard h;
  CHECK(coir::runtime::create(h.about({memory.all(), memory.all().first(1)})).error() ==
        std::errc::invalid_argument);
  CHECK(h.said.find("overlap: give each byte once") != std::string::npos);
  if (!test::on_a_ring("what a kernel refuses to know")) return;
  h.said.clear();
  const mapping closed(4096, PROT_NONE);
  CHECK(coir::runtime::create(h.about({memory.all(), closed.all()}, 2)).error() ==
        std::errc::bad_address);
  CHECK(h.said.find("options::fixed_buffers, memory that is not mapped") != std::string::npos);
  // Of a file on a disk: EOPNOTSUPP before Linux 6.5, EFAULT since.
  const unique_fd file(::open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file.get() >= 0 && ::ftruncate(file.get(), 4096) == 0) {
    h.said.clear();
    const mapping shared(4096, PROT_READ | PROT_WRITE, file.get());
    // Memory that no disk lies under may be known.
    const auto made = coir::runtime::create(h.about({shared.all()}));
    CHECK((made.has_value() || h.said.find("or of a file): give anonymous") != h.said.npos));
  }
  // Nothing stays locked, and nobody keeps a ring.
  CHECK(coir::run([] { return 1; }, h.about({memory.all()})).value() == 1);
}

TEST_CASE("fixed buffers: the limit on locked memory is named") {
  if (!test::on_a_ring("locked pages")) return;
  const mapping memory(4 << 20);
  rlimit now{};
  REQUIRE(::getrlimit(RLIMIT_MEMLOCK, &now) == 0);
  const rlim_t little = std::min<rlim_t>(now.rlim_max, 1 << 20);
  constexpr int left_out = 4;
  const test::ending end = test::in_child([&] {
    constexpr unsigned nobody = 65'534;
    const rlimit both{little, little};
    if (::setrlimit(RLIMIT_MEMLOCK, &both) != 0) ::_exit(3);
    if (::getuid() == 0 && (::setgroups(0, nullptr) != 0 || ::setuid(nobody) != 0)) ::_exit(3);
    heard h;
    coir::options o = h.about({memory.all()});
    o.backend = coir::backend_kind::uring;
    const auto refused = coir::runtime::create(o);
    if (refused || refused.error() != std::errc::not_enough_memory)
      ::_exit(!refused && refused.error() == std::errc::operation_not_permitted ? left_out : 1);
    const std::string words = "options::fixed_buffers, 4096 KiB for each worker, memlock limit " +
                              std::to_string(little / 1024) + " KiB";
    const bool ring_itself = h.said.starts_with("io_uring_setup");  // so little is left
    ::_exit(ring_itself ? left_out : h.said.find(words) != std::string::npos ? 0 : 2);
  });
  CAPTURE(end.text);
  if (end.code == left_out) MESSAGE("left out: nobody may have a ring here");
  CHECK((end.code == 0 || end.code == left_out));
}
