// streams_test.cpp: streams on the real ring: what the kernel gives for one submission, and what is
// left when it ends. The tests are the acceptance tests T60 to T76 as far as a kernel can be made
// to show them; those that need faults are in tests/sim/streams_test.cpp.
//
// Always true:
//   - After a stream no descriptor, no buffer and no operation is left of it.
#include "coir/streams.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>

#include "stream_world.hpp"

using namespace std::chrono_literals;
using namespace stream_test;

TEST_CASE("T60 an item leaves a stream alive, and one submission gives many") {
  test::on_fiber([] {
    server s;
    auto incoming = coir::perform(coir::accept_stream{s.fd});
    REQUIRE(incoming);
    CHECK(coir::perform(coir::nop{}).has_value());
    const std::uint64_t before = sqes();
    s.connect(20);
    for (int i = 0; i < 20; ++i) {
      auto one = incoming.next();
      REQUIRE(one.has_value());
      REQUIRE(one->has_value());
      CHECK((*one)->get() >= 0);
      CHECK(incoming.alive());
      (void)(*one)->release();  // closed below, without an entry
      ::close(s.clients.back());
      s.clients.pop_back();
    }
    if (test::on_a_ring("one submission for many items")) CHECK(sqes() == before);
    CHECK(incoming.rearmed() == 0);
  });
}

TEST_CASE("T60 between two items the fiber does anything else, and no other park is ended") {
  test::on_fiber([] {
    const sockets pair;
    auto bytes = coir::perform(coir::recv_stream{pair.one});
    pair.send("first");
    const auto until = coir::in(20ms);
    CHECK(coir::this_fiber::sleep_until(until).has_value());
    CHECK(coir::clock::now() >= until);
    CHECK(bytes.buffered() == 1);
    auto one = bytes.next();
    CHECK((*one)->text() == "first");
    coir::mutex m;
    {
      const std::lock_guard held(m);
      pair.send("second");
      CHECK(coir::perform(coir::nop{}).has_value());
    }
    CHECK((*bytes.next())->text() == "second");
  });
}

TEST_CASE("T61 a live stream with nothing in it says so, and stays") {
  test::on_fiber([] {
    const sockets pair;
    auto bytes = coir::perform(coir::recv_stream{pair.one});
    CHECK_FALSE(bytes.try_next().has_value());
    CHECK(bytes.buffered() == 0);
    CHECK(bytes.alive());
    pair.send("x");
    wait_for(bytes, 1);
    CHECK(bytes.try_next().has_value());
  });
}

TEST_CASE("T63 the end of what a peer sends is the end of the stream, and stays it") {
  test::on_fiber([] {
    sockets pair;
    auto bytes = coir::perform(coir::recv_stream{pair.one});
    pair.send("all ");
    CHECK(coir::perform(coir::nop{}).has_value());
    pair.send("of it");
    ::close(std::exchange(pair.other, -1));
    CHECK(all_of(bytes) == "all of it");
    CHECK_FALSE(bytes.alive());
    for (int i = 0; i < 3; ++i) CHECK_FALSE(bytes.next()->has_value());
    CHECK(here().buffers()->out() == 0);
    CHECK(open_now() == 0);
  });
}

TEST_CASE("T65 what cannot be started says why, once, and disturbs nobody") {
  test::on_fiber([] {
    const sockets pair;
    auto good = coir::perform(coir::recv_stream{pair.one});
    auto bad = coir::perform(coir::recv_stream{1 << 19});
    CHECK(bad.next().error() == std::errc::bad_file_descriptor);
    CHECK_FALSE(bad.next()->has_value());
    auto no_socket = coir::perform(coir::accept_stream{pair.one});
    CHECK_FALSE(no_socket.next().has_value());
    CHECK_FALSE(no_socket.next()->has_value());
    auto empty = coir::perform(coir::recv_stream{pair.one}, {.capacity = 0});
    CHECK(empty.next().error() == std::errc::invalid_argument);
    pair.send("still here");
    CHECK((*good.next())->text() == "still here");
  });
}

TEST_CASE(
    "T66 a wait that is over leaves the stream as it is; a descriptor that does not block too") {
  test::on_fiber([] {
    const sockets pair;
    REQUIRE(::fcntl(pair.one, F_SETFL, O_NONBLOCK) == 0);
    auto bytes = coir::perform(coir::recv_stream{pair.one});
    CHECK(bytes.next(coir::in(1ms)).error() == std::errc::timed_out);
    CHECK(bytes.next(coir::no_wait).error() == std::errc::timed_out);
    CHECK(bytes.alive());
    pair.send("late");
    CHECK((*bytes.next())->text() == "late");
  });
}

TEST_CASE("T68 a cancel asks once; what came is still given, then the stream has ended") {
  test::on_fiber([] {
    const sockets pair;
    auto bytes = coir::perform(coir::recv_stream{pair.one});
    pair.send("came");
    wait_for(bytes, 1);
    const std::uint64_t before = here().operations().cancels();
    bytes.cancel();
    bytes.cancel();
    CHECK(bytes.alive());
    CHECK(here().operations().cancels() == before + 1);
    CHECK((*bytes.next())->text() == "came");
    CHECK_FALSE(bytes.next()->has_value());
    CHECK_FALSE(bytes.alive());
    bytes.cancel();
    CHECK(here().operations().cancels() == before + 1);
  });
}

TEST_CASE("T73 a runtime that stops ends every stream of every fiber") {
  auto made = coir::runtime::create(test::tested({.workers = 1}));
  REQUIRE(made.has_value());
  const auto all = (*made)->run([&] {
    server s;
    int ended = 0;
    for (int i = 0; i < 3; ++i)
      coir::spawn([&] {
        {
          sockets pair;
          auto incoming = coir::perform(coir::accept_stream{s.fd});
          auto ticks = coir::perform(coir::tick_stream(1h));
          auto bytes = coir::perform(coir::recv_stream{pair.one});
          CHECK(bytes.next().error() == std::errc::operation_canceled);
          CHECK(ticks.next().error() == std::errc::operation_canceled);
        }
        ++ended;
      }).detach();
    while (open_now() < 9) coir::this_fiber::yield();
    (*made)->request_stop();
    while (ended != 3) coir::this_fiber::yield();
    CHECK(open_now() == 0);
  });
  CHECK(all.has_value());
}

TEST_CASE("T74 who looks without waiting leaves the error of the end to who waits, once") {
  test::on_fiber([] {
    sockets pair;
    auto bytes = coir::perform(coir::recv_stream{pair.one});
    CHECK_FALSE(bytes.try_next().has_value());
    CHECK(coir::io::close(std::exchange(pair.one, -1)).has_value());
    while (bytes.alive()) coir::this_fiber::yield();
    for (int i = 0; i < 2; ++i) CHECK_FALSE(bytes.try_next().has_value());
    CHECK(bytes.next().error() == std::errc::operation_canceled);
    CHECK_FALSE(bytes.try_next().has_value());
    CHECK_FALSE(bytes.next()->has_value());
  });
}

TEST_CASE("T69 there is nothing to cancel in a stream that is none") {
  coir::multishot<unsigned> none;
  none.cancel();
  CHECK_FALSE(none.alive());
  CHECK_FALSE(none.try_next().has_value());
  test::on_fiber([&] { CHECK_FALSE(none.next()->has_value()); });
}

TEST_CASE("T71 the destructor closes connections that nobody took, and leaves nothing open") {
  const std::size_t before = descriptors_open();
  test::on_fiber([] {
    server s;
    {
      auto incoming = coir::perform(coir::accept_stream{s.fd});
      s.connect(10);
      wait_for(incoming, 10);
      auto one = incoming.next();
      CHECK(one->has_value());
    }
    CHECK(open_now() == 0);
  });
  CHECK(descriptors_open() == before);
}

TEST_CASE(
    "T71 a stream that ends while its kernel operation pauses, and one that an exception ends") {
  const std::size_t before = descriptors_open();
  test::on_fiber([] {
    server s;
    for (int round = 0; round < 3; ++round) {
      try {
        auto incoming = coir::perform(coir::accept_stream{s.fd}, {.capacity = 2, .low_water = 0});
        s.connect(8);
        wait_for(incoming, 2);
        if (round == 1) CHECK(coir::perform(coir::nop{}).has_value());
        throw round;
      } catch (int) {
      }
      CHECK(open_now() == 0);
    }
  });
  CHECK(descriptors_open() == before);
}

TEST_CASE("T74 close of the descriptor ends a stream with operation_canceled, told once") {
  test::on_fiber([] {
    for (const unsigned capacity : {64u, 1u}) {  // under way, and at rest because it is full
      server s;
      auto incoming = coir::perform(coir::accept_stream{s.fd}, {.capacity = capacity});
      s.connect(3);
      wait_for(incoming, 1);
      while (capacity == 1 && open_now() != 0) CHECK(coir::perform(coir::nop{}).has_value());
      CHECK(coir::io::close(std::exchange(s.fd, -1)).has_value());
      CHECK_FALSE(incoming.alive());
      CHECK(open_now() == 0);
      std::optional<std::error_code> why;
      for (auto one : incoming)
        if (!one) why = one.error();
      CHECK(why == std::errc::operation_canceled);
      CHECK_FALSE(incoming.next()->has_value());
    }
  });
}
