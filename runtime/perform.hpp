// perform.hpp: one effect from the inside: fill, start, park, and what the result means.
//
// Always true:
//   - The entry, and all it points to, stay on the performer's stack until the last completion.
//   - EINTR and EAGAIN are answered here: the first is tried again, the second waits for readiness
//     first, or where nothing tells of that (a connect to a full backlog) for a pause. All keep the
//     deadline.
//   - A cancelled fiber performs nothing; what was started before and succeeded is delivered.
//
// Comes from: coir::perform, io, net.   Goes to: flight.
#pragma once

#include <cstddef>
#include <span>

#include "runtime/waiting.hpp"

namespace coir::io {
class unique_fd;
/// io::read and io::write, which tell besides whether it was the system that answered, and no
/// handler.
result<std::size_t> read_told(int fd, std::span<std::byte> into, deadline until, bool& by_kernel);
result<std::size_t> write_told(int fd, std::span<const std::byte> from, deadline until,
                               bool& by_kernel);
}  // namespace coir::io

namespace coir::detail {

/// Performs the entry on the calling fiber's worker. Returns res of the last completion, a negative
/// errno, or -(io_own_base + errc). -EBADF when the entry's descriptor is no longer that of
/// `owner`.
std::int32_t perform_entry(const io_uring_sqe& entry, std::int64_t until_ns,
                           const io::unique_fd* owner = nullptr) noexcept;

/// The same for a later part of one call that began when the number was of that era: -EBADF when it
/// was closed since.
std::int32_t perform_part(const io_uring_sqe& entry, std::int64_t until_ns,
                          std::uint64_t era) noexcept;

/// The same, whether or not the fiber is cancelled: for what must happen once it was begun.
std::int32_t perform_to_the_end(const io_uring_sqe& entry,
                                std::int64_t until_ns = never_ns) noexcept;

/// Marks this worker as a user of the descriptor. May yield. False: it is being closed.
bool enter_for_the_first_time(worker& here, int fd) noexcept;
inline bool enter_descriptor(worker& here, int fd) noexcept {
  const std::uint32_t word = *here.operations().fd_word(fd);
  if ((word & (fd_counts::marked | fd_counts::closing)) == fd_counts::marked) [[likely]]
    return true;
  return enter_for_the_first_time(here, fd);
}
/// Whose number it is, for a call that began just now and enters later. Another one after each
/// close.
std::uint64_t era_of(worker& here, int fd) noexcept;
/// The same as enter_descriptor, unless the number was closed since then; false, too, for a number
/// that the process cannot have.
bool enter_descriptor_of(worker& here, int fd, std::uint64_t era) noexcept;
/// What the kernel wrote for `entry`, which was answered with `res` >= 0, is told to Memcheck.
void note_answer(const io_uring_sqe& entry, std::int32_t res) noexcept;
/// MSG_DONTWAIT of the caller: EAGAIN is the answer that was asked for.
bool asked_not_to_wait(const io_uring_sqe& entry) noexcept;

/// It would complete more than once, or take a buffer of its worker's. Both are for streams, which
/// ask for them themselves; anybody else would lose what came before the last completion.
bool asks_for_many(const io_uring_sqe& entry) noexcept;

/// Waits until no worker has an operation on `fd`, then closes it. 0 or a negative errno. Fibers
/// park, threads block.
int close_everywhere(runtime_core& core, int fd) noexcept;
/// The same for a plain thread, for every runtime of the process.
int close_from_thread(int fd) noexcept;

}  // namespace coir::detail
