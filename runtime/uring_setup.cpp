// uring_setup.cpp: how a ring comes to life, and what the person reads when the kernel refuses one.
//
// Always true:
//   - A ring is made with SINGLE_ISSUER, DEFER_TASKRUN, TASKRUN_FLAG, SUBMIT_ALL, R_DISABLED and a
//     completion queue of four times the submission queue; all of them exist since Linux 6.1, which
//     is what we ask for.
//   - Tearing a ring down is asynchronous in the kernel, so ENOMEM is tried again for a second
//     before memlock is blamed.
//   - The line names one cause among sysctl, seccomp, kernel, memlock and file descriptors, and
//     what to do. A profile that forbids what a ring is used by is found before there is one.
//
// Comes from: runtime::create.   Goes to: uring.hpp.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <new>
#include <string>

#include "runtime/futex.hpp"
#include "runtime/uring.hpp"

namespace coir::detail {
namespace {

long read_number(const char* path) noexcept {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  char text[32] = {};
  const auto n = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  return n > 0 ? std::strtol(text, nullptr, 10) : -1;
}

std::string descriptors_text() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return std::to_string(limit.rlim_cur);
}

}  // namespace

std::string memlock_text() {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  if (limit.rlim_cur == RLIM_INFINITY) return "unlimited";
  return std::to_string(limit.rlim_cur / 1024) + " KiB";
}

std::string refusal_text(int error, unsigned entries, long sysctl) {
  utsname system{};
  ::uname(&system);
  const std::string head = "io_uring_setup: ";
  switch (error) {
    case EPERM: {
      const long disabled =
          sysctl >= 0 ? sysctl : read_number("/proc/sys/kernel/io_uring_disabled");
      if (disabled > 0)
        return head + "EPERM (sysctl kernel.io_uring_disabled=" + std::to_string(disabled) +
               "): ask the administrator for kernel.io_uring_disabled=0" +
               (disabled == 1 ? ", or for membership of the group in kernel.io_uring_group" : "");
      return head +
             "EPERM (seccomp: a container profile forbids it): allow io_uring_setup, "
             "io_uring_enter and io_uring_register in the "
             "profile";
    }
    case ENOSYS:
      return head + "ENOSYS (kernel " + system.release +
             " has no io_uring, or a seccomp profile hides it): Linux 6.1 or later is needed";
    case EINVAL:
      return head + "EINVAL (kernel " + system.release +
             " does not know SINGLE_ISSUER and DEFER_TASKRUN): Linux 6.1 or later is needed";
    case ENOMEM:
      return head + "ENOMEM (memlock limit " + memlock_text() + ", a ring of " +
             std::to_string(entries) + " entries needs about " +
             std::to_string(entries * (64 + 4 * 16) / 1024 + 8) +
             " KiB): raise `ulimit -l`, or lower options::ring_entries or options::workers";
    case EMFILE:
    case ENFILE:
      return head + (error == EMFILE ? "EMFILE" : "ENFILE") + " (file descriptors, limit " +
             descriptors_text() + "): raise `ulimit -n`; each worker needs two";
    default:
      return head + std::strerror(error) + " (kernel " + system.release +
             "): io_uring_setup(2) names the causes; Linux 6.1 or later is needed";
  }
}

namespace {

unsigned ring_flags() noexcept {
  const unsigned of_one_thread =
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
  return (COIR_MUTANT(ring_of_anybody) ? 0 : of_one_thread) |
         (COIR_MUTANT(ring_left_enabled) ? 0 : IORING_SETUP_R_DISABLED) | IORING_SETUP_SUBMIT_ALL |
         IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
}

/// What `ask` answers, and asks again: a ring that has ended may still hold what is wanted.
template <class Ask>
int ask_for_memory(Ask ask) noexcept {
  const std::int64_t give_up_ns = monotonic_ns() + 1'000'000'000;
  for (;;) {
    const int answer = ask();
    if (answer != -ENOMEM || monotonic_ns() > give_up_ns || COIR_MUTANT(ring_asked_for_once))
      return answer;
    const timespec pause_for{0, 5'000'000};
    ::nanosleep(&pause_for, nullptr);
  }
}

int open_ring(io_uring& ring, unsigned entries) noexcept {
  io_uring_params p{};
  p.flags = ring_flags();
  p.cq_entries = entries * 4;
  return ask_for_memory([&] { return io_uring_queue_init_params(entries, &ring, &p); });
}

/// What a hardened ring takes, which is said before it is enabled, and once. 0 or a negative errno.
int restrict_ring(io_uring& ring, opcodes only) noexcept {
  // What of these is refused costs speed: a look into a table, picked buffers, a foreign loop's fd.
  constexpr std::uint8_t registrations[] = {IORING_REGISTER_RING_FDS, IORING_UNREGISTER_RING_FDS,
                                            IORING_REGISTER_PBUF_RING, IORING_REGISTER_EVENTFD};
  constexpr std::uint8_t flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT | IOSQE_ASYNC;
  std::array<io_uring_restriction, 64 + std::size(registrations) + 1> rules{};
  unsigned count = 0;
  const auto add = [&](unsigned kind, std::uint8_t what) {
    rules[count].opcode = static_cast<std::uint16_t>(kind);
    rules[count++].sqe_op = what;
  };
  for (const std::uint8_t r : registrations) add(IORING_RESTRICTION_REGISTER_OP, r);
  add(IORING_RESTRICTION_SQE_FLAGS_ALLOWED, flags);
  // One that this kernel does not know cannot be listed; it is refused in any case.
  io_uring_probe* const known = io_uring_get_probe_ring(&ring);
  if (known == nullptr) return -ENOMEM;
  for (std::uint8_t opcode = 0; opcode < 64; ++opcode)
    if (only.have(opcode) && io_uring_opcode_supported(known, opcode) != 0)
      add(IORING_RESTRICTION_SQE_OP, opcode);
  io_uring_free_probe(known);
  if (COIR_MUTANT(ring_unrestricted)) return 0;
  return io_uring_register_restrictions(&ring, rules.data(), count);
}

/// A call that a profile forbids although it lets io_uring_setup(2) through; without a name: none.
struct forbidden {
  const char* name = nullptr;
  int error = 0;
};

/// Asks the two others for nothing, so that a ring which could never be used is not made.
forbidden ask_the_others(const io_uring& ring) noexcept {
  const auto forbids = [](long answer) {
    return answer != 0 && (errno == EPERM || errno == EACCES || errno == ENOSYS) &&
           !COIR_MUTANT(half_a_profile_unseen);
  };
  alignas(io_uring_probe) std::array<std::byte, sizeof(io_uring_probe)> none{};
  if (forbids(
          ::syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_PROBE, none.data(), 0)))
    return {"io_uring_register", errno};
  // A ring that is not enabled yet answers EBADFD.
  if (forbids(::syscall(SYS_io_uring_enter, ring.ring_fd, 0, 0, 0, nullptr, 0)))
    return {"io_uring_enter", errno};
  return {};
}

std::string forbidden_text(const forbidden& what) {
  return std::string(what.name) + ": " + std::strerror(what.error) +
         " (seccomp: the profile lets io_uring_setup through, and not this): allow io_uring_setup, "
         "io_uring_enter and io_uring_register in the profile";
}

std::string restriction_text(int error) {
  return std::string("io_uring_register: ") + std::strerror(error) +
         " (restrictions, for options::hardened_ring): allow io_uring_register in the seccomp "
         "profile, or set options::hardened_ring to false";
}

}  // namespace

int uring::fix_buffers(memory_ranges all) noexcept try {
  fixed_map known(all);
  const int answer = ask_for_memory([&] {
    return io_uring_register_buffers(&ring_, known.pieces().data(),
                                     static_cast<unsigned>(known.pieces().size()));
  });
  if (answer == 0) fixed_ = std::move(known);
  return answer;
} catch (const std::bad_alloc&) {
  return -ENOMEM;
}

result<std::unique_ptr<backend>> make_uring(unsigned entries,
                                            const std::function<void(const log_record&)>& log,
                                            const opcodes* only) {
  const auto refuse = [&](int error) {
    log({log_record::level::error, refusal_text(error, entries)});
    return fail(std::error_code(error, std::generic_category()));
  };
  const int bell_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (bell_fd < 0) return refuse(errno);
  io_uring ring{};
  const int made = open_ring(ring, entries);
  if (made < 0) {
    ::close(bell_fd);
    return refuse(-made);
  }
  if (const forbidden what = ask_the_others(ring); what.name != nullptr) {
    io_uring_queue_exit(&ring);
    ::close(bell_fd);
    log({log_record::level::error, forbidden_text(what)});
    return fail(std::error_code(what.error, std::generic_category()));
  }
  if (const int restricted = only == nullptr ? 0 : restrict_ring(ring, *only); restricted < 0) {
    io_uring_queue_exit(&ring);
    ::close(bell_fd);
    log({log_record::level::error, restriction_text(-restricted)});
    return fail(std::error_code(-restricted, std::generic_category()));
  }
  io_uring_ring_dontfork(&ring);
  uring* const taken = new (std::nothrow) uring(ring, bell_fd);
  if (taken == nullptr) {
    io_uring_queue_exit(&ring);
    ::close(bell_fd);
    return fail(std::errc::not_enough_memory);
  }
  return std::unique_ptr<backend>(taken);
}

}  // namespace coir::detail
