// plugin_host.cpp: a program that knows nothing of coir loads a plugin that uses it, several times.
//
// Always true:
//   - After each dlclose the process has the threads and descriptors that it had before, no signal
//     handler points to nowhere, and fork(2) finds its handlers.
//
// Comes from: plugin.sh, with the path of the plugin.   Goes to: plugin.c.
#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "tests/catalogue/process_facts.hpp"

namespace {

[[noreturn]] void failed(const char* what) {
  const char* const why = ::dlerror();
  std::fprintf(stderr, "plugin_host: %s: %s\n", what, why == nullptr ? "" : why);
  std::exit(1);
}

/// A handler that was left behind must still be code that is there.
bool handler_is_there(int signal) {
  struct sigaction now {};
  if (::sigaction(signal, nullptr, &now) != 0) return false;
  if (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN) return true;
  Dl_info where{};
  return ::dladdr(reinterpret_cast<void*>(now.sa_sigaction), &where) != 0;
}

bool forks() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  int status = 1;
  return ::waitpid(child, &status, 0) == child && status == 0;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) failed("needs the path of a plugin");
  const std::size_t threads = test::live_threads(), fds = test::open_fds();
  for (int i = 0; i < 20; ++i) {
    void* const plugin = ::dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (plugin == nullptr) failed("dlopen");
    const auto sum = reinterpret_cast<long (*)(long)>(::dlsym(plugin, "plugin_sum"));
    if (sum == nullptr) failed("dlsym");
    if (sum(100) != 4950 || sum(10) != 45) failed("a wrong sum");
    if (::dlclose(plugin) != 0) failed("dlclose");
    if (!handler_is_there(SIGSEGV) || !handler_is_there(SIGBUS)) failed("a handler of nobody");
    if (!forks()) failed("fork");
    if (!test::comes_down_to(threads, &test::live_threads)) failed("a thread is left");
    if (!test::comes_down_to(fds, &test::open_fds)) failed("a descriptor is left");
  }
  std::puts("loaded, run and unloaded 20 times");
}
