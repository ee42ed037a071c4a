// scripted_outside.hpp: a backend that answers when the test says so.
#pragma once

#include <linux/io_uring.h>

#include <cerrno>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "coir/loop.hpp"

namespace test {

using coir::result;

class scripted_outside final : public coir::backend {
 public:
  struct taken {
    coir::token name;
    std::uint8_t opcode;
    int about;
  };
  std::deque<taken> flying;
  std::deque<coir::completion> ready;
  std::vector<coir::token> cancelled;
  std::vector<std::size_t> asked_for;
  std::vector<int> forgotten;
  std::error_code refuse_submit, refuse_reap;
  int refuse_after = -1;  // so many are taken first
  std::size_t room = SIZE_MAX;
  unsigned submits = 0, reaps = 0, waits = 0, disposed = 0;
  bool answers_cancels = true;
  bool answers_at_once = false;  // each operation with what it is about
  unsigned handed_over = 0;

  result<> submit(const io_uring_sqe& e, coir::token name) override {
    ++submits;
    if (refuse_submit && refuse_after-- <= 0) return coir::fail(std::exchange(refuse_submit, {}));
    if (flying.size() >= room) return coir::fail(std::errc::operation_would_block);
    flying.push_back({name, e.opcode, static_cast<int>(e.len)});
    if (answers_at_once) answer(name, static_cast<int>(e.len));
    return {};
  }
  void hand_over() override { ++handed_over; }
  result<> cancel(coir::token name) override {
    cancelled.push_back(name);
    if (answers_cancels) {
      for (const taken& t : flying)
        if (t.name == name) {
          answer(t.name, -ECANCELED);
          break;
        }
    }
    return {};
  }
  result<std::size_t> reap(std::span<coir::completion> into) override {
    ++reaps;
    asked_for.push_back(into.size());
    if (refuse_reap) return coir::fail(refuse_reap);
    std::size_t n = 0;
    for (; n < into.size() && !ready.empty(); ++n, ready.pop_front()) into[n] = ready.front();
    return n;
  }
  result<> wait(coir::deadline) override {
    ++waits;
    if (on_wait) on_wait();
    return {};
  }
  void dispose(const coir::completion&) noexcept override { ++disposed; }
  void forget(int fd) noexcept override { forgotten.push_back(fd); }
  coir::clock::time_point now() const override { return at; }

  void answer(coir::token name, int res, std::uint32_t flags = 0) {
    ready.push_back({name, res, flags});
    if ((flags & IORING_CQE_F_MORE) == 0)
      std::erase_if(flying, [&](const taken& t) { return t.name == name; });
  }
  void answer_first(int res) { answer(flying.front().name, res); }
  std::function<void()> on_wait;
  coir::clock::time_point at{std::chrono::seconds(1)};
};

/// One of the kernel's, with a value that the script gives.
struct get_value {
  using value_type = int;
  static constexpr std::string_view name = "test.get_value";
  int about = 0;
  void fill(io_uring_sqe& e) const noexcept {
    e.opcode = IORING_OP_NOP;
    e.fd = -1;
    e.len = static_cast<std::uint32_t>(about);
  }
  int complete(std::int32_t res) const noexcept { return res; }
};

inline int value(int about = 0) { return coir::perform(get_value{about}).value_or(-1); }

struct small_world {
  scripted_outside outside;
  coir::loop in = coir::loop::make(outside).value();
};

}  // namespace test
