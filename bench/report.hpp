// report.hpp: what a run leaves behind: the table of all rows, the details of each, and the same as
// data for programs and plots.
//
// Always true:
//   - The header states the method and the machine, so that a figure can be judged without its
//     author.
//
// Comes from: coir_bench.cpp.   Goes to: report.cpp.
#pragma once

#include <string>
#include <vector>

#include "bench/measure.hpp"

namespace bench {

struct result_of_row {
  row what;
  std::vector<outcome> got;
};

std::string method_words(const settings& chosen);
std::string table_head();
std::string table_line(const result_of_row& one);
/// `12 met, 3 missed, 1 unknown, 2 reported`.
std::string closing_words(const std::vector<result_of_row>& all);
/// Every entry of one row.
std::string details(const result_of_row& one);

std::string to_json(const settings& chosen, const std::vector<result_of_row>& all);
/// One line per entry: row, role, who, then each figure; tabs between.
std::string to_tsv(const std::vector<result_of_row>& all);

}  // namespace bench
