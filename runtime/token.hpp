// token.hpp: the name under which an operation is known to the kernel, and the table that finds its
// owner.
//
// Always true:
//   - A token is {slot 24, generation 32, kind 8}, never a pointer: a stale, unknown or forged one
//     is refused by comparison.
//   - It is open from before its submission entry is visible until its last completion; only then
//     is the slot used again, under the next generation. So the wrap of a generation is harmless:
//     no two uses of a slot overlap.
//   - Generation 0 is never given out: a zeroed user_data names nothing.
//
// Comes from: flight.   Goes to: the submission queue and back by the completion.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "runtime/base.hpp"
#include "runtime/counter.hpp"

namespace coir::detail {

/// `descriptor` is an operation whose result is a new descriptor: one that nobody waits for any
/// more has to be closed. The lasting ones are of operations that outlive a park.
enum class token_kind : std::uint8_t {
  operation = 1,
  cancel = 2,
  bell = 3,
  descriptor = 4,
  lasting = 6,
  lasting_descriptor = 7
};

struct token {
  std::uint64_t raw = 0;

  static constexpr token make(std::uint32_t slot, std::uint32_t generation,
                              token_kind kind) noexcept {
    return {std::uint64_t{slot} << 40 | std::uint64_t{generation} << 8 |
            static_cast<std::uint64_t>(kind)};
  }
  constexpr std::uint32_t slot() const noexcept { return static_cast<std::uint32_t>(raw >> 40); }
  constexpr std::uint32_t generation() const noexcept {
    return static_cast<std::uint32_t>(raw >> 8);
  }
  constexpr token_kind kind() const noexcept { return static_cast<token_kind>(raw & 0xff); }
  /// Of what no parked fiber waits for in perform(): one bit, so that its completions pay nothing.
  constexpr bool apart() const noexcept { return (raw & 2) != 0; }
  friend constexpr bool operator==(token, token) = default;
};
static_assert(token::make(0, 1, token_kind::cancel).apart() &&
              token::make(0, 1, token_kind::lasting).apart() &&
              token::make(0, 1, token_kind::lasting_descriptor).apart());
static_assert(!token::make(0, 1, token_kind::operation).apart() &&
              !token::make(0, 1, token_kind::descriptor).apart());
static_assert(sizeof(token) == 8);

/// The open tokens of one worker. Owner only; last in, first out, so a busy slot stays in the
/// cache.
template <class Owner>
class token_table {
 public:
  static constexpr std::uint32_t slots_max = 1u << 24;

  /// Opens a token for `owner`. Raw 0 when 2^24 are open or memory is out.
  token open(Owner& owner, token_kind kind = token_kind::operation) noexcept {
    if (free_ == none && !grow()) return {};
    const std::uint32_t slot = free_;
    entry& e = at(slot);
    free_ = e.next_free;
    e.owner = &owner;
    ++open_;
    return token::make(slot, e.generation, kind);
  }

  /// False when there is no memory for another token and none is open that would come back.
  bool have_room() noexcept { return free_ != none || open_.get() != 0 || grow(); }

  /// The owner of an open token; null for any other.
  Owner* find(token t) noexcept {
    if (t.slot() >= size_) return nullptr;
    entry& e = at(t.slot());
    if (COIR_MUTANT(token_without_generation)) return e.owner;
    return e.generation == t.generation() ? e.owner : nullptr;
  }

  /// After the last completion. The token must be open.
  void close(token t) noexcept {
    COIR_ASSERT(t.slot() < size_);
    entry& e = at(t.slot());
    COIR_ASSERT(e.generation == t.generation() && e.owner != nullptr);
    e.owner = nullptr;
    if (++e.generation == 0 && !COIR_MUTANT(generation_zero)) e.generation = 1;
    e.next_free = free_;
    free_ = t.slot();
    --open_;
  }

  std::uint64_t open_count() const noexcept { return open_.get(); }  // any thread

  /// Every owner of an open token. `visit` must not open or close one.
  template <class Visit>
  void for_each(Visit visit) {
    // The lowest slots are taken first, so where few are open few are looked at.
    std::uint64_t left = open_.get();
    for (std::uint32_t i = 0; left != 0 && i < size_; ++i) {
      if (at(i).owner == nullptr) continue;
      --left;
      visit(*at(i).owner);
    }
  }

 private:
  struct entry {
    Owner* owner;
    std::uint32_t generation;
    std::uint32_t next_free;
  };
  static_assert(sizeof(entry) == 16);
  static constexpr std::uint32_t chunk_entries = 4096;
  static constexpr std::uint32_t none = UINT32_MAX;

  entry& at(std::uint32_t slot) noexcept {
    return chunks_[slot / chunk_entries][slot % chunk_entries];
  }

  bool grow() noexcept {
    if (size_ == slots_max) return false;
    auto chunk = std::unique_ptr<entry[]>(new (std::nothrow) entry[chunk_entries]);
    if (chunk == nullptr) return false;
    for (std::uint32_t i = 0; i < chunk_entries; ++i)
      chunk[i] = {nullptr, 1, i + 1 < chunk_entries ? size_ + i + 1 : none};
    chunks_[size_ / chunk_entries] = std::move(chunk);
    free_ = size_;
    size_ += chunk_entries;
    return true;
  }

  std::array<std::unique_ptr<entry[]>, slots_max / chunk_entries> chunks_ = {};
  std::uint32_t size_ = 0;
  std::uint32_t free_ = none;
  counter open_;
};

}  // namespace coir::detail
