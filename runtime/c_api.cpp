// c_api.cpp: coir.h in terms of the C++ interface: checks what C gives, calls, and turns answers
// into errnos.
//
// Always true:
//   - Nothing that C passes is trusted: pointers are checked for null, structs by their size, and
//     handles are looked up in a table.
//   - A negative return of a spawn means that nothing happened: the argument is still the caller's
//     and its cleanup is not called. After success it is called exactly once.
//   - No exception gets out: our own become errnos, one that leaves the user's body or cleanup ends
//     the process.
//
// Comes from: coir.h.   Goes to: coir/coir.hpp, c_handles.hpp, c_errors.hpp; what a fiber asks of
// itself is in c_this_fiber.cpp, I/O in c_io.cpp, what waits for each other in c_sync.cpp.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <system_error>
#include <utility>

#include "coir.h"
#include "coir/coir.hpp"
#include "runtime/c_caller.hpp"
#include "runtime/c_errors.hpp"
#include "runtime/c_handles.hpp"

/// A runtime made by C. What C++ does not tell about it is kept here.
struct coir_runtime {
  std::unique_ptr<coir::runtime> cpp;
  std::uint32_t epoch = 0;   // of the process that made it; see c_handles::epoch
  std::mutex lock;           // guards the two below
  std::uint32_t serial = 0;  // as in fiber_id; 0 until its first fiber is made
  bool started = false;
};

namespace coir::detail {
namespace {

constexpr std::size_t name_bytes = 24;

/// C has no call sites to give; the fiber's name says which one it is.
constexpr site from_c{"spawned by C", "coir_spawn", 0};

/// Below it a stack has no room for a signal; C++ rounds up, C is told.
constexpr std::size_t stack_bytes_min = 16 << 10;

/// The most a struct may have grown by since this library was built; more is a garbage size.
constexpr std::size_t struct_bytes_max = 4096;

[[noreturn]] void end_process(const char* name, const char* left, const char* what) noexcept {
  char text[512];
  const int n = std::snprintf(text, sizeof text,
                              "coir: fiber '%s' (spawned by C): an exception left its %s: %s\n",
                              name, left, what);
  const auto bytes =
      std::min<std::size_t>(n < 0 ? 0 : static_cast<std::size_t>(n), sizeof text - 1);
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, bytes);
  std::abort();
}

template <class F>
auto or_end_process(const char* name, const char* left, F&& call) noexcept {
  try {
    return call();
  } catch (const std::exception& e) {
    if (COIR_MUTANT(c_exception_swallowed)) return decltype(call())();
    end_process(name, left, e.what());
  } catch (...) {
    end_process(name, left, "not a std::exception");
  }
}

/// What a fiber of C runs. Move-only; whoever holds it last calls the cleanup.
class c_call {
 public:
  c_call(coir_body body, void* argument, coir_cleanup cleanup, const char* name) noexcept
      : body_(body), argument_(argument), cleanup_(cleanup) {
    std::memcpy(name_, name, ::strnlen(name, name_bytes - 1));
  }
  c_call(c_call&& from) noexcept
      : body_(from.body_),
        argument_(from.argument_),
        cleanup_(std::exchange(from.cleanup_, nullptr)) {
    std::memcpy(name_, from.name_, name_bytes);
  }
  c_call& operator=(c_call&&) = delete;
  ~c_call() {
    if (cleanup_ == nullptr) return;
    or_end_process(name_, "cleanup", [this] { cleanup_(argument_); });
  }

  intptr_t operator()() noexcept {
    return or_end_process(name_, "body", [this] { return body_(argument_); });
  }
  /// The argument stays the caller's.
  void disarm() noexcept { cleanup_ = nullptr; }

 private:
  coir_body body_;
  void* argument_;
  coir_cleanup cleanup_;
  char name_[name_bytes] = {};
};

/// A c_call on its way into a task, and who wants to know. Never stored: see body<c_spawn>.
struct c_spawn {
  c_call call;
  coir_runtime* owner = nullptr;  // null: the caller's runtime
  coir_fiber* out = nullptr;      // null: nobody wants the answer
};

}  // namespace

/// Stores the c_call of a c_spawn, and gives the fiber its handle before it can run: so the handle
/// costs one lock, and the body may use it at once. A refused spawn is undone by this `drop`, while
/// a fiber that never ran is dropped by body<c_call>: that is how the cleanup knows the two apart.
template <>
struct body<c_spawn> : body<c_call> {
  static void put(task& t, c_spawn&& s) {
    if (s.owner != nullptr) {
      const std::lock_guard held(s.owner->lock);
      s.owner->serial = id_of(t).runtime;
    }
    const coir_fiber handle = s.out == nullptr ? coir_fiber{} : c_handles::here().add(t, s.owner);
    if (s.out != nullptr) *s.out = handle;
    body<c_call>::put(t, std::move(s.call));  // throws nothing: a c_call fits into a record
  }
  static void drop(task& t) noexcept {
    if (!COIR_MUTANT(c_cleanup_of_refused)) closure(t).disarm();
    body<c_call>::drop(t);
  }
};
static_assert(!body<c_call>::boxed);

namespace {

/// A log of C's, which wants a line ended by a zero. Cut as a line to stderr is.
struct c_log {
  void (*log)(const char* line, void* context);
  void* context;
  void operator()(const log_record& line) const noexcept {
    char text[1024];
    const std::size_t bytes = std::min(line.text.size(), sizeof text - 1);
    std::memcpy(text, line.text.data(), bytes);
    text[bytes] = '\0';
    log(text, context);
  }
};

// -- what C passes

/// Copies a struct that begins with its own size: fields it does not have keep their defaults,
/// bytes that this library does not know must be zero. False for a size that no version has.
template <class T>
bool take_struct(const T* from, T& out) noexcept {
  out = T{};
  if (from == nullptr) return true;
  const std::size_t bytes = from->size;
  if (bytes < sizeof bytes || bytes % sizeof bytes != 0 || bytes > struct_bytes_max) return false;
  std::memcpy(&out, from, std::min(bytes, sizeof(T)));
  const auto* raw = reinterpret_cast<const unsigned char*>(from);
  return std::all_of(raw + std::min(bytes, sizeof(T)), raw + bytes,
                     [](unsigned char b) { return b == 0; });
}

bool take_config(const coir_config* from, options& out) {
  coir_config c;
  if (!take_struct(from, c)) return false;
  if (c.log != nullptr) out.log = c_log{c.log, c.log_context};
  if (c.options != nullptr) {
    // With `out` as its base, so that what it refuses is said in the same log.
    auto read =
        COIR_MUTANT(c_log_of_parse) ? options::parse(c.options) : options::parse(c.options, out);
    if (!read) return false;
    out = std::move(*read);
  }
  if (c.workers != 0) out.workers = c.workers;
  if (c.fibers_max != 0) out.fibers_max = c.fibers_max;
  if (c.stack_bytes != 0) out.stack_bytes = c.stack_bytes;
  if (c.ring_entries != 0) out.ring_entries = c.ring_entries;
  if (c.mailbox_slots != 0) out.mailbox_slots = c.mailbox_slots;
  if (c.fixed_buffers == nullptr) return c.fixed_buffers_count == 0;
  for (const iovec& one : std::span(c.fixed_buffers, c.fixed_buffers_count))
    out.fixed_buffers.emplace_back(static_cast<std::byte*>(one.iov_base), one.iov_len);
  return true;
}

/// C numbers the choices from 1, because 0 is the default there. False for a number that is none.
template <class Choice>
bool take_choice(int asked, Choice last, Choice& out) noexcept {
  if (asked < 0 || asked > static_cast<int>(last) + 1) return false;
  if (asked != 0) out = static_cast<Choice>(asked - 1);
  return true;
}

bool take_manner(const coir_spawn_options& from, spawn_options& out) noexcept {
  return take_choice(from.priority, priority::critical, out.prio) &&
         take_choice(from.workload, workload::system, out.kind) &&
         take_choice(from.affinity, affinity::any, out.where);
}

/// Where `priority` is, the struct had its padding when it ended with `sw`.
bool take_spawn_options(const coir_spawn_options* from, coir_spawn_options& out) noexcept {
  if (!take_struct(from, out)) return false;
  if (from != nullptr && from->size <= offsetof(coir_spawn_options, workload)) out.priority = 0;
  return true;
}

/// 0 when `r` is a runtime of this process.
int refuse_runtime(const coir_runtime* r) noexcept {
  if (r == nullptr) return -EINVAL;
  return r->epoch != c_handles::epoch() ? -EOWNERDEAD : 0;
}

// -- fibers

/// A typed handle whose right went to the table: it must not be given back here.
union kept_handle {
  explicit kept_handle(handle<intptr_t>&& h) noexcept : it(std::move(h)) {}
  ~kept_handle() {}
  handle<intptr_t> it;
};

int spawn_c(coir_runtime* owner, coir_body body, void* argument, const coir_spawn_options* asked,
            coir_fiber* out) {
  if (out != nullptr) *out = coir_fiber{};
  coir_spawn_options o;
  if (body == nullptr || !take_spawn_options(asked, o) || o.worker < 0) return -EINVAL;
  if (o.sw < COIR_SAME_THREAD_NO_FLOAT || o.sw > COIR_CROSS_THREAD_FLOAT) return -EINVAL;
  if (o.stack_bytes != 0 && o.stack_bytes < stack_bytes_min) return -EINVAL;
  const char* name = o.name == nullptr ? "" : o.name;
  spawn_options how{.name = std::string_view(name, ::strnlen(name, name_bytes - 1)),
                    .sw = static_cast<switcher>(o.sw),
                    .stack_bytes = o.stack_bytes};
  if (!take_manner(o, how)) return -EINVAL;
  if (o.worker > 0) how.worker = static_cast<unsigned>(o.worker) - 1;

  c_spawn what{c_call(body, argument, o.cleanup, name), owner, out};
  struct not_ours {  // whatever is still in `what` at the end was refused
    c_call& call;
    ~not_ours() { call.disarm(); }
  } refused{what.call};
  kept_handle made(owner == nullptr ? coir::spawn(std::move(what), how, from_c)
                                    : owner->cpp->spawn(std::move(what), how, from_c));
  if (made.it) {
    if (out == nullptr) made.it.detach();
    return 0;
  }
  if (out != nullptr && out->words[2] != 0) {  // put into a task, and then the launch was refused
    c_handles::here().withdraw(*out);
    *out = coir_fiber{};
  }
  return -errno_of(made.it.refusal());
}

int answer_of(task& t, intptr_t* answer) noexcept {
  if (t.held == holds::error) return -errno_of(t.error());
  COIR_ASSERT(t.held == holds::answer);
  const auto& value = answer_in<result<intptr_t>>(t);
  if (answer != nullptr) *answer = *value;
  return 0;
}

bool was_started(coir_runtime& r) noexcept {
  const std::lock_guard held(r.lock);
  return r.started;
}

int join_c(const coir_fiber& handle, intptr_t* answer, deadline until) {
  c_handles::visit visit(c_handles::here(), handle);
  if (visit.refusal() != 0) return -visit.refusal();
  const fiber_id caller = this_fiber::id();
  const bool fiber = caller != fiber_id{};
  if (fiber && caller.runtime != visit.runtime()) return -EINVAL;
  // A thread that waits for a runtime nobody started would wait for ever.
  if (!fiber && visit.owner() != nullptr && !was_started(*visit.owner())) return -ENOTCONN;
  if (!fiber && on_loop()) return -EPERM;
  if (const refusal why = join(visit.fiber(), until)) return -errno_of(why.code());
  // Several may have waited: all of them get the answer, which stays until the last has left.
  visit.use_up();
  return answer_of(visit.fiber(), answer);
}

// -- runtimes

int create_c(const coir_config* config, coir_runtime** out) {
  *out = nullptr;
  options o;
  if (!take_config(config, o)) return -EINVAL;
  auto made = std::make_unique<coir_runtime>();
  auto cpp = runtime::create(std::move(o));
  if (!cpp) return -errno_of(cpp.error());
  made->cpp = std::move(*cpp);
  made->epoch = c_handles::epoch();
  *out = made.release();
  return 0;
}

int start_c(coir_runtime& r) {
  const auto started = r.cpp->start();
  if (!started) return -errno_of(started.error());
  const std::lock_guard held(r.lock);
  r.started = true;
  return 0;
}

int run_c(coir_runtime& r, coir_body body, void* argument, intptr_t* answer) {
  if (const int refused = start_c(r); refused != 0 && refused != -EALREADY) return refused;
  const result<intptr_t> value =
      r.cpp->run(c_spawn{c_call(body, argument, nullptr, "root"), &r}, from_c);
  if (!value) return -errno_of(value.error());
  if (answer != nullptr) *answer = *value;
  return 0;
}

int destroy_c(coir_runtime* r) {
  const result<> ended = r->cpp->shutdown(in(std::chrono::seconds(5)));
  // When the fibers have ended, threads that join them leave now and can be waited for. A thread
  // that joins a survivor may stay for ever, and may look at `r` until it has left.
  const bool wait = ended || ended.error() != errc::survivors;
  const bool alone = r->serial == 0 || c_handles::here().forget(r->serial, wait);
  r->cpp.reset();
  if (alone) delete r;
  return code_of(ended);
}

}  // namespace
}  // namespace coir::detail

using namespace coir::detail;

// -- runtime

int coir_runtime_create(const coir_config* config, coir_runtime** out) {
  if (out == nullptr) return -EINVAL;
  return on_fiber() ? -EDEADLK : guarded([&] { return create_c(config, out); });
}

int coir_runtime_start(coir_runtime* runtime) {
  if (const int refused = refuse_runtime(runtime)) return refused;
  return guarded([&] { return start_c(*runtime); });
}

int coir_runtime_shutdown(coir_runtime* runtime, int64_t until_ns) {
  if (const int refused = refuse_runtime(runtime)) return refused;
  if (on_fiber()) return -EDEADLK;
  return guarded([&] { return code_of(runtime->cpp->shutdown(until(until_ns))); });
}

int coir_runtime_request_stop(coir_runtime* runtime) {
  if (const int refused = refuse_runtime(runtime)) return refused;
  runtime->cpp->request_stop();
  return 0;
}

int coir_runtime_set_deflection_threshold(coir_runtime* runtime, unsigned worker, unsigned tasks) {
  if (const int refused = refuse_runtime(runtime)) return refused;
  return code_of(runtime->cpp->set_deflection_threshold(worker, tasks));
}

int coir_runtime_destroy(coir_runtime* runtime) {
  if (runtime == nullptr) return 0;
  if (const int refused = refuse_runtime(runtime)) return refused;
  return on_fiber() ? -EDEADLK : guarded([&] { return destroy_c(runtime); });
}

int coir_runtime_run(coir_runtime* runtime, coir_body body, void* argument, intptr_t* answer) {
  if (const int refused = refuse_runtime(runtime)) return refused;
  if (body == nullptr) return -EINVAL;
  return on_fiber() ? -EDEADLK : guarded([&] { return run_c(*runtime, body, argument, answer); });
}

int coir_run(const coir_config* config, coir_body body, void* argument, intptr_t* answer) {
  if (body == nullptr) return -EINVAL;
  coir_runtime* runtime;
  if (const int refused = coir_runtime_create(config, &runtime)) return refused;
  const int ran = coir_runtime_run(runtime, body, argument, answer);
  const int ended = coir_runtime_destroy(runtime);
  return ran != 0 ? ran : ended;
}

// -- fibers

int coir_spawn(coir_body body, void* argument, const coir_spawn_options* options, coir_fiber* out) {
  return guarded([&] { return spawn_c(nullptr, body, argument, options, out); });
}

int coir_spawn_on(coir_runtime* runtime, coir_body body, void* argument,
                  const coir_spawn_options* options, coir_fiber* out) {
  if (const int refused = refuse_runtime(runtime)) return refused;
  return guarded([&] { return spawn_c(runtime, body, argument, options, out); });
}

int coir_join(coir_fiber fiber, intptr_t* answer) {
  return guarded([&] { return join_c(fiber, answer, coir::never); });
}

int coir_join_until(coir_fiber fiber, intptr_t* answer, int64_t until_ns) {
  return guarded([&] { return join_c(fiber, answer, until(until_ns)); });
}

int coir_cancel(coir_fiber fiber) {
  return guarded([&] {
    const c_handles::visit visit(c_handles::here(), fiber);
    if (visit.refusal() == 0 && !done(visit.fiber())) cancel(visit.fiber());
    return -visit.refusal();
  });
}

int coir_done(coir_fiber fiber) {
  return guarded([&] {
    const c_handles::visit visit(c_handles::here(), fiber);
    if (visit.refusal() != 0) return -visit.refusal();
    return done(visit.fiber()) ? 1 : 0;
  });
}

int coir_detach(coir_fiber fiber) {
  return guarded([&] {
    c_handles::visit visit(c_handles::here(), fiber);
    if (visit.refusal() == 0) visit.use_up();
    return -visit.refusal();
  });
}

int64_t coir_now(void) { return coir::clock::now().time_since_epoch().count(); }

const char* coir_strerror(int code) { return text_of_errno(code); }
