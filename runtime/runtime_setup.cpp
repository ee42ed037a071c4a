// runtime_setup.cpp: from options to a runtime that can be started: check, count processors,
// reserve, open backends.
//
// Always true:
//   - Every option out of range is refused with one line that names it and its range; nothing is
//     clamped.
//   - A failure leaves nothing behind: no thread, no descriptor, no mapping.
//
// Comes from: runtime::create.   Goes to: runtime_core.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "arch/refusal.hpp"
#include "runtime/options_parse.hpp"
#include "runtime/outside.hpp"
#include "runtime/overflow.hpp"
#include "runtime/registry.hpp"
#include "runtime/runtime.hpp"
#include "runtime/sim.hpp"

namespace coir::detail {
namespace {

static_assert(adaptive_threshold::most == deflect_threshold_most);

void log_to_stderr(const log_record& line) {
  char text[1024];
  const int n = std::snprintf(text, sizeof text, "coir: %.*s\n", static_cast<int>(line.text.size()),
                              line.text.data());
  if (n <= 0) return;
  const auto length = std::min(static_cast<std::size_t>(n), sizeof text - 1);
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, length);
}

/// So many processors, rounded up; 0 where there is no quota.
unsigned processors_of(long quota, long period) {
  if (quota <= 0 || period <= 0) return 0;
  return static_cast<unsigned>(std::min((quota + period - 1) / period, 1L << 20));
}

/// What cpu.max of one group says: "quota period" in microseconds, or "max period".
unsigned quota_of(const std::string& group) {
  std::ifstream in(group + "/cpu.max");
  long quota = 0;
  long period = 0;
  return in >> quota >> period ? processors_of(quota, period) : 0;
}

/// The same in a hierarchy of version 1: two files of microseconds; the quota is -1 without one.
unsigned old_quota_of(const std::string& group) {
  std::ifstream quota_in(group + "/cpu.cfs_quota_us");
  std::ifstream period_in(group + "/cpu.cfs_period_us");
  long quota = 0;
  long period = 0;
  return quota_in >> quota && period_in >> period ? processors_of(quota, period) : 0;
}

/// Whether `list`, as in "cpu,cpuacct", holds `name`.
bool holds_name(const std::string& list, const std::string& name) {
  return ("," + list + ",").find("," + name + ",") != std::string::npos;
}

/// The group of a process in the hierarchy of `controller`, the unified one for "", as in "/a/b";
/// empty when it is not told. A line is "number:controllers:group".
std::string group_of(const std::string& told, const std::string& controller) {
  std::ifstream in(told);
  for (std::string line; std::getline(in, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(":/", first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string named = line.substr(first + 1, second - first - 1);
    if (controller.empty() ? line.starts_with("0::") : holds_name(named, controller))
      return line.substr(second + 1);
  }
  return {};
}

/// The least of that group and of those above it, since a quota binds those below it, too. Groups
/// that this mount does not show are skipped.
template <class QuotaOf>
unsigned least_quota(std::string group, const std::string& root, QuotaOf quota_in) {
  for (unsigned least = 0;; group.resize(group.rfind('/'))) {
    const unsigned quota = quota_in(root + group);
    if (quota != 0 && (least == 0 || quota < least)) least = quota;
    if (group.empty()) return least;
  }
}

/// Of so many, those that the quota of the process allows.
unsigned usable_of(unsigned count, const quota_files& in) {
  const unsigned quota = COIR_MUTANT(quota_ignored) ? 0 : quota_processors(in);
  if (quota != 0) count = std::min(count, quota);
  return std::clamp(count, 1u, 256u);
}

/// The processors of this process. Where the kernel does not tell, there is none: that is an error
/// for who wants to be kept on one, and else a line of the log.
result<machine> look_around(const options& o, mask_call ask) {
  const auto allowed = allowed_processors(ask);
  if (allowed) return machine::read("/sys/devices/system", *allowed);
  const bool refused = o.pin_workers && !COIR_MUTANT(pinned_to_nothing);
  const char* const what =
      refused          ? ": options::pin_workers needs to know the processors; set it to false"
      : o.workers == 0 ? ": one worker, since nobody tells the processors; set options::workers"
                       : ": nobody tells the processors, so all workers are equally far";
  o.log({refused ? log_record::level::error : log_record::level::warning,
         "sched_getaffinity: " + allowed.error().message() + what});
  if (refused) return fail(allowed.error());
  return machine();
}

result<> check(const options& o) {
  const option_row* const r = COIR_MUTANT(options_unchecked) ? nullptr : out_of_range(o);
  if (r == nullptr) {
    if (!o.numa_placement || o.pin_workers) return {};
    o.log(
        {log_record::level::error,
         "options::numa_placement needs options::pin_workers: a worker that wanders has no node"});
    return fail(std::errc::invalid_argument);
  }
  if (r->form == option_form::opcodes) {
    o.log({log_record::level::error, "options::" + std::string(r->name) +
                                         " holds more than opcodes of 0 to " +
                                         std::to_string(opcode_most)});
    return fail(std::errc::invalid_argument);
  }
  o.log({log_record::level::error,
         "options::" + std::string(r->name) + " is " + std::to_string(r->get(o)) +
             ": it goes from " + std::to_string(r->least) + " to " + std::to_string(r->most)});
  return fail(std::errc::invalid_argument);
}

/// One for every live fiber, and what the workers keep besides: the bound on fibers is that of the
/// records. Were stacks as few, one that a worker keeps would be missing where it is needed.
std::uint32_t stacks_for(const options& o) noexcept {
  const std::uint32_t left_last = 1;
  const std::uint32_t warm_max = stack_settings().warm_max;
  const bool keeps_warm_ones = o.fibers_max + o.workers * left_last >= warm_max;
  return o.fibers_max + o.workers * (left_last + (keeps_warm_ones ? warm_max * stack_classes : 0));
}

bool describe_running(overflow_view& out) noexcept {
  worker* const here = worker::current();
  const record* const r = here == nullptr ? nullptr : here->stands_on();
  if (r == nullptr || r->stack_slot == nullptr) return false;
  out.guard_low = r->stack_slot;
  out.guard_high = here->shared().pool->shape(r->stack_class).at(r->stack_slot).bottom;
  out.stack_bytes = stack_slot_bytes(r->stack_class);
  out.fiber = r->slot;
  out.generation = r->generation.load(std::memory_order_relaxed);
  out.name = r->name;
  out.file = r->file;
  out.line = r->line;
  return true;
}

}  // namespace

unsigned quota_processors(const quota_files& in) {
  if (in.root.empty()) return 0;
  const unsigned now = least_quota(group_of(in.told, ""), in.root, &quota_of);
  const unsigned old = least_quota(group_of(in.told, "cpu"), in.root + "/cpu", &old_quota_of);
  return now == 0 || old == 0 ? std::max(now, old) : std::min(now, old);
}

void commons::log(log_record::level severity, const std::string& text) const {
  chosen.log({severity, text});
}

runtime_core::runtime_core(options o)
    : descriptors_(fds_max_of_process()),
      offload_(o.offload_threads, o.offload_queue),
      fork_generation_(fork_generation()) {
  chosen = std::move(o);
  on_idle = &on_worker_idle;
  others_rest = &all_others_rest;
  send_wake = &send_wake_home;
}

/// Who is near worker `index`.
neighbours runtime_core::around(unsigned index) const noexcept {
  if (chosen.topo == topology::global || place_.empty() || COIR_MUTANT(topology_unheeded))
    return {index, chosen.workers};
  const distance apart = place_.widest();
  return {index, chosen.workers, [&](unsigned other) {
            return chosen.pin_workers ? between(place_.of(index), place_.of(other)) : apart;
          }};
}

/// One worker and what it has for itself, on its node if that is asked for.
result<> runtime_core::make_worker(unsigned index, const backend_factory& make) {
  const prefers_node near(!chosen.numa_placement || COIR_MUTANT(made_anywhere)
                              ? processor::nothing
                              : place_.of(index).node);
  if (near.refusal() != 0) {
    const std::error_code why(near.refusal(), std::generic_category());
    chosen.log({log_record::level::error,
                "set_mempolicy: " + why.message() + ": set options::numa_placement to false, or " +
                    "give the process CAP_SYS_NICE (containers refuse this call without it)"});
    return fail(why);
  }
  auto outside = make(index, chosen);
  if (!outside) return fail(outside.error());
  if (auto told = tell_of_fixed_buffers(**outside, chosen, index == 0); !told) return told;
  // Who spins alone waits for nobody; and where time is simulated it would stand still.
  const bool spins = chosen.workers > 1 && !(*outside)->simulated();
  const worker_settings s{.index = index,
                          .workers = chosen.workers,
                          .run_budget = chosen.run_budget,
                          .mailbox_slots = chosen.mailbox_slots,
                          .fds_max = descriptors_.size(),
                          .idle_spin_ns = spins ? chosen.idle_spin.count() * 1000 : 0,
                          .starts_in_place = !COIR_TSAN && !chosen.scrub_on_exit,
                          .deflect_threshold = chosen.deflect_threshold,
                          .around = around(index)};
  workers_.push_back(std::make_unique<worker>(*this, std::move(*outside), s));
  peers[index] = workers_.back().get();
  return {};
}

result<> runtime_core::make_workers(const backend_factory& make) {
  for (unsigned i = 0; i < chosen.workers; ++i)
    if (auto made = make_worker(i, make); !made) return made;
  return {};
}

/// All on one backend: on rings, unless something else is wished, or the system has none.
result<> runtime_core::make_workers(backend_kind wish) {
  if (wish == backend_kind::sim) {
    world_ = make_real_world(chosen);
    return make_workers([this](unsigned, const options&) -> result<std::unique_ptr<backend>> {
      return std::make_unique<sim>(*world_);
    });
  }
  const auto make = [&](unsigned, const options& all) { return make_outside(wish, all, offload_); };
  for (unsigned i = 0; i < chosen.workers; ++i) {
    const backend_kind before = wish;
    if (auto made = make_worker(i, make); !made) return made;
    if (i == 0 || wish == before) continue;
    workers_.clear();  // those that got a ring before there was no room for another one
    return make_workers(make);
  }
  return {};
}

result<std::unique_ptr<runtime_core>> runtime_core::create(options o, backend_factory make,
                                                           machine where, quota_files quota,
                                                           mask_call ask,
                                                           std::shared_ptr<stacks> earlier) try {
  if (!o.log) o.log = &log_to_stderr;
  if (auto checked = check(o); !checked) return fail(checked.error());
  const auto kind = make ? result<backend_kind>(o.backend) : wished_backend(o);
  if (!kind) return fail(kind.error());
  if (const char* const why = arch::refusal();
      why != nullptr && !COIR_MUTANT(shadow_stack_accepted)) {
    o.log({log_record::level::error, why});
    return fail(std::errc::operation_not_supported);
  }
  const bool alone = o.workers == 1 && !o.pin_workers;  // then it is nothing to anybody
  if (where.empty() && !alone) {
    auto looked = look_around(o, ask);
    if (!looked) return fail(looked.error());
    where = std::move(*looked);
  }
  if (o.numa_placement && !where.knows_nodes())
    o.log({log_record::level::warning,
           "options::numa_placement: /sys/devices/system/node names no node of some processors: "
           "rings and queues of their workers lie where the memory of this thread comes from"});
  const unsigned processors = alone ? 1 : usable_of(where.size(), quota);
  if (o.workers == 0) o.workers = processors;
  std::unique_ptr<runtime_core> core(new runtime_core(std::move(o)));
  const options& chosen = core->chosen;
  core->place_ = std::move(where);
  core->processors_ = processors;
  // Where the caches of all workers together could hold a good part of the records, none does.
  const bool exact = chosen.fibers_max / record_cache_most / 2 < chosen.workers;
  // In a simulated world few in a magazine: then they change hands often, and an audit has few
  // records to look at.
  const unsigned wish_of_world = *kind == backend_kind::sim ? 8 : 0;
  auto records = arena::make(chosen.fibers_max, record_bytes, offsetof(task, storage),
                             {.magazine = exact ? 1 : wish_of_world});
  if (!records) {
    chosen.log({log_record::level::error,
                "records: " + records.error().message() + " while reserving " +
                    std::to_string(chosen.fibers_max) + " of " + std::to_string(record_bytes) +
                    " bytes: raise `ulimit -v`, or lower options::fibers_max"});
    return fail(records.error());
  }
  core->records = std::move(*records);
  stack_settings wish{.guards = chosen.guards,
                      .stacks_max = stacks_for(chosen),
                      .scrub = chosen.scrub_on_exit,
                      .log = chosen.log};
  wish.stir = [all = core.get()] {
    for (unsigned i = 0; i < all->workers(); ++i) all->at(i).ring();
  };
  if (earlier != nullptr && earlier->serve_next(wish)) {
    core->pool = std::move(earlier);
  } else {
    auto pool = stacks::make(std::move(wish));
    if (!pool) return fail(pool.error());
    core->pool = std::move(*pool);
  }
  const auto usual = core->pool->class_of(chosen.stack_bytes);
  if (!usual) return fail(usual.error());
  core->stack_class = static_cast<std::uint8_t>(*usual);
  core->peers = std::make_unique<worker*[]>(chosen.workers);
  core->stop_errands_ = std::make_unique<errand[]>(chosen.workers);
  if (auto made = make ? core->make_workers(make) : core->make_workers(*kind); !made)
    return fail(made.error());
  install_overflow_report(&describe_running);
  register_core(*core);
  return core;
} catch (const std::bad_alloc&) {
  return fail(std::errc::not_enough_memory);
}

stats runtime_core::snapshot() const {
  stats all;
  if (inherited()) return all;
  if (!workers_.empty()) all.backend = workers_[0]->outside().name();
  for (const auto& w : workers_) all.workers.push_back(w->stats());
  if (!all.workers.empty()) {
    all.workers[0].spawned += foreign_spawned_.load(std::memory_order_relaxed);
    all.workers[0].mailbox_refused +=
        by_foreigners_.mailbox_refused.load(std::memory_order_relaxed);
  }
  all.boxes = by_foreigners_.boxes.load(std::memory_order_relaxed);
  for (const auto& w : workers_) all.boxes += w->counts().boxes.get();
  all.records_touched = records.touched();
  all.stacks_made = pool->stats().slots;
  return all;
}

}  // namespace coir::detail

namespace coir {

worker_stats stats::total() const noexcept {
  worker_stats sum;
  using field = std::uint64_t worker_stats::*;
  static constexpr field fields[] = {&worker_stats::spawned,
                                     &worker_stats::finished,
                                     &worker_stats::switches,
                                     &worker_stats::parks,
                                     &worker_stats::live,
                                     &worker_stats::unstarted,
                                     &worker_stats::deflected_out,
                                     &worker_stats::deflected_in,
                                     &worker_stats::mailbox_refused,
                                     &worker_stats::wakes_sent,
                                     &worker_stats::wakes_taken,
                                     &worker_stats::bells_rung,
                                     &worker_stats::sleeps,
                                     &worker_stats::turns,
                                     &worker_stats::spins_won,
                                     &worker_stats::spins_lost,
                                     &worker_stats::sqes,
                                     &worker_stats::cqes,
                                     &worker_stats::enters,
                                     &worker_stats::stale_tokens,
                                     &worker_stats::cancels,
                                     &worker_stats::overflows,
                                     &worker_stats::operations_open,
                                     &worker_stats::timers,
                                     &worker_stats::stacks_warm,
                                     &worker_stats::ready,
                                     &worker_stats::parked,
                                     &worker_stats::mailbox_depth,
                                     &worker_stats::stacks_bound};
  static_assert(sizeof fields / sizeof *fields == sizeof(worker_stats) / sizeof(std::uint64_t));
  for (const worker_stats& w : workers)
    for (const field f : fields) sum.*f += w.*f;
  return sum;
}

result<std::unique_ptr<runtime>> runtime::create(options o) {
  auto core = detail::runtime_core::create(std::move(o));
  if (!core) return fail(core.error());
  // The face is allocated before it takes the core, so nothing is lost when it cannot be.
  runtime* const made = new (std::nothrow) runtime(nullptr);
  if (made == nullptr) return fail(std::errc::not_enough_memory);
  made->core_.reset(core->release());
  return std::unique_ptr<runtime>(made);
}

result<> runtime::start() { return core_->start(); }
void runtime::request_stop() noexcept { core_->request_stop(); }
result<> runtime::shutdown(deadline until) {
  // A fiber of another one would keep its worker, on which others may have to go on before this one
  // can end. Its own are refused there.
  const detail::runtime_core* const here = detail::current_core();
  if (here != nullptr && here != core_.get() && !core_->inherited() &&
      !COIR_MUTANT(shutdown_elsewhere))
    return fail(errc::deadlock);
  return core_->shutdown(detail::ns_of(until));
}
stats runtime::snapshot() const { return core_->snapshot(); }
result<> runtime::set_deflection_threshold(unsigned worker, unsigned tasks) noexcept {
  if (core_->inherited()) return fail(errc::foreign_runtime);
  if (worker >= core_->workers()) return fail(std::errc::invalid_argument);
  if (!COIR_MUTANT(threshold_unheard)) core_->at(worker).pin_threshold(tasks);
  return {};
}
result<std::uint64_t> runtime::stacks_resident_bytes() const {
  if (core_->inherited()) return 0;
  return core_->pool->resident_bytes();
}
unsigned runtime::workers() const noexcept { return core_->workers(); }
runtime::~runtime() = default;

result<> runtime::start_if_needed() {
  if (detail::current_core() != nullptr) return fail(errc::deadlock);
  if (core_->started()) return {};
  auto begun = start();
  // Another thread was first.
  if (!begun && begun.error() == errc::already_started) return {};
  return begun;
}

std::error_code runtime::wait_for_all(fiber_id) noexcept { return core_->wait_for_all(); }

void runtime::end_of_core::operator()(detail::runtime_core* core) const noexcept {
  if (core->inherited())
    return;  // its threads are the parent's; freeing would touch what they hold
  // Whoever was told of survivors has waited already.
  const deadline until = core->abandoned() ? no_wait : in(std::chrono::seconds(5));
  if (core->shutdown(detail::ns_of(until)) || COIR_MUTANT(survivors_freed)) delete core;
  // Survivors: everything stays, on purpose.
}

stats snapshot() {
  detail::runtime_core* const core = detail::current_core();
  return core == nullptr ? stats() : core->snapshot();
}

}  // namespace coir
