// sim_faults_test.cpp: which faults fit which operation, and how often they come.
#include "runtime/sim_faults.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <cerrno>
#include <functional>
#include <set>

using namespace coir::detail;

namespace {

io_uring_sqe entry_of(std::uint8_t opcode, int fd) {
  io_uring_sqe e{};
  e.opcode = opcode;
  e.fd = fd;
  return e;
}

struct outside {
  sim_world world{{.seed = 3}};
  std::pair<int, int> connection = world.connection();
  std::pair<int, int> pipe = world.pipe();
  int listening = world.listener(80);
  sim_faults faults{world};

  /// What may come to such an operation when that one fault is certain.
  std::set<std::int32_t> answers(std::uint8_t opcode, int fd,
                                 const std::function<void(io_uring_sqe&)>& more = {}) {
    std::set<std::int32_t> all;
    for (unsigned fault_chances::*one : coir::sim::all_faults) {
      fault_chances only;
      only.*one = 1000;
      only.power_cut = 0;
      faults.set(only);
      io_uring_sqe e = entry_of(opcode, fd);
      if (more) more(e);
      const sim_rule fate = ask(e);
      if (fate.result) all.insert(*fate.result);
      if (fate.resets) all.insert(-ECONNRESET);
    }
    return all;
  }

  sim_rule ask(const io_uring_sqe& e) {
    // As the world does it: what the descriptor names is known.
    const sim_open* on = nullptr;
    sim_open named;
    if (e.fd >= sim_world::first_fd) {
      named.is = e.fd == listening ? sim_open::kind::listener : sim_open::kind::end;
      if (named.is == sim_open::kind::end) {
        const bool socket = e.fd == connection.first || e.fd == connection.second;
        named.end = socket ? make_connection(8).one : make_pipe(8).one;
      }
      on = &named;
    } else if (e.fd == 5) {
      named.is = sim_open::kind::file;
      on = &named;
    }
    return world.on_fate(e, on);
  }
};

}  // namespace

TEST_CASE("sim_faults: only answers come that the operation may get") {
  outside o;
  using set = std::set<std::int32_t>;
  const int file = 5;
  CHECK(o.answers(IORING_OP_READ, file) == set{-EINTR, -EIO});
  CHECK(o.answers(IORING_OP_WRITE, file) == set{-EINTR, -EIO, -ENOSPC});
  CHECK(o.answers(IORING_OP_FSYNC, file) == set{-EINTR, -EIO});
  CHECK(o.answers(IORING_OP_RECV, o.connection.first) ==
        set{-EAGAIN, -EINTR, -ECANCELED, -ENOMEM, -ECONNRESET});
  CHECK(o.answers(IORING_OP_SEND, o.connection.first) ==
        set{-EAGAIN, -EINTR, -ECANCELED, -ENOMEM, -ECONNRESET, -ENOBUFS});
  CHECK(o.answers(IORING_OP_READ, o.pipe.first) == set{-EAGAIN, -EINTR, -ECANCELED, -ENOMEM});
  CHECK(o.answers(IORING_OP_ACCEPT, o.listening) ==
        set{-EAGAIN, -EINTR, -ECANCELED, -ENOMEM, -EMFILE, -ECONNABORTED});
  CHECK(o.answers(IORING_OP_OPENAT, -100) == set{-EINTR, -ENOMEM, -EMFILE});
  CHECK(o.answers(IORING_OP_OPENAT, -100, [](io_uring_sqe& e) { e.open_flags = O_CREAT; }) ==
        set{-EINTR, -ENOMEM, -EMFILE, -ENOSPC});
  CHECK(o.answers(IORING_OP_CLOSE, file) == set{-EINTR});
  CHECK(o.answers(IORING_OP_TIMEOUT, -1) == set{});
  CHECK(o.answers(IORING_OP_NOP, -1) == set{});
}

TEST_CASE("sim_faults: what goes on is not told to try again, and ends after some items") {
  outside o;
  const auto many = [](io_uring_sqe& e) { e.ioprio = IORING_RECV_MULTISHOT; };
  CHECK(o.answers(IORING_OP_RECV, o.connection.first, many) ==
        std::set<std::int32_t>{-ECANCELED, -ENOMEM, -ECONNRESET});
  o.faults.set({.stream_ends = 1000});
  io_uring_sqe e = entry_of(IORING_OP_RECV, o.connection.first);
  CHECK_FALSE(o.ask(e).items_max);
  many(e);
  CHECK(o.ask(e).items_max.value_or(0) >= 1);
}

TEST_CASE("sim_faults: what brings a descriptor or a lent buffer does not come twice") {
  outside o;
  o.faults.set({.duplicate = 1000});
  CHECK(o.ask(entry_of(IORING_OP_RECV, o.connection.first)).duplicates == 1);
  CHECK(o.ask(entry_of(IORING_OP_ACCEPT, o.listening)).duplicates == 0);
  io_uring_sqe lent = entry_of(IORING_OP_RECV, o.connection.first);
  lent.flags = IOSQE_BUFFER_SELECT;
  CHECK(o.ask(lent).duplicates == 0);
}

TEST_CASE("sim_faults: they come as often as their chances say, and never after stop") {
  outside o;
  o.faults.set({.short_transfer = 100, .interrupted = 200, .delayed = 50});
  const io_uring_sqe e = entry_of(IORING_OP_RECV, o.connection.first);
  unsigned shorts = 0, interrupted = 0, delayed = 0;
  for (int i = 0; i < 10000; ++i) {
    const sim_rule fate = o.ask(e);
    shorts += fate.bytes_max.has_value();
    interrupted += fate.result == -EINTR;
    delayed += fate.delay_ns.has_value();
  }
  CHECK(shorts > 800);
  CHECK(shorts < 1200);
  CHECK(interrupted > 1700);
  CHECK(interrupted < 2300);
  CHECK(delayed > 350);
  CHECK(delayed < 650);
  CHECK(o.faults.count()[0] == shorts);
  o.faults.stop();
  const std::uint64_t made = o.world.dice().made();
  for (int i = 0; i < 100; ++i) {
    CHECK_FALSE(o.ask(e).bytes_max);
    CHECK_FALSE(o.world.on_entry(false));
    CHECK(o.world.on_pause(0) == 0);
  }
  CHECK(o.world.dice().made() == made);
}

TEST_CASE("sim_faults: a list of zeros is no fault at all, whatever the chances are") {
  outside o;
  o.faults.set(fault_chances::every(900));
  o.world.dice().replay({});
  for (const std::uint8_t opcode : {IORING_OP_RECV, IORING_OP_SEND, IORING_OP_READ}) {
    const sim_rule fate = o.ask(entry_of(opcode, o.connection.first));
    CHECK_FALSE(fate.result);
    CHECK_FALSE(fate.bytes_max);
    CHECK_FALSE(fate.delay_ns);
    CHECK(fate.hold_ns == 0);
    CHECK(fate.duplicates == 0);
  }
  CHECK_FALSE(o.world.on_entry(true));
  CHECK(o.world.on_pause(0) == 0);
  const fault_chances drawn = drawn_chances(fault_chances::every(900), o.world.dice());
  for (unsigned fault_chances::*one : coir::sim::all_faults) CHECK(drawn.*one == 0);
}

TEST_CASE("sim_faults: a worker is paused by chance, and that is counted") {
  outside o;
  o.faults.set({.worker_paused = 500});
  unsigned paused = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::int64_t ns = o.world.on_pause(0);
    CHECK(ns <= sim_faults::delay_max_ns);
    paused += ns > 0;
  }
  CHECK(paused > 400);
  CHECK(paused < 600);
  CHECK(o.faults.count()[std::size(coir::sim::all_faults) - 2] == paused);
}

TEST_CASE("sim_faults: a cut by chance cuts the power of the world") {
  outside o;
  bool told = false;
  o.world.crash_after(0, [&] { told = true; });
  o.faults.set({.power_cut = 1000});
  (void)o.ask(entry_of(IORING_OP_NOP, -1));
  CHECK(o.world.crashed());
  CHECK(told);
}
