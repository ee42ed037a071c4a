// four_ways.cpp: one body that looks blocking, and those who answer it: a runtime, a dispatcher of
// one's own without any kernel, whoever steps it by hand beside a poll(2), a loop inside of
// somebody else's poll(2); and, for a test, a simulated world in which things go wrong.
//
// Always true:
//   - shout() is the same function each time: it does not know who answers.
//
// Comes from: a shell.   Goes to: coir/coir.hpp.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <coir/coir.hpp>
#include <coir/sim.hpp>
#include <cstdio>
#include <cstring>
#include <string>

namespace {

/// Reads `from` to its end and writes it to `to` in capitals; how many bytes that was.
coir::result<std::size_t> shout(int from, int to) {
  std::array<std::byte, 64> some;
  std::size_t all = 0;
  for (;;) {
    const auto got = coir::io::read(from, some);
    if (!got) return got;
    if (*got == 0) return all;
    for (std::byte& each : std::span(some).first(*got))
      each = static_cast<std::byte>(std::toupper(std::to_integer<int>(each)));
    if (auto put = coir::io::write_all(to, std::span(some).first(*got)); !put)
      return coir::fail(put.error());
    all += *got;
  }
}

/// A pipe with a text in it, whose writing end is closed.
int full_pipe(std::string_view text) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0 ||
      ::write(ends[1], text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return -1;
  ::close(ends[1]);
  return ends[0];
}

/// Answers from a text and into another one: number 0 is what is read, number 1 what is written.
struct in_memory {
  using handles = coir::operations<coir::read_operation, coir::write_operation>;
  std::string_view input;
  std::string output;

  coir::dispatched<std::size_t> dispatch(const coir::read_operation& op,
                                         coir::dispatch_context<coir::read_operation>&) {
    const std::size_t n = std::min(op.into.size(), input.size());
    std::memcpy(op.into.data(), input.data(), n);
    input.remove_prefix(n);
    return coir::dispatched<std::size_t>::done(n);
  }
  coir::dispatched<std::size_t> dispatch(const coir::write_operation& op,
                                         coir::dispatch_context<coir::write_operation>&) {
    output.append(reinterpret_cast<const char*>(op.from.data()), op.from.size());
    return coir::dispatched<std::size_t>::done(op.from.size());
  }
};

/// Answers from descriptors, and never waits: it says which one has to be ready first.
struct from_descriptors {
  using handles = coir::operations<coir::read_operation, coir::write_operation>;

  coir::dispatched<std::size_t> dispatch(const coir::read_operation& op,
                                         coir::dispatch_context<coir::read_operation>&) {
    return answer(::read(op.fd, op.into.data(), op.into.size()), op.fd, POLLIN);
  }
  coir::dispatched<std::size_t> dispatch(const coir::write_operation& op,
                                         coir::dispatch_context<coir::write_operation>&) {
    return answer(::write(op.fd, op.from.data(), op.from.size()), op.fd, POLLOUT);
  }
  static coir::dispatched<std::size_t> answer(ssize_t n, int fd, unsigned events) {
    using said = coir::dispatched<std::size_t>;
    if (n >= 0) return said::done(static_cast<std::size_t>(n));
    if (errno == EAGAIN) return said::would_block({.fd = fd, .events = events});
    return said::failed(std::error_code(errno, std::generic_category()));
  }
};

/// Polls until `body` is ready, and meanwhile lets somebody else say the next line into `source`.
void poll_both(const coir::wait_hint& body, int& source, std::string_view& unsaid) {
  std::array<pollfd, 2> both{{{body.fd, static_cast<short>(body.events), 0}, {source, POLLOUT, 0}}};
  while (::poll(both.data(), both.size(), -1) > 0 && both[0].revents == 0) {
    const std::string_view line = unsaid.substr(0, unsaid.find('\n') + 1);
    unsaid.remove_prefix(line.size());
    if (line.empty() || ::write(source, line.data(), line.size()) < 0) {
      ::close(source);
      both[1].fd = source = -1;
    }
  }
}

/// One effect at a time, with a look at each, in a loop around poll(2).
coir::result<std::size_t> step_by_step(std::string_view unsaid) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_NONBLOCK) != 0)
    return coir::fail(std::error_code(errno, std::generic_category()));
  from_descriptors answers;
  auto at = coir::step([from = ends[0]] { return shout(from, 1); });
  while (at.is_suspended()) {
    const std::string name(at.waiting().op().name());
    auto stepped = coir::advance(answers, std::move(at.waiting()));
    at = std::move(stepped.state);
    if (stepped.last == coir::outcome::would_block) {
      std::printf("step: %s waits for poll\n", name.c_str());
      poll_both(stepped.hint, ends[1], unsaid);
    } else {
      std::printf("step: %s is answered\n", name.c_str());
    }
  }
  ::close(ends[0]);
  return at.value();
}

/// One test in one world: whatever is short, late or interrupted there, all is shouted.
void shouts_everything(coir::sim::world& w) {
  constexpr std::string_view text = "by chance\n", wanted = "BY CHANCE\n";
  const auto [from, source] = w.pipe();
  const auto [heard, to] = w.pipe();
  w.run([&, a = from, b = source, c = heard, d = to] {
    coir::scope both;
    auto whispering = both.spawn([&] {
      const auto put = coir::io::write_all(b, std::as_bytes(std::span(text)));
      coir::sim::check(put.has_value() && coir::io::close(b).has_value(), "the source");
    });
    auto shouting = both.spawn([&] { return shout(a, d); });
    std::array<char, wanted.size()> got{};
    const auto n = coir::io::read_exact(c, std::as_writable_bytes(std::span(got)));
    coir::sim::check(n && std::string_view(got.data(), *n) == wanted, "not what was said");
    coir::sim::check(shouting.join().value_or(0) == text.size(), "not all of it");
  });
}

void tell(const char* way, const coir::result<std::size_t>& done) {
  if (done) {
    std::printf("%s: %zu bytes\n", way, *done);
  } else {
    std::printf("%s: %s\n", way, done.error().message().c_str());
  }
}

}  // namespace

int main() {
  std::setvbuf(stdout, nullptr, _IONBF, 0);  // what bodies write to number 1 keeps its place
  // 1. On the fibers of a runtime: the ring of a worker, or epoll, answers.
  tell("runtime", coir::run([] { return shout(full_pipe("by a runtime\n"), 1); }));

  // 2. By a dispatcher of one's own: nothing leaves the program, and there is no runtime.
  in_memory world{"by hand\n", {}};
  tell("exec", coir::exec(world, [] { return shout(0, 1); }));
  std::fputs(world.output.c_str(), stdout);

  // 3. Step by step, in a loop around poll(2), which says when a read can be answered.
  tell("step", step_by_step("step\nby step\n"));

  // 4. Many of them in a loop, which is one descriptor of a poll(2) that has others, too.
  auto outside = coir::make_backend();
  if (!outside) return std::puts(outside.error().message().c_str()), 1;
  auto loop = coir::loop::make(**outside);
  if (!loop) return std::puts(loop.error().message().c_str()), 1;
  auto one = loop->submit([] { return shout(full_pipe("by a loop\n"), 1); });
  auto two = loop->submit([] { return shout(full_pipe("and by another body of it\n"), 1); });
  while (loop->pending() != 0) {
    if (auto did = loop->poll(); !did) return std::puts(did.error().message().c_str()), 1;
    pollfd wake{loop->native_fd(), POLLIN, 0};
    if (loop->pending() != 0) ::poll(&wake, 1, -1);
  }
  tell("loop", one.get().value());
  tell("loop", two.get().value());

  // 5. In simulated worlds: a seed each, and another one repeats nothing but its own.
  const auto report =
      coir::sim::explore({.chances = coir::sim::faults::harmless(100)}, 100, &shouts_everything);
  if (!report.ok()) return std::puts(report.to_text().c_str()), 1;
  std::printf("sim: %d worlds, one answer\n", static_cast<int>(report.seeds));
  return 0;
}
