// machine.cpp: reads the lists of processors that the kernel keeps in /sys, and asks it to keep a
// thread and its memory in one place.
//
// Comes from: machine.hpp.   Goes to: the kernel.
#include "runtime/machine.hpp"

#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

#include "runtime/base.hpp"

namespace coir::detail {
namespace {

/// A list as in "0-3,8"; empty when there is none.
std::vector<unsigned> list_in(const std::string& file) {
  std::vector<unsigned> numbers;
  std::ifstream in(file);
  unsigned first = 0;
  while (in >> first) {
    unsigned last = first;
    if (in.peek() == '-') {
      in.get();
      in >> last;
    }
    for (unsigned n = first; n <= last; ++n) numbers.push_back(n);
    in.get();  // the comma
  }
  return numbers;
}

/// The kernel writes them in order.
unsigned least_of(const std::string& file) {
  const std::vector<unsigned> numbers = list_in(file);
  return numbers.empty() ? processor::nothing : numbers.front();
}

/// The name of the last-level cache of a processor: the least processor that shares it.
unsigned last_cache(const std::string& of_processor) {
  unsigned cache = processor::nothing;
  int highest = 0;
  for (unsigned i = 0; i < 8; ++i) {
    const std::string index = of_processor + "/cache/index" + std::to_string(i);
    std::ifstream in(index + "/level");
    int level = 0;
    if (!(in >> level)) break;
    if (level < highest) continue;
    highest = level;
    cache = least_of(index + "/shared_cpu_list");
  }
  return cache;
}

int result_of(long answer) noexcept { return answer == 0 ? 0 : errno; }

/// Masks are made of these: one has a bit for 1,024 processors.
constexpr std::size_t mask_parts_most = processors_most / CPU_SETSIZE;

}  // namespace

distance between(const processor& a, const processor& b) noexcept {
  const auto same = [](unsigned x, unsigned y) { return x == y && x != processor::nothing; };
  if (a.number == b.number || same(a.core, b.core)) return distance::sibling;
  if (same(a.cache, b.cache)) return distance::cluster;
  return same(a.node, b.node) ? distance::node : distance::any;
}

machine machine::read(const std::string& root, const std::vector<unsigned>& numbers) {
  std::vector<processor> all;
  for (const unsigned number : numbers) {
    const std::string one = root + "/cpu/cpu" + std::to_string(number);
    all.push_back({number, least_of(one + "/topology/thread_siblings_list"), last_cache(one)});
  }
  for (const unsigned node : list_in(root + "/node/online"))
    for (const unsigned n : list_in(root + "/node/node" + std::to_string(node) + "/cpulist"))
      for (processor& each : all)
        if (each.number == n) each.node = node;
  return machine(std::move(all));
}

distance machine::widest() const noexcept {
  auto most = distance::sibling;
  for (const processor& a : all_)
    for (const processor& b : all_) most = std::max(most, between(a, b));
  return all_.empty() ? distance::any : most;
}

bool machine::knows_nodes() const noexcept {
  return std::ranges::none_of(
      all_, [](const processor& each) { return each.node == processor::nothing; });
}

int mask_of_process(std::size_t bytes, cpu_set_t* into) noexcept {
  return result_of(::sched_getaffinity(0, bytes, into));
}

result<std::vector<unsigned>> allowed_processors(mask_call ask) {
  // The kernel answers EINVAL to a mask that is too small for every processor it thinks possible,
  // however few there are.
  const std::size_t most = COIR_MUTANT(mask_of_one_size) ? 1 : mask_parts_most;
  for (std::size_t parts = 1;; parts *= 2) {
    std::vector<cpu_set_t> mask(parts);
    const std::size_t bytes = parts * sizeof(cpu_set_t);
    const int why = ask(bytes, mask.data());
    if (why == EINVAL && parts < most) continue;
    if (why != 0) return fail(std::error_code(why, std::generic_category()));
    std::vector<unsigned> allowed;
    for (unsigned i = 0; i < parts * CPU_SETSIZE; ++i)
      if (CPU_ISSET_S(i, bytes, mask.data())) allowed.push_back(i);
    return allowed;
  }
}

thread_setting::thread_setting() noexcept
    : known_(mask_of_process(sizeof mask_, mask_.data()) == 0),
      slack_ns_(::prctl(PR_GET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL)) {
  ::pthread_sigmask(SIG_SETMASK, nullptr, &signals_);
}

void thread_setting::hear_signals() const noexcept {
  ::pthread_sigmask(SIG_SETMASK, &signals_, nullptr);
}

void thread_setting::run_there() const noexcept {
  if (known_) ::pthread_setaffinity_np(::pthread_self(), sizeof mask_, mask_.data());
}

void thread_setting::sleep_as_exactly() const noexcept {
  if (slack_ns_ > 0)
    ::prctl(PR_SET_TIMERSLACK, static_cast<unsigned long>(slack_ns_), 0UL, 0UL, 0UL);
}

prefers_node::prefers_node(unsigned node) noexcept {
  node_set nodes{};
  if (node >= node_bits) return;
  refusal_ = result_of(
      ::syscall(SYS_get_mempolicy, &mode_before_, nodes_before_.data(), node_bits, nullptr, 0));
  if (refusal_ != 0) return;
  constexpr unsigned word_bits = 8 * sizeof nodes[0];
  nodes[node / word_bits] = 1ul << node % word_bits;
  refusal_ = result_of(::syscall(SYS_set_mempolicy, MPOL_PREFERRED, nodes.data(), node_bits));
  set_ = refusal_ == 0;
}

prefers_node::~prefers_node() {
  if (set_) (void)::syscall(SYS_set_mempolicy, mode_before_, nodes_before_.data(), node_bits);
}

int prefer_own_node() noexcept {
  return result_of(::syscall(SYS_set_mempolicy, MPOL_LOCAL, nullptr, 0));
}

int pin_to(const processor& one) noexcept {
  std::array<cpu_set_t, mask_parts_most> mask{};
  if (one.number >= processors_most) return EINVAL;
  CPU_SET_S(one.number, sizeof mask, mask.data());
  return ::pthread_setaffinity_np(::pthread_self(), sizeof mask, mask.data());
}

}  // namespace coir::detail
