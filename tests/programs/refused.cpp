// refused.cpp: makes the system refuse io_uring, or what else a runtime begins with, in one way,
// and looks at what the program is told and at what is left behind.
//
// Always true:
//   - One cause per process: limits and filters cannot be taken back.
//   - Ends with 0 when the code and the text fit the cause and no descriptor and no thread is left,
//     with 77 when the cause cannot be made here.
//
// Comes from: tests/programs/refused.sh.   Goes to: coir::runtime::create.
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "coir/coir.hpp"
#include "tests/played_kernel.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#elif __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif

namespace {

long entries_of(const char* folder) {
  long count = 0;
  DIR* const all = ::opendir(folder);
  if (all == nullptr) return -1;
  while (::readdir(all) != nullptr) ++count;
  ::closedir(all);
  return count;
}

bool limit(int what, rlim_t to) {
  const rlimit both{to, to};
  return ::setrlimit(static_cast<__rlimit_resource>(what), &both) == 0;
}

/// The system call `number` answers `error` from now on, as in a container whose profile leaves it
/// out.
bool forbid_by_seccomp(int error, unsigned number = SYS_io_uring_setup) {
  return test::play_kernel({{number, {}, test::answers(error)}});
}

/// No thread from now on, as when a limit of the user or of the control group is reached. The C
/// library tries clone3 first.
bool starve_threads() {
#if defined(UNDER_ASAN)
  return false;  // the search for leaks at the end is a clone of its own
#endif
  return forbid_by_seccomp(ENOSYS, SYS_clone3) && forbid_by_seccomp(EAGAIN, SYS_clone);
}

/// As nobody, whose locked memory counts: 64 KiB hold no ring of 4,096 entries.
bool starve_memlock() {
  constexpr unsigned nobody = 65534;
  return limit(RLIMIT_MEMLOCK, 64 << 10) && (::getuid() != 0 || ::setuid(nobody) == 0);
}

/// 0, 1 and 2 and `left` more: two workers need four, and probing the guards a pipe.
template <unsigned left>
bool leave_descriptors() {
#if defined(UNDER_ASAN)
  return false;  // the sanitizer opens a pipe to look at memory, and files when it ends
#else
  return limit(RLIMIT_NOFILE, 3 + left);
#endif
}

/// A quarter of what the records of a default runtime reserve.
bool starve_address_space() {
#if defined(UNDER_ASAN) || defined(UNDER_TSAN)
  return false;  // a sanitizer needs the address space itself
#else
  return limit(RLIMIT_AS, rlim_t{80} << 20);
#endif
}

struct cause {
  const char* name;
  bool (*make)();
  int code;
  std::vector<const char*> words;  // what a person must find in the line
  bool of_the_ring = false;        // without a wish for a ring there is a runtime all the same
};

const std::vector<cause>& causes() {
  static const std::vector<cause> all{
      {"seccomp",
       [] { return forbid_by_seccomp(EPERM); },
       EPERM,
       {"EPERM", "seccomp", "profile"},
       true},
      {"kernel", [] { return forbid_by_seccomp(ENOSYS); }, ENOSYS, {"ENOSYS", "Linux 6.1"}, true},
      {"old_kernel",
       [] { return forbid_by_seccomp(EINVAL); },
       EINVAL,
       {"EINVAL", "Linux 6.1"},
       true},
      {"access", [] { return forbid_by_seccomp(EACCES); }, EACCES, {"Permission denied"}, true},
      {"no_memory",
       [] { return forbid_by_seccomp(ENOMEM); },
       ENOMEM,
       {"ENOMEM", "ulimit -l"},
       true},
      {"register",
       [] { return forbid_by_seccomp(EPERM, SYS_io_uring_register); },
       EPERM,
       {"io_uring_register", "seccomp", "profile"},
       true},
      {"enter",
       [] { return forbid_by_seccomp(ENOSYS, SYS_io_uring_enter); },
       ENOSYS,
       {"io_uring_enter", "seccomp", "profile"},
       true},
      {"memlock", &starve_memlock, ENOMEM, {"ENOMEM", "memlock", "64 KiB", "ulimit -l"}, true},
      {"descriptors_0", &leave_descriptors<0>, EMFILE, {"EMFILE", "ulimit -n"}},
      {"descriptors_1", &leave_descriptors<1>, EMFILE, {"EMFILE", "ulimit -n"}},
      {"descriptors_2", &leave_descriptors<2>, EMFILE, {"EMFILE", "ulimit -n"}},
      {"descriptors_3", &leave_descriptors<3>, EMFILE, {"EMFILE", "ulimit -n"}},
      {"threads", &starve_threads, EAGAIN, {"thread", "worker 0 of 2", "ulimit -u", "workers"}},
      {"address_space", &starve_address_space, ENOMEM, {"records", "ulimit -v", "fibers_max"}},
  };
  return all;
}

/// Two workers: what the first was given has to be given back when the second is refused.
coir::result<std::unique_ptr<coir::runtime>> attempt(std::vector<std::string>& lines,
                                                     coir::backend_kind kind) {
  coir::options o{.workers = 2, .backend = kind, .ring_entries = 4096};
  o.log = [&lines](const coir::log_record& r) { lines.emplace_back(r.text); };
  auto made = coir::runtime::create(std::move(o));
  if (!made) return made;
  if (const auto started = (*made)->start(); !started) return coir::fail(started.error());
  return made;
}

bool told(const std::vector<std::string>& lines, const cause& why) {
  if (lines.size() != 1) return false;
  for (const char* const word : why.words)
    if (lines[0].find(word) == std::string::npos) return false;
  return true;
}

/// Bytes through a pipe, and through a file that the pool writes.
bool works() {
  std::array<int, 2> pipe{};
  if (::pipe(pipe.data()) != 0) return false;
  std::byte in{};
  const std::byte out{42};
  auto reader = coir::spawn([&] { return coir::io::read(pipe[0], {&in, 1}); });
  coir::this_fiber::yield();
  const auto written = coir::io::write(pipe[1], {&out, 1});
  const auto read = reader.join();
  const auto file = coir::io::open("/tmp", O_RDWR | O_TMPFILE, 0600);
  const bool kept = file && coir::io::pwrite(*file, {&out, 1}, 0).value_or(0) == 1 &&
                    coir::io::fsync(*file).has_value() && coir::io::close(*file).has_value();
  (void)coir::io::close(pipe[0]);
  (void)coir::io::close(pipe[1]);
  return written && read && *read == 1 && in == out && kept;
}

/// Nobody has asked for a ring by name: one line, and it works without.
int check_without(const cause& why) {
  std::vector<std::string> lines;
  auto made = attempt(lines, coir::backend_kind::automatic);
  if (!made) return std::printf("%s: nothing in its place\n", why.name), 1;
  if (!told(lines, why) || lines[0].find("epoll") == std::string::npos)
    return std::printf("%s: the line without a ring\n", why.name), 1;
  if ((*made)->snapshot().backend != "poll") return std::printf("no poll\n"), 1;
  const auto well = (*made)->run(works);
  if (!well || !*well) return std::printf("%s: it does not work\n", why.name), 1;
  return (*made)->shutdown() ? 0 : 1;
}

int check(const cause& why) {
  if (!why.make()) return 77;
  // The descriptor limit also keeps us from looking into /proc, so it is counted by its effect.
  const bool counts = std::strncmp(why.name, "descriptors", 11) != 0;
  const long fds = counts ? entries_of("/proc/self/fd") : ::dup(0);
  const long threads = counts ? entries_of("/proc/self/task") : 0;
  if (!counts && fds >= 0) ::close(static_cast<int>(fds));
  std::vector<std::string> lines;
  const auto kind = why.of_the_ring ? coir::backend_kind::uring : coir::backend_kind::automatic;
  const auto made = attempt(lines, kind);
  for (const std::string& line : lines) std::printf("%s\n", line.c_str());
  if (made) return std::printf("%s: not refused\n", why.name), 1;
  if (made.error() != std::error_code(why.code, std::generic_category()))
    return std::printf("%s: code %s\n", why.name, made.error().message().c_str()), 1;
  if (!told(lines, why)) return std::printf("%s: the line lacks a word\n", why.name), 1;
  if (counts && entries_of("/proc/self/fd") != fds) return std::printf("a descriptor is left\n"), 1;
  if (counts && entries_of("/proc/self/task") != threads)
    return std::printf("a thread is left\n"), 1;
  if (!counts && ::dup(0) != fds) return std::printf("a descriptor is left\n"), 1;
  return why.of_the_ring ? check_without(why) : 0;
}

}  // namespace

int main(int argc, char** argv) {
  // What we inherited is not ours to count: 0, 1 and 2 are there, and nothing else.
  for (int fd = ::open("/dev/null", O_RDWR); fd < 3; fd = ::dup(fd))
    if (fd < 0) return 77;
  ::close_range(3, ~0u, 0);
  for (const cause& c : causes())
    if (argc == 2 && std::strcmp(argv[1], c.name) == 0) return check(c);
  std::printf("refused: which cause?");
  for (const cause& c : causes()) std::printf(" %s", c.name);
  std::printf("\n");
  return 2;
}
