// journal.cpp: the two sides of the journal: those who append, and the one fiber that writes.
//
// Comes from: journal.hpp.   Goes to: journal_file.hpp.
#include "kv/journal.hpp"

#include <mutex>
#include <new>
#include <utility>

namespace kv {

namespace {
constexpr std::size_t replay_bytes = 128 << 10;
}

journal::journal(std::unique_ptr<journal_file> file, journal_listener& listener, journal_options o)
    : file_(std::move(file)),
      listener_(listener),
      options_(o),
      collecting_(std::make_shared<batch>()) {}

coir::result<std::unique_ptr<journal>> journal::open(std::unique_ptr<journal_file> file,
                                                     journal_listener& listener,
                                                     journal_options o) {
  std::unique_ptr<journal> j(new journal(std::move(file), listener, o));
  if (auto replayed = j->recover(); !replayed) return coir::fail(replayed.error());
  journal& self = *j;
  const auto writer = j->writer_.emplace().spawn(
      [&self] { self.write_batches(); }, {.name = "journal", .worker = coir::this_fiber::worker()});
  if (!writer) return coir::fail(writer.refusal());
  return j;
}

journal::~journal() { (void)close(); }

// -- those who append -----------------------------------------------------------------------------

bool journal::has_room(std::size_t records, std::size_t bytes) const noexcept {
  const batch& b = *collecting_;
  if (b.reset) return false;
  return b.records == 0 || (b.records + records <= options_.batch_records_max &&
                            b.bytes.size() + bytes <= options_.batch_bytes_max);
}

coir::result<> journal::wait_for_room(std::unique_lock<coir::mutex>& held, std::size_t records,
                                      std::size_t bytes, coir::deadline until) {
  const auto over = [this] { return closing_ || static_cast<bool>(failure_); };
  auto waited = room_.wait(
      held, [&] { return over() || has_room(records, bytes); }, until);
  if (failure_) return coir::fail(failure_);
  if (closing_) return coir::fail(coir::errc::shutting_down);
  return waited;
}

template <class Write>
coir::result<std::uint64_t> journal::append_with(std::size_t records, std::size_t bytes,
                                                 coir::deadline until, Write write) {
  std::unique_lock held(mutex_);
  if (auto room = wait_for_room(held, records, bytes, until); !room)
    return coir::fail(room.error());
  const batch_ref mine = collecting_;
  const std::uint64_t first = next_sequence_;
  const std::size_t before = mine->bytes.size();
  try {
    write(mine->bytes, first);
  } catch (const std::bad_alloc&) {
    mine->bytes.resize(before);  // a record of half an append would take its neighbour's number
    return coir::fail(std::errc::not_enough_memory);
  }
  if (mine->records == 0) mine->first = first;
  next_sequence_ += records;
  mine->records += records;
  held.unlock();
  work_.notify_one();

  if (auto waited = mine->settled.wait(until); !waited) return coir::fail(waited.error());
  if (mine->error) return coir::fail(mine->error);
  return first;
}

namespace {
bool is_record(std::span<const std::byte> payload) {
  return !payload.empty() && payload.size() <= payload_bytes_max;
}
}  // namespace

coir::result<std::uint64_t> journal::append(std::span<const std::byte> payload,
                                            coir::deadline until) {
  if (!is_record(payload)) return coir::fail(std::errc::message_size);
  return append_with(1, record_header_bytes + payload.size(), until,
                     [payload](std::vector<std::byte>& bytes, std::uint64_t first) {
                       write_record(bytes, first, payload);
                     });
}

coir::result<std::uint64_t> journal::append_all(std::span<const entry> entries,
                                                coir::deadline until) {
  std::size_t bytes = 0;
  for (const entry& e : entries) {
    if (!is_record(e.payload)) return coir::fail(std::errc::message_size);
    bytes += e.bytes();
  }
  if (entries.empty()) return coir::fail(std::errc::message_size);
  return append_with(entries.size(), bytes, until,
                     [entries](std::vector<std::byte>& into, std::uint64_t sequence) {
                       for (const entry& e : entries)
                         write_record(into, sequence++, e.payload, e.kind);
                     });
}

coir::result<> journal::reset(coir::deadline until) {
  std::unique_lock held(mutex_);
  if (auto room = wait_for_room(held, 0, 0, until); !room) return room;
  const batch_ref mine = collecting_;
  mine->reset = true;
  held.unlock();
  work_.notify_one();

  if (auto waited = mine->settled.wait(until); !waited) return waited;
  if (mine->error) return coir::fail(mine->error);
  return {};
}

coir::result<> journal::close() {
  {
    const std::lock_guard held(mutex_);
    closing_ = true;
  }
  work_.notify_all();
  room_.notify_all();
  if (writer_) (void)writer_->join();
  writer_.reset();  // whoever is cancelled does not wait above, and here all the same
  file_.reset();
  if (const std::error_code why = failure()) return coir::fail(why);
  return {};
}

journal_counters journal::counters() const {
  const std::lock_guard held(mutex_);
  return counters_;
}

std::error_code journal::failure() const {
  const std::lock_guard held(mutex_);
  return failure_;
}

// -- the writer fiber -----------------------------------------------------------------------------

void journal::write_batches() {
  try {
    while (const batch_ref b = take_batch()) {
      const std::error_code why = commit(*b);
      if (!b->settled.is_set()) settle(*b, why);  // else a twin answered already
    }
  } catch (const std::bad_alloc&) {  // out of take_batch: nobody takes what is collected
    const std::error_code why = fail_for_good(std::make_error_code(std::errc::not_enough_memory));
    const std::lock_guard held(mutex_);
    settle(*collecting_, why);
  }
}

void journal::settle(batch& b, std::error_code why) {
  b.error = why;
  b.settled.set();
}

journal::batch_ref journal::take_batch() {
  std::unique_lock held(mutex_);
  auto waited = work_.wait(held, [this] { return closing_ || !collecting_->empty(); });
  // Only a cancel ends this wait early: the runtime is going down, and so is the journal.
  if (!waited && !failure_) failure_ = waited.error();
  if (collecting_->empty()) return nullptr;
  if (!failure_) {
    // Whoever is ready to run on this worker may still join the batch: it costs them no extra sync.
    held.unlock();
    coir::this_fiber::yield();
    held.lock();
  }
  auto next = std::make_shared<batch>();
  next->bytes.reserve(collecting_->bytes.size());
  batch_ref taken = std::exchange(collecting_, std::move(next));
  room_.notify_all();
  return taken;
}

std::error_code journal::commit(batch& b) {
  if (const std::error_code why = failure()) return why;
  journal_counters done;
  done.records = b.records;
  done.batches = 1;
  if (options_.twin == journal_twin::answers_before_completion) {
    publish(b, done);
    b.settled.set();
  }
  if (const std::error_code why = store(b)) return why;
  if (b.reset) {
    done.resets = done.syncs = 1;
  } else {
    done.writes = done.syncs = 1;
    done.bytes = b.bytes.size();
  }
  if (options_.twin != journal_twin::answers_before_completion) publish(b, done);
  return {};
}

std::error_code journal::store(const batch& b) {
  if (b.reset) {
    // The records of this batch come before its reset, so they leave no trace and are not written.
    if (auto cut = file_->truncate(0); !cut) return fail_for_good(cut.error());
    end_ = 0;
    return {};
  }
  if (const std::error_code why = write_behind(b.bytes)) return take_back(b, why);
  if (options_.twin == journal_twin::never_syncs) return {};
  auto synced = file_->sync();
  return synced ? std::error_code() : fail_for_good(synced.error());
}

/// Nothing of it, and of what was queued behind it, is left: their numbers are dealt out again.
std::error_code journal::take_back(const batch& b, std::error_code why) try {
  if (!file_->truncate(end_)) return fail_for_good(why);
  auto next = std::make_shared<batch>();
  const std::lock_guard held(mutex_);
  const batch_ref queued = std::exchange(collecting_, std::move(next));
  if (options_.twin != journal_twin::keeps_its_numbers) next_sequence_ = b.first;
  ++counters_.failed_writes;
  settle(*queued, why);
  room_.notify_all();
  return why;
} catch (const std::bad_alloc&) {
  return fail_for_good(why);
}

std::error_code journal::write_behind(std::span<const std::byte> bytes) {
  auto written = file_->write_at(bytes, end_);
  if (!written) return written.error();
  if (*written != bytes.size()) return std::make_error_code(std::errc::no_space_on_device);
  end_ += bytes.size();
  return {};
}

void journal::publish(const batch& b, const journal_counters& done) {
  if (!options_.publishes) {
    // Those who wait for the batch do it.
  } else if (b.reset) {
    listener_.on_reset();
  } else {
    record r;
    for (std::span<const std::byte> rest = b.bytes; read_record(rest, r) == reading::complete;
         rest = rest.subspan(r.bytes()))
      listener_.on_record(r);
  }
  const std::lock_guard held(mutex_);
  counters_.records += done.records;
  counters_.batches += done.batches;
  counters_.writes += done.writes;
  counters_.syncs += done.syncs;
  counters_.bytes += done.bytes;
  counters_.resets += done.resets;
}

std::error_code journal::fail_for_good(std::error_code why) {
  const std::lock_guard held(mutex_);
  failure_ = why;
  room_.notify_all();
  return why;
}

// -- recovery -------------------------------------------------------------------------------------

// A process that was killed may never have synced what is read here; and after a sync that failed
// it may be in the kernel's cache alone, and clean: no later sync writes it, and once the power
// goes nothing that lies behind it is found. Therefore each good record is written once more.
coir::result<> journal::recover() {
  std::vector<std::byte> window;  // bytes of the file from end_ on
  std::uint64_t file_end = 0;
  std::uint64_t expected = 0;  // 0: the first record says where the numbers begin
  bool torn = false, all_read = false;
  while (!torn && !all_read) {
    const std::size_t kept = window.size();
    window.resize(kept + replay_bytes);
    auto count = file_->read_at(std::span(window).subspan(kept), file_end);
    if (!count) return coir::fail(count.error());
    window.resize(kept + *count);
    file_end += *count;
    all_read = *count == 0;

    std::span<const std::byte> rest = window;
    record r;
    reading found = read_record(rest, r);
    for (; found == reading::complete; found = read_record(rest, r)) {
      if (expected != 0 && r.sequence != expected) break;
      listener_.on_record(r);
      expected = r.sequence + 1;
      ++recovered_.records;
      recovered_.bytes += r.bytes();
      rest = rest.subspan(r.bytes());
    }
    torn = found != reading::incomplete || (all_read && !rest.empty());
    const auto good = std::span(window).first(window.size() - rest.size());
    if (options_.twin == journal_twin::trusts_what_it_reads) {
      end_ += good.size();
    } else if (!good.empty()) {
      if (const std::error_code why = write_behind(good)) return coir::fail(why);
    }
    window.erase(window.begin(), window.begin() + static_cast<std::ptrdiff_t>(good.size()));
  }
  next_sequence_ = expected == 0 ? 1 : expected;
  if (torn) recovered_.cut_bytes = file_end - end_;
  // Also where nothing is torn: a cut whose sync failed may have gone no further than the cache.
  return file_->truncate(end_);
}

}  // namespace kv
