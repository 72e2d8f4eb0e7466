#include "master/report_confusion.h"

#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "master/report_chart.h"

namespace muster::master {
namespace {

const EvaluationPoint* Shown(const RunHistory& history) {
  for (const char* split : {"testing", "validation"}) {
    for (auto it = history.evaluations.rbegin(); it != history.evaluations.rend(); ++it) {
      if (it->split == split && !it->confusion.empty()) return &*it;
    }
  }
  return nullptr;
}

std::string Label(const RunHistory& history, size_t i) {
  return EscapeHtml(i < history.labels.size() ? history.labels[i] : fmt::format("class {}", i));
}

std::string Share(int64_t part, int64_t whole, int decimals) {
  if (whole == 0) return "–";
  return fmt::format("{:.{}f} %", 100 * static_cast<double>(part) / static_cast<double>(whole),
                     decimals);
}

// Hits are tinted good, misses bad, both by their share of the row; small misses still show.
std::string Cell(int64_t count, int64_t row, bool hit, const std::string& title) {
  if (count == 0) return fmt::format("<td class=\"zero\" title=\"{}\">0</td>", title);
  const double share = static_cast<double>(count) / static_cast<double>(row);
  const double strength = hit ? 0.12 + 0.6 * share : std::min(0.85, 0.15 + 1.8 * share);
  return fmt::format("<td style=\"background:rgba(var(--{}),{:.2f})\" title=\"{}\">{}</td>",
                     hit ? "good" : "bad", strength, title, FormatCount(count));
}

}  // namespace

std::string RenderConfusion(const RunHistory& history) {
  const EvaluationPoint* evaluation = Shown(history);
  if (evaluation == nullptr) return "";
  const std::vector<int64_t>& counts = evaluation->confusion;
  const auto classes = static_cast<size_t>(std::lround(std::sqrt(counts.size())));
  if (classes * classes != counts.size()) return "";

  std::string out = fmt::format(
      "<h2>Confusion matrix <small>{} split at step {}: rows are the true classes, columns the "
      "predicted ones; {} of {} right</small></h2><div class=\"card\"><table "
      "class=\"confusion\"><thead><tr>"
      "<th></th>",
      EscapeHtml(evaluation->split), FormatCount(evaluation->step),
      FormatPercent(evaluation->accuracy),
      FormatCount(std::accumulate(counts.begin(), counts.end(), int64_t{0})));
  for (size_t c = 0; c < classes; ++c) {
    out += fmt::format("<th><span>{}</span></th>", Label(history, c));
  }
  out += "<th>recall</th></tr></thead><tbody>";
  for (size_t r = 0; r < classes; ++r) {
    const auto begin = counts.begin() + static_cast<ptrdiff_t>(r * classes);
    const int64_t row = std::accumulate(begin, begin + static_cast<ptrdiff_t>(classes), int64_t{0});
    out += fmt::format("<tr><th>{}</th>", Label(history, r));
    for (size_t c = 0; c < classes; ++c) {
      out += Cell(counts[r * classes + c], row, r == c,
                  fmt::format("{} taken for {}", Label(history, r), Label(history, c)));
    }
    out += fmt::format("<td>{}</td></tr>", Share(counts[r * classes + r], row, 1));
  }
  out += "<tr><th>precision</th>";
  for (size_t c = 0; c < classes; ++c) {
    int64_t column = 0;
    for (size_t r = 0; r < classes; ++r) column += counts[r * classes + c];
    out += fmt::format("<td>{}</td>", Share(counts[c * classes + c], column, 0));
  }
  return out + "<td></td></tr></tbody></table></div>";
}

}  // namespace muster::master
