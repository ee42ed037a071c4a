// sim_explore.cpp: many runs: until one fails, and then fewer and fewer decisions until none can be
// spared; in this process or each in one of its own.
//
// Always true:
//   - Decisions are recorded in memory that a process which dies leaves behind.
//   - A shorter list counts only when it fails in the same way as the long one did.
//
// Comes from: coir/sim.hpp.   Goes to: sim_run, sim_shrink.
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "runtime/sim_run.hpp"

namespace coir::detail {
namespace {

namespace public_sim = ::coir::sim;
using public_sim::report;

constexpr std::uint64_t runs_per_process = 256;
constexpr rlim_t seconds_per_run = 30;  // of the processor

/// From now on, for this process; SIGXCPU ends it.
void limit_the_run() noexcept {
  rusage used{};
  rlimit limit{};
  if (::getrusage(RUSAGE_SELF, &used) != 0 || ::getrlimit(RLIMIT_CPU, &limit) != 0) return;
  const auto spent = static_cast<rlim_t>(used.ru_utime.tv_sec + used.ru_stime.tv_sec + 2);
  limit.rlim_cur = std::min(spent + seconds_per_run, limit.rlim_max);
  ::setrlimit(RLIMIT_CPU, &limit);
}

/// What a run tells, in memory that a child shares with its parent.
struct blackboard {
  static constexpr std::size_t decisions_max = std::size_t{1} << 18;
  static constexpr std::size_t text_max = 4000;

  bool finished = false;  // the child has judged
  run_verdict is = run_verdict::ok;
  std::uint64_t seed = 0, runs = 0, hash = 0, events = 0, steps = 0, decided = 0;
  char text[text_max] = {};
  std::uint64_t decisions[decisions_max];

  void put(const report& r) noexcept {
    is = r.is;
    seed = r.seed;
    hash = r.hash;
    events = r.events;
    steps = r.steps;
    decided = r.decided;
    const std::size_t length = std::min(r.text.size(), text_max - 1);
    std::memcpy(text, r.text.data(), length);
    text[length] = '\0';
  }
  report get() const {
    report r;
    r.is = is;
    r.text = text;
    r.seed = seed;
    r.hash = hash;
    r.events = events;
    r.steps = steps;
    r.decided = decided;
    return r;
  }
};

class explorer {
 public:
  explorer(const public_sim::settings& s, const public_sim::program& p)
      : settings_(s), program_(p) {
    void* const place = ::mmap(nullptr, sizeof(blackboard), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED) throw std::bad_alloc();
    board_ = static_cast<blackboard*>(place);  // zero pages: what a new one is
  }
  ~explorer() { ::munmap(board_, sizeof(blackboard)); }
  explorer(const explorer&) = delete;
  explorer& operator=(const explorer&) = delete;

  /// Seeds from `seed` on, `count` of them or until one fails; or this list.
  report several(std::uint64_t seed, std::uint64_t count, const decision_list* list) {
    if (!settings_.isolate) return here(seed, count, list);
    report last;
    for (std::uint64_t done = 0; done < count; done += runs_per_process) {
      last = apart(seed + done, std::min(runs_per_process, count - done), list);
      last.seeds += done;
      if (!last.ok()) break;
    }
    return last;
  }

  /// Those of the last run, without the zeros at their end.
  decision_list recorded() const {
    std::size_t count = used_;
    while (count != 0 && board_->decisions[count - 1] == 0) --count;
    return {board_->decisions, board_->decisions + count};
  }

 private:
  report here(std::uint64_t seed, std::uint64_t count, const decision_list* list) {
    report last;
    for (std::uint64_t i = 0; i < count; ++i) {
      forget_decisions();
      if (settings_.isolate) limit_the_run();
      board_->seed = seed + i;
      board_->runs = i + 1;
      const std::span<std::uint64_t> record(board_->decisions);
      sim_run one(settings_, seed + i, list, record, stacks_kept_);
      last = one.judge(program_);
      used_ = std::min<std::uint64_t>(last.decided, blackboard::decisions_max);
      last.seeds = i + 1;
      if (!last.ok()) break;
    }
    return last;
  }

  void forget_decisions() noexcept { std::fill_n(board_->decisions, used_, 0); }

  report apart(std::uint64_t seed, std::uint64_t count, const decision_list* list) {
    forget_decisions();
    board_->finished = false;
    std::FILE* const said = std::tmpfile();
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      if (said != nullptr)
        for (const int to : {STDOUT_FILENO, STDERR_FILENO}) ::dup2(::fileno(said), to);
      // What the parent would say of them is not true of the child.
      for (const int number : {SIGABRT, SIGXCPU}) ::signal(number, SIG_DFL);
      const rlimit no_core{0, 0};
      ::setrlimit(RLIMIT_CORE, &no_core);
      const report r = here(seed, count, list);
      board_->put(r);
      board_->finished = true;
      ::_exit(0);
    }
    int status = 0;
    if (child > 0)
      while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    // Who died did not say how many there were.
    used_ = board_->finished ? std::min<std::uint64_t>(board_->decided, blackboard::decisions_max)
                             : blackboard::decisions_max;
    report r = board_->get();
    if (child < 0) {
      r.is = run_verdict::died;
      r.text = "no process for it";
    } else if (!board_->finished) {
      r = {};
      r.is = run_verdict::died;
      r.seed = board_->seed;
      r.text = how_it_ended(status) + last_words(said);
    }
    r.seeds = board_->runs;
    if (said != nullptr) std::fclose(said);
    return r;
  }

  static std::string how_it_ended(int status) {
    if (!WIFSIGNALED(status)) return "it called exit(" + std::to_string(WEXITSTATUS(status)) + ")";
    const char* const name = ::sigabbrev_np(WTERMSIG(status));
    return "it was ended by signal " + std::to_string(WTERMSIG(status)) + " SIG" +
           (name == nullptr ? "?" : name);
  }

  static std::string last_words(std::FILE* said) {
    char text[600];
    if (said == nullptr) return {};
    std::fseek(said, 0, SEEK_END);
    const long size = std::ftell(said);
    std::fseek(said, std::max(0L, size - static_cast<long>(sizeof text)), SEEK_SET);
    const std::size_t count = std::fread(text, 1, sizeof text, said);
    return count == 0 ? std::string() : ": " + std::string(text, count);
  }

  const public_sim::settings& settings_;
  const public_sim::program& program_;
  blackboard* board_;
  std::size_t used_ = 0;  // of board_->decisions, by the last run
  std::shared_ptr<stacks> stacks_kept_;
};

void name_decisions(report& r, const decision_list& list) {
  for (std::size_t i = 0; i < list.size(); ++i)
    if (list[i] != 0) r.decisions.push_back({i, list[i]});
}

}  // namespace
}  // namespace coir::detail

namespace coir::sim {

using detail::decision_list;

report run(const settings& s, const program& p) {
  detail::explorer all(s, p);
  report r = all.several(s.seed, 1, nullptr);
  detail::name_decisions(r, all.recorded());
  return r;
}

report replay(const settings& s, const std::vector<decision>& decisions, const program& p) {
  decision_list list;
  for (const decision& d : decisions) {
    if (d.index >= list.size()) list.resize(d.index + 1);
    list[d.index] = d.value;
  }
  detail::explorer all(s, p);
  report r = all.several(s.seed, 1, &list);
  detail::name_decisions(r, all.recorded());
  return r;
}

report explore(const settings& s, std::uint64_t seeds, const program& p) {
  detail::explorer all(s, p);
  const report first = all.several(s.seed, seeds, nullptr);
  if (first.ok()) return first;
  const decision_list long_one = all.recorded();
  const auto fails = [&](decision_list& tried) {
    return all.several(first.seed, 1, &tried).is == first.is;
  };
  unsigned runs = s.shrink_runs;
  // What depends on something else than its decisions fails once and then no more.
  decision_list least = long_one;
  const bool repeats = fails(least);
  if (repeats) least = detail::shrunk(long_one, fails, runs);
  report r = all.several(first.seed, 1, &least);
  r.seeds = first.seeds;
  if (r.is != first.is) {
    r = first;
    r.text +=
        "\n(its decisions do not repeat it: the program asks somebody else for time or chance)";
  }
  detail::name_decisions(r, least);
  return r;
}

}  // namespace coir::sim
