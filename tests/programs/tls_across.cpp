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
//   - Whoever runs on a stack that no other thread goes on with, a signal handler or the loop of a
//     worker, switches without harm: one list has them by name.
//
// Comes from: tls_across.sh.   Goes to: nothing.
#include <array>
#include <cctype>
#include <cstdint>
#include <iostream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

using address = std::uint64_t;
// Of this thread; kept over a switch; the address of a function that answers such an address.
enum : unsigned { fresh = 1, stale = 2, giver = 4 };

struct instruction {
  std::string name;
  std::vector<std::string> operands;
  std::string target;  // <symbol> of a jump or call, or of what it reads, without its @version
  address to = 0;      // where a jump goes
  std::string text;
};

using state = std::map<std::string, unsigned>;  // register or stack slot -> fresh | stale

std::map<address, instruction> code;
std::map<address, std::string> functions;
bool arm = false;

bool starts(std::string_view text, std::string_view with) {
  return text.substr(0, with.size()) == with;
}
bool has(std::string_view text, std::string_view what) { return text.find(what) != text.npos; }

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : text) {
    depth += (c == '(' || c == '[' || c == '{') - (c == ')' || c == ']' || c == '}');
    if (c == ',' && depth == 0) {
      parts.emplace_back();
    } else if (c != ' ' || !parts.back().empty()) {
      parts.back() += c;
    }
  }
  if (parts.back().empty()) parts.pop_back();
  return parts;
}

void read_line(const std::string& line) {
  if (has(line, "aarch64")) arm = true;
  if (line.empty() || !std::isxdigit(static_cast<unsigned char>(
                          line[line[0] == ' ' ? line.find_first_not_of(' ') : 0])))
    return;
  const std::size_t colon = line.find(':');
  if (colon == line.npos) return;
  const address at = std::strtoull(line.c_str(), nullptr, 16);
  if (line.find(" <") < colon) {  // 0000000000001234 <name>:
    const std::size_t from = line.find('<');
    functions[at] = line.substr(from + 1, line.rfind('>') - from - 1);
    return;
  }
  std::string rest = line.substr(colon + 1);
  instruction i;
  if (const std::size_t note = rest.find('#'); note != rest.npos && !arm) {
    // A place that the loader fills with the address of another library's function.
    const std::size_t symbol = rest.find('<', note), version = rest.find('@', note);
    if (symbol < version && version != rest.npos)
      i.target = rest.substr(symbol + 1, version - symbol - 1);
    rest.resize(note);
  }
  std::istringstream words(rest);
  i.text = rest;
  words >> i.name;
  while (i.name == "bnd" || i.name == "notrack" || i.name == "rep" || i.name == "lock" ||
         i.name == "data16" || starts(i.name, "rex"))
    words >> i.name;
  std::string operands;
  std::getline(words, operands);
  if (const std::size_t symbol = operands.find('<'); symbol != operands.npos) {
    i.target = operands.substr(symbol + 1, operands.find_first_of("@>", symbol) - symbol - 1);
    operands.resize(symbol);
    std::istringstream last(
        operands.substr(operands.find_last_of(", \t", operands.find_last_not_of(" \t")) + 1));
    last >> std::hex >> i.to;
  }
  if (const std::size_t note = operands.find("//"); note != operands.npos) operands.resize(note);
  while (!operands.empty() && std::isspace(static_cast<unsigned char>(operands.back())))
    operands.pop_back();
  operands.erase(0, operands.find_first_not_of(" \t"));
  i.operands = split(operands);
  if (!i.name.empty()) code[at] = std::move(i);
}

// -- registers and places
std::string canonical(std::string r) {
  if (arm) {
    if (r.size() > 1 && r[0] == 'w' && std::isdigit(static_cast<unsigned char>(r[1]))) r[0] = 'x';
    return r;
  }
  if (r.empty() || r[0] != '%') return r;
  static const std::map<std::string, std::string> narrow = {
      {"%eax", "%rax"}, {"%ebx", "%rbx"}, {"%ecx", "%rcx"}, {"%edx", "%rdx"},
      {"%esi", "%rsi"}, {"%edi", "%rdi"}, {"%ebp", "%rbp"}, {"%esp", "%rsp"}};
  const auto wide = narrow.find(r);
  if (wide != narrow.end()) return wide->second;
  if (starts(r, "%r") && (r.back() == 'd' || r.back() == 'w' || r.back() == 'b') &&
      std::isdigit(static_cast<unsigned char>(r[2])))
    r.pop_back();
  return r;
}
bool is_memory(const std::string& o) { return has(o, "(") || has(o, "[") || has(o, ":"); }
bool on_stack(const std::string& o) {
  return arm ? starts(o, "[sp") || starts(o, "[x29") : has(o, "(%rsp)") || has(o, "(%rbp)");
}
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

// -- what kind of instruction
bool is_call(const instruction& i) {
  return i.name == "call" || i.name == "callq" || i.name == "bl" || i.name == "blr";
}
bool is_jump(const instruction& i) {
  return i.name == "jmp" || i.name == "jmpq" || i.name == "b" || i.name == "br";
}
bool is_branch(const instruction& i) {
  return arm ? starts(i.name, "b.") || starts(i.name, "cb") || starts(i.name, "tb")
             : i.name[0] == 'j' && !is_jump(i);
}
bool ends(const instruction& i) {
  return starts(i.name, "ret") || i.name == "ud2" || i.name == "int3" || i.name == "hlt" ||
         i.name == "brk" || i.name == "udf";
}
/// Through a pointer. A place that the loader fills is none: it names who is called.
bool is_indirect(const instruction& i) {
  return (is_call(i) || is_jump(i)) && i.to == 0 && i.target.empty();
}
/// Between functions and before loops.
bool pads(const instruction& i) {
  return has(i.name, "nop") || i.name == "int3" || i.name == "udf" ||
         (i.name == "xchg" && i.operands.size() == 2 && i.operands[0] == i.operands[1]);
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

std::string function_of(address at) {
  auto f = functions.upper_bound(at);
  if (f == functions.begin()) return {};
  std::string name = std::prev(f)->second;
  if (const std::size_t cold = name.find(".cold"); cold != name.npos) name.resize(cold);
  return name;
}

/// Whoever is let off: it begins and ends on one thread, whatever it calls. A signal handler, the
/// first function of a thread with the loop of a worker in it, and who calls options::log, which
/// must not park.
bool stays_on_its_thread(const std::string& function) {
  for (const char* const each : {"EiP9siginfo_tPv", "St6thread11_State_implI",
                                 "12runtime_core4workE", "6worker3runE", "6worker13count_ignoredE"})
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

/// Registers named inside an operand.
std::vector<std::string> registers_in(const std::string& operand) {
  std::vector<std::string> all;
  std::string word;
  for (const char c : operand + " ") {
    if (std::isalnum(static_cast<unsigned char>(c)) || c == '%') {
      word += c;
    } else {
      if (!word.empty()) all.push_back(canonical(word));
      word.clear();
    }
  }
  return all;
}

void step(address at, const instruction& i, state& s) {
  if (is_call(i)) {
    for (const auto& o : i.operands)
      for (const auto& r : registers_in(o))
        if ((look(s, r) & stale) != 0) report(at, r);
    if (asks_descriptor(at, i)) return set(s, "x0", 0);
    // Weak functions of other libraries are called through a register.
    const bool by_register = i.operands.size() == 1 && starts(i.operands[0], "*%");
    const bool gives =
        gives_address(i.target) || (by_register && (look(s, i.operands[0].substr(1)) & giver) != 0);
    if (!gives && calls_a_switch(at, i)) return cross(s, survives_call);
    state after;
    for (const auto& [place, what] : s)
      if (survives_call(place)) after[place] = what;
    s = after;
    if (gives) s[arm ? "x0" : "%rax"] = fresh;
    return;
  }
  if (i.operands.empty() || is_branch(i) || is_jump(i)) return;
  if ((i.name == "xor" || i.name == "sub") && i.operands[0] == i.operands.back())
    return set(s, canonical(i.operands[0]), 0);  // nothing is used: it becomes 0
  const bool compares = starts(i.name, "cmp") || starts(i.name, "test") || starts(i.name, "tst") ||
                        starts(i.name, "ccmp");
  const bool stores = arm && (starts(i.name, "st"));
  const bool pair = arm && (i.name == "ldp" || i.name == "stp");
  const bool loads = arm && starts(i.name, "ld");
  // The operands that are read and the one that is written.
  std::vector<std::string> written, read;
  if (arm) {
    const std::size_t values = pair ? 2 : 1;
    for (std::size_t n = 0; n < i.operands.size(); ++n) {
      const bool first = n < values;
      const bool memory = is_memory(i.operands[n]);
      if (stores ? memory : (first && !compares)) {
        written.push_back(i.operands[n]);
      } else {
        read.push_back(i.operands[n]);
      }
    }
  } else {
    for (std::size_t n = 0; n + 1 < i.operands.size(); ++n) read.push_back(i.operands[n]);
    (compares || starts(i.name, "push") ? read : written).push_back(i.operands.back());
  }
  // Using: as a source, or as the base of a place in memory.
  unsigned sources = 0;
  bool from_memory = false;
  for (const auto& o : read) {
    if (on_stack(o)) {
      // The frame pointer may be no frame pointer here.
      for (const auto& r : registers_in(o))
        if ((look(s, r) & stale) != 0) report(at, r);
      const unsigned what = look(s, o);
      if ((what & stale) != 0) report(at, o);
      sources |= what;
      continue;
    }
    from_memory |= is_memory(o) && !starts(i.name, "lea");
    for (const auto& r : registers_in(o)) {
      if ((look(s, r) & stale) != 0) report(at, r);
      sources |= look(s, r);
    }
  }
  for (const auto& o : written)
    if (is_memory(o))
      for (const auto& r : registers_in(o))
        if ((look(s, r) & stale) != 0) report(at, r);
  // What is loaded through an address is a value, and values may be kept.
  const bool carries = starts(i.name, "mov") || starts(i.name, "lea") || starts(i.name, "add") ||
                       starts(i.name, "sub") || starts(i.name, "cmov") || starts(i.name, "csel") ||
                       loads || stores;
  unsigned what = carries && !from_memory ? sources & (fresh | giver) : 0;
  if (gives_address(i.target)) what = giver;
  const bool keeps = starts(i.name, "add") || starts(i.name, "sub") || starts(i.name, "cmov");
  const bool base = arm ? i.name == "mrs" && has(i.text, "tpidr_el0")
                        : has(i.text, "%fs:0x0,") || has(i.text, "%fs:0,");
  if (base) what = fresh;
  if (pair && loads) {  // two slots of 8 bytes that the text names as one
    what = look(s, read.empty() ? "" : read.back()) & fresh;
  }
  for (const auto& o : written) {
    if (is_memory(o) && !on_stack(o)) continue;
    const std::string place = on_stack(o) ? o : canonical(o);
    set(s, place, (keeps && !arm ? look(s, place) : 0) | what);
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
