// backend.hpp: the outside of a loop: operations go in with a token, completions come out with it.
//
// Always true:
//   - A backend copies the entry that it takes; what the entry points to stays lent until the
//     token's last completion.
//   - Every token that was taken gets one completion without `more`, cancelled or not.
//   - It gives completions or an error, never both.
//   - One thread uses it; only wake() may be called by any.
//
// Comes from: the user.   Goes to: coir/loop.hpp; runtime/loop_backend.cpp for the kernel's.
#pragma once

#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>

#include "coir/clock.hpp"
#include "coir/options.hpp"
#include "coir/result.hpp"

struct io_uring_sqe;

namespace coir {

/// Names an operation that is under way. Never zero; its owner alone knows what it means.
struct token {
  std::uint64_t raw = 0;
  friend bool operator==(token, token) = default;
};

struct completion {
  token to = {};
  std::int32_t res = 0;     ///< as the kernel says it: a negated errno, or what was done
  std::uint32_t flags = 0;  ///< IORING_CQE_F_...
  /// It is not the last one of its token (IORING_CQE_F_MORE).
  bool more() const noexcept { return (flags & 2) != 0; }
};

class COIR_API backend {
 public:
  backend() = default;
  backend(const backend&) = delete;
  backend& operator=(const backend&) = delete;
  virtual ~backend();

  /// Takes an operation. Errors: operation_would_block (no room before the next reap or wait: it
  /// will be offered again); any other reaches whoever asked for the operation.
  [[nodiscard]] virtual result<> submit(const io_uring_sqe& entry, token name) = 0;
  /// Asks for the end of one; its last completion still comes. Errors: operation_would_block (it
  /// will be asked again); others mean nothing.
  [[nodiscard]] virtual result<> cancel(token name) = 0;
  /// What was taken is with the outside when this returns.
  virtual void hand_over() {}
  /// Up to into.size() of the completions that are there; 0: none. Errors: operation_would_block
  /// says the same as 0, and so does not_enough_memory, where some were lost that were not the last
  /// of their tokens; any other is the end of the backend: nothing that was lent to it is touched
  /// from then on.
  [[nodiscard]] virtual result<std::size_t> reap(std::span<completion> into) = 0;
  /// Sleeps until a completion is there, wake() was called or `until` came. Errors:
  /// operation_would_block; any other is the end, as of reap.
  [[nodiscard]] virtual result<> wait(deadline until) = 0;
  /// Ends a wait(), now or the next one. Any thread.
  virtual void wake() noexcept {}
  virtual clock::time_point now() const;
  /// Is readable (poll(2), epoll) while there may be something to reap; -1: it has none.
  virtual int native_fd() const noexcept { return -1; }
  /// A completion that nobody waits for any more; where it brought a descriptor, this closes it.
  virtual void dispose(const completion& c) noexcept;
  /// When it wants a reap or a wait at the latest, whatever makes its descriptor readable.
  virtual deadline next_deadline() const noexcept { return never; }
  /// What it answers is what the system did with the numbers that it was told. Then io::write_all
  /// and io::copy may set a file right whose position a short write left behind.
  virtual bool is_the_system() const noexcept { return false; }
  /// The number is about to be closed, and no operation of the loop is on it.
  virtual void forget(int) noexcept {}
};

/// The backend of a runtime's worker, for a loop on the calling thread, chosen by options::backend
/// as there. `ring_entries`: 8 to 32768. `memory`: of the completions that wait to be reaped.
/// `fixed_buffers` must outlive it. Errors: those of io_uring_setup(2), io_uring_register(2) or
/// epoll_create1(2) and invalid_argument, with one line to `log` that names the cause. Of the
/// backend itself: submit answers not_enough_memory where there is none for the completions of
/// another operation; so does reap, once, which is not the end of the backend, where there was none
/// for those of an operation that asked for one after the other (they were disposed of).
[[nodiscard]] COIR_API result<std::unique_ptr<backend>> make_backend(
    const options& o = {}, std::pmr::memory_resource* memory = std::pmr::get_default_resource());

}  // namespace coir
