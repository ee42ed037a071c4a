// options_parse.cpp: options from a text, and the text of options.
//
// Always true:
//   - Whatever the text, the answer is options within their ranges, or one line that says what was
//     refused, where, and what to write instead.
//   - parse(to_text(o)) is o, but for its log.
//
// Comes from: options_parse.hpp, coir/options.hpp.   Goes to: whoever wrote the text.
#include "runtime/options_parse.hpp"

#include <unistd.h>

#include <algorithm>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "runtime/base.hpp"

namespace coir::detail {
namespace {

constexpr std::uint64_t bit_of(std::uint64_t opcode) noexcept {
  return std::uint64_t{1} << std::min<std::uint64_t>(opcode, opcode_most + 1);
}

std::uint64_t bits_of(const std::vector<std::uint8_t>& opcodes) noexcept {
  std::uint64_t bits = 0;
  for (const std::uint8_t opcode : opcodes) bits |= bit_of(opcode);
  return bits;
}

std::vector<std::uint8_t> opcodes_of(std::uint64_t bits) {
  std::vector<std::uint8_t> all;
  for (std::uint8_t opcode = 0; opcode <= opcode_most + 1; ++opcode)
    if ((bits & bit_of(opcode)) != 0) all.push_back(opcode);
  return all;
}

template <auto Field>
struct field {
  using type = std::remove_cvref_t<decltype(std::declval<options&>().*Field)>;
  static std::uint64_t get(const options& o) {
    if constexpr (requires(type t) { t.count(); })
      return static_cast<std::uint64_t>((o.*Field).count());
    else if constexpr (requires(type t) { t.push_back(0); })
      return bits_of(o.*Field);
    else
      return static_cast<std::uint64_t>(o.*Field);
  }
  static void set(options& o, std::uint64_t to) {
    if constexpr (requires(type t) { t.count(); })
      o.*Field = type(static_cast<typename type::rep>(to));
    else if constexpr (requires(type t) { t.push_back(0); })
      o.*Field = opcodes_of(to);
    else
      o.*Field = static_cast<type>(to);
  }
};

template <auto Field>
constexpr option_row row(const char* name, const char* short_name, option_form form,
                         std::uint64_t least, std::uint64_t most) {
  return {name, short_name, form, least, most, &field<Field>::get, &field<Field>::set};
}

template <auto Field>
constexpr option_row named(const char* name, std::span<const char* const> names) {
  return {
      name, nullptr, option_form::name, 0, names.size() - 1, &field<Field>::get, &field<Field>::set,
      names};
}

constexpr const char* guard_names[] = {"none", "grouped", "every"};
static_assert(static_cast<unsigned>(guard::every) == 2);
constexpr const char* topology_names[] = {"mesh", "global"};
static_assert(static_cast<unsigned>(topology::global) == 1);
constexpr const char* backend_names[] = {"automatic", "uring", "poll", "sim"};
static_assert(static_cast<unsigned>(backend_kind::sim) == 3);

constexpr auto number = option_form::number;

constexpr option_row rows[] = {
    row<&options::workers>("workers", nullptr, number, 0, 256),
    row<&options::fibers_max>("fibers_max", "capacity", number, 1, 1u << 24),
    row<&options::stack_bytes>("stack_bytes", "stack", number, 16 << 10, 8 << 20),
    named<&options::guards>("guards", guard_names),
    named<&options::topo>("topo", topology_names),
    row<&options::pin_workers>("pin_workers", nullptr, option_form::flag, 0, 1),
    row<&options::numa_placement>("numa_placement", nullptr, option_form::flag, 0, 1),
    row<&options::scrub_on_exit>("scrub_on_exit", nullptr, option_form::flag, 0, 1),
    row<&options::hardened_ring>("hardened_ring", nullptr, option_form::flag, 0, 1),
    row<&options::ring_opcodes>("ring_opcodes", nullptr, option_form::opcodes, 0,
                                bit_of(opcode_most + 1) - 1),
    named<&options::backend>("backend", backend_names),
    row<&options::ring_entries>("ring_entries", nullptr, number, 1, 32768),
    row<&options::mailbox_slots>("mailbox_slots", nullptr, number, 1, 65536),
    row<&options::run_budget>("run_budget", nullptr, number, 1, 65536),
    row<&options::deflect_threshold>("deflect_threshold", nullptr, number, 1,
                                     deflect_threshold_most),
    row<&options::stream_buffers>("stream_buffers", nullptr, number, 1, 32768),
    row<&options::stream_buffer_bytes>("stream_buffer_bytes", nullptr, number, 64, 1 << 20),
    row<&options::offload_threads>("offload_threads", nullptr, number, 1, 1024),
    row<&options::offload_queue>("offload_queue", nullptr, number, 1, 1u << 24),
    row<&options::idle_spin>("idle_spin", nullptr, option_form::microseconds, 0, 1'000'000),
    row<&options::stall_after>("stall_after", nullptr, option_form::milliseconds, 0, 3'600'000),
};

/// Names every field, so that one more does not compile before somebody comes here and gives it a
/// row above.
[[maybe_unused]] void every_field(options& o) {
  [[maybe_unused]] auto& [workers, fibers_max, stack_bytes, guards, topo, pin_workers,
                          numa_placement, scrub_on_exit, hardened_ring, ring_opcodes, fixed_buffers,
                          backend, ring_entries, mailbox_slots, run_budget, deflect_threshold,
                          stream_buffers, stream_buffer_bytes, offload_threads, offload_queue,
                          idle_spin, stall_after, log] = o;
  static_assert(std::size(rows) == 21, "as many as there are names, but for memory and the log");
}

// -- reading

constexpr std::string_view blanks = " \t\r\v\f";

std::string_view trimmed(std::string_view text) noexcept {
  const auto begin = text.find_first_not_of(blanks);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) + 1 - begin);
}

/// For a person: not too long, and nothing that a terminal would obey.
std::string quoted(std::string_view text) {
  constexpr std::size_t most = 48;
  std::string shown = "'";
  for (const char c : text.substr(0, most)) shown += c >= ' ' && c <= '~' ? c : '?';
  return shown + (text.size() > most ? "...'" : "'");
}

struct unit {
  std::string_view name;
  std::uint64_t size;
};
constexpr unit sizes[] = {{"", 1},          {"K", 1 << 10},   {"M", 1 << 20},  {"G", 1 << 30},
                          {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
constexpr unit times_us[] = {{"us", 1}, {"ms", 1'000}, {"s", 1'000'000}, {"min", 60'000'000}};

/// Digits and one of these units; what is too large is the largest number there is.
bool read_units(std::string_view text, std::span<const unit> units, std::uint64_t& out) noexcept {
  std::size_t digits = 0;
  std::uint64_t number = 0;
  bool too_large = false;
  for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits) {
    too_large |= __builtin_mul_overflow(number, 10u, &number);
    too_large |= __builtin_add_overflow(number, static_cast<unsigned>(text[digits] - '0'), &number);
  }
  if (digits == 0) return false;
  const std::string_view name = trimmed(text.substr(digits));
  const auto found =
      std::find_if(units.begin(), units.end(), [name](const unit& u) { return u.name == name; });
  if (found == units.end()) return number == 0 && !too_large && name.empty() && (out = 0, true);
  too_large |= __builtin_mul_overflow(number, found->size, &number);
  out = too_large ? std::numeric_limits<std::uint64_t>::max() : number;
  return true;
}

bool read_opcodes(std::string_view text, std::uint64_t& out) noexcept {
  for (out = 0; !(text = trimmed(text)).empty();) {
    const std::string_view word = text.substr(0, text.find_first_of(blanks));
    text.remove_prefix(word.size());
    std::uint64_t opcode = 0;
    if (!read_units(word, std::span(sizes, 1), opcode)) return false;
    out |= bit_of(opcode);
  }
  return true;
}

std::string choices(std::span<const char* const> names) {
  std::string all;
  for (const char* const name : names) all += (all.empty() ? "" : " or ") + std::string(name);
  return all;
}

/// What this row's value is written like, for a line of advice.
std::string advice(const option_row& r) {
  switch (r.form) {
    case option_form::number:
      return "write a whole number, with K, M or G for 1,024 of them, its square or its cube";
    case option_form::microseconds:
    case option_form::milliseconds:
      return "write a whole number and us, ms, s or min, as in " + std::string(r.name) + "=50ms";
    case option_form::flag:
      return "write on or off";
    case option_form::name:
      return "write " + choices(r.names);
    case option_form::opcodes:
      return "write numbers with blanks between, as in ring_opcodes=11 25";
  }
  return {};
}

/// False: this is no value of that form.
bool read_value(const option_row& r, std::string_view text, std::uint64_t& out) noexcept {
  switch (r.form) {
    case option_form::number:
      return read_units(text, sizes, out);
    case option_form::microseconds:
      return read_units(text, times_us, out);
    case option_form::milliseconds:
      if (!read_units(text, times_us, out)) return false;
      if (out == std::numeric_limits<std::uint64_t>::max()) return true;
      if (out % 1000 != 0) return false;
      out /= 1000;
      return true;
    case option_form::flag:
      out = text == "on" || text == "true" || text == "1" ? 1 : 0;
      return out == 1 || text == "off" || text == "false" || text == "0";
    case option_form::name:
      out = static_cast<std::uint64_t>(std::find(r.names.begin(), r.names.end(), text) -
                                       r.names.begin());
      return out < r.names.size();
    case option_form::opcodes:
      return read_opcodes(text, out);
  }
  return false;
}

std::string numbers(std::uint64_t bits) {
  std::string all;
  for (const std::uint8_t opcode : opcodes_of(bits))
    all += (all.empty() ? "" : " ") + std::to_string(opcode);
  return all;
}

/// A value as it would be written.
std::string written(const option_row& r, std::uint64_t value) {
  switch (r.form) {
    case option_form::number:
      return std::to_string(value);
    case option_form::microseconds:
      return std::to_string(value) + "us";
    case option_form::milliseconds:
      return std::to_string(value) + "ms";
    case option_form::flag:
      return value != 0 ? "on" : "off";
    case option_form::name:
      return value < r.names.size() ? r.names[value] : std::to_string(value);
    case option_form::opcodes:
      return numbers(value);
  }
  return {};
}

std::string range_of(const option_row& r) {
  if (r.form == option_form::opcodes)
    return " goes from opcode 0 to opcode " + std::to_string(opcode_most);
  return " goes from " + written(r, r.least) + " to " + written(r, r.most);
}

const option_row* row_named(std::string_view name) noexcept {
  for (const option_row& r : rows)
    if (name == r.name || (r.short_name != nullptr && name == r.short_name)) return &r;
  return nullptr;
}

std::string known_names() {
  std::string all;
  for (const option_row& r : rows) {
    all += (all.empty() ? "" : ", ") + std::string(r.name);
    if (r.short_name != nullptr) all += " (" + std::string(r.short_name) + ")";
  }
  return all;
}

/// One `name=value` into `o`. Empty: it was taken; else why not, and what to do.
std::string take(std::string_view item, options& o, std::uint64_t& seen) {
  const auto equals = item.find('=');
  const std::string_view name = trimmed(item.substr(0, equals));
  const option_row* const r = row_named(name);
  if (name == "log") return "a function cannot be written: set options::log in the program";
  if (r == nullptr) return "no option has this name: there are " + known_names();
  if (equals == item.npos) return "it has no value: " + advice(*r);
  const std::uint64_t bit = std::uint64_t{1} << (r - rows);
  if ((seen & bit) != 0) return std::string(r->name) + " is set twice: leave one";
  seen |= bit;
  std::uint64_t value = 0;
  const std::string_view text = trimmed(item.substr(equals + 1));
  if (!read_value(*r, text, value)) return quoted(text) + " is no value of it: " + advice(*r);
  if ((value < r->least || value > r->most) && !COIR_MUTANT(parsed_unchecked))
    return std::string(r->name) + range_of(*r);
  r->set(o, value);
  return {};
}

/// Refused: `why` or, without one, the log of the runtime that is not to be.
result<options> refuse(const options& base, std::string* why, std::string text) {
  if (why != nullptr) {
    *why = std::move(text);
  } else if (base.log) {
    base.log({log_record::level::error, text});
  } else {
    text = "coir: " + text + "\n";
    [[maybe_unused]] const auto done = ::write(STDERR_FILENO, text.data(), text.size());
  }
  return fail(std::errc::invalid_argument);
}

}  // namespace

std::span<const option_row> option_rows() noexcept { return rows; }

const option_row* out_of_range(const options& o) noexcept {
  for (const option_row& r : rows)
    if (const std::uint64_t value = r.get(o); value < r.least || value > r.most) return &r;
  return nullptr;
}

}  // namespace coir::detail

namespace coir {

result<options> options::parse(std::string_view text, const options& base, std::string* why) {
  options made = base;
  std::uint64_t seen = 0;
  static_assert(std::size(detail::rows) <= 64);
  for (std::size_t line = 1; !text.empty(); ++line) {
    const std::string_view whole = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(whole.size() + 1, text.size()));
    for (std::string_view rest = whole.substr(0, whole.find('#')); !rest.empty();) {
      const std::string_view item = rest.substr(0, rest.find(','));
      rest.remove_prefix(std::min(item.size() + 1, rest.size()));
      if (detail::trimmed(item).empty()) continue;
      const std::string wrong = detail::take(item, made, seen);
      if (!wrong.empty())
        return detail::refuse(base, why,
                              "options, line " + std::to_string(line) + ": " +
                                  detail::quoted(detail::trimmed(item)) + ": " + wrong);
    }
  }
  return made;
}

result<options> options::parse(std::string_view text, std::string* why) {
  return parse(text, options(), why);
}

std::string options::to_text() const {
  std::string all;
  for (const detail::option_row& r : detail::rows)
    all += (all.empty() ? "" : ",") + std::string(r.name) + "=" + detail::written(r, r.get(*this));
  return all;
}

}  // namespace coir
