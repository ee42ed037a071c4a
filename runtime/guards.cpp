// guards.cpp: probing the ways of making a guard, and saying why none is to be had.
//
// Always true:
//   - Nothing of the probe is left: no descriptor, no page.
//
// Comes from: guards.hpp.   Goes to: madvise(2), mprotect(2), write(2).
#include "runtime/guards.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "runtime/base.hpp"

namespace coir::detail {

namespace {

constexpr int advice_guard_install = 102;  // MADV_GUARD_INSTALL, newer than Debian 12's headers

/// A few pages and a pipe to learn what this kernel does, instead of what it says it does.
struct probe {
  explicit probe(std::size_t page) noexcept : page_bytes(page) {
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0 ||
        (base = map_pages(nullptr, 3 * page)) == nullptr)
      error = errno;
    // Fresh pages that are there without a touch. Asked first: to be probed is to be touched.
    unsigned char resident = 0;
    memory_is_locked = error == 0 && mincore(base, 1, &resident) == 0 && (resident & 1) != 0;
  }
  ~probe() {
    if (base != nullptr) munmap(base, 3 * page_bytes);
    for (const int end : ends) end >= 0 ? close(end) : 0;
  }
  probe(const probe&) = delete;
  probe& operator=(const probe&) = delete;

  /// The middle page refuses a reader, and its neighbours do not.
  bool guards(guard_way way) const noexcept {
    if (install_guard(way, base + page_bytes, page_bytes) != 0) return false;
    return COIR_MUTANT(guards_by_code) || (refuses(1) && !refuses(0) && !refuses(2));
  }
  bool refuses(unsigned page) const noexcept {
    return write(ends[1], base + page * page_bytes, 1) == -1 && errno == EFAULT;
  }

  std::size_t page_bytes;
  int ends[2] = {-1, -1};
  std::byte* base = nullptr;
  int error = 0;
  bool memory_is_locked = false;  // what the process maps from now on
};

using log_to = std::function<void(const log_record&)>;

void say(const log_to& log, const char* text) {
  if (log) {
    log({log_record::level::error, text});
  } else {
    std::fprintf(stderr, "coir: %s\n", text);
  }
}

void say_no_probe(const log_to& log, int error) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const auto files = static_cast<unsigned long long>(limit.rlim_cur);
  char text[160];
  if (error == EMFILE) {
    std::snprintf(text, sizeof text,
                  "stacks: EMFILE (file descriptors, limit %llu) while probing the guards: raise "
                  "`ulimit -n`",
                  files);
  } else {
    std::snprintf(text, sizeof text,
                  "stacks: %s while probing the guards: a pipe and three pages are needed",
                  std::strerror(error));
  }
  say(log, text);
}

/// What COIR_GUARD or the program asks for; EINVAL for a word that means nothing.
result<std::optional<guard_way>> asked_way(const guard_wish& wish, const log_to& log) {
  const char* text = std::getenv("COIR_GUARD");
  if (text == nullptr || *text == '\0') return wish.way;
  const std::string_view word = text;
  if (word == "madvise") return guard_way::madvise;
  if (word == "mprotect") return guard_way::mprotect;
  if (word == "none") return guard_way::none;
  say(log, "stacks: COIR_GUARD is none of madvise, mprotect, none: unset it or choose one");
  return fail(std::errc::invalid_argument);
}

result<guard_way> choose_way(const guard_wish& wish, const probe& by_effect, const log_to& log) {
  const auto asked = asked_way(wish, log);
  if (!asked) return fail(asked.error());
  if (wish.guards == guard::none) return guard_way::none;
  if (*asked) {
    if (**asked == guard_way::none || by_effect.guards(**asked)) return **asked;
  } else {
    for (const guard_way way : {guard_way::madvise, guard_way::mprotect}) {
      if (by_effect.guards(way)) return way;
      if (COIR_MUTANT(guards_only_by_advice)) break;
    }
  }
  say(log,
      "stacks: a write(2) from a guard page was not refused in the way of making guards that was "
      "asked for: unset COIR_GUARD, or run without guards (options::guards = guard::none)");
  return fail(std::errc::operation_not_supported);
}

}  // namespace

int install_guard(guard_way way, std::byte* at, std::size_t bytes) noexcept {
  const int answer = way == guard_way::madvise ? madvise(at, bytes, advice_guard_install)
                                               : mprotect(at, bytes, PROT_NONE);
  return answer == 0 ? 0 : errno;
}

std::byte* map_pages(void* hint, std::size_t bytes) noexcept {
  void* base = mmap(hint, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  return base == MAP_FAILED ? nullptr : static_cast<std::byte*>(base);
}

result<guard_answer> choose_guards(const guard_wish& wish, const log_to& log) {
  const probe by_effect(wish.page_bytes);
  if (by_effect.error != 0) {
    say_no_probe(log, by_effect.error);
    return fail(std::error_code(by_effect.error, std::generic_category()));
  }
  const auto way = choose_way(wish, by_effect, log);
  if (!way) return fail(way.error());
  return guard_answer{*way, by_effect.memory_is_locked};
}

}  // namespace coir::detail
