// verdict.hpp: what the figures of a row say: the ratios, the best of the others, and whether each
// reach was met.
//
// Always true:
//   - A reach without the figures it needs is never met: a peer that is not installed cannot be
//     beaten.
//   - The best of several raw twins and of several peers is the one with the least first figure.
//
// Comes from: report.cpp, coir_bench.cpp.   Goes to: measure.hpp.
#pragma once

#include <string>
#include <vector>

#include "bench/measure.hpp"

namespace bench {

/// The entry of this role with the least first figure; -1: none was measured.
int best_of(const row& in, const std::vector<outcome>& got, role as);

/// A figure of the best of a role, or no_figure.
double figure_of(const row& in, const std::vector<outcome>& got, role as, std::size_t figure = 0);

/// Theirs divided by ours.
double ratio_to(const row& in, const std::vector<outcome>& got, role as, std::size_t figure = 0);

/// The first figure, and every other one that a reach is about.
std::vector<std::size_t> judged_figures(const row& in);

/// `reported`: the row promises nothing.
enum class verdict { met, missed, unknown, reported };
verdict judge(const row& in, const std::vector<outcome>& got, const reach& wanted);
/// All reaches of the row together.
verdict judge(const row& in, const std::vector<outcome>& got);

/// `at most 5 ns`, `raw + 3 ns`, `1.15x raw`, ...
std::string words_of(const row& in, const reach& wanted);
/// Every reach of the row, and the verdict with what was missed; where a reach is a difference,
/// that difference.
std::string reach_words(const row& in);
std::string verdict_words(const row& in, const std::vector<outcome>& got);

/// Three significant digits; `-` for no figure.
std::string rounded(double value);

}  // namespace bench
