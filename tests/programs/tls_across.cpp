// tls_across.cpp: reads a disassembly and looks for an address that belongs to one thread and is
// used after a switch of stacks: there it may be another thread's.
//
// Always true:
//   - Input: objdump -d --no-show-raw-insn of a linked file, on standard input. Output: a line for
//     each use after a switch, and a last line with what was looked at. Ends with 0 when there was
//     no such use, and with 2 when no function switches: then nothing was looked at.
//   - An address of a thread is the thread pointer itself and what __tls_get_addr, __errno_location
//     and their like answer; it is followed through registers and stack slots along every path.
//   - A switch is the inlined form, a call of the out-of-line forms, every call through a pointer
//     (it may lead to the body of a fiber), or a call of any function that comes to one of these.
//   - Code that no instruction names (a table of jumps or an exception leads there) is read as if
//     nothing had been asked before it. To merge all that might lead there names dead registers.
//   - Nothing goes on behind a call that never comes back, whatever a compiler put there.
//   - Whoever runs on a stack that no other thread goes on with, a signal handler or the loop of a
//     worker, switches without harm: one list has them by name.
//
// Comes from: tls_across.sh, migrations.sh.   Goes to: disassembly.hpp.
#include <iostream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/programs/disassembly.hpp"

namespace {

using namespace disassembly;

// Of this thread; kept over a switch; the address of a function that answers such an address.
enum : unsigned { fresh = 1, stale = 2, giver = 4 };

using state = std::map<std::string, unsigned>;  // register or stack slot -> fresh | stale

bool survives_call(const std::string& place) {
  static const std::set<std::string> kept = {"%rbx", "%rbp", "%r12", "%r13", "%r14", "%r15",
                                             "x19",  "x20",  "x21",  "x22",  "x23",  "x24",
                                             "x25",  "x26",  "x27",  "x28",  "x29"};
  return is_memory(place) || kept.count(place) != 0;
}
bool survives_inlined(const std::string& place) {
  return is_memory(place) || place == "%rbx" || place == "%rbp" || place == "x19" || place == "x29";
}

unsigned look(const state& s, const std::string& place) {
  const auto found = s.find(place);
  return found == s.end() ? 0 : found->second;
}
void set(state& s, const std::string& place, unsigned to) {
  if (to == 0) {
    s.erase(place);
  } else {
    s[place] = to;
  }
}

bool gives_address(const std::string& target) {
  for (const char* const each :
       {"__tls_get_addr", "__errno_location", "__cxa_get_globals", "pthread_self"})
    if (starts(target, each)) return true;
  return false;
}
bool is_switch_symbol(const std::string& target) {
  return starts(target, "coir_switch") || starts(target, "jump_fcontext") ||
         has(target, "4coir4arch9switch_to");
}

/// Where an inlined switch changes the stack pointer, and where it is resumed.
std::map<address, address> inlined;
std::set<std::string> switching;

void find_inlined() {
  for (auto at = code.begin(); at != code.end(); ++at) {
    const instruction& i = at->second;
    const bool leaves = arm ? i.name == "br" && i.operands.size() == 1 && i.operands[0] == "x16"
                            : is_jump(i) && i.operands.size() == 1 &&
                                  (i.operands[0] == "*(%rsi)" || i.operands[0] == "*0x0(%rsi)");
    if (!leaves) continue;
    // The registers are as they were saved before the stack pointer changed.
    address changes = 0;
    auto back = at;
    for (int steps = 0; steps < 4 && back != code.begin(); ++steps) {
      const std::string& text = (--back)->second.text;
      if (has(text, arm ? "sp, x10" : "0x8(%rsi),%rsp")) changes = back->first;
    }
    auto next = std::next(at);
    if (changes == 0 || next == code.end() ||
        (next->second.name != "int3" && next->second.name != "brk"))
      continue;
    if (++next != code.end()) inlined[changes] = next->first;
  }
}

/// Whoever is let off: it begins and ends on one thread, whatever it calls. A signal handler, the
/// first function of a thread with the loop of a worker in it, who calls options::log, which must
/// not park, and the backend without a ring, whose calls through pointers are tries of an
/// operation.
bool stays_on_its_thread(const std::string& function) {
  for (const char* const each :
       {"EiP9siginfo_tPv", "St6thread11_State_implI", "12runtime_core4workE", "6worker3runE",
        "6worker13count_ignoredE", "6detail4poll"})
    if (has(function, each)) return true;
  return function == "main";
}

/// aarch64 asks a descriptor for the offset of a thread-local by a call that keeps every other
/// register: adrp x0, ldr x1 from there, add x0, blr x1.
bool asks_descriptor(address at, const instruction& i) {
  if (i.name != "blr") return false;
  auto before = code.find(at);
  const auto is_before = [&](const char* name, const std::string& to) {
    if (before == code.begin()) return false;
    const instruction& it = (--before)->second;
    return it.name == name && it.operands.size() > 1 && it.operands[0] == to;
  };
  return is_before("add", "x0") && is_before("ldr", i.operands[0]) && is_before("adrp", "x0");
}

/// Everybody who switches, by its own hand or by that of others.
void find_switching() {
  for (const auto& [leaves, resumes] : inlined) switching.insert(function_of(leaves));
  std::set<std::string> names;
  for (const auto& [at, name] : functions) names.insert(name);
  for (bool more = true; more;) {
    more = false;
    for (const auto& [at, i] : code) {
      if (!is_call(i) && !is_jump(i)) continue;
      const bool anywhere = is_call(i) && is_indirect(i) && !asks_descriptor(at, i);
      if (!anywhere && !is_switch_symbol(i.target) &&
          (switching.count(i.target) == 0 || names.count(i.target) == 0))
        continue;
      const std::string caller = function_of(at);
      if (stays_on_its_thread(caller)) continue;
      if (caller != i.target && !is_switch_symbol(caller)) more |= switching.insert(caller).second;
    }
  }
}

bool calls_a_switch(address at, const instruction& i) {
  if (stays_on_its_thread(function_of(at))) return false;
  if (is_indirect(i)) return true;
  return is_switch_symbol(i.target) || switching.count(i.target) != 0;
}

// -- one step
std::set<std::string> reports;
void report(address at, const std::string& place) {
  std::ostringstream line;
  line << function_of(at) << ": " << std::hex << at << ":" << code[at].text << "   (" << place
       << ")";
  reports.insert(line.str());
}

void cross(state& s, bool (*survives)(const std::string&)) {
  state after;
  for (const auto& [place, what] : s)
    if (survives(place)) after[place] = (what & fresh) != 0 ? (what & ~fresh) | stale : what;
  s = after;
}

/// As a source, or as the base of a place in memory.
void report_stale(address at, const state& s, const std::string& operand) {
  for (const auto& r : registers_in(operand))
    if ((look(s, r) & stale) != 0) report(at, r);
}

void step_call(address at, const instruction& i, state& s) {
  for (const auto& o : i.operands) report_stale(at, s, o);
  if (asks_descriptor(at, i)) return set(s, "x0", 0);
  // Weak functions of other libraries are called through a register.
  const bool by_register = i.operands.size() == 1 && starts(i.operands[0], "*%");
  const bool gives =
      gives_address(i.target) || (by_register && (look(s, i.operands[0].substr(1)) & giver) != 0);
  if (!gives && calls_a_switch(at, i)) return cross(s, survives_call);
  std::erase_if(s, [](const auto& each) { return !survives_call(each.first); });
  if (gives) s[arm ? "x0" : "%rax"] = fresh;
}

/// The operands that are read and those that are written.
struct roles {
  std::vector<std::string> read, written;
};

roles roles_of(const instruction& i) {
  const bool compares = starts(i.name, "cmp") || starts(i.name, "test") || starts(i.name, "tst") ||
                        starts(i.name, "ccmp");
  const std::size_t values = i.name == "ldp" || i.name == "stp" ? 2 : 1;
  roles all;
  for (std::size_t n = 0; n < i.operands.size(); ++n) {
    const bool target =
        arm ? (starts(i.name, "st") ? is_memory(i.operands[n]) : n < values && !compares)
            : n + 1 == i.operands.size() && !compares && !starts(i.name, "push");
    (target ? all.written : all.read).push_back(i.operands[n]);
  }
  return all;
}

/// What is written is such an address when it is made of one; what is loaded through an address is
/// a value, and values may be kept.
unsigned answer_of(const instruction& i, unsigned sources, bool from_memory) {
  if (arm ? i.name == "mrs" && has(i.text, "tpidr_el0")
          : has(i.text, "%fs:0x0,") || has(i.text, "%fs:0,"))
    return fresh;
  if (gives_address(i.target)) return giver;
  for (const char* const each : {"mov", "lea", "add", "sub", "cmov", "csel", "ld", "st"})
    if (starts(i.name, each)) return from_memory ? 0 : sources & (fresh | giver);
  return 0;
}

void step(address at, const instruction& i, state& s) {
  if (is_call(i)) return step_call(at, i, s);
  if (i.operands.empty() || is_branch(i) || is_jump(i)) return;
  if ((i.name == "xor" || i.name == "sub") && i.operands[0] == i.operands.back())
    return set(s, canonical(i.operands[0]), 0);  // nothing is used: it becomes 0
  const auto [read, written] = roles_of(i);
  unsigned sources = 0;
  bool from_memory = false;
  for (const auto& o : read) {
    report_stale(at, s, o);  // the frame pointer, too: it may be none here
    if (on_stack(o)) {
      if ((look(s, o) & stale) != 0) report(at, o);
      sources |= look(s, o);
    } else {
      from_memory |= is_memory(o) && !starts(i.name, "lea");
      for (const auto& r : registers_in(o)) sources |= look(s, r);
    }
  }
  for (const auto& o : written)
    if (is_memory(o)) report_stale(at, s, o);
  unsigned what = answer_of(i, sources, from_memory);
  // Two slots of 8 bytes that the text names as one.
  if (i.name == "ldp") what = look(s, read.empty() ? "" : read.back()) & fresh;
  const bool keeps =
      !arm && (starts(i.name, "add") || starts(i.name, "sub") || starts(i.name, "cmov"));
  for (const auto& o : written) {
    if (is_memory(o) && !on_stack(o)) continue;
    const std::string place = on_stack(o) ? o : canonical(o);
    set(s, place, (keeps ? look(s, place) : 0) | what);
  }
}

void flow() {
  std::map<address, state> before;
  std::vector<address> todo;
  const auto reach = [&](address to, const state& with) {
    if (code.count(to) == 0) return;
    const bool first = before.count(to) == 0;
    state& there = before[to];
    bool grown = first;
    for (const auto& [place, what] : with) {
      unsigned& known = there[place];
      grown |= (known | what) != known;
      known |= what;
    }
    if (grown) todo.push_back(to);
  };
  for (const auto& [at, name] : functions) reach(at, {});
  auto unseen = code.begin();
  const auto take_unseen = [&] {
    for (; todo.empty() && unseen != code.end(); ++unseen)
      if (!pads(unseen->second) && before.count(unseen->first) == 0) reach(unseen->first, {});
    return !todo.empty();
  };
  while (!todo.empty() || take_unseen()) {
    const address at = todo.back();
    todo.pop_back();
    const auto here = code.find(at);
    state s = before[at];
    if (const auto leaves = inlined.find(at); leaves != inlined.end()) {
      if (!stays_on_its_thread(function_of(at))) cross(s, survives_inlined);
      reach(leaves->second, s);
      continue;
    }
    step(at, here->second, s);
    if (is_branch(here->second) || is_jump(here->second)) {
      // A jump to the start of another function hands it nothing that it would know of.
      const address to = here->second.to;
      const auto entry = functions.find(to);
      if (to != 0 && (entry == functions.end() || has(entry->second, ".cold"))) reach(to, s);
    }
    if (is_jump(here->second) || ends(here->second)) continue;
    if (const auto next = std::next(here); next != code.end() && functions.count(next->first) == 0)
      reach(next->first, s);
  }
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) read_line(line);
  find_inlined();
  find_switching();
  flow();
  for (const auto& line : reports) std::cout << line << "\n";
  std::cout << functions.size() << " functions, " << switching.size() << " switch, "
            << inlined.size() << " of them in place; " << reports.size()
            << " uses of a thread's address after a switch\n";
  if (switching.empty()) return 2;
  return reports.empty() ? 0 : 1;
}
