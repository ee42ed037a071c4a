// streams.cpp: items pulled, buffers given back, and the streams that come with the library.
//
// Always true:
//   - A pull that finds an item does not park.
//   - A buffer goes back to the worker whose ring it came from, by an errand where that is another.
//
// Comes from: coir/multishot.hpp, coir/streams.hpp.   Goes to: lasting.hpp, buffers.hpp.
#include "coir/streams.hpp"

#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "coir/operations.hpp"
#include "runtime/lasting.hpp"

namespace coir {
namespace detail {

/// What a lease knows its home by.
struct lease_home {
  static lease_home* of(worker& w) noexcept { return reinterpret_cast<lease_home*>(&w); }
  static worker& to(lease_home* home) noexcept { return *reinterpret_cast<worker*>(home); }
};

}  // namespace detail

void leased_bytes::give_back() noexcept {
  if (home_ == nullptr) return;
  detail::worker& home = detail::lease_home::to(std::exchange(home_, nullptr));
  bytes_ = {};
  detail::buffer_pool& pool = *home.buffers();
  if (detail::worker::current() == &home) return pool.give(buffer_);
  if (pool.give_from_afar(buffer_)) home.tell_of_buffers();
}

namespace {

/// Called by the fiber that pulls, on the worker whose buffer it is.
leased_bytes lease(std::int32_t res, std::uint32_t flags) noexcept {
  detail::worker& here = *detail::worker::current();
  const unsigned buffer = flags >> IORING_CQE_BUFFER_SHIFT;
  if ((flags & IORING_CQE_F_BUFFER) == 0) return {};
  return {detail::lease_home::of(here), buffer,
          here.buffers()->at(buffer).first(static_cast<std::size_t>(res))};
}

}  // namespace

void accept_stream::fill(io_uring_sqe& sqe) const noexcept {
  sqe.opcode = IORING_OP_ACCEPT;
  sqe.fd = fd;
  sqe.accept_flags = SOCK_CLOEXEC;
}

bool accept_stream::passes(std::int32_t res) noexcept {
  static constexpr int errors[] = {ECONNABORTED, EPROTO,    ENOPROTOOPT, ENETDOWN,
                                   ENETUNREACH,  EHOSTDOWN, ENONET,      EHOSTUNREACH};
  return std::ranges::find(errors, -res) != std::end(errors);
}

void recv_stream::fill(io_uring_sqe& sqe) const noexcept {
  sqe.opcode = IORING_OP_RECV;
  sqe.fd = fd;
}

leased_bytes recv_stream::item(std::int32_t res, std::uint32_t flags) const noexcept {
  return lease(res, flags);
}

void read_stream::fill(io_uring_sqe& sqe) const noexcept {
  sqe.opcode = IORING_OP_READ;
  sqe.fd = fd;
  sqe.off = own_position;
}

leased_bytes read_stream::item(std::int32_t res, std::uint32_t flags) const noexcept {
  return lease(res, flags);
}

void poll_stream::fill(io_uring_sqe& sqe) const noexcept {
  sqe.opcode = IORING_OP_POLL_ADD;
  sqe.fd = fd;
  sqe.poll32_events = events;
}

void tick_stream::fill(io_uring_sqe& sqe) const noexcept {
  sqe.opcode = IORING_OP_TIMEOUT;
  sqe.fd = -1;
  sqe.addr = reinterpret_cast<std::uintptr_t>(&seconds);
  sqe.len = 1;
}

// -- changes of files

result<file_changes> file_changes::watch(const stream_options& o) {
  file_changes made;
  made.fd_.reset(::inotify_init1(IN_CLOEXEC));
  if (!made.fd_) return fail(std::error_code(errno, std::generic_category()));
  made.stream_ = perform(read_stream{made.fd_.get()}, o);
  return made;
}

result<int> file_changes::add(const char* path, std::uint32_t what) {
  const int watch = ::inotify_add_watch(fd_.get(), path, what);
  if (watch < 0) return fail(std::error_code(errno, std::generic_category()));
  return watch;
}

void file_changes::hold(leased_bytes more) noexcept {
  held_ = std::move(more);
  used_ = 0;
}

file_change file_changes::take() noexcept {
  inotify_event told{};
  std::memcpy(&told, held_.bytes().data() + used_, sizeof told);
  const auto* const name =
      reinterpret_cast<const char*>(held_.bytes().data() + used_ + sizeof told);
  used_ += sizeof told + told.len;
  return file_change{told.wd, told.mask, told.cookie,
                     told.len == 0 ? std::string_view() : std::string_view(name)};
}

std::optional<result<file_change>> file_changes::next_or_end(deadline until) {
  if (!holds_another()) {
    hold({});  // before the park: who waits keeps no buffer
    auto more = stream_.next(until);
    if (!more) return fail(more.error());
    if (!more->has_value()) return std::nullopt;
    hold(std::move(**more));
  }
  return take();
}

result<file_change> file_changes::next(deadline until) {
  if (auto one = next_or_end(until)) return *one;
  return fail(std::errc::operation_canceled);
}

std::optional<result<file_change>> file_changes::try_next() {
  if (!holds_another()) {
    hold({});
    auto more = stream_.try_next();
    if (!more) return std::nullopt;
    if (!*more) return fail(more->error());
    hold(std::move(**more));
  }
  return take();
}

// -- what is pulled

namespace detail {
namespace {
pulled refused(std::int32_t why) noexcept { return {pulled::kind::refused, {}, why}; }
}  // namespace

pulled pull_now(lasting_operation& one) noexcept {
  if (const std::int32_t no = not_its_own(one); no != 0) return refused(no);
  pulled found{pulled::kind::item, {}, 0};
  if (one.take(found.what)) return found;
  one.ask();
  if (one.take(found.what)) return found;
  if (COIR_MUTANT(look_takes_the_end) && one.over()) (void)one.take_end();
  return one.over() ? pulled{} : refused(-EAGAIN);
}

pulled pull(lasting_operation& one, deadline until) noexcept {
  if (const std::int32_t no = not_its_own(one); no != 0) return refused(no);
  record& me = *current_fiber();
  if (is_cancelled(me)) {
    one.home().count_ignored(me);
    return refused(-ECANCELED);
  }
  for (;;) {
    const pulled found = pull_now(one);
    // Whoever looked before without waiting has left the error of the end to us.
    if (found.is == pulled::kind::end)
      if (const std::int32_t why = one.take_end(); why < 0) return refused(why);
    if (found.is != pulled::kind::refused || found.why != -EAGAIN) return found;
    if (one.anything()) continue;
    const std::int64_t look_ns = std::min(ns_of(until), one.next_tick_ns());
    const woken why = park_for(one, look_ns, true);
    if (one.anything()) continue;  // success wins
    if (why == woken::by_deadline && look_ns != ns_of(until)) continue;
    if (why == woken::by_deadline) return refused(-ETIMEDOUT);
    if (why == woken::by_cancel) return refused(-ECANCELED);
  }
}

}  // namespace detail
}  // namespace coir
