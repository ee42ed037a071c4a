// engine.cpp: how an exploration goes through its executions, and how threads take turns.
//
// Always true:
//   - The fibers of the threads are used again by the next execution. After a failure they stand
//     somewhere in the middle and are made anew.
//
// Comes from: checker.cpp, engine_access.cpp.   Goes to: arch/context.hpp.
#include "tests/model/engine.hpp"

#include <malloc.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>

namespace coir::check {

engine* running = nullptr;
bool watching = false;

namespace {
constexpr std::size_t stack_bytes = std::size_t{256} << 10;
}

engine::engine(unsigned threads, const maker& make, const bounds& limits)
    : threads_(threads), make_(make), limits_(limits) {
  COIR_ASSERT(threads >= 1 && threads <= threads_max);
  COIR_ASSERT(running == nullptr);
  running = this;
  arch::note_thread(main_.notes);
  for (unsigned t = 0; t < threads_; ++t) {
    void* const place =
        ::mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    COIR_ASSERT(place != MAP_FAILED);
    fibers_[t].stack = static_cast<std::byte*>(place);
    prepare(t);
  }
}

engine::~engine() {
  for (unsigned t = 0; t < threads_; ++t) {
    arch::note_gone(fibers_[t].notes);
    ::munmap(fibers_[t].stack, stack_bytes);
  }
  running = nullptr;
}

// -- fibers

void engine::prepare(unsigned thread) {
  fiber& f = fibers_[thread];
  arch::note_stack(f.notes, f.stack, stack_bytes);
  arch::prepare(f.place, f.stack + stack_bytes, &entry, &f);
  f.fresh = true;
  f.done = true;
}

COIR_UNINSTRUMENTED void engine::entry(void* argument) noexcept {
  arch::note_arrive(static_cast<fiber*>(argument)->notes);
  for (;;) {
    running->world_->run(running->current_);
    running->ended();
  }
}

[[gnu::noinline]] COIR_UNINSTRUMENTED void engine::hop(fiber& from, fiber& to) noexcept {
  arch::note_leave(from.notes, to.notes, false);
  arch::switch_to(from.place, to.place);
  arch::note_arrive(from.notes);
}

void engine::go(unsigned thread) noexcept {
  fiber& from = fibers_[current_];
  current_ = thread;
  hop(from, fibers_[thread]);
}

void engine::ended() noexcept {
  fibers_[current_].done = true;
  if (std::all_of(fibers_.begin(), fibers_.begin() + threads_, [](auto& f) { return f.done; })) {
    hop(fibers_[current_], main_);
  } else {
    pick_another();
  }
}

void engine::condemn(const std::string& why) {
  if (failed_) return;  // what was found first says most
  failed_ = true;
  why_ = "in the end: " + why;
}

void engine::fail(const std::string& why) {
  failed_ = true;
  why_ = "thread " + std::to_string(current_) + ": " + why;
  watching = false;
  for (;;) hop(fibers_[current_], main_);
}

// -- turns

bool engine::runnable(unsigned thread) const {
  const fiber& f = fibers_[thread];
  return !f.done && (f.waits == nullptr || f.may_go_on());
}

void engine::turn(const void* at, spot where) {
  if (++steps_ > limits_.steps) fail("does not end");
  unsigned options[threads_max] = {current_};
  unsigned count = 1;
  if (preempted_ < limits_.preemptions && shared_[site_index(at, where)])
    for (unsigned t = 0; t < threads_; ++t)
      if (t != current_ && runnable(t)) options[count++] = t;
  const unsigned chosen = decide(count, 't');
  if (chosen == 0) return;
  ++preempted_;
  go(options[chosen]);
}

void engine::pick_another() {
  unsigned options[threads_max];
  unsigned count = 0;
  for (unsigned t = 0; t < threads_; ++t)
    if (runnable(t)) options[count++] = t;
  for (unsigned t = 0; t < threads_ && count == 0; ++t)
    if (!fibers_[t].done && fibers_[t].pauses) options[count++] = t;
  if (count == 0) {
    std::string who = "nobody can go on:";
    for (unsigned t = 0; t < threads_; ++t)
      if (!fibers_[t].done)
        who += " thread " + std::to_string(t) + " waits " + fibers_[t].waits + ";";
    fail(who);
  }
  const unsigned chosen = decide(count, 't');
  if (options[chosen] != current_ || fibers_[current_].done) go(options[chosen]);
}

void engine::block(const char* where, std::function<bool()> may_go_on) {
  fiber& f = fibers_[current_];
  f.waits = where;
  f.may_go_on = std::move(may_go_on);
  if (replaying_) trace_ += "  thread " + std::to_string(current_) + " waits " + where + "\n";
  pick_another();
  f.waits = nullptr;
}

void engine::pause() {
  if (++steps_ > limits_.steps) fail("does not end");
  const auto others = [this, me = current_] {
    unsigned sum = 0;
    for (unsigned t = 0; t < threads_; ++t) sum += t == me ? 0 : writes_[t];
    return sum;
  };
  fiber& f = fibers_[current_];
  f.pauses = true;
  block("for a change", [others, before = others()] { return others() != before; });
  f.pauses = false;
  memory_.refresh(current_);
}

// -- decisions

unsigned engine::decide(unsigned count, char kind) {
  const unsigned moment = moment_++;
  unsigned chosen = 0;
  if (replaying_) {
    const auto planned =
        std::ranges::find_if(plan_, [&](const made& m) { return m.moment == moment; });
    if (planned != plan_.end()) chosen = planned->value;
    if (chosen >= count) fail("the schedule does not fit at " + std::to_string(moment));
  } else if (count > 1) {
    if (at_ == trail_.size())
      trail_.push_back({0, static_cast<std::uint16_t>(count)});
    else if (trail_[at_].count != count)
      fail("the world is not deterministic at " + std::to_string(moment));
    chosen = trail_[at_++].chosen;
  }
  if (chosen != 0) made_.push_back({moment, kind, chosen});
  return chosen;
}

bool engine::next_trail() noexcept {
  while (!trail_.empty() && trail_.back().chosen + 1u == trail_.back().count) trail_.pop_back();
  if (trail_.empty()) return false;
  ++trail_.back().chosen;
  return true;
}

void engine::run_once() {
  memory_.reset();
  at_ = 0;
  moment_ = steps_ = preempted_ = spurious_ = 0;
  stale_ = {};
  writes_ = {};
  made_.clear();
  sleepers = nullptr;
  std::ranges::fill(sharing_, sharing{});
  failed_ = false;
  world_ = make_();
  world_bytes_ = ::malloc_usable_size(world_.get());
  for (unsigned t = 0; t < threads_; ++t) {
    fibers_[t].done = false;
    fibers_[t].waits = nullptr;
    fibers_[t].pauses = false;
  }
  current_ = decide(threads_, 't');
  watching = true;
  hop(main_, fibers_[current_]);
  watching = false;
  if (!failed_) world_->judge();
  if (failed_) forget_threads();
}

void engine::forget_threads() {
  for (unsigned t = 0; t < threads_; ++t) {
    arch::note_gone(fibers_[t].notes);
    prepare(t);
  }
}

void engine::fill(verdict& v) const {
  v.failed = failed_;
  v.why = why_;
  v.trace = trace_;
  std::ostringstream text;
  for (const made& m : made_)
    text << (text.tellp() > 0 ? " " : "") << m.kind << m.moment << '=' << m.value;
  v.schedule = text.str();
}

verdict engine::explore() {
  verdict v;
  do {
    run_once();
    ++v.executions;
    v.steps += steps_;
    if (failed_) {
      fill(v);
      return v;
    }
    if (learnt_ != shared_) {  // at a place where nobody gave way so far, somebody should have
      shared_ = learnt_;
      trail_.clear();
      v.executions = v.steps = 0;
      continue;
    }
    if (!next_trail()) {
      v.exhausted = true;
      return v;
    }
  } while (v.executions < limits_.executions);
  return v;
}

verdict engine::replay(const std::string& schedule) {
  plan_.clear();
  std::istringstream in(schedule);
  made m{};
  char equals = 0;
  while (in >> m.kind >> m.moment >> equals >> m.value) plan_.push_back(m);
  replaying_ = true;
  shared_.set();  // moments are counted at every place, so it does not matter which are shared
  verdict v;
  run_once();
  v.executions = 1;
  v.steps = steps_;
  fill(v);
  return v;
}

}  // namespace coir::check
