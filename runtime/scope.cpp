// scope.cpp: the children of a block: a list under a lock, and who waits for it to be empty.
//
// Always true:
//   - A child is in the list from before its launch until it has ended; it leaves the list itself,
//     under the lock.
//   - While the lock is held a listed child's record is in use, so cancelling it is safe.
//   - The first error is kept until somebody takes it; an exception is kept as it is.
//   - In the child of a fork nobody takes the lock: who held it in the parent does not exist there.
//
// Comes from: coir/scope.hpp.   Goes to: spawn, join (cancel), waiting.
#include "coir/scope.hpp"

#include <exception>

#include "runtime/waiting.hpp"

namespace coir {
namespace detail {

struct scope_room : scope_state {
  wait_queue empty;  // its lock guards everything here
  list<record, scope_node> children;
  std::size_t live = 0;
  bool cancelled = false;
  std::error_code error;
  std::exception_ptr thrown;
  int unwinding = 0;  // exceptions under way when the scope began
  unsigned forks = fork_generation();

  /// In the child of a fork: nobody here ends the children, which are the parent's.
  bool inherited() const noexcept { return forks != fork_generation(); }

  static scope_room& of(scope_state& s) noexcept { return static_cast<scope_room&>(s); }
};

namespace {

/// Why it failed; empty: it did not, or by an exception.
std::error_code error_of_child(record& child) noexcept {
  if (child.held == holds::error) return child.error();
  return child.held == holds::answer ? child.ops->failure(child) : std::error_code();
}

/// Under the lock.
void keep_error(scope_room& room, record& child, std::error_code error) noexcept {
  if (room.error || room.thrown) return;
  if (child.held == holds::exception) room.thrown = child.exception();
  // That a cancelled child says so is no error of its own.
  if (!room.cancelled || error != std::errc::operation_canceled) room.error = error;
}

void child_answered(scope_state& self, record& child) noexcept {
  const std::error_code error = error_of_child(child);
  if (!error && child.held != holds::exception) return;  // nearly every one: no lock for it
  scope_room& room = scope_room::of(self);
  const word_lock held(room.empty.lock);
  keep_error(room, child, error);
}

void child_ended(scope_state& self, record& child) noexcept {
  scope_room& room = scope_room::of(self);
  const std::error_code error = error_of_child(child);
  const word_lock held(room.empty.lock);
  keep_error(room, child, error);
  room.children.erase(child);
  --room.live;
  child.scope = nullptr;
  if (room.live != 0) return;
  while (waiter* const w = dequeue(room.empty)) (void)wake_waiter(*w);
}

void tell_untaken(const scope_room& room) noexcept {
  runtime_core* const core = current_core();
  if (core == nullptr) return;
  try {
    const std::string what = room.error ? room.error.message() : std::string("an exception");
    core->log(log_record::level::warning, "a scope ended with an error that nobody took: " + what);
  } catch (const std::bad_alloc&) {
    core->chosen.log({log_record::level::warning, "a scope ended with an error that nobody took"});
  }
}

}  // namespace

refusal adopt(scope_state& scope, task& t) noexcept {
  scope_room& room = scope_room::of(scope);
  auto& child = static_cast<record&>(t);
  if (room.inherited()) return errc::foreign_runtime;
  const word_lock held(room.empty.lock);
  if (room.cancelled) return std::errc::operation_canceled;
  child.scope = &room;
  room.children.push_back(child);
  ++room.live;
  return {};
}

void confirm(scope_state& scope, task& t) noexcept {
  scope_room& room = scope_room::of(scope);
  bool late = false;
  {
    const word_lock held(room.empty.lock);
    late = room.cancelled;
  }
  if (late) cancel(t);
}

scope_state* state_of(scope& s) noexcept { return s.state_; }

void wait_for_children(scope& of) noexcept {
  scope_room& room = scope_room::of(*state_of(of));
  if (room.inherited()) return;
  waiter me;
  (void)wait_in(room.empty, me, never_ns, false, [&] { return room.live != 0; });
}

}  // namespace detail

using namespace detail;

scope::scope() : state_(new scope_room) {
  auto& room = scope_room::of(*state_);
  room.ended = &child_ended;
  room.answered = &child_answered;
  room.unwinding = std::uncaught_exceptions();
}

scope::~scope() {
  auto& room = scope_room::of(*state_);
  if (room.inherited()) return;
  if (std::uncaught_exceptions() > room.unwinding) cancel();
  wait_for_children(*this);
  if (room.error || room.thrown) tell_untaken(room);
  delete &room;
}

void scope::cancel() noexcept {
  auto& room = scope_room::of(*state_);
  if (room.inherited()) return;
  const word_lock held(room.empty.lock);
  room.cancelled = true;
  for (record* child = room.children.front(); child != nullptr;
       child = room.children.after(*child)) {
    // Never ends the child here: its park is ended, and it runs later.
    detail::cancel(*child);
  }
}

result<> scope::join(deadline until) {
  auto& room = scope_room::of(*state_);
  if (room.inherited()) return fail(errc::foreign_runtime);
  waiter me;
  const woken why = wait_in(room.empty, me, ns_of(until), true, [&] { return room.live != 0; });
  if (const std::error_code failed = error_of(why)) return fail(failed);
  std::exception_ptr thrown;
  std::error_code error;
  {
    const word_lock held(room.empty.lock);
    room.cancelled = false;
    thrown = std::exchange(room.thrown, {});
    error = std::exchange(room.error, {});
  }
  if (thrown) std::rethrow_exception(thrown);
  if (error) return fail(error);
  return {};
}

std::size_t scope::live() const noexcept {
  auto& room = scope_room::of(*state_);
  if (room.inherited() && !COIR_MUTANT(inherited_children_counted)) return 0;
  const word_lock held(room.empty.lock);
  return room.live;
}

}  // namespace coir
