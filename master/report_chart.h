// Pieces of report.html: escaped text, numbers for people, and line charts as inline SVG.
//
// Pure functions, thread-safe. Colours are CSS classes s0 … s7 that the page defines for light and
// dark.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace muster::master {

inline constexpr int kSeriesColours = 8;

// `text` with & < > " ' replaced by entities: safe between tags and within quoted attributes.
std::string EscapeHtml(std::string_view text);

// "12,345"; "0.0123"; "95.3 %" of a fraction; "–" when not finite.
std::string FormatCount(int64_t value);
std::string FormatNumber(double value);
std::string FormatPercent(double fraction);

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  // by rising x; a y that is not finite is left out
  bool faint = false;  // drawn behind, thin and pale, in the first colour
  bool dots = false;   // a dot at each point
};

struct Chart {
  std::string title;
  std::string unit;      // of y, after the title: "samples/s"
  bool percent = false;  // y is a fraction; the axis ends at 1 at most
  std::vector<Series> series;
};

// A <figure>: title, legend, SVG. At most 500 points per series are drawn (means of neighbours).
// Without any point: a line that says so.
std::string RenderChart(const Chart& chart);

}  // namespace muster::master
