// house_test.cpp: the rules of the house, checked on the sources themselves.
//
// Always true:
//   - A rule is a function from one file to complaints. It is run over the whole tree, where it
//     must find nothing, and over a small wrong file, where it must find what is wrong.
//   - A folder without files fails: a test that looked at nothing says nothing.
//
// Comes from: docs/style.md, docs/design.md.   Goes to: house_tables.hpp, house_text.hpp.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <optional>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "house_tables.hpp"
#include "house_text.hpp"

using namespace house;

namespace {

// -- layers ---------------------------------------------------------------------------------------

struct include {
  std::string name;
  bool angled;
};

std::optional<include> included(const std::string& line) {
  if (!starts(line, "#include ")) return {};
  const auto begin = line.find_first_of("<\"", 8);
  if (begin == line.npos) return {};
  const auto end = line.find_first_of(">\"", begin + 1);
  if (end == line.npos) return {};
  return include{line.substr(begin + 1, end - begin - 1), line[begin] == '<'};
}

std::optional<int> level_in(std::string_view name, std::span<const house::room> rooms) {
  for (const auto& room : rooms)
    if (room.name == name) return room.level;
  return {};
}

/// The level of a file by the name it is included with; nothing for what is not of the house.
std::optional<int> level_of(const std::string& path) {
  const std::string stem = fs::path(path).stem().string();
  if (starts(path, "arch/")) return house::arch_level;
  if (starts(path, "runtime/")) return level_in(stem, house::runtime_rooms).value_or(-1);
  if (starts(path, "coir/"))
    return level_in(stem, house::public_values).value_or(house::public_level);
  if (path == "coir.h") return 9;
  return {};
}

complaints check_layers(const source& file) {
  complaints found;
  if (!starts(file.path, "runtime/") && !starts(file.path, "arch/")) return found;
  const auto level = level_of(file.path);
  if (level < 0) return {file.path + ": this room has no level in house_tables.hpp"};
  const std::string stem = fs::path(file.path).stem().string();
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    const auto inner = included(file.lines[i]);
    const auto other = inner ? level_of(inner->name) : std::nullopt;
    if (!other || fs::path(inner->name).stem() == stem) continue;
    if (*other < 0) found.push_back(place(file, i) + inner->name + " has no level");
    if (*other > *level) found.push_back(place(file, i) + "includes upwards: " + inner->name);
    if (*other == *level && *level == house::separate_level)
      found.push_back(place(file, i) + "includes sideways: " + inner->name);
  }
  return found;
}

complaints check_public_includes(const source& file) {
  complaints found;
  const bool is_public = starts(file.path, "include/");
  const bool is_user = starts(file.path, "samples/") || starts(file.path, "tools/");
  if (!is_public && !is_user) return found;
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    const auto inner = included(file.lines[i]);
    if (!inner) continue;
    const std::string& name = inner->name;
    const bool inside = starts(name, "runtime/") || starts(name, "arch/");
    const bool standard = inner->angled && !has(name, "/") && !has(name, ".");
    const bool ours = starts(name, "coir/") || name == "coir.h";
    const bool listed = std::ranges::count(house::public_includes, name) != 0;
    if (inside || (is_public && !standard && !ours && !listed))
      found.push_back(place(file, i) + "not for a public header or its users: " + name);
  }
  return found;
}

// -- answers that can fail ------------------------------------------------------------------------

/// The rest of `line` behind these words, each of which may stand there.
std::string behind_words(std::string line, std::initializer_list<const char*> words) {
  for (const std::string word : words) {
    const auto begin = std::min(line.find_first_not_of(' '), line.size());
    line.erase(0, begin);
    if (starts(line, word + " ")) line.erase(0, word.size() + 1);
  }
  return line;
}

/// Every function of the public headers that returns a result is [[nodiscard]].
complaints check_nodiscard(const source& file) {
  complaints found;
  if (!starts(file.path, "include/coir/")) return found;
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    const std::string code =
        behind_words(code_of(file.lines[i]), {"COIR_API", "inline", "static", "virtual"});
    if (!starts(code, "result<")) continue;
    int depth = 0;
    std::size_t at = std::string("result").size();
    do {
      depth += code[at] == '<' ? 1 : code[at] == '>' ? -1 : 0;
    } while (++at < code.size() && depth > 0);
    const auto end = code.find_first_not_of(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ ", at);
    if (end != code.npos && end > at + 1 && code[end] == '(')
      found.push_back(place(file, i) + "an answer that can fail may be dropped: [[nodiscard]]");
  }
  return found;
}

// -- file tops, bounds, words ---------------------------------------------------------------------

complaints check_top(const source& file) {
  if (file.lines.empty()) return {file.path + ": empty"};
  const std::string name = fs::path(file.path).filename().string();
  const bool script = starts(file.lines[0], "#!");
  const std::string& first = file.lines[script && file.lines.size() > 1 ? 1 : 0];
  complaints found;
  if (file.path != "LICENSE" && !has(first.substr(0, name.size() + 16), name + ": "))
    found.push_back(file.path + ": must open with what it is for: `// " + name + ": ...`");
  if (!is_code(file.path) || starts(file.path, "tests/")) return found;
  std::string top;
  for (const auto& line : file.lines) {
    if (&line == &file.lines[0] + house::top_lines) break;
    top += line + '\n';
  }
  for (const char* phrase : {"Comes from:", "Goes to:"})
    if (!has(top, phrase)) found.push_back(file.path + ": its top does not say " + phrase);
  return found;
}

bool excused(const source& file, std::span<const house::exception> exceptions) {
  return std::ranges::any_of(exceptions, [&](const auto& e) { return e.file == file.path; });
}

std::size_t columns(const std::string& line) {
  // Bytes that continue a UTF-8 character take no column.
  return static_cast<std::size_t>(
      std::ranges::count_if(line, [](char c) { return (c & 0xC0) != 0x80; }));
}

complaints check_bounds(const source& file) {
  complaints found;
  if (excused(file, house::long_files)) return found;
  if (file.lines.size() > house::lines_max)
    found.push_back(file.path + ": has " + std::to_string(file.lines.size()) + " lines");
  // A line of the list of mutants holds a whole sentence and cannot be broken.
  if (file.path == "tools/mutants.txt") return found;
  for (std::size_t i = 0; i < file.lines.size(); ++i)
    if (columns(file.lines[i]) > house::columns_max)
      found.push_back(place(file, i) + "longer than a line");
  return found;
}

complaints check_words(const source& file) {
  // Split, so that this file does not complain about itself.
  static const std::string unwanted[] = {
      "TO"
      "DO",
      "FIX"
      "ME",
      "XX"
      "X",
      "HA"
      "CK"};
  complaints found;
  for (std::size_t i = 0; i < file.lines.size(); ++i) {
    for (const auto& word : unwanted)
      if (has_word(file.lines[i], word)) found.push_back(place(file, i) + "says " + word);
    if (has(file.lines[i],
            "#if"
            " 0"))
      found.push_back(place(file, i) + "dead code");
  }
  return found;
}

complaints check_seam(const source& file) {
  complaints found;
  if (!is_code(file.path)) return found;
  for (const auto& rule : house::seam_words) {
    const auto allows = [&](auto prefix) { return !prefix.empty() && starts(file.path, prefix); };
    if (std::ranges::any_of(rule.allowed, allows)) continue;
    for (std::size_t i = 0; i < file.lines.size(); ++i)
      if (has_word(code_of(file.lines[i]), rule.text))
        found.push_back(place(file, i) + std::string(rule.text) + ": " + std::string(rule.why));
  }
  return found;
}

bool uses_atomics(const source& file) {
  return std::ranges::any_of(file.lines, [](const std::string& line) {
    const std::string code = code_of(line);
    for (const char* word : {"atomic<", "std::atomic_", "__atomic_", "__sync_", "<atomic>"})
      if (has(code, word)) return true;
    return has_word(code, "fence");
  });
}

complaints check_atomics(const source& file) {
  const bool watched = starts(file.path, "runtime/") || starts(file.path, "arch/") ||
                       starts(file.path, "include/") || starts(file.path, "samples/");
  if (!watched || !is_code(file.path)) return {};
  const bool listed = excused(file, house::atomic_files);
  if (uses_atomics(file) && !listed)
    return {file.path + ": uses atomics and is not listed in house_tables.hpp"};
  if (!uses_atomics(file) && listed)
    return {file.path + ": listed for atomics in house_tables.hpp and uses none"};
  return {};
}

/// Protocols are written with coir::detail::atomic, so that tests/model can check them as they are.
complaints check_checkable(const source& file) {
  complaints found;
  const bool watched = starts(file.path, "runtime/") || starts(file.path, "include/");
  if (!watched || file.path == "include/coir/detail/atomic.hpp") return found;
  for (std::size_t i = 0; i < file.lines.size(); ++i)
    for (const char* word : {"std::atomic", "<atomic>"})
      if (has(code_of(file.lines[i]), word))
        found.push_back(place(file, i) + word +
                        " is hidden from the checker: " + "coir/detail/atomic.hpp");
  return found;
}

// -- what more than one file is needed for --------------------------------------------------------

/// Each header and each source of runtime/ and arch/ has a test that is called after it: those of
/// the inside in the same folder of tests/, those that are behind a public header in tests/api/.
complaints check_tests(const std::set<std::string>& paths) {
  complaints found;
  std::set<std::string> rooms;
  for (const auto& path : paths)
    if ((starts(path, "runtime/") || starts(path, "arch/")) &&
        (ends(path, ".hpp") || ends(path, ".cpp")))
      rooms.insert(path.substr(0, path.size() - 4));
  for (const auto& room : rooms) {
    const std::string inside = "tests/" + room + "_test.cpp";
    const std::string outside = "tests/api/" + fs::path(room).filename().string() + "_test.cpp";
    const bool tested = paths.contains(inside) || paths.contains(outside);
    const auto elsewhere = std::ranges::find(house::tests_elsewhere, room, &tested_elsewhere::room);
    const bool listed = elsewhere != std::end(house::tests_elsewhere);
    if (tested && listed) found.push_back(room + ": has a test and is listed for another one");
    if (!tested && !listed) found.push_back(room + ": has neither " + inside + " nor " + outside);
    if (listed && !paths.contains(std::string(elsewhere->test)))
      found.push_back(room + ": there is no " + std::string(elsewhere->test));
  }
  return found;
}

/// "name in file" for each COIR_MUTANT(name) of the sources.
std::set<std::string> mutants_in_sources(const std::vector<source>& files) {
  std::set<std::string> found;
  for (const auto& file : files) {
    if (!is_code(file.path) || starts(file.path, "tests/")) continue;
    for (const auto& line : file.lines) {
      const std::string code = code_of(line), call = "COIR_MUTANT(";
      if (starts(code, "#define")) continue;
      for (auto at = code.find(call); at != code.npos; at = code.find(call, at + 1)) {
        const auto begin = at + call.size();
        found.insert(code.substr(begin, code.find(')', begin) - begin) + " in " + file.path);
      }
    }
  }
  return found;
}

std::set<std::string> mutants_in_list(const source& list) {
  std::set<std::string> found;
  for (const auto& line : list.lines) {
    if (line.empty() || line[0] == '#') continue;
    std::vector<std::string> fields;
    std::istringstream in(line);
    for (std::string field; std::getline(in, field, '|');) {
      const auto begin = std::min(field.find_first_not_of(' '), field.size());
      fields.push_back(field.substr(begin, field.find_last_not_of(' ') + 1 - begin));
    }
    const bool complete = fields.size() == 5 && std::ranges::count(fields, "") == 0;
    found.insert(complete ? fields[0] + " in " + fields[1] : "a line without five fields: " + line);
  }
  return found;
}

complaints difference(const std::set<std::string>& a, const std::set<std::string>& b) {
  complaints found;
  std::ranges::set_symmetric_difference(a, b, std::back_inserter(found));
  return found;
}

// -- the sentences --------------------------------------------------------------------------------

void expect_none_in_tree(complaints (*rule)(const source&)) {
  for (const auto& file : tree()) expect_none(rule(file));
}

std::size_t count(complaints (*rule)(const source&), const char* path, const std::string& text) {
  return rule(make_source(path, text)).size();
}

}  // namespace

TEST_CASE("house: the test has found the house") {
  std::set<std::string> paths;
  for (const auto& file : tree()) paths.insert(file.path);
  for (const char* path : {"runtime/base.hpp", "include/coir/result.hpp", "tests/house_test.cpp"})
    CHECK_MESSAGE(paths.contains(path), path);
}

TEST_CASE("house: a room includes its own level or lower ones, and never sideways on level 4") {
  expect_none_in_tree(check_layers);
  CHECK(count(check_layers, "runtime/arena.cpp", "#include \"runtime/fiber.hpp\"\n") == 1);
  CHECK(count(check_layers, "runtime/timers.cpp", "#include \"runtime/bell.hpp\"\n") == 1);
  CHECK(count(check_layers, "runtime/token.hpp", "#include \"coir/scope.hpp\"\n") == 1);
  CHECK(count(check_layers, "runtime/attic.hpp", "") == 1);
  CHECK(count(check_layers, "arch/context.hpp", "#include \"runtime/attic.hpp\"\n") == 1);
  CHECK(count(check_layers, "runtime/timers.cpp", "#include \"runtime/timers.hpp\"\n") == 0);
  CHECK(count(check_layers, "runtime/fiber.hpp", "#include \"arch/context.hpp\"\n") == 0);
}

TEST_CASE("house: public headers stand on the standard library and tl::expected alone") {
  expect_none_in_tree(check_public_includes);
  CHECK(count(check_public_includes, "include/coir/x.hpp", "#include \"runtime/list.hpp\"\n") == 1);
  CHECK(count(check_public_includes, "include/coir/x.hpp", "#include <liburing.h>\n") == 1);
  CHECK(count(check_public_includes, "samples/x.cpp", "#include \"arch/context.hpp\"\n") == 1);
  CHECK(count(check_public_includes, "include/coir/x.hpp", "#include <vector>\n") == 0);
}

TEST_CASE("house: a public answer that can fail cannot be dropped by accident") {
  expect_none_in_tree(check_nodiscard);
  const char* const path = "include/coir/x.hpp";
  CHECK(count(check_nodiscard, path, "  result<> close();\n") == 1);
  CHECK(count(check_nodiscard, path, "COIR_API static result<std::vector<int>> all(int x);\n") ==
        1);
  CHECK(count(check_nodiscard, path, "  [[nodiscard]] result<> close();\n") == 0);
  CHECK(count(check_nodiscard, path, "  result<R> taken = answer();\n") == 0);
  CHECK(count(check_nodiscard, "runtime/x.hpp", "  result<> close();\n") == 0);
}

TEST_CASE("house: each file opens with what it is for, and names its neighbours") {
  expect_none_in_tree(check_top);
  const std::string neighbours = "// Comes from: a.   Goes to: b.\n";
  CHECK(count(check_top, "runtime/x.hpp", "#pragma once\n" + neighbours) == 1);
  CHECK(count(check_top, "runtime/x.hpp", "// x.hpp: something.\n") == 2);
  CHECK(count(check_top, "runtime/x.hpp", "// x.hpp: something.\n" + neighbours) == 0);
  CHECK(count(check_top, "tests/x_test.cpp", "// y.hpp: something.\n") == 1);
}

TEST_CASE("house: no file is too long to read and no line too long to see") {
  expect_none_in_tree(check_bounds);
  CHECK(count(check_bounds, "x.hpp", std::string(house::columns_max + 1, 'x')) == 1);
  CHECK(count(check_bounds, "x.hpp", std::string(house::columns_max, 'x')) == 0);
  CHECK(count(check_bounds, "x.hpp", std::string(house::lines_max + 1, '\n')) == 1);
}

TEST_CASE("house: nothing is left for later and nothing dead is kept") {
  expect_none_in_tree(check_words);
  CHECK(count(check_words, "x.hpp",
              "// TO"
              "DO: later\n") == 1);
  CHECK(count(check_words, "x.hpp",
              "#if"
              " 0\n") == 1);
}

TEST_CASE("house: only backends read clocks and draw numbers") {
  expect_none_in_tree(check_seam);
  CHECK(count(check_seam, "runtime/worker.cpp", "clock_gettime(CLOCK_MONOTONIC, &t);\n") == 1);
  CHECK(count(check_seam, "runtime/worker.cpp", "// clock_gettime is not ours\n") == 0);
}

TEST_CASE("house: atomics live in the listed files") {
  expect_none_in_tree(check_atomics);
  CHECK(count(check_atomics, "runtime/list.hpp", "std::atomic<int> x;\n") == 1);
  CHECK(count(check_atomics, "runtime/list.hpp", "// std::atomic would be wrong here\n") == 0);
  CHECK(count(check_atomics, "runtime/list.hpp", "atomic<int> x;\n") == 1);
  CHECK(count(check_atomics, "runtime/list.hpp", "fence(order);\n") == 1);
  CHECK(count(check_atomics, "runtime/mailbox.hpp", "int x;\n") == 1);
  expect_none_in_tree(check_checkable);
  CHECK(count(check_checkable, "runtime/mailbox.hpp", "std::atomic<int> x;\n") == 1);
  CHECK(count(check_checkable, "include/coir/io.hpp", "#include <atomic>\n") == 1);
  CHECK(count(check_checkable, "runtime/mailbox.hpp", "atomic<int> x;\n") == 0);
}

TEST_CASE("house: every room has its test") {
  std::set<std::string> paths;
  for (const auto& file : tree()) paths.insert(file.path);
  expect_none(check_tests(paths));
  CHECK(check_tests({"arch/x.hpp"}).size() == 1);
  CHECK(check_tests({"runtime/x.cpp", "tests/arch/x_test.cpp"}).size() == 1);
  CHECK(check_tests({"runtime/x.cpp", "runtime/x.hpp", "tests/runtime/x_test.cpp"}).empty());
  CHECK(check_tests({"runtime/x.cpp", "tests/api/x_test.cpp"}).empty());
  CHECK(check_tests({"runtime/c_io.cpp", "tests/c/io.c"}).empty());
  CHECK(check_tests({"runtime/c_io.cpp"}).size() == 1);
}

TEST_CASE("house: every mutant has its line in tools/mutants.txt and every line its mutant") {
  const auto list = make_source("", read(fs::path(COIR_SOURCE_DIR) / "tools/mutants.txt"));
  expect_none(difference(mutants_in_sources(tree()), mutants_in_list(list)));
  const auto broken = make_source("runtime/x.cpp", "if (COIR_MUTANT(late)) return;\n");
  CHECK(mutants_in_sources({broken}) == std::set<std::string>{"late in runtime/x.cpp"});
  CHECK(mutants_in_list(make_source("", "late | runtime/x.cpp | core_tests | x: * | why\n")) ==
        std::set<std::string>{"late in runtime/x.cpp"});
  CHECK(!mutants_in_list(make_source("", "late | runtime/x.cpp\n")).contains("late"));
}
