// attempt_files.cpp: what an entry asks of a file or of its name, done by a thread that may wait
// for the disk.
//
// Always true:
//   - Fields are read as the kernel's ring reads them for each opcode.
//
// Comes from: attempt.cpp.   Goes to: the kernel.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "runtime/asking.hpp"

namespace coir::detail {
namespace {

const char* path(std::uint64_t address) noexcept { return at<const char>(address); }

std::int32_t do_sync(const io_uring_sqe& s) noexcept {
  const bool data_only = (s.fsync_flags & IORING_FSYNC_DATASYNC) != 0;
  return ask([&] { return data_only ? ::fdatasync(s.fd) : ::fsync(s.fd); });
}

std::int32_t do_openat2(const io_uring_sqe& s) noexcept {
  return ask([&] {
    return ::syscall(SYS_openat2, s.fd, path(s.addr), at<void>(s.addr2), std::size_t{s.len});
  });
}

std::int32_t do_statx(const io_uring_sqe& s) noexcept {
  return ask([&] {
    return ::statx(s.fd, path(s.addr), static_cast<int>(s.statx_flags), s.len,
                   at<struct ::statx>(s.addr2));
  });
}

/// What works on names.
std::int32_t do_name(const io_uring_sqe& s) noexcept {
  const int to = static_cast<int>(s.len);
  switch (s.opcode) {
    case IORING_OP_RENAMEAT:
      return ask(
          [&] { return ::renameat2(s.fd, path(s.addr), to, path(s.addr2), s.rename_flags); });
    case IORING_OP_UNLINKAT:
      return ask([&] { return ::unlinkat(s.fd, path(s.addr), static_cast<int>(s.unlink_flags)); });
    case IORING_OP_MKDIRAT:
      return ask([&] { return ::mkdirat(s.fd, path(s.addr), s.len); });
    case IORING_OP_SYMLINKAT:
      return ask([&] { return ::symlinkat(path(s.addr), s.fd, path(s.addr2)); });
    default:
      return ask([&] {
        return ::linkat(s.fd, path(s.addr), to, path(s.addr2), static_cast<int>(s.hardlink_flags));
      });
  }
}

}  // namespace

std::int32_t do_on_file(const io_uring_sqe& s) noexcept {
  switch (s.opcode) {
    case IORING_OP_FSYNC:
      return do_sync(s);
    case IORING_OP_SYNC_FILE_RANGE:
      return ask([&] {
        return ::sync_file_range(s.fd, static_cast<off_t>(s.off), s.len, s.sync_range_flags);
      });
    case IORING_OP_OPENAT:
      return ask(
          [&] { return ::openat(s.fd, path(s.addr), static_cast<int>(s.open_flags), s.len); });
    case IORING_OP_OPENAT2:
      return do_openat2(s);
    case IORING_OP_STATX:
      return do_statx(s);
    case IORING_OP_FALLOCATE:
      return ask([&] {
        return ::fallocate(s.fd, static_cast<int>(s.len), static_cast<off_t>(s.off),
                           static_cast<off_t>(s.addr));
      });
    case IORING_OP_FADVISE:
      return -::posix_fadvise(s.fd, static_cast<off_t>(s.off), s.len,
                              static_cast<int>(s.fadvise_advice));
    case IORING_OP_MADVISE:
      return ask(
          [&] { return ::madvise(at<void>(s.addr), s.len, static_cast<int>(s.fadvise_advice)); });
    case op_ftruncate:
      return ask([&] { return ::ftruncate(s.fd, static_cast<off_t>(s.off)); });
    default:
      return do_name(s);
  }
}

}  // namespace coir::detail
