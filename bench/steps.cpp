// steps.cpp: where the instructions of an operation go: single-steps a thread that is busy with it
// and counts, by function. For machines without counters; Valgrind cannot run what sleeps in
// io_uring_enter.
//
//   steps --per this_fiber::yield -- coir_bench --here coir --first --rows yield/2/same --ms 60000
//   steps --per perform_io --pid PID
//
// Always true:
//   - Counted are instructions in user mode, a system call as one; time is not measured.
//   - An operation is one arrival at the first instruction of the function named by --per.
//   - A program that this started is killed at the end, one that it was shown is left running.
//
// Comes from: people who ask why a row is slow.   Goes to: ptrace(2), nm(1), stdout.
#include <dirent.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

#if !defined(__x86_64__)
#error "steps reads the instruction pointer of x86-64"
#endif

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "%s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

/// Clock ticks that thread `tid` has used.
long ticks_of(pid_t pid, pid_t tid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid) + "/stat");
  std::string text;
  std::getline(file, text);
  const std::size_t end = text.rfind(')');
  if (end == std::string::npos) return 0;
  std::istringstream in(text.substr(end + 2));
  std::string word;
  long user = 0, system = 0;
  for (int field = 3; field < 14; ++field) in >> word;
  in >> user >> system;
  return user + system;
}

pid_t busiest_thread(pid_t pid) {
  const std::string folder = "/proc/" + std::to_string(pid) + "/task";
  DIR* const dir = ::opendir(folder.c_str());
  if (dir == nullptr) die("the program has ended");
  pid_t best = pid;
  while (const dirent* one = ::readdir(dir)) {
    const pid_t tid = std::atoi(one->d_name);
    if (tid > 0 && ticks_of(pid, tid) > ticks_of(pid, best)) best = tid;
  }
  ::closedir(dir);
  return best;
}

struct symbol {
  std::uint64_t begin;
  std::string name;
};

/// The functions of a program, by address in its file, and where its file lies in memory.
class names {
 public:
  explicit names(pid_t pid) {
    const std::string exe = realpath_of("/proc/" + std::to_string(pid) + "/exe");
    read_maps(pid, exe);
    read_symbols(exe);
  }

  std::string of(std::uint64_t at) const {
    for (const mapping& m : maps_) {
      if (at < m.begin || at >= m.end) continue;
      if (!m.is_exe) return m.path;
      const auto after =
          std::upper_bound(symbols_.begin(), symbols_.end(), at - base_,
                           [](std::uint64_t a, const symbol& s) { return a < s.begin; });
      return after == symbols_.begin() ? m.path : std::prev(after)->name;
    }
    return "?";
  }

  /// The addresses in memory of the functions whose names contain `part`.
  std::vector<std::uint64_t> find(const std::string& part) const {
    std::vector<std::uint64_t> all;
    for (const symbol& s : symbols_)
      if (s.name.find(part) != std::string::npos) all.push_back(s.begin + base_);
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
  }

 private:
  struct mapping {
    std::uint64_t begin, end;
    std::string path;
    bool is_exe;
  };
  static std::string realpath_of(const std::string& link);

  void read_maps(pid_t pid, const std::string& exe) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/maps");
    for (std::string line; std::getline(file, line);) {
      std::istringstream in(line);
      std::string range, flags, offset, device, inode, path;
      in >> range >> flags >> offset >> device >> inode >> path;
      const std::size_t dash = range.find('-');
      mapping m{std::stoull(range.substr(0, dash), nullptr, 16),
                std::stoull(range.substr(dash + 1), nullptr, 16), path, path == exe};
      if (m.is_exe && base_ == 0) base_ = m.begin;
      maps_.push_back(std::move(m));
    }
  }

  void read_symbols(const std::string& exe) {
    FILE* const pipe = ::popen(("nm -C --defined-only '" + exe + "'").c_str(), "r");
    if (pipe == nullptr) die("nm");
    char line[4096];
    while (std::fgets(line, sizeof line, pipe) != nullptr) {
      char kind = 0;
      unsigned long long at = 0;
      int name_at = 0;
      if (std::sscanf(line, "%llx %c %n", &at, &kind, &name_at) < 2) continue;
      if (std::strchr("tTwWi", kind) == nullptr) continue;
      std::string name = line + name_at;
      name.erase(name.find_last_not_of('\n') + 1);
      symbols_.push_back({at, name.substr(0, 90)});
    }
    ::pclose(pipe);
    std::stable_sort(symbols_.begin(), symbols_.end(),
                     [](const symbol& a, const symbol& b) { return a.begin < b.begin; });
  }

  std::uint64_t base_ = 0;
  std::vector<mapping> maps_;
  std::vector<symbol> symbols_;
};

std::string names::realpath_of(const std::string& link) {
  char path[4096];
  const ssize_t got = ::readlink(link.c_str(), path, sizeof path);
  if (got < 0) die("readlink");
  return std::string(path, static_cast<std::size_t>(got));
}

std::uint64_t place_of(pid_t tid) {
  errno = 0;
  const long at = ::ptrace(PTRACE_PEEKUSER, tid, offsetof(user_regs_struct, rip), nullptr);
  if (errno != 0) die("ptrace");
  return static_cast<std::uint64_t>(at);
}

/// How often each address was about to run.
std::unordered_map<std::uint64_t, std::uint64_t> step(pid_t tid, std::uint64_t count) {
  int status = 0;
  if (::ptrace(PTRACE_SEIZE, tid, nullptr, nullptr) != 0) die("ptrace");
  if (::ptrace(PTRACE_INTERRUPT, tid, nullptr, nullptr) != 0) die("ptrace");
  ::waitpid(tid, &status, __WALL);
  std::unordered_map<std::uint64_t, std::uint64_t> seen;
  for (std::uint64_t i = 0; i < count && WIFSTOPPED(status); ++i) {
    ++seen[place_of(tid)];
    if (::ptrace(PTRACE_SINGLESTEP, tid, nullptr, nullptr) != 0) die("ptrace");
    ::waitpid(tid, &status, __WALL);
  }
  ::ptrace(PTRACE_DETACH, tid, nullptr, nullptr);
  return seen;
}

pid_t start(const std::vector<std::string>& words) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::execv(arguments[0], arguments.data());
  ::_exit(127);
}

}  // namespace

int main(int argc, char** argv) {
  pid_t pid = 0;
  std::uint64_t count = 200'000;
  std::string per;
  std::vector<std::string> words;
  CLI::App app{"Instructions per operation of a busy thread, by function."};
  app.add_option("--pid", pid, "a program that runs already");
  app.add_option("--steps", count, "instructions to look at; default 200000");
  app.add_option("--per", per, "part of the name of the function that is called per operation")
      ->required();
  app.add_option("program", words, "else: a program to start, and its arguments");
  CLI11_PARSE(app, argc, argv);
  const bool ours = pid == 0;
  if (ours) pid = start(words);
  if (pid <= 0) die("no program");
  // Half a second of work: what starts a program lies behind it.
  while (ticks_of(pid, busiest_thread(pid)) < ::sysconf(_SC_CLK_TCK) / 2) {
    if (ours && ::waitpid(pid, nullptr, WNOHANG) != 0) return 1;  // it said why
    ::usleep(50'000);
  }
  const names functions(pid);
  const auto seen = step(busiest_thread(pid), count);
  if (ours) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  std::uint64_t operations = 0;
  for (const std::uint64_t at : functions.find(per))
    if (const auto found = seen.find(at); found != seen.end()) operations += found->second;
  if (operations == 0) {
    std::fprintf(stderr, "no call of %s was seen\n", per.c_str());
    return 1;
  }
  std::map<std::string, std::uint64_t> by_name;
  std::uint64_t all = 0;
  for (const auto& [at, times] : seen) {
    by_name[functions.of(at)] += times;
    all += times;
  }
  std::vector<std::pair<std::uint64_t, std::string>> sorted;
  for (const auto& [name, times] : by_name) sorted.emplace_back(times, name);
  std::sort(sorted.rbegin(), sorted.rend());
  const auto each = [&](std::uint64_t times) {
    return static_cast<double>(times) / static_cast<double>(operations);
  };
  std::printf("%8.1f instructions per %s (%llu of them)\n", each(all), per.c_str(),
              static_cast<unsigned long long>(operations));
  for (const auto& [times, name] : sorted)
    if (each(times) >= 0.3) std::printf("%8.1f  %s\n", each(times), name.c_str());
  return 0;
}
