// mailbox_test.cpp: a bounded box with one reader: exact bounds, wraps, and nothing lost or
// doubled.
//
// Always true:
//   - The records are only addresses here; nobody looks into them.
//
// Comes from: runtime/mailbox.hpp.   Goes to: ctest.
#include "runtime/mailbox.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "runtime/fiber.hpp"

using namespace coir::detail;

TEST_CASE("mailbox: a full mailbox refuses, and takes again as soon as one was taken out") {
  for (const std::uint32_t capacity : {1u, 2u, 3u, 5u, 8u}) {
    CAPTURE(capacity);
    mailbox box(capacity);
    std::vector<record> fibers(capacity + 1);
    for (int wrap = 0; wrap < 20; ++wrap) {
      for (std::uint32_t i = 0; i < capacity; ++i) REQUIRE(box.send(fibers[i]));
      CHECK_FALSE(box.send(fibers[capacity]));
      CHECK_FALSE(box.send(fibers[capacity]));
      CHECK(box.depth() == capacity);
      CHECK(box.take() == &fibers[0]);
      CHECK(box.send(fibers[0]));
      CHECK_FALSE(box.send(fibers[capacity]));
      for (std::uint32_t i = 1; i < capacity; ++i) REQUIRE(box.take() == &fibers[i]);
      REQUIRE(box.take() == &fibers[0]);
      CHECK(box.take() == nullptr);
      CHECK(box.empty());
    }
  }
}

TEST_CASE("mailbox: mail that was only begun is no mail yet, and holds back what lies behind it") {
  for (const std::uint32_t capacity : {2u, 3u, 4u}) {
    CAPTURE(capacity);
    mailbox box(capacity);
    std::vector<record> fibers(3);
    CHECK_FALSE(box.waits());
    for (int wrap = 0; wrap < 10; ++wrap) {
      const bool sent = box.send(fibers[0], [&] {
        CHECK_FALSE(box.empty());
        CHECK_FALSE(box.waits());
        CHECK(box.take() == nullptr);
        CHECK(box.send(fibers[1]));  // nobody waits for the one that stands here
        CHECK(box.depth() == 2);
        CHECK_FALSE(box.waits());
        CHECK(box.take() == nullptr);
        CHECK(box.send(fibers[2]) == (capacity > 2));  // its slot is in use
      });
      CHECK(sent);
      for (std::size_t i = 0; i < std::min<std::size_t>(capacity, 3); ++i) {
        CHECK(box.waits());
        CHECK(box.take() == &fibers[i]);
      }
      CHECK_FALSE(box.waits());
      CHECK(box.empty());
    }
  }
}

TEST_CASE("mailbox: every mix of sends and takes gives what a plain queue of that bound gives") {
  for (const std::uint32_t capacity : {1u, 2u, 3u}) {
    for (unsigned program = 0; program < 1u << 12; ++program) {
      mailbox box(capacity);
      std::vector<record> fibers(12);
      std::vector<record*> model;
      for (unsigned step = 0; step < 12; ++step) {
        if ((program >> step & 1) != 0) {
          const bool room = model.size() < capacity;
          REQUIRE(box.send(fibers[step]) == room);
          if (room) model.push_back(&fibers[step]);
        } else {
          record* const wanted = model.empty() ? nullptr : model.front();
          REQUIRE(box.take() == wanted);
          if (wanted != nullptr) model.erase(model.begin());
        }
        REQUIRE(box.depth() == model.size());
      }
    }
  }
}

TEST_CASE(
    "mailbox: many senders into a small box: each letter arrives once, each sender's in order") {
  for (const std::uint32_t capacity : {1u, 2u, 3u, 4u, 64u}) {
    CAPTURE(capacity);
    constexpr unsigned senders = 3;
    // Every letter that fills the box waits for another thread's turn, and on a busy machine that
    // is a time slice of somebody else's.
    const unsigned rounds = 250 * capacity;
    mailbox box(capacity);
    std::vector<std::vector<record>> fibers(senders);
    for (auto& own : fibers) own = std::vector<record>(rounds);
    std::vector<std::thread> threads;
    for (unsigned s = 0; s < senders; ++s)
      threads.emplace_back([&, s] {
        for (unsigned n = 0; n < rounds; ++n) {
          // Written before the send, read after the take: the box has to carry it over.
          fibers[s][n].line = static_cast<int>(n);
          fibers[s][n].slot = s;
          while (!box.send(fibers[s][n])) std::this_thread::yield();
        }
      });
    std::vector<unsigned> next(senders, 0);
    unsigned out_of_order = 0;
    for (unsigned taken = 0; taken < senders * rounds;) {
      record* const r = box.take();
      if (r == nullptr) {
        std::this_thread::yield();
        continue;
      }
      ++taken;
      if (static_cast<unsigned>(r->line) != next[r->slot]++) ++out_of_order;
    }
    for (auto& t : threads) t.join();
    CHECK(out_of_order == 0);
    CHECK(next == std::vector<unsigned>(senders, rounds));
    CHECK(box.take() == nullptr);
    CHECK(box.empty());
  }
}
