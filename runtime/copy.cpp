// copy.cpp: what copies and tees need that depends on no type.
//
// Always true:
//   - Memory that there is not is an answer, and no exception.
//   - A position is only moved on descriptors that have one, and never where a handler has answered
//     in place of the kernel: the number may be nobody's then.
//
// Comes from: coir/copy.hpp, coir/tee.hpp.   Goes to: io, lseek(2).
#include "coir/copy.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <new>

#include "coir/effects.hpp"
#include "coir/tee.hpp"
#include "runtime/perform.hpp"

namespace coir::io {
namespace {

bool has_position(int fd) noexcept {
  // Of a pipe lseek says so; of some devices it answers 0 and does nothing.
  struct stat there {};
  if (::fstat(fd, &there) != 0) return false;
  return S_ISREG(there.st_mode) || S_ISBLK(there.st_mode) || COIR_MUTANT(copy_seeks_anything);
}

}  // namespace

result<std::size_t> descriptor::read_some(std::span<std::byte> into, deadline until) {
  return read_told(fd_, into, until, by_kernel_);
}

result<std::size_t> descriptor::write_some(std::span<const std::byte> from, deadline until) {
  // As in write_all: a short write through the ring may leave the position where it was.
  const off_t begin = has_position(fd_) ? ::lseek(fd_, 0, SEEK_CUR) : -1;
  const auto n = write_told(fd_, from, until, by_kernel_);
  if (!n || begin < 0 || !by_kernel_ || *n == from.size() || COIR_MUTANT(short_write_overwritten))
    return n;
  if (::lseek(fd_, 0, SEEK_CUR) == begin) ::lseek(fd_, begin + static_cast<off_t>(*n), SEEK_SET);
  return n;
}

result<> descriptor::seek_back(std::size_t bytes) {
  if (!by_kernel_ || !has_position(fd_)) return fail(std::errc::invalid_seek);
  if (::lseek(fd_, -static_cast<off_t>(bytes), SEEK_CUR) < 0)
    return fail(std::error_code(errno, std::generic_category()));
  return {};
}

namespace copying {

std::unique_ptr<std::byte[]> make_copy_buffer() noexcept {
  return std::unique_ptr<std::byte[]>(new (std::nothrow) std::byte[copy_buffer::own_bytes]);
}

std::error_code why_not_again(deadline until) noexcept {
  if (this_fiber::cancelled()) return std::make_error_code(std::errc::operation_canceled);
  if (until != never && clock::now() >= until) return std::make_error_code(std::errc::timed_out);
  return {};
}

std::error_code keep(std::vector<std::byte>& owed, std::span<const std::byte> more) noexcept {
  if (COIR_MUTANT(tee_forgets_owed)) return {};
  try {
    owed.insert(owed.end(), more.begin(), more.end());
  } catch (const std::bad_alloc&) {
    return std::make_error_code(std::errc::not_enough_memory);
  }
  return {};
}

void forget(std::vector<std::byte>& owed, std::size_t first) noexcept {
  owed.erase(owed.begin(), owed.begin() + static_cast<std::ptrdiff_t>(first));
}

}  // namespace copying
}  // namespace coir::io
