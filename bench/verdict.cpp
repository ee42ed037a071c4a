// verdict.cpp: the arithmetic of verdict.hpp.
//
// Comes from: verdict.hpp.   Goes to: nothing.
#include "bench/verdict.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace bench {

int best_of(const row& in, const std::vector<outcome>& got, role as) {
  int best = -1;
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (in.entries[i].as != as || got[i].samples.empty()) continue;
    if (best < 0 || got[i].of(in) < got[static_cast<std::size_t>(best)].of(in))
      best = static_cast<int>(i);
  }
  return best;
}

double figure_of(const row& in, const std::vector<outcome>& got, role as, std::size_t figure) {
  const int best = best_of(in, got, as);
  return best < 0 ? no_figure : got[static_cast<std::size_t>(best)].of(in, figure);
}

double ratio_to(const row& in, const std::vector<outcome>& got, role as, std::size_t figure) {
  return figure_of(in, got, as, figure) / figure_of(in, got, role::ours, figure);
}

std::vector<std::size_t> judged_figures(const row& in) {
  std::vector<std::size_t> all = {0};
  for (const reach& one : in.reaches)
    if (std::ranges::count(all, one.figure) == 0) all.push_back(one.figure);
  return all;
}

verdict judge(const row& in, const std::vector<outcome>& got, const reach& wanted) {
  if (in.smaller) return verdict::unknown;
  const auto figure = [&](role as) { return figure_of(in, got, as, wanted.figure); };
  const double ours = figure(role::ours);
  double most = wanted.bound;
  switch (wanted.by) {
    case reach::kind::at_most:
      break;
    case reach::kind::over_raw:
      most = figure(role::raw) + wanted.bound;
      break;
    case reach::kind::of_raw:
      most = figure(role::raw) * wanted.bound;
      break;
    case reach::kind::over_base:
      most = figure(role::base) + wanted.bound;
      break;
    case reach::kind::of_base:
      most = figure(role::base) * wanted.bound;
      break;
    case reach::kind::times_peer:
      most = figure(role::peer) / wanted.bound;
      break;
  }
  if (std::isnan(ours) || std::isnan(most)) return verdict::unknown;
  return ours <= most ? verdict::met : verdict::missed;
}

verdict judge(const row& in, const std::vector<outcome>& got) {
  verdict all = in.reaches.empty() ? verdict::reported : verdict::met;
  for (const reach& one : in.reaches) {
    const verdict v = judge(in, got, one);
    if (v == verdict::missed) return v;
    if (v == verdict::unknown) all = v;
  }
  return all;
}

std::string words_of(const row& in, const reach& wanted) {
  const figure& of = in.figures[wanted.figure];
  const std::string number = rounded(wanted.bound);
  const std::string amount = number + (of.unit.empty() ? "" : " " + of.unit);
  switch (wanted.by) {
    case reach::kind::at_most:
      return amount;
    case reach::kind::over_raw:
      return "raw + " + amount;
    case reach::kind::of_raw:
      return number + "x raw";
    case reach::kind::over_base:
      return "plain + " + amount;
    case reach::kind::of_base:
      return number + "x plain";
    case reach::kind::times_peer:
      return number + "x best peer";
  }
  return "";
}

std::string reach_words(const row& in) {
  std::string all;
  for (const reach& one : in.reaches) all += (all.empty() ? "" : "; ") + words_of(in, one);
  return all.empty() ? "-" : all;
}

namespace {

/// ` (+0.7 ns)` for each reach that is a difference.
std::string differences(const row& in, const std::vector<outcome>& got) {
  std::string all;
  for (const reach& one : in.reaches) {
    const bool over_raw = one.by == reach::kind::over_raw;
    if (!over_raw && one.by != reach::kind::over_base) continue;
    const double by = figure_of(in, got, role::ours, one.figure) -
                      figure_of(in, got, over_raw ? role::raw : role::base, one.figure);
    if (std::isnan(by)) continue;
    all +=
        (by < 0 ? " (-" : " (+") + rounded(std::abs(by)) + " " + in.figures[one.figure].unit + ")";
  }
  return all;
}

}  // namespace

std::string verdict_words(const row& in, const std::vector<outcome>& got) {
  if (in.smaller) return "not judged: smaller than its name";
  if (in.reaches.empty()) return "reported";
  std::string missed, unknown;
  for (const reach& one : in.reaches) {
    const verdict v = judge(in, got, one);
    std::string& list = v == verdict::missed ? missed : unknown;
    if (v != verdict::met) list += (list.empty() ? "" : "; ") + words_of(in, one);
  }
  const std::string by = differences(in, got);
  if (!missed.empty()) return "missed: " + missed + by;
  return (unknown.empty() ? "met" : "unknown: " + unknown) + by;
}

std::string rounded(double value) {
  if (std::isnan(value)) return "-";
  char text[32];
  const double size = std::abs(value);
  const int digits = size < 10 ? 2 : size < 100 ? 1 : 0;
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  std::string out = text;
  if (out.find('.') == std::string::npos) return out;
  out.erase(out.find_last_not_of('0') + 1);
  if (out.back() == '.') out.pop_back();
  return out;
}

}  // namespace bench
