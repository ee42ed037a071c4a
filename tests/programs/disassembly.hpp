// disassembly.hpp: what objdump prints, read into instructions: of x86-64 and of aarch64.
//
// Always true:
//   - Input: objdump -d --no-show-raw-insn of a linked file. What is no instruction is left out.
//   - A register has one name, that of its widest form; a cold part bears its function's name.
//   - A call that never comes back ends the path it is on, as a return does: a list has them by
//     name.
//
// Comes from: tls_across.cpp.   Goes to: nothing.
#pragma once

#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace disassembly {

using address = std::uint64_t;

struct instruction {
  std::string name;
  std::vector<std::string> operands;
  std::string target;  // <symbol> of a jump or call, or of what it reads, without its @version
  address to = 0;      // where a jump goes
  std::string text;
};

inline std::map<address, instruction> code;
inline std::map<address, std::string> functions;
inline bool arm = false;

inline bool starts(std::string_view text, std::string_view with) {
  return text.substr(0, with.size()) == with;
}
inline bool has(std::string_view text, std::string_view what) {
  return text.find(what) != text.npos;
}

inline std::vector<std::string> split(const std::string& text) {
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

/// "call 1234 <symbol@version>": where it goes, and by which name.
inline void read_target(const std::string& operands, std::size_t symbol, instruction& i) {
  i.target = operands.substr(symbol + 1, operands.find_first_of("@>", symbol) - symbol - 1);
  const std::string front = operands.substr(0, symbol);
  const std::size_t last = front.find_last_of(", \t", front.find_last_not_of(" \t"));
  i.to = std::strtoull(front.c_str() + (last == front.npos ? 0 : last + 1), nullptr, 16);
}

inline instruction read_instruction(std::string text) {
  instruction i;
  if (const std::size_t note = text.find('#'); note != text.npos && !arm) {
    // A place that the loader fills with the address of another library's function.
    const std::size_t symbol = text.find('<', note), version = text.find('@', note);
    if (symbol < version && version != text.npos)
      i.target = text.substr(symbol + 1, version - symbol - 1);
    text.resize(note);
  }
  i.text = text;
  std::istringstream words(text);
  words >> i.name;
  while (i.name == "bnd" || i.name == "notrack" || i.name == "rep" || i.name == "lock" ||
         i.name == "data16" || starts(i.name, "rex"))
    words >> i.name;
  std::string operands;
  std::getline(words, operands);
  if (const std::size_t symbol = operands.find('<'); symbol != operands.npos) {
    read_target(operands, symbol, i);
    operands.resize(symbol);
  }
  if (const std::size_t note = operands.find("//"); note != operands.npos) operands.resize(note);
  operands.erase(operands.find_last_not_of(" \t") + 1);
  operands.erase(0, operands.find_first_not_of(" \t"));
  i.operands = split(operands);
  return i;
}

inline void read_line(const std::string& line) {
  if (has(line, "aarch64")) arm = true;
  const std::size_t begins = line.find_first_not_of(' '), colon = line.find(':');
  if (begins == line.npos || colon == line.npos ||
      !std::isxdigit(static_cast<unsigned char>(line[begins])))
    return;
  const address at = std::strtoull(line.c_str(), nullptr, 16);
  if (line.find(" <") < colon) {  // 0000000000001234 <name>:
    const std::size_t from = line.find('<');
    functions[at] = line.substr(from + 1, line.rfind('>') - from - 1);
  } else if (instruction i = read_instruction(line.substr(colon + 1)); !i.name.empty()) {
    code[at] = std::move(i);
  }
}

// -- registers and places
inline std::string canonical(std::string r) {
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
inline bool is_memory(const std::string& o) { return has(o, "(") || has(o, "[") || has(o, ":"); }
inline bool on_stack(const std::string& o) {
  return arm ? starts(o, "[sp") || starts(o, "[x29") : has(o, "(%rsp)") || has(o, "(%rbp)");
}
/// Registers named inside an operand.
inline std::vector<std::string> registers_in(const std::string& operand) {
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

// -- what kind of instruction
inline bool is_call(const instruction& i) {
  return i.name == "call" || i.name == "callq" || i.name == "bl" || i.name == "blr";
}
inline bool is_jump(const instruction& i) {
  return i.name == "jmp" || i.name == "jmpq" || i.name == "b" || i.name == "br";
}
inline bool is_branch(const instruction& i) {
  return arm ? starts(i.name, "b.") || starts(i.name, "cb") || starts(i.name, "tb")
             : i.name[0] == 'j' && !is_jump(i);
}
/// Nothing goes on behind a call of these; a compiler may put anything there.
inline bool never_comes_back(const instruction& i) {
  for (const std::string_view each :
       {"_Unwind_Resume", "__cxa_throw", "__cxa_rethrow", "abort", "exit", "_exit",
        "__stack_chk_fail", "__assert_fail", "_ZSt9terminatev", "__clang_call_terminate"})
    if (i.target == each) return true;
  for (const char* const each : {"17rethrow_exception", "__throw_", "16assertion_failedE",
                                 "11end_processE", "14leave_for_goodE", "14forbidden_parkE"})
    if (has(i.target, each)) return true;
  return false;
}
inline bool ends(const instruction& i) {
  return starts(i.name, "ret") || i.name == "ud2" || i.name == "int3" || i.name == "hlt" ||
         i.name == "brk" || i.name == "udf" || (is_call(i) && never_comes_back(i));
}
/// Through a pointer. A place that the loader fills is none: it names who is called.
inline bool is_indirect(const instruction& i) {
  return (is_call(i) || is_jump(i)) && i.to == 0 && i.target.empty();
}
/// Between functions and before loops.
inline bool pads(const instruction& i) {
  return has(i.name, "nop") || i.name == "int3" || i.name == "udf" ||
         (i.name == "xchg" && i.operands.size() == 2 && i.operands[0] == i.operands[1]);
}
inline std::string function_of(address at) {
  auto f = functions.upper_bound(at);
  if (f == functions.begin()) return {};
  std::string name = std::prev(f)->second;
  if (const std::size_t cold = name.find(".cold"); cold != name.npos) name.resize(cold);
  return name;
}

}  // namespace disassembly
