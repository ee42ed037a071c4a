// c_handles.hpp: what a coir_fiber stands for. C copies handles, keeps them too long and makes them
// up, so a handle is a number that is looked up here, never a pointer that is followed.
//
// Always true:
//   - A handle names one entry and one generation of it. Generations have 64 bits: none returns.
//   - An entry is open from the spawn until somebody uses it up (join, detach, end of the runtime).
//     Who entered before may stay: the fiber is given back when the last of them has left.
//   - A lock here is held for a few instructions, never across a park or a call of the user's code.
//   - The child of a fork begins with an empty table and the next epoch: locks that the parent's
//     threads held at that moment do not matter.
//
// Comes from: c_api.cpp.   Goes to: coir/detail/task.hpp.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>

#include "coir.h"
#include "coir/detail/task.hpp"
#include "runtime/base.hpp"

namespace coir::detail {

class c_handles {
  struct entry {
    task* fiber = nullptr;
    coir_runtime* owner = nullptr;
    std::uint64_t generation = 1;
    std::uint32_t runtime = 0;  // serial of the fiber's runtime
    std::uint32_t users = 0;    // visits; more than 0 keeps `fiber` from being given back
    std::uint32_t next_free = none;
    bool open = false;
  };
  struct alignas(cache_line_bytes) shard {
    std::mutex lock;
    std::condition_variable left;  // told when a used-up entry has lost its last user
    std::deque<entry> entries;     // grows only; references stay good
    std::uint32_t free = none;
  };

 public:
  /// One use of a handle by one caller: while it lasts, the fiber's record cannot be given back.
  class visit {
   public:
    visit(c_handles& table, const coir_fiber& handle) noexcept;
    ~visit();
    visit(const visit&) = delete;
    visit& operator=(const visit&) = delete;

    /// 0, or why the handle names nothing: EINVAL (made up), ESTALE (used up), EOWNERDEAD (of the
    /// parent process). The other calls need 0.
    int refusal() const noexcept { return refusal_; }
    task& fiber() const noexcept { return *entry_->fiber; }
    std::uint32_t runtime() const noexcept { return entry_->runtime; }
    /// Whose coir_spawn_on made the fiber; null for coir_spawn.
    coir_runtime* owner() const noexcept { return entry_->owner; }
    /// Nobody may enter from now on. Those who are inside may do it too: twice is once.
    void use_up() noexcept;

   private:
    shard* shard_ = nullptr;
    entry* entry_ = nullptr;
    std::uint32_t slot_ = 0;
    int refusal_ = 0;
  };

  /// The table of this process; made on first use and never destroyed, because fibers may outlive
  /// main().
  static c_handles& here();

  /// Gives `fiber`, whose right the caller holds, a handle. Throws std::bad_alloc, then nothing
  /// happened.
  coir_fiber add(task& fiber, coir_runtime* owner);
  /// Takes a handle back that nobody has seen: the spawn was refused and the fiber is the caller's
  /// again.
  void withdraw(const coir_fiber& handle) noexcept;
  /// Uses up every handle of the runtime with this serial. `wait`: returns when nobody visits one
  /// of them, so that the runtime's memory may go; its fibers must have ended. False when somebody
  /// still visits one that has an owner.
  bool forget(std::uint32_t runtime, bool wait) noexcept;

  /// How many forks lie between this process and the first one that used a table.
  static std::uint32_t epoch() noexcept { return epoch_; }

 private:
  static constexpr std::uint32_t none = ~std::uint32_t{0};
  static constexpr std::uint32_t shards_count = 16;

  explicit c_handles(c_handles* inherited) noexcept : inherited_(inherited) {}
  static void begin_child() noexcept;
  static std::uint64_t check_of(const coir_fiber& handle) noexcept;
  static std::uint32_t shard_of_caller() noexcept;
  int find(const coir_fiber& handle, shard*& s, entry*& e) noexcept;
  static void close(shard& s, entry& e, std::uint32_t slot) noexcept;

  std::array<shard, shards_count> shards_;
  // The parent's table: not used again, but kept, so that no leak is reported.
  [[maybe_unused]] c_handles* const inherited_;
  static c_handles* current_;
  static std::uint32_t epoch_;
};

}  // namespace coir::detail
