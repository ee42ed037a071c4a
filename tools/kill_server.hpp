// kill_server.hpp: one kv process: started, asked for its port, killed or asked to end.
//
// Always true:
//   - The process has ended, and was waited for, when the object has.
//   - A server that does not print its port in time ends the test with a message.
//
// Comes from: kill_test.cpp.   Goes to: fork, exec, a pipe.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace kill_test {

[[noreturn]] inline void give_up(const char* what) {
  std::perror(what);
  std::exit(1);
}

class server {
 public:
  server(const std::string& program, const std::string& data, unsigned workers) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) give_up("pipe2");
    const std::string count = std::to_string(workers);
    const std::string log = data + ".log";
    pid_ = ::fork();
    if (pid_ < 0) give_up("fork");
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      const int log_fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
      if (log_fd >= 0) ::dup2(log_fd, STDERR_FILENO);
      ::execl(program.c_str(), program.c_str(), "--port", "0", "--data", data.c_str(), "--workers",
              count.c_str(), static_cast<char*>(nullptr));
      std::perror(program.c_str());
      ::_exit(127);
    }
    ::close(ends[1]);
    port_ = read_port(ends[0]);
    ::close(ends[0]);
    if (port_ == 0) {
      std::fprintf(stderr, "%s did not say where it listens; see %s\n", program.c_str(),
                   log.c_str());
      kill();
      std::exit(1);
    }
    ::unlink(log.c_str());
  }
  ~server() { kill(); }
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  std::uint16_t port() const noexcept { return port_; }

  void kill() { (void)end(SIGKILL); }
  /// Its exit code; -1 when a signal ended it.
  int terminate() { return end(SIGTERM); }

 private:
  static std::uint16_t read_port(int fd) {
    constexpr int patience_ms = 60'000;
    std::string line;
    pollfd ready{fd, POLLIN, 0};
    while (line.find('\n') == line.npos && ::poll(&ready, 1, patience_ms) == 1) {
      char piece[256];
      const ssize_t count = ::read(fd, piece, sizeof piece);
      if (count <= 0) break;
      line.append(piece, static_cast<std::size_t>(count));
    }
    unsigned port = 0;
    return std::sscanf(line.c_str(), "listening on 127.0.0.1:%u\n", &port) == 1
               ? static_cast<std::uint16_t>(port)
               : 0;
  }
  int end(int signal) {
    if (pid_ <= 0) return 0;
    ::kill(pid_, signal);
    int status = 0;
    if (::waitpid(pid_, &status, 0) != pid_) give_up("waitpid");
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

  pid_t pid_ = -1;
  std::uint16_t port_ = 0;
};

}  // namespace kill_test
