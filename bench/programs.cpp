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
#include <cstdlib>
#include <ctime>
#include <sstream>
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
    if (cpu != same_cpus) pin_to(cpu);
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

bool program::another_line() {
  char bytes[4096];
  while (unread_.find('\n') == std::string::npos) {
    const ssize_t got = ::read(output_, bytes, sizeof bytes);
    if (got == -1 && errno == EINTR) continue;
    if (got == -1) fail_with_errno(name_);
    if (got == 0) return false;
    unread_.append(bytes, static_cast<std::size_t>(got));
  }
  return true;
}

std::string program::line() {
  if (!another_line()) throw std::runtime_error(name_ + " said nothing more");
  const std::size_t end = unread_.find('\n');
  std::string text = unread_.substr(0, end);
  unread_.erase(0, end + 1);
  return text;
}

std::int64_t program::cpu_ns() const {
  clockid_t id;
  timespec used{};
  if (const int error = ::clock_getcpuclockid(pid_, &id))
    throw std::system_error(error, std::system_category(), name_);
  // What getrusage(2) would say of a process of our own, while it runs.
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
  std::istringstream in(arguments);
  for (std::string word; in >> word;) words.push_back(word);
  const bool there = ::access(words[0].c_str(), X_OK) == 0;
  return {"Go", role::peer,
          [words] {
            ::setenv("SPEND_NS", std::to_string(spend_ns).c_str(), 1);
            program go(words, program::same_cpus);
            std::istringstream said(go.line());
            sample got;
            for (double& value : got.values)
              if (!(said >> value)) value = no_figure;
            go.wait();
            return got;
          },
          there ? "" : "golang-go"};
}

}  // namespace bench
