// lent_memory_test.cpp: what a fiber lends with an operation is the kernel's until the call
// returns, and never afterwards.
//
// Always true:
//   - Every buffer here lies on the stack of a fiber, where an early return would hand it to
//     others.
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <climits>

#include "in_sim.hpp"

using namespace sim_test;
using namespace std::chrono_literals;

namespace {

/// The operations that lend memory to be written, each on what it needs.
struct lender {
  const char* name;
  std::uint8_t opcode;
};
constexpr lender lenders[] = {{"read", IORING_OP_READ},
                              {"readv", IORING_OP_READV},
                              {"recv", IORING_OP_RECV},
                              {"accept", IORING_OP_ACCEPT},
                              {"statx", IORING_OP_STATX}};

enum class moment { before_submission, submitted, working, done_and_unseen };
constexpr moment moments[] = {moment::before_submission, moment::submitted, moment::working,
                              moment::done_and_unseen};

struct place {
  int end;
  int file;
  int listener;
};

struct outcome {
  std::error_code error;
  bool changed_later = false;
};

/// Lends the frame's memory, and then sits on it: no byte may change once the call has returned.
outcome lend_and_watch(const place& on, std::uint8_t opcode) {
  struct {
    std::array<std::byte, 256> buffer{};
    struct ::statx status {};
    sockaddr_storage address{};
    unsigned address_bytes = sizeof(sockaddr_storage);
  } frame;
  outcome o;
  const auto keep_error = [&o](const auto& r) {
    if (!r) o.error = r.error();
  };
  switch (opcode) {
    case IORING_OP_READ:
      keep_error(coir::io::read(on.end, frame.buffer));
      break;
    case IORING_OP_READV: {
      const std::array<iovec, 2> parts{
          {{frame.buffer.data(), 100}, {frame.buffer.data() + 100, 100}}};
      keep_error(coir::io::readv(on.end, parts));
      break;
    }
    case IORING_OP_RECV:
      keep_error(coir::io::recv(on.end, frame.buffer));
      break;
    case IORING_OP_ACCEPT: {
      auto* const address = reinterpret_cast<sockaddr*>(&frame.address);
      const auto fd = coir::io::accept(on.listener, address, &frame.address_bytes);
      keep_error(fd);
      if (fd) (void)coir::io::close(*fd);
      break;
    }
    default:
      keep_error(coir::io::statx(AT_FDCWD, "folder/file", 0, 0x7ff, frame.status));
  }
  std::array<std::byte, sizeof frame> after;
  std::memcpy(after.data(), &frame, sizeof frame);
  for (int i = 0; i < 20; ++i) {  // other fibers, other operations, other scribbles
    (void)coir::perform(coir::nop{});
    coir::this_fiber::yield();
  }
  o.changed_later = std::memcmp(after.data(), &frame, sizeof frame) != 0;
  return o;
}

outcome cancelled_at(moment when, std::uint8_t opcode, sim_world& world) {
  place on{};
  on.end = world.connection().first;
  on.listener = world.listener(1);
  sim_rule r{.opcode = opcode};
  if (when == moment::working) {
    r.cancel_answer = -EALREADY;
    r.delay_ns = 1000;
  } else if (when == moment::done_and_unseen) {
    r.result = opcode == IORING_OP_ACCEPT ? -ECONNABORTED : 0;
    r.hold_ns = 1'000'000;
  } else {
    r.until_cancelled = true;
  }
  world.rule(r);
  outcome seen;
  const auto ended = run_in_sim(world, [&] {
    // Begun, but until this fiber parks nothing is handed over to the kernel.
    auto lending = start([&] { seen = lend_and_watch(on, opcode); });
    if (when != moment::before_submission) REQUIRE(coir::this_fiber::sleep_for(1us).has_value());
    lending.cancel();
    (void)lending.join();
  });
  REQUIRE(ended.has_value());
  return seen;
}

}  // namespace

TEST_CASE("C1: no byte of a frame changes after the call that lent it has returned") {
  for (const lender& l : lenders) {
    for (const moment when : moments) {
      CAPTURE(l.name);
      CAPTURE(static_cast<int>(when));
      sim_world world({}, {{"folder/file", coir::detail::sim_file::bytes(10)}});
      const outcome seen = cancelled_at(when, l.opcode, world);
      CHECK_FALSE(seen.changed_later);
      CHECK_MESSAGE(world.memory.violations() == 0, world.describe());
      CHECK(world.memory.lent() == 0);
      if (when == moment::done_and_unseen) {
        if (l.opcode != IORING_OP_ACCEPT) CHECK_FALSE(seen.error);
      } else if (when != moment::working || l.opcode != IORING_OP_STATX) {
        CHECK(seen.error == std::errc::operation_canceled);
      }
    }
  }
}

TEST_CASE("C1: control: a program that writes into memory it has lent is found out") {
  sim_world world;
  const int end = world.connection().first;
  const auto ended = run_in_sim(world, [&] {
    std::array<std::byte, 64> buffer{};
    auto reader = coir::spawn([&] { (void)coir::io::recv(end, buffer); });
    REQUIRE(coir::this_fiber::sleep_for(1us).has_value());
    buffer[10] = ~buffer[10];
    REQUIRE(coir::this_fiber::sleep_for(1us).has_value());
    reader.cancel();
    (void)reader.join();
  });
  REQUIRE(ended.has_value());
  CHECK(world.memory.violations() != 0);
  CHECK(world.memory.first_violation().find("the buffer") != std::string::npos);
}

TEST_CASE("C1: control: a program that changes what it is writing is found out") {
  sim_world world;
  world.rule({.opcode = IORING_OP_SEND, .delay_ns = 1000});
  const auto [end, other] = world.connection();
  const auto ended = run_in_sim(world, [&, fd = end] {
    std::array<std::byte, 64> buffer{};
    auto writer = coir::spawn([&] { (void)coir::io::send(fd, buffer); });
    REQUIRE(coir::this_fiber::sleep_for(100ns).has_value());
    buffer[63] = std::byte{1};
    (void)writer.join();
  });
  REQUIRE(ended.has_value());
  CHECK(world.memory.violations() != 0);
  CHECK(world.memory.first_violation().find("what is to be written") != std::string::npos);
  (void)other;
}

TEST_CASE("C19: iovec arrays, paths and addresses live until the last completion") {
  sim_world world;
  world.rule({.times = UINT_MAX, .delay_ns = 1000});  // everything is read long after submission
  const int port = world.listener(80);
  const auto [reader, writer] = world.pipe();
  const auto ended = run_in_sim(world, [&, in = reader, out = writer] {
    std::vector<coir::handle<void>> all;
    // A frame that ends at once would take its array along while the operation is under way.
    all.push_back(coir::spawn([&] {
      std::string one = "one ", two = "two";
      const std::array<iovec, 2> parts{{{one.data(), one.size()}, {two.data(), two.size()}}};
      CHECK(coir::io::writev(out, parts).value() == 7);
    }));
    all.push_back(coir::spawn([&] {
      std::array<char, 3> one{};
      std::array<char, 4> two{};
      const std::array<iovec, 2> parts{{{one.data(), one.size()}, {two.data(), two.size()}}};
      CHECK(coir::io::readv(in, parts).value() == 7);
      CHECK(std::string(two.data(), 4) == " two");
    }));
    all.push_back(coir::spawn([&] {
      const std::string path = "a path that is longer than a small string holds";
      const int fd = coir::io::open(path.c_str(), O_CREAT | O_RDWR, 0600).value();
      CHECK(coir::io::close(fd).has_value());
    }));
    all.push_back(coir::spawn([&] {
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port = htons(80);
      const int fd = world.socket();
      CHECK(coir::io::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to).has_value());
    }));
    all.push_back(coir::spawn([&] {
      sockaddr_in from{};
      unsigned from_bytes = sizeof from;
      const auto fd =
          coir::io::accept(port, reinterpret_cast<sockaddr*>(&from), &from_bytes).value();
      CHECK(from.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
      CHECK(from_bytes == sizeof from);
      CHECK(coir::io::close(fd).has_value());
    }));
    for (auto& h : all) REQUIRE(h.join().has_value());
  });
  REQUIRE(ended.has_value());
  CHECK_MESSAGE(world.memory.violations() == 0, world.describe());
  CHECK(world.disk.content().size() == 1);
}

TEST_CASE("C19: control: an iovec array that changes while it is lent is found out") {
  sim_world world;
  world.rule({.opcode = IORING_OP_WRITEV, .delay_ns = 1000});
  const auto [reader, writer] = world.pipe();
  const auto ended = run_in_sim(world, [&, out = writer] {
    std::string text = "text";
    std::array<iovec, 1> parts{{{text.data(), text.size()}}};
    auto writing = coir::spawn([&] { (void)coir::io::writev(out, parts); });
    REQUIRE(coir::this_fiber::sleep_for(100ns).has_value());
    parts[0].iov_len = 1;
    (void)writing.join();
  });
  REQUIRE(ended.has_value());
  CHECK(world.memory.first_violation().find("iovec") != std::string::npos);
  (void)reader;
}
