// buffers.hpp: the buffers of one worker that operations take when their data is there, so that who
// waits for data holds none.
//
// Always true:
//   - They are of one size and lie one behind the other; each is either free or out, and out from
//     the completion that brought it until it is given back, once.
//   - Where the backend takes them (lend_buffers) it picks which; else take() does, for an
//     operation whose data is known to be there.
//   - Who found none is fed as soon as one is given back; who has nothing else comes first.
//   - While such a one starves, what others keep for fibers that do not come for it is moved aside,
//     into memory of its own: a stream that nobody reads stops no other.
//   - Owner only, but give_from_afar().
//
// Glossary: a buffer's number is below `count_max` when it is one of the pool, and from there on
// when it lies aside; who holds it sees no difference.
//
// Comes from: lasting, a lease that ends.   Goes to: backend.
#pragma once

#include <memory>
#include <span>

#include "coir/detail/atomic.hpp"
#include "runtime/backend.hpp"
#include "runtime/list.hpp"

namespace coir::detail {

class buffer_pool {
 public:
  static constexpr unsigned count_max = 1u << 15;

  /// Waits for a buffer.
  struct hungry : list_node {
    void (*fed)(hungry& self) noexcept = nullptr;
    bool patient = false;  // it keeps some meanwhile
  };
  /// Keeps buffers that somebody has not come for yet.
  struct keeper_node : list_node {};
  struct keeper : keeper_node {
    /// Moves aside what nobody is about to take.
    void (*clear)(keeper& self) noexcept = nullptr;
  };

  /// `count` is rounded up to a power of two. Null: there is no memory.
  static std::unique_ptr<buffer_pool> make(backend& outside, unsigned count,
                                           unsigned bytes) noexcept;
  ~buffer_pool();
  buffer_pool(const buffer_pool&) = delete;
  buffer_pool& operator=(const buffer_pool&) = delete;

  /// The backend picks a buffer for an entry with IOSQE_BUFFER_SELECT and the group 0.
  bool picked_by_backend() const noexcept { return picked_by_backend_; }
  /// One for an operation that names its buffer; -1: none is free.
  int take() noexcept;
  /// A completion brought this one, which the backend picked. False: it is none that was free.
  bool came(unsigned buffer) noexcept;
  /// It is free again. One that is not out is counted, and nothing happens.
  void give(unsigned buffer) noexcept;
  std::span<std::byte> at(unsigned buffer) const noexcept {
    if (buffer >= count_max) [[unlikely]]
      return aside_[buffer - count_max].bytes;
    return {memory_ + std::size_t{buffer} * bytes_, bytes_};
  }
  /// The first `bytes` of it as a buffer that lies aside: its number, and `buffer` is given back.
  /// `buffer` itself: it lies aside, or there is no memory.
  unsigned move_aside(unsigned buffer, std::size_t bytes) noexcept;

  void wait_for_one(hungry& who, bool patient) noexcept {
    who.patient = patient;
    (patient ? patient_ : hungry_).push_back(who);
  }
  void leave(hungry& who) noexcept { (who.patient ? patient_ : hungry_).erase(who); }
  void keeps_some(keeper& who) noexcept { keepers_.push_back(who); }
  void keeps_none(keeper& who) noexcept { keepers_.erase(who); }
  /// Once in a turn, when whoever had something to take has had its turn.
  void relieve() noexcept {
    no_memory_ = false;
    if (!hungry_.empty()) [[unlikely]]
      clear_some();
  }
  /// There was no memory for what it would have moved: it is to be called again.
  bool no_memory() const noexcept { return no_memory_; }

  /// Any thread. True: the caller tells the owner to take_far().
  bool give_from_afar(unsigned buffer) noexcept;
  void take_far() noexcept;

  unsigned count() const noexcept { return count_; }
  unsigned bytes() const noexcept { return bytes_; }
  unsigned out() const noexcept { return out_count_; }
  unsigned aside() const noexcept { return aside_count_; }
  std::uint64_t refused() const noexcept { return refused_; }

 private:
  /// A place for one that lies aside: free when it has no bytes.
  struct place_aside {
    std::unique_ptr<std::byte[]> memory;
    std::span<std::byte> bytes;
    unsigned next_free = 0;
  };

  buffer_pool() = default;
  static std::size_t whole_bytes(unsigned count, unsigned bytes) noexcept;
  void clear_some() noexcept;
  bool more_places() noexcept;
  void drop_aside(unsigned place) noexcept;
  void feed() noexcept;

  backend* outside_ = nullptr;
  std::byte* memory_ = nullptr;
  unsigned count_ = 0;
  unsigned bytes_ = 0;
  bool picked_by_backend_ = false;
  bool no_memory_ = false;
  unsigned out_count_ = 0;
  unsigned free_count_ = 0;  // of those in free_
  std::uint64_t refused_ = 0;
  std::unique_ptr<bool[]> out_;
  std::unique_ptr<std::uint16_t[]> free_;  // the last given back is the first to be taken
  std::unique_ptr<std::uint16_t[]> far_;   // has room for all, those aside too
  std::unique_ptr<place_aside[]> aside_;
  unsigned places_ = 0;  // of aside_, and how many of them are taken
  unsigned aside_count_ = 0;
  unsigned free_place_ = 0;  // places_: none
  list<hungry> hungry_;
  list<hungry> patient_;
  list<keeper, keeper_node> keepers_;
  atomic<std::uint32_t> far_lock_{0};
  unsigned far_count_ = 0;  // guarded by far_lock_, as what it fills
  unsigned far_room_ = 0;
  bool far_told_ = false;  // the errand is on its way; guarded by far_lock_
};

}  // namespace coir::detail
