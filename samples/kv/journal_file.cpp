// journal_file.cpp: the journal's file on a real disk: every call is one effect, the fiber parks.
//
// Comes from: journal_file.hpp.   Goes to: coir/io.hpp, coir/blocking.hpp.
#include "kv/journal_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <coir/blocking.hpp>
#include <utility>

namespace kv {

namespace {

class disk_file final : public journal_file {
 public:
  explicit disk_file(coir::io::unique_fd fd) noexcept : fd_(std::move(fd)) {}

  coir::result<std::size_t> read_at(std::span<std::byte> into, std::uint64_t offset) override {
    return coir::io::pread(fd_.get(), into, offset);
  }
  coir::result<std::size_t> write_at(std::span<const std::byte> from,
                                     std::uint64_t offset) override {
    return coir::io::pwrite(fd_.get(), from, offset);
  }
  coir::result<> sync() override { return coir::io::fdatasync(fd_.get()); }
  coir::result<> truncate(std::uint64_t bytes) override {
    // Rings learned to truncate only in Linux 6.9, so a thread of the offload pool does it.
    const int fd = fd_.get();
    auto cut = coir::blocking([fd, bytes]() -> coir::result<> {
      if (::ftruncate(fd, static_cast<off_t>(bytes)) == 0) return {};
      return coir::fail(std::error_code(errno, std::generic_category()));
    });
    if (!cut) return cut;
    // fdatasync may leave a smaller size for later; fsync may not.
    return coir::io::fsync(fd);
  }

 private:
  coir::io::unique_fd fd_;
};

}  // namespace

coir::result<std::unique_ptr<journal_file>> open_journal_file(const std::string& folder,
                                                              const std::string& name) {
  const std::string path = folder + "/" + name;
  auto fd = coir::io::open(path.c_str(), O_RDWR | O_CREAT, 0644);
  if (!fd) return coir::fail(fd.error());
  auto file = std::make_unique<disk_file>(coir::io::unique_fd(*fd));

  // A new file survives a power cut only when the folder that names it was synced too.
  auto folder_fd = coir::io::open(folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (!folder_fd) return coir::fail(folder_fd.error());
  const coir::io::unique_fd owner(*folder_fd);
  if (auto synced = coir::io::fsync(owner.get()); !synced) return coir::fail(synced.error());
  return std::unique_ptr<journal_file>(std::move(file));
}

}  // namespace kv
