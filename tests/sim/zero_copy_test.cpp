// zero_copy_test.cpp: a send without a copy on a system that refuses it in every way it can.
//
// Always true:
//   - Every refusal that is about the copy gives what a send gives; every other one is the answer.
#include <array>
#include <cerrno>

#include "in_sim.hpp"

using namespace sim_test;

namespace {

/// What `error` of the kernel for the first attempt makes of 100 bytes; and how many sends it took.
std::pair<coir::result<std::size_t>, unsigned> sent_despite(std::int32_t error, bool begun) {
  sim_world w;
  w.rule({.opcode = IORING_OP_SEND_ZC, .result = error});
  unsigned plain = 0;
  w.on_event = [&](const sim_event& e) {
    if (e.what == sim_event::kind::handed_over && e.opcode == IORING_OP_SEND) ++plain;
  };
  coir::result<std::size_t> answer = 0;
  const auto done = run_in_sim(w, [&] {
    const auto [one, other] = w.connection();
    const std::array<std::byte, 100> from{std::byte{7}};
    answer = begun ? coir::start(coir::send_zc_operation(one, from)).get()
                   : coir::io::send_zc(one, from);
    if (!answer) return;
    std::array<std::byte, 100> got{};
    CHECK(coir::io::read_exact(other, got).value() == 100);
    CHECK(got == from);
  });
  CHECK(done.has_value());
  CHECK(w.memory.violations() == 0);
  return {answer, plain};
}

}  // namespace

TEST_CASE("zero_copy: what refuses the copy only is asked again without") {
  for (const bool begun : {false, true}) {
    for (const std::int32_t error : {-EOPNOTSUPP, -EINVAL, -ENOMEM}) {
      const auto [answer, plain] = sent_despite(error, begun);
      CHECK(answer.value() == 100);
      CHECK(plain == 1);
    }
    for (const int error : {ECONNRESET, EPIPE, ENOBUFS}) {
      const auto [answer, plain] = sent_despite(-error, begun);
      CHECK(answer.error().value() == error);
      CHECK(plain == 0);
    }
  }
}
