// page.cpp: a page taken apart (header, a line and a section for each row) and put together again.
//
// Comes from: page.hpp.   Goes to: nothing.
#include "bench/page.hpp"

#include <map>
#include <sstream>
#include <string_view>

namespace bench {

namespace {

constexpr std::string_view later = "- rows of a later run (";

struct page {
  std::string header;                           // up to the first row
  std::map<std::string, std::string> lines;     // of the table, by the row's name
  std::string closing;                          // the line below it
  std::map<std::string, std::string> sections;  // by the row's name
};

bool begins(const std::string& text, std::string_view with) { return text.rfind(with, 0) == 0; }

page taken_apart(const std::string& text) {
  page all;
  std::istringstream in(text);
  std::string name;  // of the section we are in
  for (std::string line; std::getline(in, line);) {
    if (begins(line, "### ")) name = line.substr(4);
    if (!name.empty())
      all.sections[name] += line + "\n";
    else if (begins(line, "| `"))
      all.lines[line.substr(3, line.find('`', 3) - 3)] = line + "\n";
    else if (all.lines.empty())
      all.header += line + "\n";
    else if (line.find("; took ") != std::string::npos)
      all.closing = line;
  }
  return all;
}

/// `1 met, 2 missed, ...` of a table.
std::string counts(const std::vector<std::string>& lines) {
  std::string all;
  for (const std::string_view word : {"met", "missed", "unknown", "reported"}) {
    unsigned count = 0;
    for (const std::string& line : lines) {
      const std::size_t cell = line.rfind("| ", line.size() - 4) + 2;
      if (line.compare(cell, word.size(), word) == 0) ++count;
    }
    all += (all.empty() ? "" : ", ") + std::to_string(count) + " " + std::string(word);
  }
  return all;
}

std::string words_between(const std::string& text, std::string_view from, std::string_view to) {
  const std::size_t at = text.find(from);
  if (at == std::string::npos) return "";
  const std::size_t begin = at + from.size();
  return text.substr(begin, text.find(to, begin) - begin);
}

/// Removes `name` from the lines that tell of later runs.
void forget(std::string& header, const std::string& name) {
  const std::string quoted = " `" + name + "`";
  for (std::size_t at = header.find(quoted); at != std::string::npos; at = header.find(quoted))
    header.erase(at, quoted.size());
}

/// Without the lines that name nobody any more.
std::string without_empty(const std::string& header) {
  std::string all;
  std::istringstream in(header);
  for (std::string line; std::getline(in, line);)
    if (!begins(line, later) || line.back() != ':') all += line + "\n";
  return all;
}

}  // namespace

std::string merged_page(const std::string& before, const std::string& fresh,
                        const std::vector<std::string>& names) {
  page all = taken_apart(before);
  const page added = taken_apart(fresh);
  std::string who;
  for (const auto& [name, line] : added.lines) {
    all.lines[name] = line;
    all.sections[name] = added.sections.at(name);
    forget(all.header, name);
    who += " `" + name + "`";
  }
  const std::string told = std::string(later) + "load average " +
                           words_between(added.header, "load average ", " at the") + ", up to" +
                           words_between(added.header, "take turns, up to", ";") + "):" + who +
                           "\n";
  std::string header = without_empty(all.header);
  header.insert(header.find("\n| name"), told);

  std::vector<std::string> lines;
  std::string table, sections;
  for (const std::string& name : names) {
    if (!all.lines.contains(name)) continue;
    lines.push_back(all.lines[name]);
    table += lines.back();
    sections += all.sections[name];
  }
  const std::size_t took = all.closing.find("; took ");
  return header + table + "\n" + counts(lines) +
         (took == std::string::npos ? "" : all.closing.substr(took)) + "\n\n## Every entry\n\n" +
         sections;
}

}  // namespace bench
