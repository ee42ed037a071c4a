// store.cpp: records of the journal into memory, and requests into records.
//
// Comes from: store.hpp.   Goes to: journal.hpp.
#include "kv/store.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <coir/blocking.hpp>
#include <cstring>
#include <utility>
#include <vector>

namespace kv {

namespace {

constexpr std::size_t value_bytes = sizeof(std::uint64_t);

// A payload is the value, then the key.
std::vector<std::byte> encode(std::string_view key, std::int64_t value) {
  std::vector<std::byte> payload(value_bytes + key.size());
  store_number(payload.data(), static_cast<std::uint64_t>(value));
  std::ranges::copy(std::as_bytes(std::span(key)), payload.begin() + value_bytes);
  return payload;
}

std::error_code last_error() { return {errno, std::generic_category()}; }

/// fsync(2) on a thread of the offload pool: it is asked for once, at the start.
coir::result<> sync_folder(const std::string& folder) {
  return coir::blocking([&folder]() -> coir::result<> {
    const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return coir::fail(last_error());
    const int failed = ::fsync(fd);
    const std::error_code why = last_error();
    ::close(fd);
    return failed != 0 ? coir::result<>(coir::fail(why)) : coir::result<>();
  });
}

coir::result<coir::io::unique_fd> lock_folder(const std::string& folder) {
  const bool made = ::mkdir(folder.c_str(), 0755) == 0;
  if (!made && errno != EEXIST) return coir::fail(last_error());
  // A folder survives a power cut only when the one that names it was synced; whoever made ours may
  // have been killed before. One that was given to us may lie where we may not look.
  if (auto synced = sync_folder(folder + "/.."); !synced && made) return coir::fail(synced.error());
  coir::io::unique_fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return coir::fail(last_error());
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
    return coir::fail(errno == EWOULDBLOCK
                          ? std::make_error_code(std::errc::device_or_resource_busy)
                          : last_error());
  return fd;
}

}  // namespace

coir::result<std::unique_ptr<store>> store::open(const std::string& folder,
                                                 const store_options& o) {
  auto lock = lock_folder(folder);
  if (!lock) return coir::fail(lock.error());
  auto file = open_journal_file(folder, "journal");
  if (!file) return coir::fail(file.error());
  auto made = open(std::move(*file), o);
  if (made) (*made)->lock_ = std::move(*lock);
  return made;
}

coir::result<std::unique_ptr<store>> store::open(std::unique_ptr<journal_file> file,
                                                 const store_options& o) {
  std::unique_ptr<store> s(new store(o));
  if (auto started = s->start(std::move(file), o); !started) return coir::fail(started.error());
  return s;
}

coir::result<> store::start(std::unique_ptr<journal_file> file, const store_options& o) {
  auto log = journal::open(std::move(file), *this, o.journal);
  if (!log) return coir::fail(log.error());
  journal_ = std::move(*log);
  return {};
}

store::~store() { (void)close(); }

coir::result<> store::close() { return journal_ ? journal_->close() : coir::result<>(); }

std::size_t store::shard_of(std::string_view key) noexcept {
  return text_hash()(key) % shards_count;
}

coir::result<> store::write(std::string_view key, std::int64_t value, coir::deadline until) {
  if (key.size() > key_bytes_max) return coir::fail(std::errc::invalid_argument);
  // A key that exists costs nothing more. It may be gone before this write lands (by a reset, which
  // frees far more than it), so the cap can be passed by what is in flight and no further.
  const std::size_t cost = read(key) ? 0 : key.size() + key_overhead_bytes;
  if (cost != 0 && !reserve(cost)) return coir::fail(std::errc::not_enough_memory);
  auto appended = journal_->append(encode(key, value), until);
  unreserve(cost);
  if (!appended) return coir::fail(appended.error());
  return {};
}

std::optional<std::int64_t> store::read(std::string_view key) const {
  const shard& s = shards_[shard_of(key)];
  const std::lock_guard held(s.mutex);
  const auto at = s.values.find(key);
  if (at == s.values.end()) return {};
  return at->second;
}

coir::result<> store::reset(coir::deadline until) { return journal_->reset(until); }

bool store::reserve(std::size_t bytes) {
  const std::lock_guard held(space_mutex_);
  if (held_bytes_ + reserved_bytes_ + bytes > memory_max_) return false;
  reserved_bytes_ += bytes;
  return true;
}

void store::unreserve(std::size_t bytes) {
  if (bytes == 0) return;
  const std::lock_guard held(space_mutex_);
  reserved_bytes_ -= bytes;
}

void store::on_record(std::uint64_t, std::span<const std::byte> payload) {
  if (payload.size() < value_bytes) return;  // whole, but not one of ours
  const auto value = static_cast<std::int64_t>(load_number<std::uint64_t>(payload.data()));
  const auto text = payload.subspan(value_bytes);
  const std::string_view key(reinterpret_cast<const char*>(text.data()), text.size());
  {
    shard& s = shards_[shard_of(key)];
    const std::lock_guard held(s.mutex);
    if (const auto at = s.values.find(key); at != s.values.end()) {
      at->second = value;
      return;
    }
    s.values.emplace(key, value);
  }
  const std::lock_guard held(space_mutex_);
  held_bytes_ += key.size() + key_overhead_bytes;
  ++keys_;
}

void store::on_reset() {
  // All shards at once: no reader may find one key gone and then another one still there.
  std::vector<std::unique_lock<std::mutex>> held;
  held.reserve(shards_count);
  for (shard& s : shards_) held.emplace_back(s.mutex);
  for (shard& s : shards_) s.values.clear();
  const std::lock_guard space(space_mutex_);
  held_bytes_ = 0;
  keys_ = 0;
}

store_counters store::counters() const {
  const std::lock_guard held(space_mutex_);
  return {.keys = keys_, .memory_bytes = held_bytes_};
}

}  // namespace kv
