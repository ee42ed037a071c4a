// streams_bounds_test.cpp: what a full stream does, what becomes of leases, and the kinds of stream
// that come with the library, on the real ring.
//
// Always true:
//   - After a stream no descriptor, no buffer and no operation is left of it.
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include "stream_world.hpp"

using namespace std::chrono_literals;
using namespace stream_test;

TEST_CASE(
    "T75 a full stream asks the kernel to stop, goes on when it has drained, and loses nothing") {
  test::on_fiber([] {
    server s;
    auto incoming = coir::perform(coir::accept_stream{s.fd}, {.capacity = 4, .low_water = 1});
    s.connect(40);
    wait_for(incoming, 4);
    while (open_now() != 0) CHECK(coir::perform(coir::nop{}).has_value());
    int taken = 0;
    for (; taken < 40; ++taken) REQUIRE(incoming.next()->has_value());
    CHECK(incoming.dropped() == 0);
    s.connect(1);
    CHECK(incoming.next()->has_value());
    CHECK(incoming.rearmed() != 0);
  });
}

TEST_CASE("T75 what finds no place in the completion queue comes all the same, each once") {
  const std::size_t before = descriptors_open();
  const auto ended = coir::run(
      [] {
        server s;
        s.connect(100);  // at once, and there is room for eight completions
        auto incoming = coir::perform(coir::accept_stream{s.fd});
        for (int i = 0; i < 100; ++i) REQUIRE(incoming.next()->has_value());
        CHECK(incoming.buffered() == 0);
        if (test::on_a_ring("a stream whose completions find no place"))
          CHECK(incoming.rearmed() != 0);
      },
      test::tested({.workers = 1, .ring_entries = 2}));
  CHECK(ended.has_value());
  CHECK(descriptors_open() == before);
}

TEST_CASE("T75 a stream that is to end when it is full says so after what came") {
  test::on_fiber([] {
    server s;
    auto incoming = coir::perform(coir::accept_stream{s.fd},
                                  {.capacity = 2, .when_full = coir::overflow::cancel});
    s.connect(5);
    while (incoming.alive()) CHECK(coir::perform(coir::nop{}).has_value());
    std::size_t came = 0;
    std::error_code why;
    for (auto one : incoming) {
      if (one) ++came;
      if (!one) why = one.error();
    }
    CHECK(came >= 3);
    CHECK(why == std::errc::no_buffer_space);
    CHECK_FALSE(incoming.next()->has_value());
  });
}

TEST_CASE("T75 a stream may keep the newest, and says how many it dropped") {
  const std::size_t before = descriptors_open();
  test::on_fiber([] {
    server s;
    auto incoming = coir::perform(coir::accept_stream{s.fd},
                                  {.capacity = 3, .when_full = coir::overflow::drop_oldest});
    s.connect(10);
    while (incoming.buffered() + incoming.dropped() < 10)
      CHECK(coir::perform(coir::nop{}).has_value());
    CHECK(incoming.buffered() == 3);
    CHECK(incoming.dropped() == 7);
  });
  CHECK(descriptors_open() == before);
}

TEST_CASE(
    "T76 leases that nobody gives back stop a stream, and one that comes back starts it again") {
  const auto body = [] {
    const sockets pair;
    auto bytes = coir::perform(coir::recv_stream{pair.one});
    const std::string sent(64 * 12, 's');
    pair.send(sent);
    std::vector<coir::leased_bytes> held;
    while (held.size() < 4) held.push_back(std::move(**bytes.next()));
    CHECK(bytes.next(coir::in(1ms)).error() == std::errc::timed_out);
    CHECK(here().buffers()->out() == 4);
    CHECK(bytes.alive());
    std::string all;
    for (auto& one : held) all += one.text();
    held.clear();
    while (all.size() < sent.size()) all += (*bytes.next())->text();
    CHECK(all == sent);
    CHECK(bytes.rearmed() != 0);
    CHECK(here().buffers()->out() == 0);
  };
  CHECK(
      coir::run(body, test::tested({.workers = 1, .stream_buffers = 4, .stream_buffer_bytes = 64}))
          .has_value());
}

TEST_CASE("T76 streams that nobody reads stop no other, and lose nothing") {
  const auto body = [] {
    const std::array<sockets, 3> unread;
    const sockets pair;
    std::vector<coir::multishot<coir::leased_bytes>> waiting;
    std::string sent;
    for (int i = 0; i < 64 * 6; ++i) sent += static_cast<char>('a' + i % 26);
    for (const sockets& each : unread) {
      waiting.push_back(coir::perform(coir::recv_stream{each.one}));
      each.send(sent);
    }
    while (here().buffers()->out() < 4) CHECK(coir::perform(coir::nop{}).has_value());
    auto bytes = coir::perform(coir::recv_stream{pair.one});
    pair.send("one that is read");
    auto read = bytes.next(coir::in(3s));
    REQUIRE(read.has_value());
    auto lease = std::move(**read);
    CHECK(lease.text() == "one that is read");
    CHECK(here().buffers()->aside() != 0);
    // One that came aside may end elsewhere too.
    auto far =
        coir::spawn([lease = std::move(**waiting[0].next())] { return std::string(lease.text()); });
    std::string all = *far.join();
    for (auto& each : waiting) {
      while (all.size() < sent.size()) all += (*each.next())->text();
      CHECK(all == sent);
      all.clear();
    }
    pair.send("again");
    lease.give_back();
    CHECK((**bytes.next()).text() == "again");
    while (here().buffers()->out() + here().buffers()->aside() != 0) coir::this_fiber::yield();
  };
  CHECK(
      coir::run(body, test::tested({.workers = 2, .stream_buffers = 4, .stream_buffer_bytes = 64}))
          .has_value());
}

TEST_CASE(
    "T76 a stream that floods and is not read holds what it may, however often others starve") {
  const auto body = [] {
    const sockets flooding, pair;
    auto unread = coir::perform(coir::recv_stream{flooding.one}, {.capacity = 8, .low_water = 2});
    auto bytes = coir::perform(coir::recv_stream{pair.one});
    const std::string much(4096, 'f');
    std::size_t sent = 0;
    for (int i = 0; i < 300; ++i) {
      const auto n = ::send(flooding.other, much.data(), much.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n > 0) sent += static_cast<std::size_t>(n);
      pair.send("read");
      const auto one = bytes.next(coir::in(3s));
      REQUIRE(one.has_value());
      REQUIRE((**one).text() == "read");
      REQUIRE(unread.buffered() <= 8 + 4);  // what came before the kernel heard of it
    }
    std::size_t came = 0;
    while (came < sent) came += (**unread.next()).size();
    CHECK(came == sent);
  };
  CHECK(
      coir::run(body, test::tested({.workers = 1, .stream_buffers = 4, .stream_buffer_bytes = 64}))
          .has_value());
}

TEST_CASE("T76 streams of a fiber that yields and does not read them stop no other") {
  const auto body = [] {
    const sockets held, pair;
    bool done = false;
    auto yielding = coir::spawn([&] {
      auto unread = coir::perform(coir::recv_stream{held.one});
      held.send(std::string(64 * 12, 'u'));
      while (!done) coir::this_fiber::yield();
    });
    auto bytes = coir::perform(coir::recv_stream{pair.one});
    while (here().buffers()->out() < 4) CHECK(coir::perform(coir::nop{}).has_value());
    pair.send("read");
    const auto one = bytes.next(coir::in(3s));
    CHECK(one.has_value());
    done = true;
    CHECK(yielding.join().has_value());
  };
  CHECK(
      coir::run(body, test::tested({.workers = 1, .stream_buffers = 4, .stream_buffer_bytes = 64}))
          .has_value());
}

TEST_CASE("T76 a lease may end on another worker, and its buffer comes home") {
  test::on_fiber(
      [] {
        const sockets pair;
        const unsigned home = coir::this_fiber::worker();
        auto bytes = coir::perform(coir::recv_stream{pair.one});
        pair.send("travels");
        auto lease = std::move(**bytes.next());
        auto far = coir::spawn([lease = std::move(lease)] { return std::string(lease.text()); },
                               {.worker = 1 - home});
        CHECK(far.join() == std::string("travels"));
        while (here().buffers()->out() != 0) coir::this_fiber::yield();
      },
      2);
}

TEST_CASE("streams: readiness comes as a stream, without the data") {
  test::on_fiber([] {
    sockets pair;
    auto ready = coir::perform(coir::poll_stream{pair.one, POLLIN});
    for (int i = 0; i < 5; ++i) {
      pair.send("x");
      auto holds = ready.next();
      REQUIRE(holds.has_value());
      CHECK((**holds & POLLIN) != 0);
      char c = 0;
      CHECK(::recv(pair.one, &c, 1, MSG_DONTWAIT) == 1);
    }
    ::close(std::exchange(pair.other, -1));
    CHECK((**ready.next() & POLLHUP) != 0);
  });
}

TEST_CASE("streams: ticks come one after the other, and not while nobody wants more") {
  test::on_fiber([] {
    const auto began = coir::clock::now();
    auto ticks = coir::perform(coir::tick_stream(2ms), {.capacity = 2, .low_water = 0});
    for (int i = 0; i < 5; ++i) CHECK(ticks.next().value() == 1u);
    CHECK(coir::clock::now() - began >= 10ms);
    CHECK(coir::this_fiber::sleep_for(20ms).has_value());
    CHECK(ticks.buffered() <= 3);
  });
}

TEST_CASE("streams: what changes in a folder comes as a stream") {
  char folder[] = "/tmp/coir_changes_XXXXXX";
  REQUIRE(::mkdtemp(folder) != nullptr);
  const std::string file = std::string(folder) + "/made";
  test::on_fiber([&] {
    auto changes = coir::file_changes::watch();
    REQUIRE(changes.has_value());
    const auto watch = changes->add(folder, IN_CREATE | IN_DELETE);
    REQUIRE(watch.has_value());
    for (int i = 0; i < 3; ++i) {
      const int fd = ::open(file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
      REQUIRE(fd >= 0);
      ::close(fd);
      REQUIRE(::unlink(file.c_str()) == 0);
      const auto made = changes->next();
      REQUIRE(made.has_value());
      CHECK(made->watch == *watch);
      CHECK(made->name == "made");
      CHECK((made->what & IN_CREATE) != 0);
      CHECK((changes->next()->what & IN_DELETE) != 0);
    }
    CHECK(changes->next(coir::in(1ms)).error() == std::errc::timed_out);
    CHECK_FALSE(changes->add("/nowhere/at/all", IN_CREATE).has_value());
    CHECK_FALSE(changes->try_next().has_value());

    for (const char* const name : {"/a", "/b", "/c"})
      REQUIRE(::mkdir((folder + std::string(name)).c_str(), 0700) == 0);
    std::string seen;
    for (auto change : *changes) {
      REQUIRE(change.has_value());
      seen += change->name;
      if (seen.size() == 1) CHECK(changes->try_next().value()->name == "b");
      if (seen.size() == 2) changes->cancel();  // what came is given, then the loop ends
    }
    CHECK(seen == "ac");
    CHECK_FALSE(changes->alive());
    CHECK(changes->buffered() + changes->dropped() == 0);
    CHECK(changes->next().error() == std::errc::operation_canceled);
    for (const char* const name : {"/a", "/b", "/c"}) ::rmdir((folder + std::string(name)).c_str());
  });
  ::rmdir(folder);
}

TEST_CASE("streams: a cancelled fiber is told so, and its stream is drained by its destructor") {
  test::on_fiber([] {
    const sockets pair;
    auto puller = coir::spawn([&] {
      auto bytes = coir::perform(coir::recv_stream{pair.one});
      std::size_t items = 0;
      std::error_code why;
      for (auto part : bytes) {
        ++items;
        if (!part) why = part.error();
      }
      CHECK(items == 1);
      CHECK(why == std::errc::operation_canceled);
      CHECK(bytes.alive());
    });
    test::settle();
    puller.cancel();
    CHECK(puller.join().has_value());
    CHECK(open_now() == 0);
  });
}

TEST_CASE("streams: they are bound to their fiber, which cannot move away with one") {
  test::on_fiber(
      [] {
        const sockets pair;
        const unsigned home = coir::this_fiber::worker();
        auto bytes = coir::perform(coir::recv_stream{pair.one});
        auto other = coir::spawn(
            [&] {
              CHECK(bytes.next(coir::no_wait).error() == coir::errc::wrong_operation);
              CHECK_FALSE(bytes.try_next().has_value());
              bytes.cancel();
            },
            {.worker = home});
        CHECK(other.join().has_value());
        CHECK(bytes.alive());
        auto mover = coir::spawn(
            [&] {
              auto ticks = coir::perform(coir::tick_stream(1h));
              CHECK(coir::this_fiber::move_to(1 - home).error() == coir::errc::wrong_operation);
            },
            {.sw = coir::switcher::cross_thread_no_float, .worker = home});
        CHECK(mover.join().has_value());
      },
      2);
}

TEST_CASE(
    "streams: connections and their bytes come as streams, and end with what they belong to") {
  const std::size_t before = descriptors_open();
  test::on_fiber(
      [] {
        auto listening = coir::net::tcp_listener::listen();
        REQUIRE(listening.has_value());
        auto clients = coir::spawn([port = listening->port()] {
          for (int i = 0; i < 5; ++i) {
            auto stream = coir::net::tcp_stream::connect("127.0.0.1", port);
            REQUIRE(stream.has_value());
            REQUIRE(stream->write_all("says hello").has_value());
            REQUIRE(stream->shutdown_write().has_value());
            std::array<std::byte, 10> back;
            CHECK(stream->read_exact(back).has_value());
          }
        });
        {
          auto incoming = listening->incoming();
          for (int i = 0; i < 5; ++i) {
            auto one = incoming.next();
            REQUIRE(one.has_value());
            REQUIRE(one->has_value());
            auto bytes = (*one)->incoming_bytes();
            for (auto part : bytes) {
              REQUIRE(part.has_value());
              CHECK((*one)->write_all(part->text()).has_value());
            }
          }
          CHECK(clients.join().has_value());
          CHECK(listening->close().has_value());
          CHECK(incoming.next().error() == std::errc::operation_canceled);
          CHECK_FALSE(incoming.next()->has_value());
        }
        auto late = listening->incoming();
        CHECK(late.next().error() == std::errc::bad_file_descriptor);
      },
      2);
  CHECK(descriptors_open() == before);
}
