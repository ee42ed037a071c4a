// loop_backend.cpp: the backend of a worker as the outside of a loop.
//
// Always true:
//   - Completions that a reap had no room for are given by the next one, first.
//   - Nothing is allocated where completions come in, but for what comes again and again: places
//     for those of an operation are made when it is submitted.
//   - Who was asked to end is known until its last completion: a cancel that missed it is asked for
//     again, after the pauses of flight.
//
// Comes from: coir/backend.hpp.   Goes to: backend (the seam of the workers).
#include "runtime/loop_backend.hpp"

#include <linux/io_uring.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory_resource>
#include <new>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/flight.hpp"
#include "runtime/hardened.hpp"
#include "runtime/outside.hpp"

namespace coir {

backend::~backend() = default;

clock::time_point backend::now() const { return clock::now(); }

void backend::dispose(const completion& c) noexcept {
  if (detail::token{c.to.raw}.kind() == detail::token_kind::descriptor && c.res >= 0)
    ::close(c.res);
}

namespace detail {
namespace {

class worker_backend final : public coir::backend {
 public:
  worker_backend(std::unique_ptr<detail::backend> inner, std::unique_ptr<offload_pool> pool,
                 const options& o, std::pmr::memory_resource* memory) noexcept
      : inner_(std::move(inner)),
        pool_(std::move(pool)),
        hardened_(o.hardened_ring),
        admitted_(admitted(o)),
        came_(memory) {}
  ~worker_backend() override { inner_->detach(); }

  int attach() { return inner_->attach(); }

  result<> submit(const io_uring_sqe& entry, coir::token name) override {
    if (hardened_ && !admitted_.have(entry.opcode)) return fail(errc::opcode_refused);
    if (!make_room(completions_each) && !COIR_MUTANT(room_asked_late))
      return fail(std::errc::not_enough_memory);
    if (!inner_->submit(entry, token{name.raw}, false))
      return fail(std::errc::operation_would_block);
    ++under_way_;
    return {};
  }
  result<> cancel(coir::token name) override {
    const token target{name.raw};
    try {
      asked_.try_emplace(key_of(target), cancelled{target});
    } catch (const std::bad_alloc&) {  // one that is not known may not miss
      return fail(std::errc::operation_would_block);
    }
    if (!inner_->cancel(target)) return fail(std::errc::operation_would_block);
    return {};
  }
  void hand_over() override {
    if (watched_ || inner_->pending()) inner_->wait(no_wait_ns);
  }
  result<std::size_t> reap(std::span<coir::completion> into) override {
    if (came_.size() == given_) {
      came_.clear();
      given_ = 0;
      ask_again();
      hand_over();
      inner_->reap({&keep, this});
      if (std::exchange(lost_, false)) return fail(std::errc::not_enough_memory);
    }
    const std::size_t n = std::min(into.size(), came_.size() - given_);
    std::copy_n(came_.begin() + static_cast<std::ptrdiff_t>(given_), n, into.begin());
    given_ += n;
    if (!asked_.empty()) forget_those_that_ended(into.first(n));
    return n;
  }
  result<> wait(deadline until) override {
    if (came_.size() != given_) return {};
    ask_again();
    inner_->wait(std::min(until.time_since_epoch().count(), look_ns_));
    return {};
  }
  deadline next_deadline() const noexcept override { return deadline(clock::duration(look_ns_)); }
  void wake() noexcept override { inner_->wake(); }
  clock::time_point now() const override {
    return clock::time_point(clock::duration(inner_->now_ns()));
  }
  int native_fd() const noexcept override {
    watched_ = true;  // what made it readable is to be heard, though nothing may be pending
    return inner_->native_fd();
  }
  bool is_the_system() const noexcept override { return !COIR_MUTANT(loop_write_unminded); }
  void forget(int fd) noexcept override { inner_->forget(fd); }
  void dispose(const coir::completion& c) noexcept override {
    if (token{c.to.raw}.kind() == token_kind::descriptor && c.res >= 0) inner_->discard(c.res);
  }

 private:
  /// Of one operation: what was done, and that nothing is lent any more (SEND_ZC). Who gets more
  /// asked for it with flags of his own.
  static constexpr std::size_t completions_each = 2;

  /// For `more` completions, beside those that operations under way may still bring.
  bool make_room(std::size_t more) noexcept {
    const std::size_t kept = completions_each * under_way_ + more;
    if (came_.size() + kept <= came_.capacity()) return true;
    came_.erase(came_.begin(), came_.begin() + static_cast<std::ptrdiff_t>(given_));
    given_ = 0;
    if (came_.size() + kept <= came_.capacity()) return true;
    try {
      came_.reserve(std::max(came_.size() + kept, 2 * came_.capacity()));
    } catch (const std::bad_alloc&) {
      return false;
    }
    return true;
  }

  /// One that was asked to end.
  struct cancelled {
    token name;
    unsigned missed = 0;
    std::int64_t again_ns = never_ns;  // it is asked again then; never: it has not been missed
  };
  /// The answer to a cancel does not say of which kind its target is.
  static std::uint64_t key_of(token t) noexcept { return t.raw >> 8; }

  /// See flight::cancel_missed.
  void cancel_missed(token answered) noexcept {
    const auto at = asked_.find(key_of(answered));
    if (at == asked_.end() || COIR_MUTANT(loop_cancel_asked_once)) return;
    cancelled& target = at->second;
    const std::int64_t now = inner_->now_ns();
    const bool at_once = target.missed == 0 || COIR_MUTANT(loop_cancel_without_pause);
    target.again_ns = at_once ? now : now + flight::pause_after(target.missed);
    if (target.missed < 20) ++target.missed;
    look_ns_ = std::min(look_ns_, target.again_ns);
  }
  /// Those whose pause is over. Where there is no room for one its time stays, and has come.
  void ask_again() noexcept {
    if (look_ns_ == never_ns) return;
    const std::int64_t now = inner_->now_ns();
    if (now < look_ns_) return;
    look_ns_ = never_ns;
    for (auto& [key, target] : asked_) {
      if (target.again_ns <= now && inner_->cancel(target.name)) target.again_ns = never_ns;
      look_ns_ = std::min(look_ns_, target.again_ns);
    }
  }
  /// Only now: what waits to be given may still be cancelled.
  void forget_those_that_ended(std::span<const coir::completion> given) noexcept {
    for (const coir::completion& c : given)
      if (!c.more()) asked_.erase(key_of(token{c.to.raw}));
    // Nor is one asked for any more that was cancelled when it was over.
    if (under_way_ == 0 && came_.size() == given_) asked_.clear();
    if (asked_.empty()) look_ns_ = never_ns;
  }

  static void keep(void* self, const completion& c) noexcept {
    auto& me = *static_cast<worker_backend*>(self);
    if (c.to.kind() == token_kind::cancel) {  // but for this the operation's own end counts
      if (c.res == -ENOENT) me.cancel_missed(c.to);
      return;
    }
    const coir::completion seen{{c.to.raw}, c.res, c.flags};
    const bool last = !c.more() && me.under_way_ != 0;
    if (last) --me.under_way_;
    // The last one of each operation under way has its place, whatever comes before it.
    if (!last && me.came_.size() + me.under_way_ >= me.came_.capacity() && !me.make_room(1)) {
      me.lost_ = true;
      return me.dispose(seen);
    }
    me.came_.push_back(seen);
  }

  std::unique_ptr<detail::backend> inner_;
  std::unique_ptr<offload_pool> pool_;  // its threads end before the backend does
  const bool hardened_;
  const opcodes admitted_;
  std::pmr::vector<coir::completion> came_;
  std::size_t given_ = 0;      // of came_
  std::size_t under_way_ = 0;  // operations
  std::unordered_map<std::uint64_t, cancelled> asked_;
  std::int64_t look_ns_ = never_ns;  // when the first of these is to be asked again
  bool lost_ = false;
  mutable bool watched_ = false;
};

}  // namespace

result<std::unique_ptr<coir::backend>> make_loop_backend(std::unique_ptr<backend> inner,
                                                         std::unique_ptr<offload_pool> pool,
                                                         const options& o,
                                                         std::pmr::memory_resource* memory) {
  auto whole = std::make_unique<worker_backend>(std::move(inner), std::move(pool), o, memory);
  if (const int refused = whole->attach(); refused < 0) return fail(system_error(refused));
  return std::unique_ptr<coir::backend>(std::move(whole));
}

}  // namespace detail

result<std::unique_ptr<backend>> make_backend(const options& o, std::pmr::memory_resource* memory) {
  auto kind = detail::wished_backend(o);
  if (!kind) return fail(kind.error());
  auto pool = std::make_unique<detail::offload_pool>(o.offload_threads, o.offload_queue);
  auto made = detail::make_outside(*kind, o, *pool);
  if (!made) return fail(made.error());
  if (auto told = detail::tell_of_fixed_buffers(**made, o, true); !told) return fail(told.error());
  return detail::make_loop_backend(*std::move(made), std::move(pool), o, memory);
}

}  // namespace coir
