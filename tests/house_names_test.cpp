// house_names_test.cpp: what tests are called, and what they may leave to the environment.
//
// Always true:
//   - The names are read from the sources, so a test that is not built anywhere is found as well.
//
// Comes from: tests/needs.hpp, tests/catalogue/entries.txt.   Goes to: house_text.hpp.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "house_text.hpp"
#include "needs.hpp"

using namespace house;

namespace {

std::string all_of(const source& file) {
  std::string text;
  for (const auto& line : file.lines) text += line + '\n';
  return text;
}

/// The literals that stand one after the other at `at`, as the compiler joins them.
std::string literals_at(const std::string& text, std::size_t at) {
  std::string joined;
  while (at < text.size()) {
    at = text.find_first_not_of(" \n", at);
    if (at == text.npos || text[at] != '"') break;
    for (++at; at < text.size() && text[at] != '"'; ++at) {
      if (text[at] == '\\') ++at;
      joined += text[at];
    }
    ++at;
  }
  return joined;
}

/// Test cases by their names; scripts and C programs by what their top says they are for.
std::set<std::string> tests_in(const source& file) {
  std::set<std::string> names;
  if (ends(file.path, ".sh") && file.lines.size() > 1) names.insert(file.lines[1].substr(2));
  if (starts(file.path, "tests/c/") && ends(file.path, ".c")) names.insert(file.lines[0].substr(3));
  if (!ends(file.path, "_test.cpp")) return names;
  const std::string text = all_of(file), call = "\nTEST_CASE(";
  for (auto at = text.find(call); at != text.npos; at = text.find(call, at + 1))
    names.insert(literals_at(text, at + call.size()));
  return names;
}

std::set<std::string> tests_in(const std::vector<source>& files) {
  std::set<std::string> names;
  for (const auto& file : files)
    if (starts(file.path, "tests/")) names.merge(tests_in(file));
  return names;
}

// -- the failure catalogue ------------------------------------------------------------------------

/// Whether `word` is A1 to E99, as the catalogue numbers its entries, or DT1 to DB99.
bool is_entry(std::string_view word) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  const bool dtact = word.starts_with("DT") || word.starts_with("DB");
  const bool letter = dtact || (!word.empty() && word[0] >= 'A' && word[0] <= 'E');
  if (letter) word.remove_prefix(dtact ? 2 : 1);
  return letter && !word.empty() && word.size() <= 2 && std::ranges::all_of(word, digit);
}

std::set<std::string> entries_of(const std::string& name) {
  std::set<std::string> found;
  for (std::size_t at = 0; at < name.size();) {
    const auto end = std::min(name.find_first_of(" :,;.()-\"", at), name.size());
    if (is_entry(std::string_view(name).substr(at, end - at)))
      found.insert(name.substr(at, end - at));
    at = end + 1;
  }
  return found;
}

/// The entries of entries.txt; a line that is not `entry | sentence` is one by itself.
std::set<std::string> listed_entries(const source& list) {
  std::set<std::string> found;
  for (const auto& line : list.lines) {
    if (line.empty() || line[0] == '#') continue;
    const auto bar = line.find(" | ");
    const auto entry = line.substr(0, std::min(line.find(' '), line.size()));
    found.insert(bar != line.npos && is_entry(entry) ? entry : line);
  }
  return found;
}

complaints check_entries(const std::set<std::string>& listed, const std::set<std::string>& names) {
  std::set<std::string> tested;
  for (const auto& name : names) tested.merge(entries_of(name));
  complaints found;
  for (const auto& entry : listed)
    if (!tested.contains(entry)) found.push_back(entry + ": no test is named after it");
  for (const auto& entry : tested)
    if (!listed.contains(entry)) found.push_back(entry + ": tested, and not in entries.txt");
  return found;
}

// -- the lists of tests by number
// ------------------------------------------------------------------

/// Which of T1 to T76, T26b and C-T1 to C-T19 none of `names` has.
complaints check_numbers(const std::set<std::string>& names) {
  std::set<std::string> words;
  for (const auto& name : names) {
    for (std::size_t at = 0; at < name.size();) {
      const auto end = std::min(name.find_first_of(" :,;.()\"", at), name.size());
      words.insert(name.substr(at, end - at));
      at = end + 1;
    }
  }
  complaints found;
  const auto expect = [&](const std::string& number) {
    if (!words.contains(number)) found.push_back(number + ": no test is named after it");
  };
  for (int i = 1; i <= 76; ++i) expect("T" + std::to_string(i));
  for (int i = 1; i <= 19; ++i) expect("C-T" + std::to_string(i));
  expect("T26b");
  return found;
}

// -- the small configuration ----------------------------------------------------------------------

/// What stands between the parentheses that open before `at`.
std::string arguments_at(const std::string& text, std::size_t at) {
  int depth = 1;
  std::string inside;
  for (; at < text.size(); ++at) {
    depth += text[at] == '(' ? 1 : text[at] == ')' ? -1 : 0;
    if (depth == 0) break;
    inside += text[at];
  }
  inside.erase(inside.find_last_not_of(" \n") + 1);
  return inside;
}

/// These make runtimes whose numbers, or whose being the default, are what they are about.
constexpr std::string_view own_numbers[] = {
    "tests/programs/",   // each shows one case; needs.hpp lists the one that needs much
    "tests/c/misuse.c",  // null configs and impossible ones
    "tests/c/walk.c",    // a null config once
    "tests/consumer/",   // sees nothing of this tree
    "tests/controls/",   // end by the report of a sanitizer
};

/// Calls that make a runtime with the defaults or with braces instead of through tested().
complaints check_options(const source& file) {
  complaints found;
  if (!starts(file.path, "tests/") || !is_code(file.path) || has(file.path, "/house_")) return {};
  for (const auto own : own_numbers)
    if (starts(file.path, own)) return {};
  std::string text;
  for (const auto& line : file.lines) text += code_of(line) + '\n';
  for (const std::string call : {"runtime::create(", "coir::run(", "coir::run_main("}) {
    for (auto at = text.find(call); at != text.npos; at = text.find(call, at + 1)) {
      const std::string inside = arguments_at(text, at + call.size());
      if (inside.empty() || ends(inside, "}"))
        found.push_back(file.path + ": " + call + "...) without tested(): " + inside.substr(0, 60));
    }
  }
  for (const std::string call : {"coir_run(", "coir_runtime_create("}) {
    for (auto at = text.find(call); at != text.npos; at = text.find(call, at + 1)) {
      const std::string inside = arguments_at(text, at + call.size());
      if (starts(inside, "nullptr") || starts(inside, "NULL"))
        found.push_back(file.path + ": " + call + "...) without tested_config()");
    }
  }
  return found;
}

}  // namespace

TEST_CASE("house: names of tests are read as the compiler reads them") {
  const auto file = make_source("tests/x_test.cpp",
                                "\nTEST_CASE(\n    \"A1: one \"\n    \"sentence\") {}\n"
                                "TEST_CASE(\"x: \\\"two\\\"\" * skip(true)) {}\n");
  CHECK(tests_in(file) == std::set<std::string>{"A1: one sentence", "x: \"two\""});
  CHECK(entries_of("x: control of A15, a sentence") == std::set<std::string>{"A15"});
  CHECK(entries_of("C-T5: A123 of E2-E4") == std::set<std::string>{"E2", "E4"});
  CHECK(entries_of("DT3: D of DT and DTA1, DB2") == std::set<std::string>{"DT3", "DB2"});
  CHECK(tests_in(make_source("tests/c/x.c", "/* x.c: DT9: it ends.\n */\n")) ==
        std::set<std::string>{"x.c: DT9: it ends."});
}

TEST_CASE("house: every entry of the failure catalogue has a test that is named after it") {
  const auto list =
      make_source("", read(fs::path(COIR_SOURCE_DIR) / "tests/catalogue/entries.txt"));
  const auto listed = listed_entries(list);
  CHECK(listed.size() >= 38);
  expect_none(check_entries(listed, tests_in(tree())));
  CHECK(check_entries({"A1", "B2"}, {"A1: a sentence"}).size() == 1);
  CHECK(check_entries({"A1"}, {"A1: a sentence", "x: B2 another"}).size() == 1);
  CHECK(check_entries({"A1", "B2"}, {"A1: a sentence", "x: B2 another"}).empty());
  CHECK(listed_entries(make_source("", "A1 | a sentence\n# B2 | none\nlate\n")) ==
        std::set<std::string>{"A1", "late"});
}

TEST_CASE("house: every number of docs/backends.md has a test that is named after it") {
  const auto names = tests_in(tree());
  expect_none(check_numbers(names));
  CHECK(check_numbers({"T1 T2 x: C-T3, C-T4: T5x", "C-T6"}).size() == 96 - 5);
}

TEST_CASE("house: who is excused from the small configuration is a test that exists") {
  const auto names = tests_in(tree());
  std::set<std::string> scripts;
  for (const auto& file : tree())
    if (starts(file.path, "tests/programs/") && ends(file.path, ".sh"))
      scripts.insert(file.path.substr(6, file.path.size() - 9));
  for (const auto& n : test::needs) {
    CHECK_MESSAGE((names.contains(std::string(n.test)) || scripts.contains(std::string(n.test))),
                  n.test);
    CHECK(!n.why.empty());
  }
}

TEST_CASE("house: tests take the options of their runtimes from the environment") {
  for (const auto& file : tree()) expect_none(check_options(file));
  const auto complaints_about = [](const char* text) {
    return check_options(make_source("tests/x_test.cpp", text)).size();
  };
  CHECK(complaints_about("auto made = coir::runtime::create({.workers = 2});\n") == 1);
  CHECK(complaints_about("auto made = coir::runtime::create();\n") == 1);
  CHECK(complaints_about("auto x = coir::run(\n    [] {\n    });\n") == 1);
  CHECK(complaints_about("coir_run(nullptr, f, nullptr, nullptr);\n") == 1);
  CHECK(complaints_about("coir::run([] {}, tested({.workers = 2}));\n") == 0);
}
