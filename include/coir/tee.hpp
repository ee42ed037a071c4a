// tee.hpp: what is read or written, to one more sink beside.
//
// Always true:
//   - The count is that of the first side (the source of a tee_reader, the primary sink of a
//     tee_writer), also when the other one fails.
//   - What the other side could not take yet is kept, and goes there before anything new moves: it
//     never gets a hole.
//
// Comes from: the user, coir/copy.hpp.   Goes to: coir/copy.hpp.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "coir/copy.hpp"

namespace coir::io {

namespace copying {

/// Appends; not_enough_memory when it cannot.
COIR_API std::error_code keep(std::vector<std::byte>& owed,
                              std::span<const std::byte> more) noexcept;
COIR_API void forget(std::vector<std::byte>& owed, std::size_t first) noexcept;

/// The sink beside, and what it is owed.
template <class Side, class Policy>
class beside {
 public:
  beside(Side& side, Policy policy, copy_step step) : side_(side), policy_(policy), step_(step) {}

  /// What was owed; ok when that is nothing any more.
  moved settle(deadline until) {
    if (owed_.empty()) return {};
    std::span<const std::byte> left = owed_;
    const moved out = write_out(side_, left, step_, policy_, until);
    taken_ += out.count;
    forget(owed_, owed_.size() - left.size());
    return {0, out.how, out.error};
  }
  /// `bytes`, after settle() was ok.
  moved give(std::span<const std::byte> bytes, deadline until) {
    const moved out = write_out(side_, bytes, step_, policy_, until);
    taken_ += out.count;
    if (const auto lost = keep(owed_, bytes)) return {0, outcome::failure, lost};
    return {0, out.how, out.error};
  }
  Policy& policy() noexcept { return policy_; }
  std::uint64_t taken() const noexcept { return taken_; }
  std::span<const std::byte> owed() const noexcept { return owed_; }

 private:
  Side& side_;
  Policy policy_;
  copy_step step_;
  std::uint64_t taken_ = 0;
  std::vector<std::byte> owed_;
};

/// Asks until there are bytes, or an answer that the policy does not pass over.
template <class Policy, class Ask>
moved ask_again(copy_step step, Policy& policy, deadline until, Ask ask) {
  for (;;) {
    const moved m = ask();
    if (m.count != 0 || !is_semantic(m.how) || policy(step, m.how) == decision::stop) return m;
    if (const auto ended = why_not_again(until)) return {0, outcome::failure, ended};
  }
}

/// The count of the first side, and the worse news of the two.
inline moved both(const moved& first, const moved& other) noexcept {
  const bool first_is_told = first.how == outcome::failure || other.how == outcome::ok;
  return first_is_told ? first : moved(first.count, other.how, other.error);
}

}  // namespace copying

/// A source: gives what `from` gives, and writes it to `side` too. Keeps references to both.
template <source From, sink Side, copy_policy Policy = return_policy>
class tee_reader {
 public:
  tee_reader(From& from, Side& side, Policy policy = {})
      : from_(from), side_(side, policy, copy_step::tee_reader_side) {}
  /// The count is what `from` gave, all of which lies in `into`, whatever the side said.
  [[nodiscard]] moved read_some(std::span<std::byte> into, deadline until = never) {
    if (const moved before = side_.settle(until); before.how != outcome::ok) return before;
    const moved in = copying::ask_again(copy_step::tee_reader_read, side_.policy(), until,
                                        [&] { return copying::ask_source(from_, into, until); });
    if (in.count > into.size()) return in;
    return copying::both(in, side_.give(into.first(in.count), until));
  }
  /// Bytes that the side has taken, and those that it is owed.
  std::uint64_t side_taken() const noexcept { return side_.taken(); }
  std::span<const std::byte> side_owed() const noexcept { return side_.owed(); }

 private:
  From& from_;
  copying::beside<Side, Policy> side_;
};

/// A sink: what `primary` takes is written to `side` too. Keeps references to both.
template <sink Primary, sink Side, copy_policy Policy = return_policy>
class tee_writer {
 public:
  tee_writer(Primary& primary, Side& side, Policy policy = {})
      : primary_(primary), side_(side, policy, copy_step::tee_writer_side) {}
  /// The count is what `primary` took, whatever the side said.
  [[nodiscard]] moved write_some(std::span<const std::byte> from, deadline until = never) {
    if (const moved before = side_.settle(until); before.how != outcome::ok) return before;
    const moved out = copying::ask_again(copy_step::tee_writer_primary, side_.policy(), until,
                                         [&] { return copying::ask_sink(primary_, from, until); });
    if (out.count > from.size()) return out;
    return copying::both(out, side_.give(from.first(out.count), until));
  }
  std::uint64_t side_taken() const noexcept { return side_.taken(); }
  std::span<const std::byte> side_owed() const noexcept { return side_.owed(); }

 private:
  Primary& primary_;
  copying::beside<Side, Policy> side_;
};

}  // namespace coir::io
