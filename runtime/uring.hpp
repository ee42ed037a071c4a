// uring.hpp: the backend that is the kernel's io_uring. Hot; how a ring comes to life is in
// uring_setup.
//
// Always true:
//   - The ring belongs to its worker's thread (SINGLE_ISSUER, created disabled, enabled by attach)
//     and is entered nowhere else.
//   - With DEFER_TASKRUN completions become visible only by entering, so pending() watches the
//     taskrun and overflow flags.
//   - A few submission entries are kept for cancels: a full queue never keeps a deadline from being
//     heard.
//   - user_data is written on every entry, and links, CQE_SKIP and personality are never set.
//
// Comes from: flight, worker.   Goes to: io_uring_enter(2).
#pragma once

#include <liburing.h>

#include <functional>
#include <memory>
#include <string>

#include "coir/options.hpp"
#include "coir/result.hpp"
#include "runtime/backend.hpp"

namespace coir::detail {

class uring final : public backend {
 public:
  /// Takes over a ring and an eventfd that uring_setup made.
  uring(const io_uring& ring, int bell_fd) noexcept;
  ~uring() override;

  int attach() noexcept override;
  void detach() noexcept override;
  bool submit(const io_uring_sqe& entry, token t, bool urgent) noexcept override;
  std::int32_t send_now(const io_uring_sqe& entry) noexcept override;
  bool waits_inside(int fd) const noexcept override;
  bool goes_on(std::uint8_t opcode) const noexcept override;
  int fix_buffers(memory_ranges all) noexcept override;
  int lend_buffers(std::byte* first, unsigned count, unsigned bytes) noexcept override;
  void return_buffer(unsigned buffer) noexcept override;
  bool cancel(token target) noexcept override;
  bool cancel_fd(int fd) noexcept override;
  void wait(std::int64_t until_ns) noexcept override;
  bool woke_early() const noexcept override { return woke_early_; }
  unsigned reap(completion_sink sink) noexcept override;
  bool pending() const noexcept override;
  bool ready() const noexcept override;
  void wake() noexcept override;
  std::int64_t now_ns() const noexcept override;
  const backend_counts& counts() const noexcept override { return counts_; }
  const char* name() const noexcept override { return "uring"; }
  int native_fd() const noexcept override;

 private:
  io_uring_sqe* entry(bool urgent) noexcept;
  io_uring_sqe* own_entry() noexcept;
  void use_fixed(io_uring_sqe& e) const noexcept;
  void arm_bell() noexcept;
  void enter_failed(int n, std::int64_t until_ns, bool came) noexcept;
  int sleep(const __kernel_timespec* limit) noexcept;
  int sleep_elsewhere(const __kernel_timespec* limit) noexcept;
  void back_off(std::int64_t until_ns) noexcept;
  unsigned flags_of_queue() const noexcept;

  io_uring ring_;
  int bell_fd_;
  bool bell_armed_ = false;
  bool registered_ = false;  // with the thread that attached: ring_ knows its index there
  bool woke_early_ = false;
  mutable int told_by_ = -1;    // readable when the kernel has something for us; see native_fd()
  bool stale_taskrun_ = false;  // the last enter left the flag and brought nothing
  mutable unsigned stale_looks_ = 0;
  unsigned kept_for_cancels_;
  io_uring_buf* lent_ = nullptr;  // a ring that the kernel takes from; null: none were lent
  std::byte* lent_first_ = nullptr;
  unsigned lent_count_ = 0;
  unsigned lent_bytes_ = 0;
  fixed_map fixed_;  // what the kernel knows beforehand
  backend_counts counts_;
};

/// The line for errno `error` of io_uring_setup(2): cause and remedy.
/// `sysctl` is kernel.io_uring_disabled; below 0: read from /proc.
std::string refusal_text(int error, unsigned entries, long sysctl = -1);

/// What RLIMIT_MEMLOCK is, for a line of the log.
std::string memlock_text();

/// Makes one disabled ring, or says why the kernel refuses: one line naming the cause (sysctl,
/// seccomp, kernel, memlock, file descriptors) and the remedy goes to `log`, and
/// the errno is returned. Nothing is left behind. `only`: the kernel takes these opcodes and no
/// others; null: all.
result<std::unique_ptr<backend>> make_uring(unsigned entries,
                                            const std::function<void(const log_record&)>& log,
                                            const opcodes* only = nullptr);

}  // namespace coir::detail
