// house_text.hpp: how the house tests see the repository: its files as lines of text.
//
// Always true:
//   - A rule is a function from files to complaints; the tree must give none, a wrong example some.
//
// Comes from: the files of the repository.   Goes to: house_test.cpp, house_names_test.cpp.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace house {

namespace fs = std::filesystem;
using complaints = std::vector<std::string>;

struct source {
  std::string path;  ///< from the top of the repository
  std::vector<std::string> lines;
};

inline bool starts(std::string_view text, std::string_view with) { return text.starts_with(with); }
inline bool ends(std::string_view text, std::string_view with) { return text.ends_with(with); }
inline bool has(std::string_view text, std::string_view part) {
  return text.find(part) != text.npos;
}

inline source make_source(std::string path, const std::string& text) {
  source file{std::move(path), {}};
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) file.lines.push_back(line);
  return file;
}

inline std::string read(const fs::path& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline bool is_code(std::string_view path) {
  for (std::string_view ending : {".hpp", ".cpp", ".h", ".c", ".S"})
    if (ends(path, ending)) return true;
  return false;
}

inline bool is_ours(std::string_view path) {
  for (std::string_view ending : {".cmake", ".txt", ".sh", ".in", ".map", ".pml"})
    if (ends(path, ending)) return true;
  return is_code(path);
}

inline std::vector<source> read_folder(const std::string& folder) {
  const fs::path root = COIR_SOURCE_DIR;
  std::vector<source> files;
  if (!fs::exists(root / folder)) return files;
  for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
    const std::string path = fs::relative(entry.path(), root).string();
    if (entry.is_regular_file() && is_ours(path))
      files.push_back(make_source(path, read(entry.path())));
  }
  return files;
}

/// Every file of ours that a machine reads, in the order of their names.
inline const std::vector<source>& tree() {
  static const std::vector<source> all = [] {
    std::vector<source> files;
    for (const char* folder :
         {"arch", "runtime", "include", "tests", "bench", "samples", "tools", "hook", "cmake"})
      std::ranges::move(read_folder(folder), std::back_inserter(files));
    for (const char* file : {"CMakeLists.txt", "dev", ".ci/run", "LICENSE"})
      files.push_back(make_source(file, read(fs::path(COIR_SOURCE_DIR) / file)));
    std::ranges::sort(files, {}, &source::path);
    return files;
  }();
  return all;
}

/// The line without what follows `//`, and without what stands between quotes.
inline std::string code_of(const std::string& line) {
  std::string code;
  bool quoted = false;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (!quoted && line.compare(i, 2, "//") == 0) break;
    if (line[i] == '\\' && quoted) {
      ++i;
    } else if (line[i] == '"') {
      quoted = !quoted;
    } else if (!quoted) {
      code += line[i];
    }
  }
  return code;
}

inline bool has_word(const std::string& text, std::string_view word) {
  const auto part_of_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  };
  for (auto at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
    const auto after = at + word.size();
    if ((at == 0 || !part_of_word(text[at - 1])) &&
        (after == text.size() || !part_of_word(text[after])))
      return true;
  }
  return false;
}

inline std::string place(const source& file, std::size_t line) {
  return file.path + ":" + std::to_string(line + 1) + ": ";
}

inline void expect_none(const complaints& found) {
  for (const auto& complaint : found) FAIL_CHECK(complaint);
}

}  // namespace house
