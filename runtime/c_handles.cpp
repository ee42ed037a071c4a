// c_handles.cpp: the table behind coir_fiber: 16 shards, each a lock, a list that grows, and its
// free entries.
//
// Always true:
//   - A worker takes entries of its own shard, so spawns of two workers never wait for each other.
//   - Free entries are reused last in, first out: no allocation once a program's peak is reached.
//
// Comes from: c_handles.hpp.   Goes to: coir/detail/task.hpp (release).
#include "runtime/c_handles.hpp"

#include <pthread.h>

#include <cerrno>
#include <climits>
#include <new>

#include "coir/fiber.hpp"

namespace coir::detail {

c_handles* c_handles::current_ = nullptr;
std::uint32_t c_handles::epoch_ = 0;

c_handles& c_handles::here() {
  static const bool made = [] {
    current_ = new c_handles(nullptr);
    ::pthread_atfork(nullptr, nullptr, &begin_child);
    return true;
  }();
  static_cast<void>(made);
  return *current_;
}

namespace {
/// When the library is loaded: a fork while another thread begins would leave the child a beginning
/// that nobody ends.
[[gnu::constructor]] void begin() { (void)c_handles::here(); }
}  // namespace

// Runs in the child of fork, which has one thread. The parent's table may have been in the middle
// of a change, so nothing of it is read again.
void c_handles::begin_child() noexcept {
  current_ = new c_handles(current_);
  ++epoch_;
}

// Not a secret, only unlikely to be hit by accident: another process or another build of the table
// answers differently, and a handle whose words were mixed up is told from one that is merely old.
std::uint64_t c_handles::check_of(const coir_fiber& handle) noexcept {
  std::uint64_t x = handle.words[0] ^ reinterpret_cast<std::uintptr_t>(&current_);
  for (const std::uint64_t word : {handle.words[1], std::uint64_t{0x636f6972}}) {
    x = (x ^ (x >> 32)) * 0x9e3779b97f4a7c15u;
    x ^= word;
  }
  return (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9u;
}

// Plain threads share the last shard; workers beyond 15 share theirs with a lower one.
std::uint32_t c_handles::shard_of_caller() noexcept {
  const unsigned worker = this_fiber::worker();
  return worker == UINT_MAX ? shards_count - 1 : worker % (shards_count - 1);
}

coir_fiber c_handles::add(task& fiber, coir_runtime* owner) {
  const std::uint32_t which = shard_of_caller();
  shard& s = shards_[which];
  const std::lock_guard held(s.lock);
  std::uint32_t index = s.free;
  if (index == none) {
    if (s.entries.size() >= none / shards_count) throw std::bad_alloc();
    index = static_cast<std::uint32_t>(s.entries.size());
    s.entries.emplace_back();
  } else {
    s.free = s.entries[index].next_free;
  }
  entry& e = s.entries[index];
  COIR_ASSERT(!e.open && e.users == 0 && e.fiber == nullptr);
  e.fiber = &fiber;
  e.owner = owner;
  e.runtime = id_of(fiber).runtime;
  e.open = true;

  coir_fiber handle;
  handle.words[0] = std::uint64_t{index} * shards_count + which;
  handle.words[0] |= std::uint64_t{epoch_} << 32;
  handle.words[1] = e.generation;
  handle.words[2] = check_of(handle);
  return handle;
}

// The caller holds no lock; on 0 it holds s->lock.
int c_handles::find(const coir_fiber& handle, shard*& s, entry*& e) noexcept {
  if (handle.words[2] != check_of(handle)) return EINVAL;
  if (handle.words[0] >> 32 != epoch_) return EOWNERDEAD;
  const auto slot = static_cast<std::uint32_t>(handle.words[0]);
  s = &shards_[slot % shards_count];
  s->lock.lock();
  const std::uint32_t index = slot / shards_count;
  if (index < s->entries.size()) {
    e = &s->entries[index];
    if (e->open && (e->generation == handle.words[1] || COIR_MUTANT(c_handle_any_generation)))
      return 0;
  }
  s->lock.unlock();
  return ESTALE;
}

// The entry can be taken again. The caller holds the lock.
void c_handles::close(shard& s, entry& e, std::uint32_t slot) noexcept {
  COIR_ASSERT(!e.open && e.users == 0);
  e.fiber = nullptr;
  e.owner = nullptr;
  ++e.generation;
  e.next_free = s.free;
  s.free = slot / shards_count;
}

void c_handles::withdraw(const coir_fiber& handle) noexcept {
  shard* s;
  entry* e;
  const int refusal = find(handle, s, e);
  COIR_ASSERT(refusal == 0);
  e->open = false;
  close(*s, *e, static_cast<std::uint32_t>(handle.words[0]));
  s->lock.unlock();
}

c_handles::visit::visit(c_handles& table, const coir_fiber& handle) noexcept
    : slot_(static_cast<std::uint32_t>(handle.words[0])) {
  refusal_ = table.find(handle, shard_, entry_);
  if (refusal_ != 0) return;
  ++entry_->users;
  shard_->lock.unlock();
}

void c_handles::visit::use_up() noexcept {
  const std::lock_guard held(shard_->lock);
  entry_->open = false;
}

c_handles::visit::~visit() {
  if (refusal_ != 0) return;
  const std::lock_guard held(shard_->lock);
  COIR_ASSERT(entry_->users > 0);
  if (--entry_->users > 0 || entry_->open) return;
  // Under the lock, so that forget() cannot let the runtime's memory go before the record is back
  // in it.
  release(*entry_->fiber);
  close(*shard_, *entry_, slot_);
  shard_->left.notify_all();
}

bool c_handles::forget(std::uint32_t runtime, bool wait) noexcept {
  bool alone = true;
  for (std::uint32_t which = 0; which < shards_count; ++which) {
    shard& s = shards_[which];
    std::unique_lock held(s.lock);
    for (std::uint32_t index = 0; index < s.entries.size(); ++index) {
      entry& e = s.entries[index];
      if (e.fiber == nullptr || e.runtime != runtime) continue;
      e.open = false;
      const std::uint64_t generation = e.generation;
      if (e.users == 0) {
        release(*e.fiber);
        close(s, e, index * shards_count + which);
      } else if (wait) {
        s.left.wait(held, [&] { return e.generation != generation; });
      } else {
        alone = alone && e.owner == nullptr;
      }
    }
  }
  return alone;
}

}  // namespace coir::detail
