// store.cpp: what one input of the store does, and how a store begins.
//
// Comes from: store.hpp.   Goes to: journal.hpp, table.hpp.
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
  journal_options how = o.journal;
  how.publishes = false;
  auto log = journal::open(std::move(file), *this, how);
  if (!log) return coir::fail(log.error());
  journal_ = std::move(*log);
  if (newer_) return coir::fail(std::errc::not_supported);
  auto made = machine::create(
      &table_, [this](const input& in, machine::context& context) { return handle(in, context); },
      {.inflight_max = o.inflight_max, .queue_max = o.queue_max, .name = "store"});
  if (!made) return coir::fail(made.error());
  machine_.emplace(std::move(*made));
  return {};
}

store::~store() { (void)close(); }

coir::result<> store::close() {
  if (machine_) (void)machine_->stop();
  return journal_ ? journal_->close() : coir::result<>();
}

// -- what an input does; on the machine's worker --------------------------------------------------

coir::result<std::size_t> store::handle(const input& in, machine::context& context) {
  if (in.changes == nullptr) return handle_reset(context);
  std::vector<entry> entries;
  // What exists may be gone before this lands (by a reset, an erasure, a shorter value), so the cap
  // can be passed by what is in flight and no further.
  std::size_t cost = 0;
  for (const change& c : *in.changes) {
    entries.push_back(write_change(c));
    cost += table_.cost(c);
  }
  if (!table_.reserve(cost)) return coir::fail(std::errc::not_enough_memory);
  const auto first = journal_->append_all(entries);  // parks, while others are served
  table_.unreserve(cost);
  if (!first) return coir::fail(first.error());
  return context.update([&in, sequence = *first](table* t) mutable {
    std::size_t known = 0;
    for (const change& c : *in.changes) known += t->apply(sequence++, c) ? 1 : 0;
    return known;
  });
}

coir::result<std::size_t> store::handle_reset(machine::context& context) {
  // Its place among the changes is its place in the journal.
  if (auto done = journal_->reset(); !done) return coir::fail(done.error());
  return context.update([](table* t) {
    t->clear();
    return std::size_t{0};
  });
}

void store::on_record(const record& r) {
  newer_ = newer_ || !knows_kind(r.kind);
  if (const auto c = read_change(r)) table_.apply(r.sequence, *c);
}

// -- for anybody ----------------------------------------------------------------------------------

coir::result<std::size_t> store::change_all(std::shared_ptr<const std::vector<change>> changes,
                                            coir::deadline until) {
  if (changes->empty()) return coir::fail(std::errc::invalid_argument);
  for (const change& c : *changes) {
    if (c.key.size() > key_bytes_max) return coir::fail(std::errc::invalid_argument);
    if (c.value.size() > value_bytes_max) return coir::fail(std::errc::message_size);
  }
  return machine_->call({std::move(changes)}, until);
}

coir::result<> store::write(std::string_view key, std::string value, coir::deadline until) {
  std::vector<change> one(1);
  one[0].key = key;
  one[0].value = std::move(value);
  auto done = change_all(std::move(one), until);
  return done ? coir::result<>() : coir::fail(done.error());
}

std::optional<std::string> store::find(std::string_view key) const {
  std::optional<std::string> found;
  table_.visit(key, [&found](std::string_view value) { found.emplace(value); });
  return found;
}

std::optional<std::int64_t> store::read(std::string_view key) const {
  std::optional<std::int64_t> found;
  table_.visit(key, [&found](std::string_view value) { found = integer_in(value); });
  return found;
}

coir::result<> store::reset(coir::deadline until) {
  auto done = machine_->call({}, until);
  return done ? coir::result<>() : coir::fail(done.error());
}

}  // namespace kv
