// streams_test.cpp: streams when the outside does what a kernel may do: stops for want of buffers
// or without a reason, refuses, is late, and does not hear a cancel. T60 to T75, each with the
// kernel's help (one operation that goes on) and without it (one for each item): who pulls sees no
// difference.
//
// Always true:
//   - When the program has ended the world has as many open descriptors as before, and no buffer is
//     out.
#include <cerrno>
#include <climits>

#include "stream_sim.hpp"

using namespace stream_sim;
using namespace std::chrono_literals;

TEST_CASE("T60 streams: an item leaves a stream alive, with and without the kernel's help") {
  in_both([](sim_world& world) {
    peers p{world, {}};
    std::vector<std::uint8_t> handed_over;
    world.on_event = [&](const sim_event& e) {
      if (e.what == sim_event::kind::handed_over) handed_over.push_back(e.opcode);
    };
    const auto ended = run_in_sim(world, [&] {
      auto incoming = coir::perform(coir::accept_stream{p.listening});
      p.connect(5);
      for (int i = 0; i < 5; ++i) CHECK(incoming.next()->has_value());
      CHECK(incoming.alive());
      CHECK(incoming.rearmed() == 0);
      CHECK(incoming.next(coir::in(1us)).error() == std::errc::timed_out);
    });
    CHECK(ended.has_value());
    const auto accepts = std::ranges::count(handed_over, std::uint8_t{IORING_OP_ACCEPT});
    CHECK((accepts == 1 || accepts == 6));
  });
}

TEST_CASE(
    "T62 streams: the error of one item leaves the stream alive; T63 another ends it, told once") {
  in_both([](sim_world& world) {
    peers p{world, {}};
    world.rule({.opcode = IORING_OP_ACCEPT, .result = -ECONNABORTED, .items_max = 0});
    const auto ended = run_in_sim(world, [&] {
      auto incoming = coir::perform(coir::accept_stream{p.listening});
      CHECK(incoming.next().error() == std::errc::connection_aborted);
      CHECK(incoming.alive());
      p.connect(2);
      CHECK(take_all(incoming) == 2);
      CHECK(incoming.alive());
    });
    CHECK(ended.has_value());
  });
  in_both([](sim_world& world) {
    peers p{world, {}};
    world.rule({.opcode = IORING_OP_ACCEPT, .skip = 0, .result = -EMFILE, .items_max = 0});
    const auto ended = run_in_sim(world, [&] {
      auto incoming = coir::perform(coir::accept_stream{p.listening});
      CHECK(incoming.next().error() == std::errc::too_many_files_open);
      CHECK_FALSE(incoming.alive());
      for (int i = 0; i < 3; ++i) CHECK_FALSE(incoming.next()->has_value());
      CHECK(open_now() == 0);
    });
    CHECK(ended.has_value());
  });
}

TEST_CASE("T64 streams: a slot that is used again has another name: what is late reaches nobody") {
  sim_world world;
  // Each ends after one item; and the completion of the first comes once more when the second runs.
  world.rule({.opcode = IORING_OP_TIMEOUT, .items_max = 1, .late_ns = 500'000});
  const auto ended = run_in_sim(world, [&] {
    auto ticks = coir::perform(coir::tick_stream(1ms));
    CHECK(ticks.next()->has_value());
    CHECK(ticks.next(coir::in(900us)).error() == std::errc::timed_out);
    CHECK(stale() == 1);
    CHECK(ticks.next()->has_value());
    CHECK(ticks.rearmed() == 1);
  });
  CHECK(ended.has_value());
}

TEST_CASE("T66 streams: a descriptor that does not block is waited for") {
  in_both([](sim_world& world) {
    const auto [a, b] = world.connection();
    world.set_unblocking(a);
    const auto ended = run_in_sim(world, [&, a = a, b = b] {
      auto bytes = coir::perform(coir::recv_stream{a});
      CHECK(bytes.next(coir::in(1us)).error() == std::errc::timed_out);
      CHECK(coir::io::send(b, bytes_of("one")).has_value());
      CHECK(pulled(bytes, 3) == "one");
      CHECK(coir::io::send(b, bytes_of("two")).has_value());
      CHECK(pulled(bytes, 3) == "two");
    });
    CHECK(ended.has_value());
  });
}

TEST_CASE("T67 streams: completions for nobody are counted, and what they bring is closed") {
  sim_world world;
  peers p{world, {}};
  token of_the_stream;
  world.on_event = [&](const sim_event& e) {
    if (e.what == sim_event::kind::handed_over && e.opcode == IORING_OP_ACCEPT)
      of_the_stream = e.name;
  };
  const auto ended = run_in_sim(world, [&] {
    {
      auto incoming = coir::perform(coir::accept_stream{p.listening});
      CHECK(incoming.next(coir::in(1us)).error() == std::errc::timed_out);
    }
    const std::size_t before = world.open_fds();
    const int lost = world.socket();
    world.inject({of_the_stream, lost, IORING_CQE_F_MORE});
    world.inject({of_the_stream, -EBADF, 0});
    CHECK(coir::this_fiber::sleep_for(1us).has_value());
    CHECK(stale() == 2);
    CHECK(world.open_fds() == before);
  });
  CHECK(ended.has_value());
}

TEST_CASE(
    "T68 T71 streams: a cancel and a destructor ask the kernel once, and wait for its last word") {
  in_both([](sim_world& world) {
    peers p{world, {}};
    unsigned asked = 0;
    world.on_event = [&](const sim_event& e) {
      asked += e.what == sim_event::kind::cancel_asked ? 1 : 0;
    };
    const auto ended = run_in_sim(world, [&] {
      {
        auto incoming = coir::perform(coir::accept_stream{p.listening});
        CHECK(coir::this_fiber::sleep_for(1us).has_value());
        incoming.cancel();
        incoming.cancel();
        CHECK(incoming.alive());
        CHECK_FALSE(incoming.next()->has_value());
        CHECK_FALSE(incoming.alive());
      }
      CHECK(asked == 1);
      {
        auto incoming = coir::perform(coir::accept_stream{p.listening});
        CHECK(coir::this_fiber::sleep_for(1us).has_value());
      }
      CHECK(asked == 2);
      CHECK(open_now() == 0);
    });
    CHECK(ended.has_value());
  });
}

TEST_CASE("T70 streams: a cancel that finds no room keeps the stream until it has been heard") {
  in_both([](sim_world& world) {
    const auto [a, b] = world.connection();
    const auto ended = run_in_sim(world, [&, a = a] {
      auto bytes = coir::perform(coir::recv_stream{a});
      CHECK(coir::this_fiber::sleep_for(1us).has_value());
      world.refuse_cancels(3);
      bytes.cancel();
      CHECK(coir::perform(coir::nop{}).has_value());
      CHECK(bytes.alive());
      CHECK_FALSE(bytes.next()->has_value());
      CHECK(open_now() == 0);
    });
    CHECK(ended.has_value());
  });
}

TEST_CASE("T71 streams: a cancel that loses brings connections, and they are closed") {
  in_both([](sim_world& world) {
    peers p{world, {}};
    world.rule({.opcode = IORING_OP_ACCEPT,
                .times = UINT_MAX,
                .delay_ns = 1'000,
                .cancel_answer = -EALREADY});
    const auto ended = run_in_sim(world, [&] {
      auto incoming = coir::perform(coir::accept_stream{p.listening});
      CHECK(coir::this_fiber::sleep_for(2us).has_value());
      p.connect(3);
      incoming.cancel();
    });
    CHECK(ended.has_value());
  });
}

TEST_CASE("T73 streams: a runtime that stops ends every stream of every fiber") {
  in_both([](sim_world& world) {
    peers p{world, {}};
    const auto [a, b] = world.connection();
    int ended = 0;
    std::uint64_t left = 9;
    const auto all = run_in_sim(world, [&, a = a] {
      for (int i = 0; i < 3; ++i) {
        coir::spawn([&] {
          {
            auto incoming = coir::perform(coir::accept_stream{p.listening});
            auto ticks = coir::perform(coir::tick_stream(1h));
            auto bytes = coir::perform(coir::recv_stream{a});
            CHECK(bytes.next().error() == std::errc::operation_canceled);
            CHECK(ticks.next().error() == std::errc::operation_canceled);
          }
          if (++ended == 3) left = open_now();
        }).detach();
      }
      CHECK(coir::this_fiber::sleep_for(1us).has_value());
      CHECK(open_now() == 9);
      coir::detail::current_core()->request_stop();
    });
    CHECK(all.has_value());
    CHECK(ended == 3);
    CHECK(left == 0);
    world.close(a);
    world.close(b);
  });
}

TEST_CASE("T75 streams: at capacity the kernel is asked to stop, and again at low water") {
  in_both([](sim_world& world) {
    peers p{world, {}};
    world.rule({.opcode = IORING_OP_ACCEPT, .times = UINT_MAX, .delay_ns = 1'000});
    const auto ended = run_in_sim(world, [&] {
      auto incoming =
          coir::perform(coir::accept_stream{p.listening}, {.capacity = 4, .low_water = 2});
      p.connect(20);
      CHECK(coir::this_fiber::sleep_for(1ms).has_value());
      CHECK(incoming.buffered() == 4);
      CHECK(open_now() == 0);
      CHECK(incoming.alive());
      CHECK(incoming.next()->has_value());
      CHECK(coir::this_fiber::sleep_for(1ms).has_value());
      CHECK(incoming.buffered() == 3);  // not yet at low water
      CHECK(incoming.next()->has_value());
      CHECK(coir::this_fiber::sleep_for(1ms).has_value());
      CHECK(incoming.buffered() == 4);
      CHECK(incoming.rearmed() == 1);
      CHECK(take_all(incoming) == 18);
      CHECK(incoming.dropped() == 0);
    });
    CHECK(ended.has_value());
  });
}

TEST_CASE(
    "streams: where no timer is known the clock ticks, for who waits and for who comes later") {
  sim_world world;
  world.rule({.opcode = IORING_OP_TIMEOUT, .times = UINT_MAX, .result = -EINVAL, .items_max = 0});
  const auto ended = run_in_sim(world, [&] {
    auto ticks = coir::perform(coir::tick_stream(1ms), {.capacity = 4});
    const std::int64_t began = now_ns();
    for (int i = 1; i <= 3; ++i) {
      CHECK(ticks.next()->has_value());
      CHECK(now_ns() == began + i * 1'000'000);
    }
    CHECK(ticks.next(coir::in(500us)).error() == std::errc::timed_out);
    CHECK(coir::this_fiber::sleep_for(2ms).has_value());  // two are due by now
    CHECK(ticks.try_next().has_value());
    CHECK(ticks.try_next().has_value());
    CHECK_FALSE(ticks.try_next().has_value());
    CHECK(coir::this_fiber::sleep_for(1s).has_value());
    int waiting = 0;
    while (ticks.try_next()) ++waiting;
    CHECK(waiting == 4);  // as many as fit
    ticks.cancel();
    CHECK_FALSE(ticks.next()->has_value());
  });
  CHECK(ended.has_value());
}
