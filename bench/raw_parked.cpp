// raw_parked.cpp: a great many stacks by hand, each parked in a read of one pipe behind three
// functions: the least memory that this can take.
//
// Always true:
//   - A context is the first touched page of its stack and 64 bytes beside it; the read is with an
//     io_uring of our own, and ends with the end of the file.
//
// Comes from: rows_parked.cpp.   Goes to: raw_switch.hpp, raw_ring.hpp.
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "bench/peers.hpp"
#include "bench/raw_ring.hpp"
#include "bench/raw_switch.hpp"

namespace bench {

#if defined(__x86_64__)

namespace {

using raw::context;

struct alignas(64) reader {
  context me;
  int res = 0;
};

class parking {
 public:
  parking(std::size_t count, std::size_t stack_bytes)
      : ring_(1024, 1 << 16), stacks_(count, stack_bytes), all_(count) {
    if (::pipe(ends_) != 0) throw std::system_error(errno, std::system_category(), "pipe");
  }
  parking(const parking&) = delete;
  parking& operator=(const parking&) = delete;
  ~parking() { ::close(ends_[0]); }

  void create() {
    here = this;
    for (std::size_t i = 0; i < all_.size(); ++i) {
      raw::prepare(all_[i].me, stacks_.top(i), &live);
      enter(all_[i]);
    }
    ring_.submit();
  }

  void end() {
    ::close(ends_[1]);
    for (std::size_t left = all_.size(); left != 0;)
      left -= ring_.turn(1, [this](const io_uring_cqe& cqe) {
        auto& one = *reinterpret_cast<reader*>(cqe.user_data);
        one.res = cqe.res;
        enter(one);
      });
    if (ended_ != all_.size()) throw std::logic_error("a reader did not end");
  }

 private:
  void enter(reader& one) {
    running_ = &one;
    raw::switch_inlined(loop_, one.me);
  }

  static void live(context*, context*) {
    parking& p = *here;
    reader& me = *p.running_;
    if (p.first(me) == 0) ++p.ended_;
    raw::switch_inlined(me.me, p.loop_);
    __builtin_unreachable();
  }

  [[gnu::noinline]] int first(reader& me) {
    const int got = second(me);
    asm volatile("# frame 1");
    return got;
  }
  [[gnu::noinline]] int second(reader& me) {
    const int got = third(me);
    asm volatile("# frame 2");
    return got;
  }
  [[gnu::noinline]] int third(reader& me) {
    char byte = 0;
    const int got = read(me, &byte);
    asm volatile("# frame 3");
    return got;
  }
  [[gnu::noinline]] int read(reader& me, char* into) {
    io_uring_sqe* sqe = ring_.next();
    if (sqe == nullptr) {
      ring_.submit();
      sqe = ring_.next();
    }
    io_uring_prep_read(sqe, ends_[0], into, 1, 0);
    sqe->user_data = reinterpret_cast<std::uint64_t>(&me);
    raw::switch_inlined(me.me, loop_);
    return me.res;
  }

  static parking* here;
  int ends_[2] = {-1, -1};
  raw::ring ring_;
  const raw::stacks stacks_;
  std::vector<reader> all_;
  context loop_;
  reader* running_ = nullptr;
  std::size_t ended_ = 0;
};
parking* parking::here = nullptr;

}  // namespace

sample raw_parked(std::size_t count, std::size_t stack_bytes) {
  parking all(count, stack_bytes);
  const std::int64_t began = now_ns();
  all.create();
  const std::int64_t created = now_ns() - began;
  const double bytes = resident_bytes() / static_cast<double>(count);
  const std::int64_t ending = now_ns();
  all.end();
  return {bytes, static_cast<double>(created + now_ns() - ending) / static_cast<double>(count)};
}

#else

sample raw_parked(std::size_t, std::size_t) {
  throw std::logic_error("no raw switch for this CPU");
}

#endif

}  // namespace bench
