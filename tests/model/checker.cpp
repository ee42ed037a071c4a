// checker.cpp: what worlds call, and what the real headers call in a build for the checker.
//
// Comes from: checker.hpp, checked.hpp.   Goes to: engine.hpp.
#include "tests/model/checker.hpp"

#include <algorithm>
#include <utility>

#include "runtime/base.hpp"
#include "tests/model/engine.hpp"

namespace coir::check {

// -- explorations

std::string verdict::text() const {
  std::string text = std::to_string(executions) + " executions, " + std::to_string(steps) +
                     " steps" + (exhausted ? ", all within the bounds" : "");
  if (failed) text += "\nFAILED: " + why + "\nschedule: \"" + schedule + "\"\n" + trace;
  return text;
}

verdict explore(unsigned threads, const maker& make, const bounds& limits) {
  verdict v = engine(threads, make, limits).explore();
  if (v.failed) {
    const verdict again = engine(threads, make, limits).replay(v.schedule);
    v.trace = again.why == v.why ? again.trace : "not repeated: " + again.why + "\n" + again.trace;
  }
  return v;
}

verdict replay(unsigned threads, const maker& make, const std::string& schedule,
               const bounds& limits) {
  return engine(threads, make, limits).replay(schedule);
}

std::vector<std::string> unneeded_orders(unsigned threads, const maker& make,
                                         const bounds& limits) {
  std::vector<std::string> unneeded;
  std::map<order_site, bool> orders;
  {
    engine whole(threads, make, limits);
    (void)whole.explore();
    orders = whole.orders();
  }
  using enum std::memory_order;
  const order_site nothing = engine::weakened;
  for (const auto& [site, used] : orders) {
    std::vector<std::memory_order> weaker;
    if (site.order == acq_rel || site.order == seq_cst) weaker = {acquire, release};
    if (site.order == acquire || site.order == release) weaker = {relaxed};
    if (site.order == seq_cst && site.what == access::load) weaker = {acquire};
    if (site.order == seq_cst && site.what == access::store) weaker = {release};
    if (site.order == seq_cst && site.what == access::fence) weaker = {acq_rel};
    for (const std::memory_order order : weaker) {
      engine::weakened = site;
      engine::weakened_to = order;
      if (!engine(threads, make, limits).explore().failed)
        unneeded.push_back(engine::name_of(site) + " -> " + name_of(order));
    }
  }
  engine::weakened = nothing;
  return unneeded;
}

verdict explore_weakened(const std::string& order, std::memory_order weaker, unsigned threads,
                         const maker& make, const bounds& limits) {
  // Orders are known when the first executions have used them; failing to find it is a failure.
  bounds first = limits;
  first.executions = 1'000;
  std::map<order_site, bool> orders;
  {
    engine short_one(threads, make, first);
    (void)short_one.explore();
    orders = short_one.orders();
  }
  const auto found = std::find_if(orders.begin(), orders.end(), [&](const auto& each) {
    return engine::name_of(each.first) == order;
  });
  if (found == orders.end()) return {};
  const order_site nothing = std::exchange(engine::weakened, found->first);
  engine::weakened_to = weaker;
  verdict v = engine(threads, make, limits).explore();
  engine::weakened = nothing;
  return v;
}

mutant::mutant(const char* name) noexcept : before_(detail::mutant_on) {
  detail::mutant_on = detail::mutant_number(name);
}
mutant::~mutant() { detail::mutant_on = before_; }

// -- the threads of a world

void require(bool holds, const char* what) {
  if (holds) return;
  watching ? running->fail(what) : running->condemn(what);
}

unsigned choose(unsigned count) { return running->decide(count, 'c'); }
unsigned self() noexcept { return running->self(); }

gate::gate() noexcept = default;
gate::~gate() = default;

void gate::open() {
  running->turn(this, spot::here());
  if (!view_) view_ = std::make_unique<view>();
  running->words().release_to(running->self(), *view_);
  open_ = true;
}

void gate::pass() {
  running->turn(this, spot::here());
  if (!open_) running->block("at a gate", [this] { return open_; });
  open_ = false;
  running->words().acquire_from(running->self(), *view_);
}

// -- the real headers

void turn(const void* at, spot where) { running->turn(at, where); }
std::uint64_t on_load(const void* at, std::uint64_t newest, std::memory_order o, spot where) {
  return running->load(at, newest, o, where);
}
void on_store(const void* at, std::uint64_t newest, std::uint64_t value, std::memory_order o,
              spot where) {
  running->store(at, newest, value, o, where);
}
std::uint64_t on_change(const void* at, std::uint64_t& newest, change make, std::uint64_t operand,
                        std::memory_order o, spot where) {
  return running->change_of(at, newest, make, operand, o, where);
}
bool on_compare(const void* at, std::uint64_t& newest, std::uint64_t& expected,
                std::uint64_t desired, bool weak, std::memory_order success,
                std::memory_order failure, spot where) {
  return running->compare(at, newest, expected, desired, weak, success, failure, where);
}
void on_fence(std::memory_order o, spot where) { running->fence(o, where); }
void on_birth(const void* at) { running->words().birth(at); }
void on_death(const void* at) { running->death(at); }
void on_plain_read(const void* at, spot where) { running->plain(at, false, where); }
void on_plain_write(const void* at, spot where) { running->plain(at, true, where); }

}  // namespace coir::check
