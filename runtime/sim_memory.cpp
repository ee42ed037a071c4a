// sim_memory.cpp: look, fill, copy, and look again.
//
// Always true:
//   - The bytes of iovec arrays are compared before they are believed.
//
// Comes from: sim_memory.hpp.   Goes to: the program's memory.
#include "runtime/sim_memory.hpp"

#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>

namespace coir::detail {
namespace {

template <class T = void>
T* at(std::uint64_t address) noexcept {
  return reinterpret_cast<T*>(static_cast<std::uintptr_t>(address));
}

std::uint8_t low(const std::byte* place) noexcept {
  return static_cast<std::uint8_t>(reinterpret_cast<std::uintptr_t>(place));
}

/// What lies at `place` in that round.
std::byte pattern(const std::byte* place, std::uint64_t round) noexcept {
  return static_cast<std::byte>(low(place) ^ static_cast<std::uint8_t>(0xa5 ^ round * 29));
}

/// The same for eight places, the first at a multiple of eight.
std::uint64_t eight_of_pattern(const std::byte* place, std::uint64_t round) noexcept {
  static_assert(std::endian::native == std::endian::little);
  constexpr std::uint64_t each = 0x0101010101010101u, one_by_one = 0x0706050403020100u;
  return (each * low(place) + one_by_one) ^ each * static_cast<std::uint8_t>(0xa5 ^ round * 29);
}

void fill_with_pattern(std::span<std::byte> all, std::uint64_t round) noexcept {
  std::byte* at = all.data();
  std::byte* const end = at + all.size();
  for (; at != end && low(at) % 8 != 0; ++at) *at = pattern(at, round);
  for (; end - at >= 8; at += 8) {
    const std::uint64_t eight = eight_of_pattern(at, round);
    std::memcpy(at, &eight, sizeof eight);
  }
  for (; at != end; ++at) *at = pattern(at, round);
}

/// The first place where something else lies; null: there is none.
const std::byte* not_pattern(std::span<const std::byte> all, std::uint64_t round) noexcept {
  const std::byte* at = all.data();
  const std::byte* const end = at + all.size();
  const auto next_wrong = [&](const std::byte* until) {
    while (at != until && *at == pattern(at, round)) ++at;
    return at != until;
  };
  const std::size_t before = std::min<std::size_t>((8 - low(at) % 8) % 8, all.size());
  if (next_wrong(at + before)) return at;
  for (; end - at >= 8; at += 8) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, at, sizeof eight);
    if (eight != eight_of_pattern(at, round)) break;
  }
  return next_wrong(end) ? at : nullptr;
}

/// The two ends of a large buffer, or all of a small one.
template <class Visit>
void visit_filled(std::span<std::byte> buffer, Visit visit) {
  constexpr std::size_t most = sim_memory::filled_bytes_max;
  if (buffer.size() <= 2 * most) return visit(buffer);
  visit(buffer.first(most));
  visit(buffer.last(most));
}

}  // namespace

void sim_memory::keep(std::vector<kept>& in, const void* place, std::size_t bytes,
                      const char* what) {
  if (place == nullptr || bytes == 0) return;
  const auto* const from = static_cast<const std::byte*>(place);
  in.push_back({from, {from, from + bytes}, what});
}

void sim_memory::lend_parts(loan& l, const io_uring_sqe& entry, bool kernel_writes) {
  const auto* const parts = at<const iovec>(entry.addr);
  keep(l.headers, parts, entry.len * sizeof *parts, "the iovec array");
  for (std::uint32_t i = 0; i < entry.len; ++i) {
    if (parts[i].iov_len == 0) continue;
    if (kernel_writes) {
      l.written.push_back({static_cast<std::byte*>(parts[i].iov_base), parts[i].iov_len});
    } else {
      keep(l.read, parts[i].iov_base, parts[i].iov_len, "what is to be written");
    }
  }
}

void sim_memory::lend(std::uint64_t name, const io_uring_sqe& entry) {
  loan l;
  l.opcode = entry.opcode;
  switch (entry.opcode) {
    case IORING_OP_READ:
    case IORING_OP_RECV:
      if (entry.len != 0) l.written.push_back({at<std::byte>(entry.addr), entry.len});
      break;
    case IORING_OP_WRITE:
    case IORING_OP_SEND:
      keep(l.read, at(entry.addr), entry.len, "what is to be written");
      break;
    case IORING_OP_READV:
    case IORING_OP_WRITEV:
      lend_parts(l, entry, entry.opcode == IORING_OP_READV);
      break;
    case IORING_OP_CONNECT:
      keep(l.read, at(entry.addr), entry.off, "the address");
      break;
    case IORING_OP_ACCEPT:
      if (entry.addr == 0 || entry.addr2 == 0) break;
      l.written.push_back({at<std::byte>(entry.addr), *at<const std::uint32_t>(entry.addr2)});
      keep(l.headers, at(entry.addr2), sizeof(std::uint32_t), "the address length");
      break;
    case IORING_OP_STATX:
      l.written.push_back({at<std::byte>(entry.addr2), sizeof(struct ::statx)});
      [[fallthrough]];
    case IORING_OP_OPENAT:
      keep(l.read, at(entry.addr), std::strlen(at<const char>(entry.addr)) + 1, "the path");
      break;
    default:
      return;
  }
  loans_.emplace(name, std::move(l));
}

void sim_memory::report(const loan& l, const char* what, const void* place) noexcept {
  if (violations_++ != 0) return;
  char text[160];
  std::snprintf(text, sizeof text, "opcode %u: %s at %p changed while it was lent", l.opcode, what,
                place);
  first_ = text;
}

void sim_memory::look_at(const loan& l, const std::vector<kept>& all) noexcept {
  for (const kept& k : all)
    if (std::memcmp(k.place, k.bytes.data(), k.bytes.size()) != 0) report(l, k.what, k.place);
}

void sim_memory::look(const loan& l) noexcept {
  look_at(l, l.headers);
  look_at(l, l.read);
  if (l.round == 0 || l.answered) return;
  for (const auto& buffer : l.written)
    visit_filled(buffer, [&](std::span<std::byte> part) {
      if (const std::byte* const wrong = not_pattern(part, l.round)) report(l, "the buffer", wrong);
    });
}

void sim_memory::fill(loan& l) noexcept {
  if (l.answered) return;
  l.round = round_;
  for (const auto& buffer : l.written)
    visit_filled(buffer, [&](std::span<std::byte> part) { fill_with_pattern(part, l.round); });
}

void sim_memory::scribble() noexcept {
  ++round_;
  for (const auto& [name, l] : loans_) look(l);
  for (auto& [name, l] : loans_) fill(l);
}

std::vector<std::byte> sim_memory::fetch(std::uint64_t name) {
  const auto found = loans_.find(name);
  if (found == loans_.end()) return {};
  look(found->second);
  std::vector<std::byte> all;
  for (const kept& k : found->second.read) all.insert(all.end(), k.bytes.begin(), k.bytes.end());
  return all;
}

std::string sim_memory::path(std::uint64_t name) {
  const std::vector<std::byte> text = fetch(name);
  return text.empty() ? std::string() : reinterpret_cast<const char*>(text.data());
}

std::size_t sim_memory::room(std::uint64_t name) const noexcept {
  const auto found = loans_.find(name);
  std::size_t sum = 0;
  if (found != loans_.end())
    for (const auto& buffer : found->second.written) sum += buffer.size();
  return sum;
}

void sim_memory::put(std::uint64_t name, std::span<const std::byte> from) noexcept {
  const auto found = loans_.find(name);
  if (found == loans_.end()) return;
  loan& l = found->second;
  look(l);
  fill(l);
  l.answered = true;
  if (l.opcode == IORING_OP_ACCEPT && !l.headers.empty()) {
    const auto length = static_cast<std::uint32_t>(from.size());
    kept& word = l.headers.front();
    std::memcpy(const_cast<std::byte*>(word.place), &length, sizeof length);
    std::memcpy(word.bytes.data(), &length, sizeof length);
  }
  for (const auto& buffer : l.written) {
    const std::size_t count = std::min(buffer.size(), from.size());
    if (count != 0) std::memcpy(buffer.data(), from.data(), count);
    from = from.subspan(count);
  }
}

void sim_memory::give_back(std::uint64_t name) noexcept {
  const auto found = loans_.find(name);
  if (found == loans_.end()) return;
  look(found->second);
  loans_.erase(found);
}

}  // namespace coir::detail
