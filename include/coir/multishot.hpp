// multishot.hpp: streams: one operation, many answers, pulled by one fiber that may do anything
// else between two of them.
//
// Always true:
//   - The operation is under way while its fiber runs, or is parked in something else; what comes
//     meanwhile waits here, in order, and ends no other park.
//   - It is bounded: at `capacity` waiting items the kernel is asked to stop, and goes on when only
//     `low_water` are left. What was on its way by then is kept, so no descriptor and no byte is
//     lost; that alone may exceed `capacity`.
//   - It is re-armed unseen when the kernel stops for want of buffers, for a full completion queue,
//     or for reasons of its own; where the kernel knows no such operation it is submitted once for
//     each item.
//   - After its destructor the kernel has nothing of it: descriptors that nobody took are closed,
//     buffers are given back.
//
// Comes from: the user, coir/streams.hpp.   Goes to: coir/detail/lasting.hpp.
#pragma once

#include <iterator>
#include <memory>
#include <optional>

#include "coir/detail/lasting.hpp"

namespace coir {

// What a multishot_operation may say beside what the concept asks for. Whether the kernel shall
// give more than one answer for its entry is decided by the runtime.
//   static bool ends(std::int32_t res)     this completion is the end, and no item
//   static bool passes(std::int32_t res)   this error concerns one item, and the stream goes on
//   static constexpr bool leases           items lie in buffers of the worker, which item() takes
//                                          over (see leased_bytes)
//   static constexpr bool asked_each_time  without the kernel's help it is submitted when an item
//                                          is asked for, and not before

/// What becomes of a stream when `capacity` items wait. `pause`: it stops and goes on later.
/// `cancel`: it ends, and says no_buffer_space after what had come. `drop_oldest`: the oldest item
/// makes room, is disposed of and counted.
using overflow = detail::fullness;

struct stream_options {
  /// Items that wait, 1 to 65536. Each of a byte stream holds one of options::stream_buffers, or
  /// memory of its own where others need that.
  unsigned capacity = 64;
  unsigned low_water = 16;  ///< a paused stream goes on when so few are left; at most capacity - 1
  overflow when_full = overflow::pause;
  bool auto_rearm = true;  ///< false: where the kernel stops, the stream ends
};

/// Where the items come from of a stream that is none of the backend's: what a handler answers with
/// (dispatched<multishot<T>>::done). Called by whoever has the stream.
template <class T>
class item_source {
 public:
  item_source() = default;
  item_source(const item_source&) = delete;
  item_source& operator=(const item_source&) = delete;
  virtual ~item_source() = default;

  /// The next item; empty: it has ended, and is not asked again. An error is that of one item; with
  /// operation_canceled a range-for ends. May park, and perform whatever it likes.
  [[nodiscard]] virtual result<std::optional<T>> next(deadline until) = 0;
  /// An item that needs no wait.
  [[nodiscard]] virtual std::optional<result<T>> try_next() { return std::nullopt; }
  virtual std::size_t buffered() const noexcept { return 0; }
  /// Items that came are still given; then next() is to be empty.
  virtual void cancel() noexcept = 0;
};

/// Move-only. Its calls: only the fiber that performed the operation; another one gets
/// errc::wrong_operation, a plain thread errc::not_in_fiber, and try_next gives both nothing. While
/// it lives its fiber cannot move_to another worker. The destructor cancels and waits for the last
/// completion; on another worker it stops the process. What waits, and the kernel's part, is one
/// allocation.
template <class T>
class multishot {
 public:
  using value_type = T;
  using item_function = T (*)(const void* op, std::int32_t res, std::uint32_t flags);

  multishot() = default;
  /// What perform() calls.
  multishot(const detail::lasting_kind& kind, const void* op, const stream_options& o,
            item_function make, const io::unique_fd* owner = nullptr)
      : held_(kind, op, {o.capacity, o.low_water, o.when_full, o.auto_rearm}, owner), make_(make) {}
  /// One that was refused: next() says why, once.
  explicit multishot(std::error_code why) noexcept : refused_(why) {}
  /// Whoever has it asks `source`, which ends with it. On any fiber and thread.
  explicit multishot(std::unique_ptr<item_source<T>> source) noexcept
      : source_(std::move(source)) {}
  /// The same; `pull(until)` is item_source::next, until a cancel.
  template <class F>
  [[nodiscard]] static multishot from(F pull) {
    struct pulls final : item_source<T> {
      explicit pulls(F f) : pull(std::move(f)) {}
      [[nodiscard]] result<std::optional<T>> next(deadline until) override {
        if (over) return std::optional<T>();
        return pull(until);
      }
      void cancel() noexcept override { over = true; }
      F pull;
      bool over = false;
    };
    return multishot(std::unique_ptr<item_source<T>>(std::make_unique<pulls>(std::move(pull))));
  }

  /// The next item; parks while there is none. Empty: the stream has ended. An error of one item
  /// leaves alive() as it is; the error that ends the stream is told once, after the items before
  /// it, and then it has ended. Errors: those of the operation; operation_canceled when the fiber
  /// is cancelled (the stream goes on until it is destroyed) or the descriptor was closed (it has
  /// ended); timed_out (it goes on); no_buffer_space after overflow::cancel; and what it was
  /// refused with: bad_file_descriptor, invalid_argument (capacity), not_enough_memory.
  [[nodiscard]] result<std::optional<T>> next(deadline until = never) {
    if (source_ != nullptr) return from_source(until);
    if (held_.get() == nullptr) return refused();
    return made(detail::pull(*held_.get(), until));
  }
  /// What waits here, without a park; empty when nothing does. The end is not told: see alive().
  [[nodiscard]] std::optional<result<T>> try_next() {
    if (source_ != nullptr) return ended_ ? std::nullopt : source_->try_next();
    if (held_.get() == nullptr) return std::nullopt;
    const detail::pulled p = detail::pull_now(*held_.get());
    if (p.is != detail::pulled::kind::item) return std::nullopt;
    return one(p);
  }
  /// How many items wait.
  std::size_t buffered() const noexcept {
    return source_ != nullptr ? source_->buffered() : counts().buffered;
  }
  /// False once its last completion has come. Items may wait all the same.
  bool alive() const noexcept {
    if (source_ != nullptr) return !ended_;
    return held_.get() != nullptr && !detail::lasting_over(*held_.get());
  }
  /// Asks for the end: items that came are still given, then next() is empty. alive() until the
  /// last completion. Again: nothing.
  void cancel() noexcept {
    if (source_ != nullptr) return source_->cancel();
    if (held_.get() != nullptr) detail::cancel_lasting(*held_.get());
  }
  /// How often the kernel had stopped, or was stopped because the stream was full, and was asked
  /// again. Without the kernel's help each item is an operation; that does not count.
  std::uint64_t rearmed() const noexcept { return counts().rearmed; }
  /// Items that nobody will see: overflow::drop_oldest, or no memory to keep one that came after
  /// the stream was full (which ends it with not_enough_memory).
  std::uint64_t dropped() const noexcept { return counts().dropped; }
  /// False for a default one and for one that was refused.
  explicit operator bool() const noexcept { return held_.get() != nullptr || source_ != nullptr; }

  struct sentinel {};
  /// `for (auto item : stream)`: each item is a result<T>. Ends with the stream, and after an error
  /// that is not of one item: a cancel of the fiber is the last item then.
  class iterator {
   public:
    using difference_type = std::ptrdiff_t;
    using value_type = result<T>;

    explicit iterator(multishot& of) : of_(&of) { ++*this; }
    result<T> operator*() { return std::move(*now_); }
    iterator& operator++() {
      now_.reset();
      if (last_) return *this;
      auto pulled = of_->next();
      if (pulled) {
        if (pulled->has_value()) now_.emplace(std::move(**pulled));
      } else {
        now_.emplace(fail(pulled.error()));
        last_ = of_->stopped_;
      }
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& at, sentinel) noexcept { return !at.now_; }

   private:
    multishot* of_;
    std::optional<result<T>> now_;
    bool last_ = false;
  };
  /// Parks for the first item.
  iterator begin() { return iterator(*this); }
  sentinel end() noexcept { return {}; }

 private:
  detail::lasting_counts counts() const noexcept {
    return held_.get() != nullptr ? detail::counts_of(*held_.get()) : detail::lasting_counts{};
  }
  [[nodiscard]] result<std::optional<T>> refused() {
    stopped_ = true;
    if (refused_) return fail(std::exchange(refused_, {}));
    if (held_.why() == 0) return std::optional<T>();
    const std::error_code why = detail::io_error(held_.why());
    held_.tell(0);
    return fail(why);
  }
  [[nodiscard]] result<std::optional<T>> from_source(deadline until) {
    if (ended_) return std::optional<T>();
    auto got = source_->next(until);
    stopped_ = !got && got.error() == std::errc::operation_canceled;
    ended_ = got && !got->has_value();
    return got;
  }
  [[nodiscard]] result<T> one(const detail::pulled& p) {
    if (p.what.res < 0) return fail(detail::io_error(p.what.res));
    return make_(detail::description_of(*held_.get()), p.what.res, p.what.flags);
  }
  [[nodiscard]] result<std::optional<T>> made(const detail::pulled& p) {
    stopped_ = p.is == detail::pulled::kind::refused;
    switch (p.is) {
      case detail::pulled::kind::item:
        break;
      case detail::pulled::kind::end:
        return std::optional<T>();
      case detail::pulled::kind::refused:
        return fail(detail::io_error(p.why));
    }
    auto item = one(p);
    if (!item) return fail(item.error());
    return std::optional<T>(std::move(*item));
  }

  detail::lasting_holder held_;
  item_function make_ = nullptr;
  std::unique_ptr<item_source<T>> source_;  // in place of an operation
  std::error_code refused_;                 // by a handler, and not told yet
  bool stopped_ = false;                    // the last error was none of an item
  bool ended_ = false;                      // the source has said so
};

namespace detail {

template <class Op>
inline constexpr lasting_kind stream_kind = {
    .bytes = sizeof(Op),
    .alignment = alignof(Op),
    .copy = &copy_description<Op>,
    .destroy = &destroy_description<Op>,
    .fill = &fill_from<Op>,
    .ends =
        [] {
          bool (*says)(std::int32_t) noexcept = nullptr;
          if constexpr (requires { Op::ends(0); })
            says = [](std::int32_t res) noexcept { return Op::ends(res); };
          return says;
        }(),
    .passes =
        [] {
          bool (*says)(std::int32_t) noexcept = nullptr;
          if constexpr (requires { Op::passes(0); })
            says = [](std::int32_t res) noexcept { return Op::passes(res); };
          return says;
        }(),
    .many = true,
    .leases =
        [] {
          if constexpr (requires { Op::leases; }) return Op::leases;
          return false;
        }(),
    .asked_each_time =
        [] {
          if constexpr (requires { Op::asked_each_time; }) return Op::asked_each_time;
          return false;
        }(),
};

template <class Op>
multishot<typename Op::value_type> stream_of(const Op& op, const stream_options& o,
                                             const io::unique_fd* owner = nullptr) {
  return {stream_kind<Op>, &op, o,
          [](const void* self, std::int32_t res, std::uint32_t flags) {
            return static_cast<const Op*>(self)->item(res, flags);
          },
          owner};
}

/// How a stream is asked for; whoever is asked sees the first member alone.
template <class Op>
struct asked_stream {
  Op op;
  stream_options options;
  const io::unique_fd* owner;
};

template <stream_operation Op>
void open_stream(const void* asked, deadline, void* answer) {
  const auto& what = *static_cast<const asked_stream<Op>*>(asked);
  static_cast<std::optional<result<answer_type<Op>>>*>(answer)->emplace(
      stream_of(what.op, what.options, what.owner));
}

template <stream_operation Op>
[[nodiscard]] answer_type<Op> perform_stream(const Op& op, const stream_options& o,
                                             const io::unique_fd* owner = nullptr) {
  if (!handlers_are_there()) return stream_of(op, o, owner);
  const asked_stream<Op> what{op, o, owner};
  std::optional<result<answer_type<Op>>> answer;
  effect_call call{&type_of<Op>, &what, &answer, never, nullptr, false};
  switch (ask_handlers(call)) {
    case reply::answered:
      return *answer ? *std::move(*answer) : answer_type<Op>(answer->error());
    case reply::forward:
      return stream_of(op, o, owner);
    default:
      return answer_type<Op>(call.why_refused());
  }
}

}  // namespace detail

/// Asks the handlers of the calling fiber; where none answers, starts `op`, a copy of it. The
/// stream of its items. Fibers only, unless a handler answers: with a stream of its own. What was
/// refused is told by next().
template <stream_operation Op>
[[nodiscard]] multishot<typename Op::value_type> perform(const Op& op,
                                                         const stream_options& o = {}) {
  return detail::perform_stream(op, o);
}

}  // namespace coir
