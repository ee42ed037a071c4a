// sim_run.cpp: one run, from its first decision to its verdict.
//
// Always true:
//   - Nothing of the machine enters a run: workers are where a made-up machine says.
//
// Comes from: sim_public.cpp, sim_explore.cpp.   Goes to: sim, audit.
#include "runtime/sim_run.hpp"

#include <exception>

#include "runtime/sim.hpp"

namespace coir::detail {
namespace {

thread_local sim_run* running = nullptr;

constexpr std::size_t lines_kept = 12;  // of the log
constexpr std::uint64_t steps_to_end =
    20'000;  // a failed run may take, until its loops are stopped

const quota_files no_quota{"", ""};

// A fiber that yields until something has happened waits for time to pass.
constexpr std::int64_t visit_takes_ns = 200;

/// Runtimes of failed runs whose fibers could not be ended. Never freed.
std::vector<std::unique_ptr<runtime_core>>& given_up() {
  static auto* const all = new std::vector<std::unique_ptr<runtime_core>>;
  return *all;
}

/// Each worker has a core of its own, and all share a cache.
machine made_up(unsigned workers) {
  std::vector<processor> all;
  for (unsigned i = 0; i < workers; ++i) all.push_back({i, i, 0, 0});
  return machine(std::move(all));
}

}  // namespace

sim_run* sim_run::current() noexcept { return running; }

sim_run::sim_run(const ::coir::sim::settings& s, std::uint64_t seed, const decision_list* list,
                 std::span<std::uint64_t> record, std::shared_ptr<stacks>& stacks_kept)
    : chosen(s), stacks_kept_(stacks_kept) {
  told.seed = seed;
  options_of_life = s.runtime;
  options_of_life.workers = s.workers;
  faults_before_.resize(std::size(::coir::sim::all_faults));
  outside = std::make_unique<sim_world>(settings_of_world());
  if (list != nullptr) outside->dice().replay(*list);
  outside->dice().record_into(record);
  chances_ = chosen.swarm ? drawn_chances(chosen.chances, outside->dice()) : chosen.chances;
  entries_ = 32u >> outside->dice().below(4);
  goes_on_ = outside->dice().below(4) != 3;
  outer_ = std::exchange(running, this);
  settle_in();
}

sim_run::~sim_run() { running = outer_; }

sim_settings sim_run::settings_of_world() const noexcept {
  return {.seed = told.seed,
          .shuffle = true,
          .delay_max_ns = chosen.delay_max.count(),
          .visit_ns = visit_takes_ns};
}

void sim_run::stop_faults() noexcept {
  chances_ = {};
  chance->stop();
}

std::vector<std::uint64_t> sim_run::faults_seen() const {
  std::vector<std::uint64_t> all = faults_before_;
  for (std::size_t i = 0; i < all.size(); ++i) all[i] += chance->count()[i];
  return all;
}

/// In a world that nobody has lived in.
void sim_run::settle_in() {
  outside->change(entries_, goes_on_);
  chance = std::make_unique<sim_faults>(*outside);
  chance->set(chances_);
  outside->on_visit = [this] { visit(); };
  outside->crash_after(0, [this] {
    left_ = outside->disk.crash(outside->dice());
    if (core != nullptr) core->request_stop();
  });
}

void sim_run::end_life() {
  lived_ = true;
  auditor_.reset();
  core = nullptr;
  told.hash = (told.hash ^ outside->hash()) * 1099511628211u;
  told.events += outside->events();
}

/// The next life begins with the files that the last one has left.
void sim_run::renew() {
  if (!std::exchange(lived_, false)) return;
  const sim_dice dice = outside->dice();
  auto next = std::make_unique<sim_world>(settings_of_world(),
                                          outside->crashed() ? left_ : outside->disk.content());
  next->dice() = dice;
  faults_before_ = faults_seen();
  chance.reset();
  outside = std::move(next);
  settle_in();
}

void sim_run::keep_line(std::string_view line) {
  if (log_.size() == lines_kept) log_.erase(log_.begin());
  log_.emplace_back(line);
  // Now, and not when all that can be cancelled has been, and says so.
  if (line.starts_with("deadlock: ")) fail(run_verdict::deadlock, std::string(line));
}

void sim_run::fail(run_verdict is, std::string text) noexcept {
  if (failed() || !counts()) return;
  told.is = is;
  told.text = std::move(text);
  for (const std::string& line : log_) told.text += "\n  log: " + line;
  if (core != nullptr) core->request_stop();
}

void sim_run::crash() {
  if (core != nullptr) outside->cut_power();
}

void sim_run::visit() {
  ++told.steps;
  if (told.steps == chosen.steps_max + 1)
    fail(run_verdict::too_many_steps, "more than " + std::to_string(chosen.steps_max) + " steps");
  if (told.steps > chosen.steps_max + steps_to_end)
    for (unsigned i = 0; i < core->workers(); ++i) core->at(i).quit();
  if (failed() || !counts()) return;
  if (std::string found = auditor_->look(); !found.empty())
    fail(run_verdict::invariant, std::move(found));
  else if (outside->memory.violations() != 0)
    fail(run_verdict::invariant, outside->memory.first_violation());
}

options sim_run::checked_options() {
  options o = options_of_life;
  o.backend = backend_kind::sim;
  o.pin_workers = false;
  o.numa_placement = false;
  o.idle_spin = {};
  o.stall_after = {};
  o.log = [this](const log_record& line) { keep_line(line.text); };
  return o;
}

bool sim_run::live(std::function<void()> body, const site& where) {
  if (core != nullptr)
    return fail(run_verdict::exception, "world::run() inside of world::run()"), false;
  renew();
  const options o = checked_options();
  if (o.workers == 0 || o.workers > 8) {
    fail(run_verdict::exception,
         "workers is " + std::to_string(o.workers) + ": a simulated world has 1 to 8");
    return false;
  }
  auto made = runtime_core::create(
      o,
      [this](unsigned, const options&) -> result<std::unique_ptr<backend>> {
        return std::make_unique<detail::sim>(*outside);
      },
      made_up(o.workers), no_quota, &mask_of_process, std::move(stacks_kept_));
  if (!made) {
    fail(run_verdict::exception, "create: " + made.error().message());
    return false;
  }
  core = made->get();
  stacks_kept_ = core->pool;
  auditor_ = std::make_unique<audit>(*core);
  auto root = spawn_waiting(
      core,
      [this, &body] {
        try {
          body();
        } catch (const run_has_failed&) {
        } catch (const std::exception& e) {
          fail(run_verdict::exception, e.what());
        } catch (...) {
          fail(run_verdict::exception, "what is not a std::exception");
        }
      },
      {.name = "root", .worker = 0}, where);
  if (const std::error_code why = core->run_here())
    fail(why == errc::deadlock ? run_verdict::deadlock : run_verdict::exception, why.message());
  if (root.done()) {
    (void)root.join(no_wait);
  } else {
    root.detach();
  }
  const bool whole = !outside->crashed();
  // After a cut, too, which stopped everybody wherever they were.
  std::string found;
  if (!failed()) found = auditor_->look_at_the_end();
  if (found.empty() && outside->memory.violations() != 0) found = outside->memory.first_violation();
  if (found.empty() && outside->memory.lent() != 0) found = "at the end nothing is lent";
  // Fibers that would not end stand on its stacks, and its inboxes name them.
  if (!core->all_ended()) given_up().push_back(std::move(*made));
  end_life();
  if (!found.empty()) fail(run_verdict::invariant, std::move(found));
  return whole;
}

::coir::sim::report sim_run::judge(const ::coir::sim::program& p) {
  ::coir::sim::world w(*this);
  try {
    p(w);
  } catch (const run_has_failed&) {
  } catch (const std::exception& e) {
    fail(run_verdict::exception, e.what());
  } catch (...) {
    fail(run_verdict::exception, "what is not a std::exception");
  }
  told.decided = outside->dice().made();
  return told;
}

}  // namespace coir::detail
