// outside.cpp: asks for a ring, and for what takes its place.
//
// Always true:
//   - ENOMEM has been waited for before it counts (uring_setup).
//
// Comes from: outside.hpp.   Goes to: uring, poll, sim.
#include "runtime/outside.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>

#include "runtime/hardened.hpp"
#include "runtime/poll.hpp"
#include "runtime/sim.hpp"
#include "runtime/uring.hpp"

namespace coir::detail {
namespace {

/// Whether it says that this system has no ring for us, rather than that we have used up something.
bool has_no_ring(const std::error_code& why) noexcept {
  constexpr int errors[] = {EPERM, EACCES, ENOSYS, EINVAL, ENOMEM};
  return std::ranges::find(errors, why.value()) != std::end(errors);
}

std::string memory_text(const options& o) {
  std::size_t bytes = 0;
  for (const std::span<std::byte> range : o.fixed_buffers) bytes += range.size();
  return std::to_string((bytes + 1023) / 1024) + " KiB for each worker";
}

/// The line for errno `error` of the registration: cause and remedy.
std::string fixed_text(int error, const options& o) {
  const std::string head =
      std::string("io_uring_register: ") + std::strerror(error) + " (options::fixed_buffers, ";
  switch (error) {
    case ENOMEM:
      return head + memory_text(o) + ", memlock limit " + memlock_text() +
             "): raise `ulimit -l`, or lower options::fixed_buffers or options::workers";
    case EFAULT:
    case EOPNOTSUPP:
      return head +
             "memory that is not mapped, not to be written, or of a file): give anonymous memory "
             "or huge pages that may be read and written until the runtime has ended";
    default:
      return head + memory_text(o) +
             "): io_uring_register(2) names the causes; set options::fixed_buffers to nothing";
  }
}

}  // namespace

result<> tell_of_fixed_buffers(backend& outside, const options& o, bool first) {
  if (o.fixed_buffers.empty()) return {};
  const auto refuse = [&o](int error, const std::string& why) {
    if (o.log) o.log({log_record::level::error, why});
    return fail(std::error_code(error, std::generic_category()));
  };
  if (const std::string wrong = fixed_refusal(o.fixed_buffers); !wrong.empty())
    return refuse(EINVAL, wrong);
  const int known = outside.fix_buffers(o.fixed_buffers);
  if (known < 0) return refuse(-known, fixed_text(-known, o));
  if (known > 0 && first && o.log && !COIR_MUTANT(fixed_unheeded_untold))
    o.log({log_record::level::note, std::string("options::fixed_buffers: nothing is gained on ") +
                                        outside.name() + ", which has no ring that knows them"});
  return {};
}

result<backend_kind> wished_backend(const options& o) {
  if (o.backend != backend_kind::automatic) return o.backend;
  const char* const wish = std::getenv("COIR_BACKEND");
  if (wish == nullptr || *wish == '\0') return backend_kind::automatic;
  if (std::strcmp(wish, "uring") == 0) return backend_kind::uring;
  if (std::strcmp(wish, "poll") == 0) return backend_kind::poll;
  if (std::strcmp(wish, "sim") == 0) return backend_kind::sim;
  if (o.log)
    o.log({log_record::level::error,
           "COIR_BACKEND=" + std::string(wish) + ": write uring, poll or sim, or nothing"});
  return fail(std::errc::invalid_argument);
}

std::unique_ptr<sim_world> make_real_world(const options& o) {
  return std::make_unique<sim_world>(sim_settings{
      .entries = o.ring_entries, .start_ns = thread_now_ns(), .goes_on = false, .real = true});
}

result<std::unique_ptr<backend>> make_outside(backend_kind& kind, const options& o,
                                              offload_pool& pool) {
  const auto log = [&o](const log_record& line) {
    if (o.log) o.log(line);
  };
  if (kind == backend_kind::poll) return make_poll(pool, log);
  if (kind == backend_kind::sim) return std::make_unique<sim>(make_real_world(o));
  const opcodes taken = taken_by_ring(o);
  const opcodes* const only = o.hardened_ring ? &taken : nullptr;
  if (kind == backend_kind::uring) return make_uring(o.ring_entries, log, only);
  std::string refused;
  auto made = make_uring(
      o.ring_entries, [&refused](const log_record& line) { refused = line.text; }, only);
  if (made || refused.empty()) return made;
  if (!has_no_ring(made.error())) {
    log({log_record::level::error, refused});
    return made;
  }
  kind = backend_kind::poll;
  log({log_record::level::warning,
       refused +
           ". Until then coir uses epoll: more system calls for each operation, and files on " +
           std::to_string(o.offload_threads) + " threads"});
  return make_poll(pool, log);
}

}  // namespace coir::detail
