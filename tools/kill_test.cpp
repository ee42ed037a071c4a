// kill_test.cpp: kills a kv server with SIGKILL at a random moment under load, starts it again, and
// asks for every write that it had acknowledged.
//
//   kill_test [--kv PATH] [--runs N] [--seconds-max S] [--seconds-min S] [--seed N] [--workers N]
//             [--connections N] [--once --dir DIR] [--json] [--forget]
//
// --forget removes the data after the kill: the control that must report every write as lost.
//
// Always true:
//   - A write counts as acknowledged when its whole answer was read, also after the kill.
//   - Every value says which key it belongs to, so half a value or another one's is found out.
//   - Only processes that were started here are killed, by their number.
//
// Comes from: ./dev kill-test, tools/demo.sh.   Goes to: kill_server.hpp, kill_client.hpp.
#include <getopt.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "kill_client.hpp"
#include "kill_server.hpp"

namespace {

struct settings {
  std::string kv, dir;
  unsigned runs = 1, workers = 2, connections = 32;
  double seconds_min = 0.001, seconds_max = 0.2;
  std::uint64_t seed = 1;
  bool json = false, forget = false;
};

struct tally {
  std::uint64_t acked = 0, recovered = 0, lost = 0, wrong = 0, unanswered_found = 0;
  std::uint64_t replayed = 0, recovery_us = 0, recovery_us_max = 0, bad_exits = 0;
  bool good() const { return lost == 0 && wrong == 0 && bad_exits == 0; }
  void add(const tally& run) {
    acked += run.acked;
    recovered += run.recovered;
    lost += run.lost;
    wrong += run.wrong;
    unanswered_found += run.unanswered_found;
    replayed += run.replayed;
    recovery_us += run.recovery_us;
    recovery_us_max = std::max(recovery_us_max, run.recovery_us);
    bad_exits += run.bad_exits;
  }
};

[[noreturn]] void usage() {
  std::fprintf(stderr,
               "usage: kill_test [--kv PATH] [--runs N] [--seconds-max S] [--seconds-min S]\n"
               "                 [--seed N] [--workers N] [--connections N]\n"
               "                 [--once --dir DIR] [--json] [--forget]\n");
  std::exit(2);
}

/// The server that was built together with this program.
std::string kv_beside_us() {
  std::error_code unknown;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", unknown);
  return (self.parent_path().parent_path() / "samples" / "kv").string();
}

settings read_settings(int argc, char** argv) {
  static const option known[] = {{"kv", required_argument, nullptr, 'k'},
                                 {"dir", required_argument, nullptr, 'd'},
                                 {"runs", required_argument, nullptr, 'r'},
                                 {"once", no_argument, nullptr, 'o'},
                                 {"workers", required_argument, nullptr, 'w'},
                                 {"connections", required_argument, nullptr, 'c'},
                                 {"seconds-min", required_argument, nullptr, 'm'},
                                 {"seconds-max", required_argument, nullptr, 'M'},
                                 {"seed", required_argument, nullptr, 's'},
                                 {"json", no_argument, nullptr, 'j'},
                                 {"forget", no_argument, nullptr, 'f'},
                                 {nullptr, 0, nullptr, 0}};
  settings s;
  s.kv = kv_beside_us();
  const auto count = [](const char* text) {
    return static_cast<unsigned>(std::strtoul(text, nullptr, 10));
  };
  for (int letter; (letter = ::getopt_long(argc, argv, "", known, nullptr)) != -1;) {
    switch (letter) {
      case 'k':
        s.kv = optarg;
        break;
      case 'd':
        s.dir = optarg;
        break;
      case 'r':
        s.runs = count(optarg);
        break;
      case 'o':
        s.runs = 1;
        break;
      case 'w':
        s.workers = count(optarg);
        break;
      case 'c':
        s.connections = count(optarg);
        break;
      case 'm':
        s.seconds_min = std::strtod(optarg, nullptr);
        break;
      case 'M':
        s.seconds_max = std::strtod(optarg, nullptr);
        break;
      case 's':
        s.seed = std::strtoull(optarg, nullptr, 10);
        break;
      case 'j':
        s.json = true;
        break;
      case 'f':
        s.forget = true;
        break;
      default:
        usage();
    }
  }
  if (s.runs == 0 || s.connections == 0 || optind != argc) usage();
  s.seconds_max = std::max(s.seconds_max, s.seconds_min);
  return s;
}

/// A folder of its own, or the one that was given, which stays.
class data_folder {
 public:
  explicit data_folder(const std::string& given) : path_(given), ours_(given.empty()) {
    if (!ours_) return;
    path_ = (std::filesystem::temp_directory_path() / "kill-test-XXXXXX").string();
    if (::mkdtemp(path_.data()) == nullptr) kill_test::give_up("mkdtemp");
  }
  ~data_folder() {
    if (ours_) std::filesystem::remove_all(path_);
  }
  data_folder(const data_folder&) = delete;
  data_folder& operator=(const data_folder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const bool ours_;
};

void check(const kill_test::asker& ask, const kill_test::written& w, tally& t) {
  for (const auto& [key, found] : ask.values(w.acked)) {
    if (!found)
      ++t.lost;
    else if (*found != kill_test::value_of(key))
      ++t.wrong;
    else
      ++t.recovered;
  }
  for (const auto& [key, found] : ask.values(w.unanswered)) {
    if (!found) continue;
    if (*found == kill_test::value_of(key))
      ++t.unanswered_found;
    else
      ++t.wrong;
  }
  // The key that a connection writes over and over: never older than its last acknowledged value.
  for (const auto& c : w.counters) {
    const auto found = ask.values({c.key}).front().second;
    if (c.acked > 0 && !found)
      ++t.lost;
    else if (found && (*found < c.acked || *found > c.sent))
      ++t.wrong;
    else if (c.acked > 0)
      ++t.recovered;
  }
}

tally run_once(const settings& s, std::uint64_t run, std::mt19937_64& random) {
  const data_folder data(s.dir);
  std::uniform_real_distribution<double> moment(s.seconds_min, s.seconds_max);
  const std::chrono::duration<double> life(moment(random));

  kill_test::written w;
  {
    kill_test::server victim(s.kv, data.path(), s.workers);
    kill_test::load load(victim.port(), s.connections, run ^ s.seed << 20);
    load.run_for(std::chrono::duration_cast<std::chrono::nanoseconds>(life));
    victim.kill();
    w = load.finish();
  }
  tally t;
  t.acked = w.acked.size();
  for (const auto& c : w.counters) t.acked += c.acked > 0 ? 1 : 0;

  if (s.forget) std::filesystem::remove_all(data.path());
  kill_test::server again(s.kv, data.path(), s.workers);
  const kill_test::asker ask(again.port());
  check(ask, w, t);
  t.replayed = ask.recovery("records");
  t.recovery_us = t.recovery_us_max = ask.recovery("microseconds");
  t.bad_exits = again.terminate() == 0 ? 0 : 1;
  return t;
}

void print(const tally& t, unsigned runs, bool json) {
  const auto number = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
  std::printf(
      json
          ? "{\"runs\":%u,\"acked\":%llu,\"recovered\":%llu,\"lost\":%llu,\"wrong\":%llu,"
            "\"unanswered_found\":%llu,\"replayed\":%llu,\"recovery_us\":%llu,"
            "\"recovery_us_max\":%llu,\"bad_exits\":%llu}\n"
          : "%u runs: %llu acknowledged, %llu recovered, %llu lost, %llu wrong; %llu unanswered "
            "ones found; %llu records replayed in %llu us, at most %llu us a run; %llu bad exits\n",
      runs, number(t.acked), number(t.recovered), number(t.lost), number(t.wrong),
      number(t.unanswered_found), number(t.replayed), number(t.recovery_us),
      number(t.recovery_us_max), number(t.bad_exits));
}

}  // namespace

int main(int argc, char** argv) {
  const settings s = read_settings(argc, argv);
  std::mt19937_64 random(s.seed);
  tally all;
  for (unsigned run = 1; run <= s.runs; ++run) {
    const tally t = run_once(s, run, random);
    if (!t.good())
      std::fprintf(stderr, "run %u of seed %llu: %llu lost, %llu wrong, exit code %s\n", run,
                   static_cast<unsigned long long>(s.seed), static_cast<unsigned long long>(t.lost),
                   static_cast<unsigned long long>(t.wrong), t.bad_exits == 0 ? "0" : "not 0");
    all.add(t);
  }
  print(all, s.runs, s.json);
  if (all.acked == 0) {
    std::fprintf(stderr, "kill_test: nothing was acknowledged, so nothing was shown\n");
    return 1;
  }
  return all.good() ? 0 : 1;
}
