// programs.cpp: starting a program with its stdout in a pipe, and asking the kernel what it cost.
//
// Always true:
//   - Between fork and exec only calls are made that are safe there.
//
// Comes from: programs.hpp.   Goes to: nothing.
#include "bench/programs.hpp"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <stdexcept>
#include <system_error>

#include "bench/measure.hpp"
#include "bench/rows.hpp"

namespace bench {

namespace {

[[noreturn]] void fail_with_errno(const std::string& what) {
  throw std::system_error(errno, std::system_category(), what);
}

}  // namespace

program::program(const std::vector<std::string>& words, int cpu) : name_(words.at(0)) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  int ends[2];
  if (::pipe(ends) != 0) fail_with_errno("pipe");
  pid_ = ::fork();
  if (pid_ == -1) fail_with_errno("fork");
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin_to(cpu);
    ::dup2(ends[1], STDOUT_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  output_ = ends[0];
}

program::~program() {
  if (output_ != -1) ::close(output_);
  if (pid_ == -1) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

std::string program::line() {
  std::string text;
  for (char c = 0;;) {
    const ssize_t got = ::read(output_, &c, 1);
    if (got == -1 && errno == EINTR) continue;
    if (got != 1) throw std::runtime_error(name_ + " said nothing more");
    if (c == '\n') return text;
    text += c;
  }
}

std::int64_t program::cpu_ns() const {
  clockid_t id;
  timespec used{};
  if (const int error = ::clock_getcpuclockid(pid_, &id))
    throw std::system_error(error, std::system_category(), name_);
  if (::clock_gettime(id, &used) != 0) fail_with_errno(name_);
  return std::int64_t{used.tv_sec} * 1'000'000'000 + used.tv_nsec;
}

void program::end() {
  if (::kill(pid_, SIGTERM) != 0) fail_with_errno(name_);
  wait();
}

void program::wait() {
  int status = 0;
  const pid_t ended = ::waitpid(pid_, &status, 0);
  if (ended == -1) fail_with_errno(name_);
  pid_ = -1;
  if (status == 0) return;
  throw std::runtime_error(name_ + (WIFSIGNALED(status)
                                        ? " died of signal " + std::to_string(WTERMSIG(status))
                                        : " exited with " + std::to_string(WEXITSTATUS(status))));
}

entry go_entry(const settings& chosen, const std::string& arguments) {
  std::vector<std::string> words{chosen.folder + "/peer_go"};
  for (std::size_t at = 0; at < arguments.size();) {
    const std::size_t end = std::min(arguments.find(' ', at), arguments.size());
    words.push_back(arguments.substr(at, end - at));
    at = end + 1;
  }
  const bool there = ::access(words[0].c_str(), X_OK) == 0;
  return {"Go, GOMAXPROCS=1",
          [words, cpu = chosen.cpu] {
            program go(words, cpu);
            const sample got{std::stod(go.line())};
            go.wait();
            return got;
          },
          there ? "" : "golang-go"};
}

}  // namespace bench
