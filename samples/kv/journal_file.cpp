// journal_file.cpp: the journal's file on a real disk: every call is one effect, the fiber parks.
//
// Comes from: journal_file.hpp.   Goes to: coir/io.hpp, coir/blocking.hpp.
#include "kv/journal_file.hpp"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <unistd.h>

#include <cerrno>
#include <coir/blocking.hpp>
#include <coir/effects.hpp>
#include <string_view>
#include <utility>

namespace kv {

namespace {

/// ftruncate(2) as an effect, so that whoever answers the others answers this one.
struct truncate_operation {
  using value_type = void;
  static constexpr std::string_view name = "kv.ftruncate";
  static constexpr std::uint8_t opcode = 55;  // IORING_OP_FTRUNCATE; older headers have no name

  void fill(io_uring_sqe& e) const noexcept {
    e.opcode = opcode;
    e.fd = fd;
    e.off = bytes;
  }
  void complete(std::int32_t) const noexcept {}

  int fd;
  std::uint64_t bytes;
};

coir::result<> cut(int fd, std::uint64_t bytes) {
  auto done = coir::perform(truncate_operation{fd, bytes});
  if (done) return done;
  // Rings learned it in Linux 6.9, and a hardened one (options::hardened_ring) takes nothing that
  // is not listed: then a thread of the offload pool does it.
  if (done.error() != std::errc::invalid_argument && done.error() != coir::errc::opcode_refused)
    return done;
  return coir::blocking([fd, bytes]() -> coir::result<> {
    if (::ftruncate(fd, static_cast<off_t>(bytes)) == 0) return {};
    return coir::fail(std::error_code(errno, std::generic_category()));
  });
}

class disk_file final : public journal_file {
 public:
  disk_file(coir::io::unique_fd fd, file_twin twin) noexcept : fd_(std::move(fd)), twin_(twin) {}

  coir::result<std::size_t> read_at(std::span<std::byte> into, std::uint64_t offset) override {
    return coir::io::pread(fd_.get(), into, offset);
  }
  coir::result<std::size_t> write_at(std::span<const std::byte> from,
                                     std::uint64_t offset) override {
    return coir::io::pwrite(fd_.get(), from, offset);
  }
  coir::result<> sync() override {
    if (twin_ == file_twin::appends_unsynced) return {};
    return coir::io::fdatasync(fd_.get());
  }
  coir::result<> truncate(std::uint64_t bytes) override {
    if (auto done = cut(fd_.get(), bytes); !done) return done;
    if (twin_ == file_twin::cuts_unsynced) return {};
    // fdatasync may leave a smaller size for later; fsync may not.
    return coir::io::fsync(fd_.get());
  }

 private:
  coir::io::unique_fd fd_;
  const file_twin twin_;
};

}  // namespace

coir::result<std::unique_ptr<journal_file>> open_journal_file(const std::string& folder,
                                                              const std::string& name,
                                                              file_twin twin) {
  const std::string path = folder + "/" + name;
  auto fd = coir::io::open(path.c_str(), O_RDWR | O_CREAT, 0644);
  if (!fd) return coir::fail(fd.error());
  auto file = std::make_unique<disk_file>(coir::io::unique_fd(*fd), twin);
  if (twin == file_twin::folder_unsynced) return std::unique_ptr<journal_file>(std::move(file));

  // A new file survives a power cut only when the folder that names it was synced too.
  auto folder_fd = coir::io::open(folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (!folder_fd) return coir::fail(folder_fd.error());
  const coir::io::unique_fd owner(*folder_fd);
  if (auto synced = coir::io::fsync(owner.get()); !synced) return coir::fail(synced.error());
  return std::unique_ptr<journal_file>(std::move(file));
}

}  // namespace kv
