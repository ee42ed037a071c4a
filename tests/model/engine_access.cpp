// engine_access.cpp: what an exploration does at each access of a thread: which orders hold, which
// stores may be found, and who shares what.
//
// Comes from: checker.cpp.   Goes to: memory.hpp.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/model/engine.hpp"

namespace coir::check {
namespace {

/// Every place in the sources where a thread of some world touches something shared.
struct spot_table {
  std::array<spot, spots_max> spots;
  unsigned used = 0;
};
spot_table known;

/// Among those that are not relaxed.
unsigned order_number(std::memory_order order) noexcept {
  switch (order) {
    case std::memory_order_acquire:
      return 0;
    case std::memory_order_release:
      return 1;
    case std::memory_order_acq_rel:
      return 2;
    default:
      return 3;
  }
}

const char* noun_for(access what) noexcept {
  switch (what) {
    case access::load:
      return "load";
    case access::store:
      return "store";
    case access::change:
      return "change";
    case access::compare:
      return "compare";
    case access::compare_failed:
      return "compare that fails";
    case access::fence:
      return "fence";
  }
  return "";
}

}  // namespace

const char* name_of(std::memory_order order) noexcept {
  switch (order) {
    case std::memory_order_relaxed:
      return "relaxed";
    case std::memory_order_consume:
      return "consume";
    case std::memory_order_acquire:
      return "acquire";
    case std::memory_order_release:
      return "release";
    case std::memory_order_acq_rel:
      return "acq_rel";
    case std::memory_order_seq_cst:
      return "seq_cst";
  }
  return "";
}

unsigned engine::spot_index(spot where) {
  // Few places are many accesses: most are found where they were found before.
  static std::array<std::uint16_t, 1024> guesses = {};
  const auto mixed =
      reinterpret_cast<std::uintptr_t>(where.file) / 8 * 31 + static_cast<unsigned>(where.line);
  std::uint16_t& guess = guesses[mixed % guesses.size()];
  const auto is_it = [&](unsigned i) {
    return known.spots[i].line == where.line && known.spots[i].file == where.file;
  };
  if (guess < known.used && is_it(guess)) return guess;
  for (unsigned i = 0; i < known.used; ++i)
    if (is_it(i)) {
      guess = static_cast<std::uint16_t>(i);
      return i;
    }
  if (known.used == spots_max) {
    std::fputs("checker: more places than spots_max\n", stderr);
    std::abort();
  }
  known.spots[known.used] = where;
  return known.used++;
}

unsigned engine::site_index(const void* at, spot where) {
  site wanted{spot_index(where), 0};
  const auto offset =
      reinterpret_cast<std::uintptr_t>(at) - reinterpret_cast<std::uintptr_t>(world_.get());
  if (offset < world_bytes_) wanted.offset = offset;
  // Open addressing; the table is never full.
  unsigned i = static_cast<unsigned>(wanted.spot * 37 + wanted.offset / 2) % sites_max;
  while (sites_[i].spot != spots_max && !(sites_[i] == wanted)) i = (i + 1) % sites_max;
  if (sites_[i].spot == spots_max) {
    sites_[i] = wanted;
    if (++sites_used_ == sites_max) {
      std::fputs("checker: more sites than sites_max\n", stderr);
      std::abort();
    }
  }
  return i;
}

std::string engine::name_of(const order_site& site) {
  const spot& s = known.spots[site.spot];
  const char* const name = std::strrchr(s.file, '/');
  std::string function = s.function;  // g++ says which instance of a template it is
  function.resize(std::min(function.find('<'), function.size()));
  return std::string(name == nullptr ? s.file : name + 1) + ' ' + function + ": " +
         noun_for(site.what) + ' ' + check::name_of(site.order);
}

std::memory_order engine::effective(unsigned spot, access what, std::memory_order order) {
  const std::uint32_t bit = 1u << (static_cast<unsigned>(what) * 4 + order_number(order));
  if (order != std::memory_order_relaxed && (orders_seen_[spot] & bit) == 0) {
    orders_seen_[spot] |= bit;
    orders_[{spot, what, order}] = true;
  }
  if (weakened.spot == spot && weakened.what == what && weakened.order == order) return weakened_to;
  return order;
}

void engine::touch(unsigned word, const void* at, spot where, bool writes) {
  if (writes) ++writes_[current_];
  sharing& s = sharing_[word];
  const unsigned index = site_index(at, where);
  const unsigned threads = s.threads | 1u << current_;
  if (threads == s.threads && s.sites[index] && (s.written || !writes)) return;
  s.threads = threads;
  s.written = s.written || writes;
  s.sites.set(index);
  if (s.written && (threads & (threads - 1)) != 0) learnt_ |= s.sites;
}

unsigned engine::stale_choices(unsigned word, std::memory_order order) const noexcept {
  const unsigned newest = const_cast<memory&>(memory_).at(word).newest();
  if (stale_[current_][word] >= limits_.stale) return 1;
  return newest - memory_.oldest(current_, word, order) + 1;
}

std::uint64_t engine::load(const void* at, std::uint64_t newest, std::memory_order order,
                           spot where) {
  const unsigned index = spot_index(where);
  order = effective(index, access::load, order);
  const unsigned word = memory_.word_at(at, newest);
  touch(word, at, where, false);
  const unsigned back = decide(stale_choices(word, order), 'v');
  if (back != 0) ++stale_[current_][word];
  const auto stamp = static_cast<std::uint16_t>(memory_.at(word).newest() - back);
  const std::uint64_t value = memory_.load(current_, word, stamp, order);
  if (replaying_) log(back == 0 ? "loads" : "loads an older", where, value, order);
  return value;
}

void engine::store(const void* at, std::uint64_t newest, std::uint64_t value,
                   std::memory_order order, spot where) {
  const unsigned index = spot_index(where);
  order = effective(index, access::store, order);
  const unsigned word = memory_.word_at(at, newest);
  touch(word, at, where, true);
  memory_.store(current_, word, value, order);
  if (replaying_) log("stores", where, value, order);
}

std::uint64_t engine::change_of(const void* at, std::uint64_t& newest, change make,
                                std::uint64_t operand, std::memory_order order, spot where) {
  const unsigned index = spot_index(where);
  order = effective(index, access::change, order);
  const unsigned word = memory_.word_at(at, newest);
  touch(word, at, where, true);
  const std::uint64_t found = newest;
  newest = make(found, operand);
  memory_.change(current_, word, newest, order);
  if (replaying_) log("changes to", where, newest, order);
  return found;
}

bool engine::compare(const void* at, std::uint64_t& newest, std::uint64_t& expected,
                     std::uint64_t desired, bool weak, std::memory_order success,
                     std::memory_order failure, spot where) {
  const unsigned index = spot_index(where);
  success = effective(index, access::compare, success);
  failure = effective(index, access::compare_failed, failure);
  const unsigned word = memory_.word_at(at, newest);
  const std::uint16_t last = memory_.at(word).newest();
  // What may be found: the newest, and every older store that is not the one expected.
  std::uint16_t stamps[32] = {last};
  unsigned count = 1;
  const bool equal = newest == expected;
  const bool may_fail = equal && weak && spurious_ < limits_.spurious;
  if (stale_[current_][word] < limits_.stale) {
    const std::uint16_t oldest = memory_.oldest(current_, word, failure);
    for (std::uint16_t s = last; s > oldest && count < 31; --s)
      if (memory_.at(word).history[s - 1u].value != expected)
        stamps[count++] = static_cast<std::uint16_t>(s - 1);
  }
  const unsigned chosen = decide(count + (may_fail ? 1 : 0), 'v');
  if (chosen == 0 && equal) {
    touch(word, at, where, true);
    newest = desired;
    memory_.change(current_, word, desired, success);
    if (replaying_) log("changes to", where, desired, success);
    return true;
  }
  touch(word, at, where, false);
  if (chosen == count) {
    ++spurious_;
  } else if (chosen != 0) {
    ++stale_[current_][word];
  }
  expected = memory_.load(current_, word, chosen == count ? last : stamps[chosen], failure);
  if (replaying_) log(chosen == 0 ? "finds" : "finds an older", where, expected, failure);
  return false;
}

void engine::fence(std::memory_order order, spot where) {
  const unsigned index = spot_index(where);
  order = effective(index, access::fence, order);
  if (order == std::memory_order_seq_cst) {
    learnt_.set(site_index(nullptr, where));  // they have one order: it matters who comes first
    turn(nullptr, where);
  }
  if (order != std::memory_order_relaxed) memory_.fence(current_, order);
  if (replaying_) log("fences", where, 0, order);
}

void engine::death(const void* at) {
  if (!memory_.death(current_, at)) fail("an atomic word ends while another thread uses it");
}

void engine::plain(const void* at, bool writes, spot where) {
  const bool ordered =
      writes ? memory_.plain_write(current_, at) : memory_.plain_read(current_, at);
  if (replaying_ && (!ordered || where.line != 0))
    log(writes ? "writes plainly" : "reads plainly", where, 0, {});
  if (!ordered) fail(writes ? "a write races" : "a read races");
}

void engine::log(const char* act, spot where, std::uint64_t value, std::memory_order order) {
  char text[256];
  const char* const name = std::strrchr(where.file, '/');
  std::snprintf(text, sizeof text, "%5u thread %u %-16s %#-10llx %-8s %s:%d %s\n", moment_,
                current_, act, static_cast<unsigned long long>(value), check::name_of(order),
                name == nullptr ? where.file : name + 1, where.line, where.function);
  trace_ += text;
}

}  // namespace coir::check
