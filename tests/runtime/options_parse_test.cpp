// options_parse_test.cpp: options from a text: what is read, what is refused and how that is said.
//
// Always true:
//   - Random texts are made from a fixed seed, so a failure can be repeated.
//
// Comes from: runtime/options_parse.hpp.   Goes to: ctest.
#include "runtime/options_parse.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "coir/runtime.hpp"
#include "tests/test_options.hpp"

using namespace std::chrono_literals;
using coir::options;
using namespace coir::detail;

namespace {

/// What is said of a text that must be refused.
std::string refusal_of(std::string_view text) {
  std::string why;
  const auto made = options::parse(text, &why);
  if (made) return "accepted: " + made->to_text();
  CHECK(made.error() == std::errc::invalid_argument);
  CHECK(!why.empty());
  return why;
}

bool says(const std::string& text, std::string_view words) { return text.find(words) != text.npos; }

bool same(const options& a, const options& b) {
  for (const option_row& r : option_rows())
    if (r.get(a) != r.get(b)) return false;
  return true;
}

}  // namespace

TEST_CASE("options_parse: a text sets what it names and leaves the rest") {
  const options o = options::parse("workers=4,stack=256K,capacity=1024").value();
  CHECK(o.workers == 4);
  CHECK(o.stack_bytes == 256 << 10);
  CHECK(o.fibers_max == 1024);
  const options d;
  CHECK(o.ring_entries == d.ring_entries);
  CHECK(o.idle_spin == d.idle_spin);
  CHECK(same(options::parse("").value(), d));
  options base;
  base.ring_entries = 8;
  base.workers = 3;
  const options over = options::parse("workers=2", base).value();
  CHECK(over.workers == 2);
  CHECK(over.ring_entries == 8);
}

TEST_CASE("options_parse: a file has lines, comments and blanks") {
  const options o = options::parse(
                        "# of the server\r\n"
                        "  workers = 2 , guards=grouped   # two cores\r\n"
                        "\n,,\t\n"
                        "idle_spin = 75 us\n"
                        "stall_after=2s#and no more\n"
                        "scrub_on_exit = on\n"
                        "backend=uring\n"
                        "stack_bytes = 1 M")
                        .value();
  CHECK(o.workers == 2);
  CHECK(o.guards == coir::guard::grouped);
  CHECK(o.idle_spin == 75us);
  CHECK(o.stall_after == 2s);
  CHECK(o.scrub_on_exit);
  CHECK(o.backend == coir::backend_kind::uring);
  CHECK(o.stack_bytes == 1 << 20);
}

TEST_CASE("options_parse: every form of a value is read") {
  for (const char* on : {"on", "true", "1"})
    CHECK(options::parse(std::string("scrub_on_exit=") + on)->scrub_on_exit);
  options set;
  set.scrub_on_exit = true;
  for (const char* off : {"off", "false", "0"})
    CHECK_FALSE(options::parse(std::string("scrub_on_exit=") + off, set)->scrub_on_exit);
  CHECK(options::parse("idle_spin=0")->idle_spin == 0us);
  CHECK(options::parse("idle_spin=1ms")->idle_spin == 1ms);
  CHECK(options::parse("idle_spin=1s")->idle_spin == 1s);
  CHECK(options::parse("stall_after=3000us")->stall_after == 3ms);
  CHECK(options::parse("stall_after=60min")->stall_after == 1h);
  CHECK(options::parse("stack=64KiB")->stack_bytes == 64 << 10);
  CHECK(options::parse("capacity=16M")->fibers_max == 1u << 24);
  CHECK(options::parse("guards=none")->guards == coir::guard::none);
}

TEST_CASE("options_parse: what is refused is named, with its line and what to write instead") {
  CHECK(refusal_of("workers=4\nstak=256K") ==
        "options, line 2: 'stak=256K': no option has this name: there are workers, fibers_max "
        "(capacity), stack_bytes (stack), guards, topo, pin_workers, numa_placement, "
        "scrub_on_exit, hardened_ring, ring_opcodes, backend, ring_entries, mailbox_slots, "
        "run_budget, deflect_threshold, "
        "stream_buffers, stream_buffer_bytes, offload_threads, offload_queue, idle_spin, "
        "stall_after");
  CHECK(refusal_of("idle_spin=5") ==
        "options, line 1: 'idle_spin=5': '5' is no value of it: write a whole number and us, ms, s "
        "or min, as in idle_spin=50ms");
  CHECK(says(refusal_of("workers"), "'workers': it has no value: write a whole number"));
  CHECK(says(refusal_of("workers="), "'' is no value of it"));
  CHECK(says(refusal_of("workers=-1"), "'-1' is no value of it"));
  CHECK(says(refusal_of("workers=4x"), "'4x' is no value of it"));
  CHECK(says(refusal_of("workers=0x4"), "'0x4' is no value of it"));
  CHECK(says(refusal_of("stack=1.5M"), "'1.5M' is no value of it"));
  CHECK(says(refusal_of("guards=all"), "write none or grouped or every"));
  CHECK(says(refusal_of("backend=epoll"), "write automatic or uring or poll or sim"));
  CHECK(says(refusal_of("scrub_on_exit=maybe"), "write on or off"));
  CHECK(says(refusal_of("stall_after=1500us"), "'1500us' is no value of it"));
  CHECK(says(refusal_of("workers=1,workers=2"), "workers is set twice"));
  CHECK(says(refusal_of("stack=64K\nstack_bytes=64K"), "line 2: "));
  CHECK(says(refusal_of("log=stderr"), "set options::log in the program"));
  CHECK(says(refusal_of("=5"), "no option has this name"));
  CHECK(says(refusal_of("Workers=4"), "no option has this name"));
  CHECK(says(refusal_of("\x1b[2J\xff=1"), "'?[2J?=1'"));
  CHECK(refusal_of(std::string(100'000, 'x')).size() < 500);
}

TEST_CASE("options_parse: what is out of its range is refused, and create refuses the same") {
  for (const option_row& r : option_rows()) {
    if (r.form == option_form::name || r.form == option_form::flag ||
        r.form == option_form::opcodes)
      continue;
    const std::string unit = r.form == option_form::microseconds   ? "us"
                             : r.form == option_form::milliseconds ? "ms"
                                                                   : "";
    const auto text = [&](std::uint64_t value) {
      return std::string(r.name) + "=" + std::to_string(value) + unit;
    };
    CAPTURE(r.name);
    CHECK(r.get(options::parse(text(r.least)).value()) == r.least);
    CHECK(r.get(options::parse(text(r.most)).value()) == r.most);
    const std::string advice = std::string(r.name) + " goes from " + std::to_string(r.least);
    CHECK(says(refusal_of(text(r.most + 1)), advice));
    if (r.least != 0) CHECK(says(refusal_of(text(r.least - 1)), advice));
    CHECK(says(refusal_of(text(UINT64_MAX)), advice));
    CHECK(says(refusal_of(std::string(r.name) + "=99999999999999999999999" + unit), advice));
    options o = test::tested({.workers = 1});
    std::string said;
    o.log = [&said](const coir::log_record& line) { said = line.text; };
    r.set(o, r.most + 1);
    CHECK(coir::runtime::create(o).error() == std::errc::invalid_argument);
    CHECK(says(said, "options::" + std::string(r.name)));
  }
  CHECK(says(refusal_of("stack=99999999999999999G"), "stack_bytes goes from 16384"));
}

TEST_CASE("options_parse: opcodes are numbers with blanks between, each once, of a small range") {
  const auto listed = [](std::string_view text) {
    return options::parse(text).value().ring_opcodes;
  };
  using opcodes = std::vector<std::uint8_t>;
  CHECK(listed("ring_opcodes=").empty());
  CHECK(listed("ring_opcodes = 25  11 25\t0 # three of them") == opcodes{0, 11, 25});
  CHECK(listed("ring_opcodes=62,workers=1") == opcodes{62});
  CHECK(options::parse("hardened_ring=on")->hardened_ring);
  CHECK(says(refusal_of("ring_opcodes=11+25"), "write numbers with blanks between"));
  CHECK(says(refusal_of("ring_opcodes=1K"), "write numbers with blanks between"));
  for (const char* beyond : {"63", "1 64", "99999999999999999999999"})
    CHECK(says(refusal_of(std::string("ring_opcodes=") + beyond),
               "ring_opcodes goes from opcode 0 to opcode 62"));
  options o = test::tested({.workers = 1});
  o.ring_opcodes = {7, 200};
  std::string said;
  o.log = [&said](const coir::log_record& line) { said = line.text; };
  CHECK(coir::runtime::create(o).error() == std::errc::invalid_argument);
  CHECK(said == "options::ring_opcodes holds more than opcodes of 0 to 62");
}

TEST_CASE("options_parse: nobody asks why, so the log is told") {
  std::vector<std::string> said;
  options base;
  base.log = [&said](const coir::log_record& line) {
    CHECK(line.severity == coir::log_record::level::error);
    said.emplace_back(line.text);
  };
  CHECK_FALSE(options::parse("workers=999", base).has_value());
  REQUIRE(said.size() == 1);
  CHECK(says(said[0], "workers goes from 0 to 256"));
  CHECK(options::parse("workers=1", base)->log != nullptr);
}

TEST_CASE("options_parse: the text of any options gives them again") {
  std::mt19937_64 dice(20260101);
  for (int i = 0; i < 2'000; ++i) {
    options o;
    for (const option_row& r : option_rows())
      r.set(o, r.least + dice() % (r.most - r.least + 1) / (1 + dice() % 1000));
    for (const option_row& r : option_rows()) r.set(o, std::max(r.get(o), r.least));
    std::string why;
    const auto again = options::parse(o.to_text(), &why);
    REQUIRE_MESSAGE(again.has_value(), why);
    CHECK(same(o, *again));
  }
}

TEST_CASE("options_parse: no text makes more of it than options in their ranges or a refusal") {
  static constexpr std::string_view pieces[] = {"workers",
                                                "stack",
                                                "capacity",
                                                "idle_spin",
                                                "stall_after",
                                                "guards",
                                                "every",
                                                "none",
                                                "=",
                                                "=",
                                                ",",
                                                "\n",
                                                "#",
                                                " ",
                                                "\t",
                                                "K",
                                                "G",
                                                "us",
                                                "ms",
                                                "s",
                                                "min",
                                                "0",
                                                "1",
                                                "65536",
                                                "-",
                                                "on",
                                                "off",
                                                "scrub_on_exit",
                                                "99999999999999999999",
                                                "backend",
                                                "automatic",
                                                "\xff",
                                                "\r"};
  std::mt19937_64 dice(7);
  unsigned accepted = 0, refused = 0;
  for (int i = 0; i < 50'000; ++i) {
    std::string text;
    for (std::uint64_t k = dice() % 12; k-- > 0;)
      text += i % 4 == 0 ? std::string(1, static_cast<char>(dice()))
                         : std::string(pieces[dice() % std::size(pieces)]);
    std::string why;
    const auto made = options::parse(text, &why);
    (made ? accepted : refused) += 1;
    if (made) CHECK(out_of_range(*made) == nullptr);
    if (made) CHECK(same(options::parse(made->to_text()).value(), *made));
    CHECK(made.has_value() == why.empty());
    CHECK(std::ranges::all_of(why, [](char c) { return c >= ' ' && c <= '~'; }));
  }
  CHECK(accepted > 100);
  CHECK(refused > 100);
}
