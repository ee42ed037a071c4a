// mailed_on_test.cpp: a fiber that a joiner's own look into the mail sends on to a neighbour, who
// has started it before the joiner looks again.
//
// Always true:
//   - Who rings worker 1 comes back only when the fiber runs there, so the order is always the
//     same.
//   - The fiber ends only when the joiner has parked.
//
// Comes from: ctest.   Goes to: runtime/join.cpp, runtime/placing.cpp.
#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "coir/coir.hpp"
#include "runtime/runtime.hpp"
#include "runtime/uring.hpp"
#include "tests/test_options.hpp"

using namespace coir::detail;

namespace {

void wait_for(const auto& what) {
  while (!what()) std::this_thread::yield();
}

/// A ring; whoever wakes its worker does `after_wake` then.
class slow_bell final : public backend {
 public:
  slow_bell(std::unique_ptr<backend> inner, std::function<void()> after_wake)
      : inner_(std::move(inner)), after_wake_(std::move(after_wake)) {}
  int attach() noexcept override { return inner_->attach(); }
  void detach() noexcept override { inner_->detach(); }
  bool submit(const io_uring_sqe& e, token t, bool urgent) noexcept override {
    return inner_->submit(e, t, urgent);
  }
  bool cancel(token target) noexcept override { return inner_->cancel(target); }
  bool cancel_fd(int fd) noexcept override { return inner_->cancel_fd(fd); }
  void wait(std::int64_t until_ns) noexcept override { inner_->wait(until_ns); }
  bool woke_early() const noexcept override { return inner_->woke_early(); }
  unsigned reap(completion_sink sink) noexcept override { return inner_->reap(sink); }
  bool pending() const noexcept override { return inner_->pending(); }
  bool ready() const noexcept override { return inner_->ready(); }
  void wake() noexcept override {
    inner_->wake();
    after_wake_();
  }
  std::int64_t now_ns() const noexcept override { return inner_->now_ns(); }
  const backend_counts& counts() const noexcept override { return inner_->counts(); }
  const char* name() const noexcept override { return "slow bell"; }

 private:
  std::unique_ptr<backend> inner_;
  std::function<void()> after_wake_;
};

template <class F>
auto spawn_in(runtime_core& core, F body, const coir::spawn_options& o = {}) {
  return spawn_waiting(&core, std::move(body), o, coir::site::here());
}

}  // namespace

TEST_CASE("mailed_on: who joins a fiber that its own look into the mail sends on waits from afar") {
  std::atomic<bool> armed{false}, started{false}, go{false};
  const auto until_it_runs = [&] {
    if (armed) wait_for([&] { return started.load(); });
  };
  auto made = runtime_core::create(
      test::tested({.workers = 2, .deflect_threshold = 1024}),
      [&](unsigned i, const coir::options& o) -> coir::result<std::unique_ptr<backend>> {
        auto ring = make_uring(o.ring_entries, o.log);
        if (!ring || i == 0) return ring;
        return std::unique_ptr<backend>(
            std::make_unique<slow_bell>(std::move(*ring), until_it_runs));
      });
  REQUIRE(made.has_value());
  runtime_core& core = **made;
  REQUIRE(core.start().has_value());
  worker& other = core.at(1);
  const auto travels = [&] {
    if (!armed) return;
    started = true;
    wait_for([&] { return go.load(); });
  };
  auto joiner =
      spawn_in(core,
               [&] {
                 // While both have something to do, a thread's fibers go to them in turn, by mail.
                 std::atomic<bool> held{false}, free{false};
                 auto holder = spawn_in(core,
                                        [&] {
                                          held = true;
                                          wait_for([&] { return free.load(); });
                                        },
                                        {.worker = 1});
                 wait_for([&] { return held.load(); });
                 std::vector<coir::handle<void>> mailed;
                 std::thread([&] {
                   for (int i = 0; i < 2; ++i) mailed.push_back(spawn_in(core, travels));
                 }).join();
                 const auto here = [&](const coir::handle<void>& h) {
                   return static_cast<record*>(core.records.at(h.id().slot))->home.load() == 0;
                 };
                 CHECK(here(mailed[0]) != here(mailed[1]));
                 auto& target = here(mailed[0]) ? mailed[0] : mailed[1];
                 auto& elsewhere = here(mailed[0]) ? mailed[1] : mailed[0];
                 // The other worker ends what it has, and sleeps.
                 const std::uint64_t slept = other.counts().sleeps.get();
                 free = true;
                 wait_for([&] { return holder.done() && elsewhere.done(); });
                 wait_for([&] {
                   return other.counts().sleeps.get() > slept &&
                          other.resting() == rest::for_others && core.hungry.any(2);
                 });
                 // One waits, so whoever comes is one too many beside a hungry neighbour.
                 std::vector<coir::handle<void>> waiting;
                 waiting.push_back(coir::spawn([] {}));
                 const std::uint64_t parks = worker::current()->counts().parks.get();
                 const std::uint64_t sent_before = worker::current()->counts().deflected_out.get();
                 worker& mine = *worker::current();
                 std::thread lets_go([&] {
                   wait_for([&] { return mine.counts().parks.get() != parks; });
                   go = true;
                 });
                 armed = true;
                 CHECK(target.join().has_value());
                 CHECK(started);
                 CHECK(worker::current()->counts().deflected_out.get() != sent_before);
                 CHECK(coir::this_fiber::worker() == 0);
                 lets_go.join();
                 armed = false;
                 for (auto& each : waiting) CHECK(each.join().has_value());
                 CHECK(elsewhere.join().has_value());
                 CHECK(holder.join().has_value());
               },
               {.worker = 0});
  CHECK_FALSE(core.wait_for_all());
  CHECK(joiner.join().has_value());
  CHECK(core.shutdown(never_ns).has_value());
}
