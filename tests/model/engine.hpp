// engine.hpp: one exploration: its threads as fibers, the decisions that were made, and those that
// are left.
//
// Always true:
//   - One thread runs at a time; another one goes on only at turn(), block() or the end of a
//     thread.
//   - Each decision has a moment, counted from the beginning of the execution; the first
//     alternative costs nothing. Depth-first: the last decision that has an alternative left takes
//     it.
//   - A thread gives way only before accesses that some other thread's access may conflict with.
//     The places in the sources where such accesses stand are learnt; when one is met that was not
//     known, the exploration begins anew, knowing it. To give way elsewhere changes nothing.
//
// Comes from: checker.cpp.   Goes to: memory.hpp, arch.
#pragma once

#include <array>
#include <bitset>
#include <map>
#include <string>
#include <vector>

#include "arch/context.hpp"
#include "arch/sanitizers.hpp"
#include "tests/model/checker.hpp"
#include "tests/model/memory.hpp"

namespace coir::check {

inline constexpr unsigned spots_max = 256;
inline constexpr unsigned sites_max = 1024;

enum class access : std::uint8_t { load, store, change, compare, compare_failed, fence };

/// An order at one place of the sources.
struct order_site {
  unsigned spot = 0;
  access what = access::load;
  std::memory_order order = std::memory_order_relaxed;
  auto operator<=>(const order_site&) const = default;
};

class engine {
 public:
  engine(unsigned threads, const maker& make, const bounds& limits);
  ~engine();
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;

  verdict explore();
  verdict replay(const std::string& schedule);

  // -- on a thread
  void turn(const void* at, spot where);
  std::uint64_t load(const void* at, std::uint64_t newest, std::memory_order order, spot where);
  void store(const void* at, std::uint64_t newest, std::uint64_t value, std::memory_order order,
             spot where);
  std::uint64_t change_of(const void* at, std::uint64_t& newest, change make, std::uint64_t operand,
                          std::memory_order order, spot where);
  bool compare(const void* at, std::uint64_t& newest, std::uint64_t& expected,
               std::uint64_t desired, bool weak, std::memory_order success,
               std::memory_order failure, spot where);
  void fence(std::memory_order order, spot where);
  void death(const void* at);
  void plain(const void* at, bool writes, spot where);
  /// Nothing can be done until `may_go_on` or, with a deadline, until somebody thinks it is over.
  void block(const char* where, std::function<bool()> may_go_on);
  void pause();
  unsigned decide(unsigned count, char kind);
  [[noreturn]] void fail(const std::string& why);
  /// The same when no thread runs: while the world is judged.
  void condemn(const std::string& why);

  unsigned self() const noexcept { return current_; }
  void* sleepers = nullptr;  // outside.cpp's own: who sleeps on a futex in this execution
  memory& words() noexcept { return memory_; }

  /// The order that is weakened, and to what.
  static inline order_site weakened{spots_max, access::load, std::memory_order_relaxed};
  static inline std::memory_order weakened_to = std::memory_order_relaxed;
  static std::string name_of(const order_site& site);
  const std::map<order_site, bool>& orders() const noexcept { return orders_; }

 private:
  struct fiber {
    arch::context place;
    [[no_unique_address]] arch::switch_notes notes;
    std::byte* stack = nullptr;
    bool fresh = true;  // not entered since it was prepared
    bool done = true;
    const char* waits = nullptr;
    bool pauses = false;  // may go on as well when nobody else can
    std::function<bool()> may_go_on;
  };
  struct decision {
    std::uint16_t chosen, count;
  };
  struct made {
    unsigned moment;
    char kind;
    unsigned value;
  };
  /// Who touched a word in this execution, and where in the sources.
  struct sharing {
    unsigned threads = 0;
    bool written = false;
    std::bitset<sites_max> sites;
  };

  static void entry(void* argument) noexcept;
  /// A place in the sources, and what of the world it touches, as far as that can be told.
  struct site {
    unsigned spot = spots_max;
    std::size_t offset = 0;
    bool operator==(const site&) const = default;
  };

  static unsigned spot_index(spot where);
  unsigned site_index(const void* at, spot where);
  void prepare(unsigned thread);
  void hop(fiber& from, fiber& to) noexcept;
  void go(unsigned thread) noexcept;
  void ended() noexcept;
  void pick_another();
  bool runnable(unsigned thread) const;
  void run_once();
  void forget_threads();
  bool next_trail() noexcept;
  void touch(unsigned word, const void* at, spot where, bool writes);
  std::memory_order effective(unsigned spot, access what, std::memory_order order);
  unsigned stale_choices(unsigned word, std::memory_order order) const noexcept;
  void log(const char* act, spot where, std::uint64_t value, std::memory_order order);
  void fill(verdict& v) const;

  const unsigned threads_;
  const maker& make_;
  const bounds limits_;
  memory memory_;
  std::unique_ptr<world> world_;
  std::array<fiber, threads_max> fibers_;
  fiber main_;
  unsigned current_ = 0;

  std::vector<decision> trail_;
  std::size_t at_ = 0;
  unsigned moment_ = 0;
  unsigned steps_ = 0;
  unsigned preempted_ = 0;
  unsigned spurious_ = 0;
  std::array<std::array<std::uint8_t, words_max>, threads_max> stale_ = {};
  std::array<unsigned, threads_max> writes_ = {};
  std::vector<made> made_;
  std::array<sharing, words_max> sharing_;
  std::array<site, sites_max> sites_;
  unsigned sites_used_ = 0;
  std::size_t world_bytes_ = 0;
  std::bitset<sites_max> shared_;
  std::bitset<sites_max> learnt_;
  std::map<order_site, bool> orders_;
  std::array<std::uint32_t, spots_max> orders_seen_ = {};

  bool replaying_ = false;
  std::vector<made> plan_;
  bool failed_ = false;
  std::string why_;
  std::string trace_;
};

/// The exploration that runs; null outside of one.
extern engine* running;

const char* name_of(std::memory_order order) noexcept;

}  // namespace coir::check
