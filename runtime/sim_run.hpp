// sim_run.hpp: one run of a program in a simulated world: its lives, its verdict, and what was
// decided.
//
// Always true:
//   - The first failure is the verdict; what follows from it, or comes after a power cut, counts
//     for nothing.
//   - A failed run ends as soon as its fibers can be ended: they are cancelled, and when that is
//     not enough their loops stop and their stacks are given up.
//   - Decisions go on from one life to the next.
//
// Comes from: coir::sim.   Goes to: sim_world, sim_faults, audit, runtime_core::run_here.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "coir/sim.hpp"
#include "runtime/audit.hpp"
#include "runtime/sim_faults.hpp"
#include "runtime/sim_shrink.hpp"

namespace coir::detail {

using run_verdict = ::coir::sim::verdict;

/// What leaves a body, or a program, whose run has failed.
struct run_has_failed {};

struct sim_run {
  /// `list`: the decisions; null: they are drawn. `record`: where they are put. `stacks_kept`: what
  /// each life leaves to the next, so that the kernel is not asked for them each time.
  sim_run(const ::coir::sim::settings& chosen, std::uint64_t seed, const decision_list* list,
          std::span<std::uint64_t> record, std::shared_ptr<stacks>& stacks_kept);
  ~sim_run();
  sim_run(const sim_run&) = delete;
  sim_run& operator=(const sim_run&) = delete;

  /// Runs the program.
  ::coir::sim::report judge(const ::coir::sim::program& p);

  bool live(std::function<void()> body, const site& where);
  void fail(::coir::sim::verdict is, std::string text) noexcept;
  bool failed() const noexcept { return told.is != ::coir::sim::verdict::ok; }
  /// What fails now counts.
  bool counts() const noexcept { return core == nullptr || !outside->crashed(); }
  void crash();
  void stop_faults() noexcept;
  std::vector<std::uint64_t> faults_seen() const;
  /// The world of the next life, or of the one that goes on.
  sim_world& fresh() {
    if (core == nullptr) renew();
    return *outside;
  }

  /// That of this thread, or null.
  static sim_run* current() noexcept;

  const ::coir::sim::settings& chosen;
  ::coir::sim::report told;
  std::unique_ptr<sim_world> outside;
  std::unique_ptr<sim_faults> chance;
  options options_of_life;
  runtime_core* core = nullptr;  // of the life that goes on

 private:
  void renew();
  void settle_in();
  void visit();
  void end_life();
  sim_settings settings_of_world() const noexcept;
  options checked_options();
  void keep_line(std::string_view line);

  std::shared_ptr<stacks>& stacks_kept_;
  fault_chances chances_;
  unsigned entries_ = 32;
  bool goes_on_ = true;
  std::vector<std::uint64_t> faults_before_;  // in earlier lives
  bool lived_ = false;                        // somebody has lived in this world
  sim_disk::image left_;                      // by the power cut
  std::unique_ptr<audit> auditor_;
  std::vector<std::string> log_;
  sim_run* outer_ = nullptr;
};

}  // namespace coir::detail
