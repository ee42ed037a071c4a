// streams.hpp: the streams that come with the library: connections, bytes, readiness, ticks, and
// what changes in files.
//
// Always true:
//   - Bytes come in buffers of the worker (options::stream_buffers): who waits for data holds none,
//     and a lease gives its buffer back where it ends.
//
// Comes from: the user, coir/net.hpp.   Goes to: coir/multishot.hpp.
#pragma once

#include <cstring>
#include <string_view>

#include "coir/multishot.hpp"

namespace coir {

namespace detail {
struct lease_home;
}

/// Bytes that came, in a buffer of the worker that received them. Move-only; gives the buffer back
/// at its end, on whatever fiber or thread that is. While too many live, streams of that worker
/// receive nothing. It must end before its runtime does.
class leased_bytes {
 public:
  leased_bytes() = default;
  leased_bytes(detail::lease_home* home, unsigned buffer, std::span<const std::byte> bytes) noexcept
      : home_(home), buffer_(buffer), bytes_(bytes) {}
  leased_bytes(leased_bytes&& from) noexcept
      : home_(std::exchange(from.home_, nullptr)),
        buffer_(from.buffer_),
        bytes_(std::exchange(from.bytes_, {})) {}
  leased_bytes& operator=(leased_bytes&& from) noexcept {
    if (this != &from) {
      give_back();
      home_ = std::exchange(from.home_, nullptr);
      buffer_ = from.buffer_;
      bytes_ = std::exchange(from.bytes_, {});
    }
    return *this;
  }
  ~leased_bytes() { give_back(); }

  std::span<const std::byte> bytes() const noexcept { return bytes_; }
  std::size_t size() const noexcept { return bytes_.size(); }
  std::string_view text() const noexcept {
    return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
  }
  /// Before its end. Again: nothing.
  COIR_API void give_back() noexcept;

 private:
  detail::lease_home* home_ = nullptr;
  unsigned buffer_ = 0;
  std::span<const std::byte> bytes_;
};

/// Connections of a listening socket, with SOCK_CLOEXEC.
struct accept_stream {
  using value_type = io::unique_fd;
  static constexpr std::string_view name = "accept_stream";
  int fd = -1;
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  io::unique_fd item(std::int32_t res, std::uint32_t) const noexcept { return io::unique_fd(res); }
  /// Of one connection that failed while it waited.
  COIR_API static bool passes(std::int32_t res) noexcept;
};

/// What comes in on a socket; ends at the end of what the peer sends.
struct recv_stream {
  using value_type = leased_bytes;
  static constexpr std::string_view name = "recv_stream";
  static constexpr bool leases = true;
  int fd = -1;
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  COIR_API leased_bytes item(std::int32_t res, std::uint32_t flags) const noexcept;
  static bool ends(std::int32_t res) noexcept { return res == 0; }
};

/// What can be read(2) from a descriptor that is no regular file: a pipe, a terminal, inotify.
struct read_stream {
  using value_type = leased_bytes;
  static constexpr std::string_view name = "read_stream";
  static constexpr bool leases = true;
  int fd = -1;
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  COIR_API leased_bytes item(std::int32_t res, std::uint32_t flags) const noexcept;
  static bool ends(std::int32_t res) noexcept { return res == 0; }
};

/// Whenever something of `events` (POLLIN, POLLOUT, ...) happens: what holds. After an item one
/// does what it says until that would block, as with an edge-triggered epoll; an item may say what
/// was done already.
struct poll_stream {
  using value_type = unsigned;
  static constexpr std::string_view name = "poll_stream";
  static constexpr bool asked_each_time = true;
  int fd = -1;
  unsigned events = 0;
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  unsigned item(std::int32_t res, std::uint32_t) const noexcept {
    return static_cast<unsigned>(res);
  }
};

/// Ticks: the first one `period` from now, each later one at least `period` after the one before.
/// The item is 1. Ticks that a paused stream did not take do not come later.
struct tick_stream {
  using value_type = unsigned;
  static constexpr std::string_view name = "tick_stream";
  explicit tick_stream(clock::duration period) noexcept
      : seconds(period.count() / 1'000'000'000), nanoseconds(period.count() % 1'000'000'000) {}
  std::int64_t seconds;  // as the kernel reads them, beside each other
  std::int64_t nanoseconds;
  COIR_API void fill(io_uring_sqe& sqe) const noexcept;
  unsigned item(std::int32_t, std::uint32_t) const noexcept { return 1; }
};

/// One thing that happened to a watched file; `name` lies in the buffer that it came in.
struct file_change {
  int watch = -1;
  std::uint32_t what =
      0;  ///< IN_CREATE, IN_CLOSE_WRITE, ... of inotify(7); IN_Q_OVERFLOW: lost some
  std::uint32_t cookie = 0;  ///< the same for both halves of a rename
  std::string_view name;     ///< in a watched folder
};

/// Changes of files and folders (inotify(7)), pulled by one fiber: a multishot whose items come
/// several in one buffer. Move-only.
class COIR_API file_changes {
 public:
  /// Fibers only. Errors: those of inotify_init1(2), and of a stream.
  [[nodiscard]] static result<file_changes> watch(const stream_options& o = {});
  /// Adds a file or a folder; its number, which changes of it carry. Errors: those of
  /// inotify_add_watch(2).
  [[nodiscard]] result<int> add(const char* path, std::uint32_t what);
  /// The next change. It is valid until the next call. Errors: those of multishot::next;
  /// operation_canceled also after the end; invalid_argument when a name is longer than
  /// options::stream_buffer_bytes less 17.
  [[nodiscard]] result<file_change> next(deadline until = never);
  /// What waits here, without a park; empty when nothing does.
  [[nodiscard]] std::optional<result<file_change>> try_next();
  /// Buffers that wait, with one change each or more.
  std::size_t buffered() const noexcept { return stream_.buffered(); }
  /// As of a multishot; what was dropped are buffers.
  bool alive() const noexcept { return stream_.alive(); }
  void cancel() noexcept { stream_.cancel(); }
  std::uint64_t rearmed() const noexcept { return stream_.rearmed(); }
  std::uint64_t dropped() const noexcept { return stream_.dropped(); }

  struct sentinel {};
  /// `for (auto change : changes)`: each is a result<file_change>. Ends with the stream, and after
  /// an error.
  class iterator {
   public:
    using difference_type = std::ptrdiff_t;
    using value_type = result<file_change>;

    explicit iterator(file_changes& of) : of_(&of) { ++*this; }
    result<file_change> operator*() const { return *now_; }
    iterator& operator++() {
      const bool failed = now_ && !*now_;
      now_.reset();
      if (!failed) now_ = of_->next_or_end(never);
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& at, sentinel) noexcept { return !at.now_; }

   private:
    file_changes* of_;
    std::optional<result<file_change>> now_;
  };
  /// Parks for the first change.
  iterator begin() { return iterator(*this); }
  sentinel end() noexcept { return {}; }

 private:
  file_changes() = default;
  /// Empty: the stream has ended.
  std::optional<result<file_change>> next_or_end(deadline until);
  void hold(leased_bytes more) noexcept;
  bool holds_another() const noexcept { return used_ < held_.size(); }
  file_change take() noexcept;
  io::unique_fd fd_;  // before what reads from it
  multishot<leased_bytes> stream_;
  leased_bytes held_;
  std::size_t used_ = 0;  // of held_
};

}  // namespace coir
