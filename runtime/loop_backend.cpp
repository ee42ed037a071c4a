// loop_backend.cpp: the backend of a worker as the outside of a loop.
//
// Always true:
//   - Completions that a reap had no room for are given by the next one, first.
//
// Comes from: coir/backend.hpp.   Goes to: backend (the seam of the workers).
#include <linux/io_uring.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "coir/backend.hpp"
#include "runtime/backend.hpp"
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
  worker_backend(std::unique_ptr<detail::backend> inner,
                 std::unique_ptr<offload_pool> pool) noexcept
      : inner_(std::move(inner)), pool_(std::move(pool)) {}
  ~worker_backend() override { inner_->detach(); }

  int attach() { return inner_->attach(); }

  result<> submit(const io_uring_sqe& entry, coir::token name) override {
    if (!inner_->submit(entry, token{name.raw}, false))
      return fail(std::errc::operation_would_block);
    return {};
  }
  result<> cancel(coir::token name) override {
    if (!inner_->cancel(token{name.raw})) return fail(std::errc::operation_would_block);
    return {};
  }
  void hand_over() override {
    if (watched_ || inner_->pending()) inner_->wait(no_wait_ns);
  }
  result<std::size_t> reap(std::span<coir::completion> into) override {
    if (came_.size() == given_) {
      came_.clear();
      given_ = 0;
      hand_over();
      inner_->reap({&keep, this});
    }
    const std::size_t n = std::min(into.size(), came_.size() - given_);
    std::copy_n(came_.begin() + static_cast<std::ptrdiff_t>(given_), n, into.begin());
    given_ += n;
    return n;
  }
  result<> wait(deadline until) override {
    if (came_.size() == given_) inner_->wait(until.time_since_epoch().count());
    return {};
  }
  void wake() noexcept override { inner_->wake(); }
  clock::time_point now() const override {
    return clock::time_point(clock::duration(inner_->now_ns()));
  }
  int native_fd() const noexcept override {
    watched_ = true;  // what made it readable is to be heard, though nothing may be pending
    return inner_->native_fd();
  }
  void dispose(const coir::completion& c) noexcept override {
    if (token{c.to.raw}.kind() == token_kind::descriptor && c.res >= 0) inner_->discard(c.res);
  }

 private:
  static void keep(void* self, const completion& c) noexcept {
    if (c.to.kind() == token_kind::cancel) return;  // the operation's own end counts
    static_cast<worker_backend*>(self)->came_.push_back({{c.to.raw}, c.res, c.flags});
  }

  std::unique_ptr<detail::backend> inner_;
  std::unique_ptr<offload_pool> pool_;  // its threads end before the backend does
  std::vector<coir::completion> came_;
  std::size_t given_ = 0;
  mutable bool watched_ = false;
};

}  // namespace
}  // namespace detail

result<std::unique_ptr<backend>> make_backend(const options& o) {
  auto kind = detail::wished_backend(o);
  if (!kind) return fail(kind.error());
  auto pool = std::make_unique<detail::offload_pool>(o.offload_threads, o.offload_queue);
  auto made = detail::make_outside(*kind, o, *pool);
  if (!made) return fail(made.error());
  auto whole = std::make_unique<detail::worker_backend>(*std::move(made), std::move(pool));
  if (const int refused = whole->attach(); refused < 0) return fail(detail::system_error(refused));
  return std::unique_ptr<backend>(std::move(whole));
}

}  // namespace coir
