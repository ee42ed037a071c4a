// memory.cpp: the rules of memory.hpp, one function for each kind of access.
//
// Comes from: checker.cpp.   Goes to: nothing.
#include "tests/model/memory.hpp"

#include <cstdio>
#include <cstdlib>

namespace coir::check {

void memory::reset() noexcept {
  for (unsigned i = 0; i < words_used_; ++i) {
    words_[i].at = nullptr;
    words_[i].history.clear();
    words_[i].touched = {};
  }
  words_used_ = 0;
  data_.clear();
  own_ = {};
  // 0 is "before everything"; what a thread does has a clock of at least 1.
  for (unsigned t = 0; t < threads_max; ++t) own_[t].current.clock[t] = 1;
  consistent_ = {};
}

unsigned memory::find(const void* at) const noexcept {
  unsigned i = 0;
  while (i < words_used_ && words_[i].at != at) ++i;
  return i;
}

unsigned memory::word_at(const void* at, std::uint64_t value) {
  const unsigned index = find(at);
  if (index < words_used_) return index;
  if (words_used_ == words_max) {
    std::fputs("checker: more words than words_max\n", stderr);
    std::abort();
  }
  word& fresh = words_[words_used_];
  fresh.at = at;
  fresh.history.resize(1);
  fresh.history[0] = {value, view{}};
  return words_used_++;
}

void memory::birth(const void* at) noexcept {
  // What lived here before is another word.
  if (const unsigned index = find(at); index < words_used_) words_[index].at = nullptr;
}

bool memory::death(unsigned thread, const void* at) noexcept {
  const unsigned index = find(at);
  if (index == words_used_) return true;
  word& w = words_[index];
  w.at = nullptr;
  for (unsigned t = 0; t < threads_max; ++t)
    if (!happened(thread, t, w.touched[t])) return false;
  return true;
}

std::uint16_t memory::oldest(unsigned thread, unsigned index,
                             std::memory_order order) const noexcept {
  std::uint16_t stamp = own_[thread].current.seen[index];
  if (stamp < own_[thread].fresh.seen[index]) stamp = own_[thread].fresh.seen[index];
  if (order == std::memory_order_seq_cst && stamp < consistent_.seen[index])
    stamp = consistent_.seen[index];
  return stamp;
}

std::uint64_t memory::load(unsigned thread, unsigned index, std::uint16_t stamp,
                           std::memory_order order) noexcept {
  const message& m = words_[index].history[stamp];
  thread_views& own = own_[thread];
  if (own.current.seen[index] < stamp) own.current.seen[index] = stamp;
  if (acquires(order)) own.current.join(m.released);
  own.acquirable.join(m.released);
  words_[index].touched[thread] = own.current.clock[thread];
  return m.value;
}

void memory::append(unsigned thread, unsigned index, std::uint64_t value, std::memory_order order,
                    bool continues) {
  word& w = words_[index];
  thread_views& own = own_[thread];
  const auto stamp = static_cast<std::uint16_t>(w.history.size());
  w.history.emplace_back();
  message& m = w.history.back();
  m.value = value;
  own.current.seen[index] = stamp;
  w.touched[thread] = own.current.clock[thread];
  m.released = releases(order) ? own.current : own.released;
  m.released.seen[index] = stamp;
  // Only read-modify-writes go on with a release sequence (C++20).
  if (continues) m.released.join(w.history[stamp - 1u].released);
  if (order == std::memory_order_seq_cst) consistent_.seen[index] = stamp;
  tick(thread);
}

void memory::fence(unsigned thread, std::memory_order order) noexcept {
  thread_views& own = own_[thread];
  if (acquires(order)) own.current.join(own.acquirable);
  if (order == std::memory_order_seq_cst) {
    consistent_.join_seen(own.current);
    own.current.join_seen(consistent_);
  }
  if (releases(order)) own.released = own.current;
  tick(thread);
}

void memory::refresh(unsigned thread) noexcept {
  for (unsigned i = 0; i < words_used_; ++i) own_[thread].fresh.seen[i] = words_[i].newest();
}

datum& memory::datum_at(const void* at) {
  for (datum& d : data_)
    if (d.at == at) return d;
  data_.push_back({at, threads_max, 0, {}});
  return data_.back();
}

bool memory::plain_read(unsigned thread, const void* at) {
  datum& d = datum_at(at);
  d.read[thread] = own_[thread].current.clock[thread];
  return d.writer == threads_max || happened(thread, d.writer, d.written);
}

bool memory::plain_write(unsigned thread, const void* at) {
  datum& d = datum_at(at);
  bool ordered = d.writer == threads_max || happened(thread, d.writer, d.written);
  for (unsigned t = 0; t < threads_max; ++t) ordered = ordered && happened(thread, t, d.read[t]);
  d.writer = thread;
  d.written = own_[thread].current.clock[thread];
  return ordered;
}

}  // namespace coir::check
