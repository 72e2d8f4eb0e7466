#include "master/report_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "master/json_fields.h"

namespace muster::master {
namespace {

constexpr double kWidth = 640, kHeight = 260;
constexpr double kLeft = 52, kRight = 12, kTop = 10, kBottom = 26;
constexpr size_t kMaxPoints = 500;
constexpr size_t kMaxLegend = 12;

using Points = std::vector<std::pair<double, double>>;

// Means of runs of neighbours, so that at most kMaxPoints are left.
Points Thin(const Points& points) {
  Points finite;
  for (const auto& point : points) {
    if (std::isfinite(point.second)) finite.push_back(point);
  }
  const size_t run = (finite.size() + kMaxPoints - 1) / kMaxPoints;
  if (run <= 1) return finite;
  Points thin;
  for (size_t i = 0; i < finite.size(); i += run) {
    const size_t n = std::min(run, finite.size() - i);
    double x = 0, y = 0;
    for (size_t j = i; j < i + n; ++j) {
      x += finite[j].first;
      y += finite[j].second;
    }
    thin.emplace_back(x / static_cast<double>(n), y / static_cast<double>(n));
  }
  // The end of a curve is what people read off.
  thin.back() = finite.back();
  return thin;
}

// Distance between grid lines: 1, 2 or 5 times a power of ten, at most `lines` of them in `range`.
double NiceStep(double range, int lines) {
  const double raw = range / lines;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= raw) return factor * power;
  }
  return 10 * power;
}

struct Scale {
  double min = 0, max = 1, step = 0.2;
};

// An axis whose first and last grid lines enclose [min, max].
Scale MakeScale(double min, double max, int lines) {
  if (max - min < 1e-12 * std::max(1.0, std::abs(max))) {
    const double pad = max == 0 ? 1 : std::abs(max) * 0.5;
    min -= pad;
    max += pad;
  }
  const double step = NiceStep(max - min, lines);
  return {std::floor(min / step + 1e-9) * step, std::ceil(max / step - 1e-9) * step, step};
}

std::string AxisLabel(double value, double step, bool percent) {
  if (percent) return fmt::format("{:.{}f} %", value * 100, step < 0.0099 ? 1 : 0);
  if (std::abs(value) >= 1000 || step >= 1) {
    return FormatCount(static_cast<int64_t>(std::llround(value)));
  }
  const int digits = std::clamp(static_cast<int>(std::ceil(-std::log10(step))), 0, 8);
  return fmt::format("{:.{}f}", value, digits);
}

class Drawing {
 public:
  Drawing(const Chart& chart, std::vector<Points> thin) : chart_(chart), thin_(std::move(thin)) {
    double x_max = 0;
    double y_min = std::numeric_limits<double>::infinity(), y_max = -y_min;
    for (const Points& points : thin_) {
      for (const auto& [x, y] : points) {
        x_max = std::max(x_max, x);
        y_min = std::min(y_min, y);
        y_max = std::max(y_max, y);
      }
    }
    // From zero where that costs little: honest heights.
    if (y_min > 0 && (y_min < 0.4 * y_max || !chart.percent)) y_min = 0;
    x_ = MakeScale(0, std::max(1.0, x_max), 7);
    x_.max = std::max(1.0, x_max);
    y_ = MakeScale(y_min, chart.percent ? std::min(y_max, 1.0) : y_max, 5);
    if (chart.percent) y_.max = std::min(1.0, y_.max);
  }

  std::string Svg() const {
    std::string out =
        fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\" data-chart=\"{}\">",
                    kWidth, kHeight, EscapeHtml(chart_.title), EscapeHtml(DataJson()));
    out += Grid();
    for (const bool faint : {true, false}) {
      for (size_t i = 0; i < thin_.size(); ++i) {
        if (chart_.series[i].faint == faint) out += Line(i);
      }
    }
    out += fmt::format("<line class=\"cursor\" y1=\"{}\" y2=\"{}\" x1=\"-9\" x2=\"-9\"/></svg>",
                       kTop, kHeight - kBottom);
    return out;
  }

 private:
  double X(double x) const {
    return kLeft + (x - x_.min) / (x_.max - x_.min) * (kWidth - kLeft - kRight);
  }
  double Y(double y) const {
    return kHeight - kBottom - (y - y_.min) / (y_.max - y_.min) * (kHeight - kTop - kBottom);
  }

  std::string Grid() const {
    std::string out;
    for (int i = 0; y_.min + i * y_.step <= y_.max + y_.step * 1e-6; ++i) {
      const double value = y_.min + i * y_.step;
      out += fmt::format(
          "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/><text x=\"{}\" "
          "y=\"{:.1f}\" text-anchor=\"end\">{}</text>",
          kLeft, kWidth - kRight, Y(value), Y(value), kLeft - 6, Y(value) + 3.5,
          AxisLabel(value, y_.step, chart_.percent));
    }
    for (int i = 0; i * x_.step <= x_.max * (1 + 1e-9); ++i) {
      const double value = i * x_.step;
      if (value != std::floor(value)) continue;
      out += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"{}\">{}</text>", X(value),
                         kHeight - 8, X(value) > kWidth - 40 ? "end" : "middle",
                         AxisLabel(value, 1, false));
    }
    return out;
  }

  std::string Line(size_t i) const {
    const Points& points = thin_[i];
    std::string out = fmt::format("<g class=\"s{}{}\"><polyline points=\"",
                                  chart_.series[i].faint ? 0 : i % kSeriesColours,
                                  chart_.series[i].faint ? " faint" : "");
    for (const auto& [x, y] : points) out += fmt::format("{:.1f},{:.1f} ", X(x), Y(y));
    out += "\"/>";
    if (chart_.series[i].dots || points.size() == 1) {
      for (const auto& [x, y] : points) {
        out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"/>", X(x), Y(y));
      }
    }
    return out + "</g>";
  }

  // What the page's script needs to show values under the pointer.
  std::string DataJson() const {
    Json series = Json::array();
    for (size_t i = 0; i < thin_.size(); ++i) {
      if (chart_.series[i].faint) continue;
      Json points = Json::array();
      for (const auto& [x, y] : thin_[i]) {
        points.push_back({std::round(x), std::strtod(fmt::format("{:.5g}", y).c_str(), nullptr)});
      }
      series.push_back({{"name", chart_.series[i].name}, {"points", std::move(points)}});
    }
    return DumpJson({{"max", x_.max},
                     {"left", kLeft},
                     {"right", kWidth - kRight},
                     {"percent", chart_.percent},
                     {"series", std::move(series)}});
  }

  const Chart& chart_;
  const std::vector<Points> thin_;
  Scale x_, y_;
};

std::string Legend(const Chart& chart) {
  std::string out = "<div class=\"legend\">";
  size_t shown = 0, named = 0;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    if (chart.series[i].faint) continue;
    ++named;
    if (shown == kMaxLegend) continue;
    ++shown;
    out += fmt::format("<span><i class=\"s{}\"></i>{}</span>", i % kSeriesColours,
                       EscapeHtml(chart.series[i].name));
  }
  if (named > shown) out += fmt::format("<span>and {} more</span>", named - shown);
  return out + "</div>";
}

}  // namespace

std::string EscapeHtml(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string FormatCount(int64_t value) {
  const std::string digits = fmt::format("{}", value < 0 ? -value : value);
  std::string out = value < 0 ? "-" : "";
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

std::string FormatNumber(double value) {
  if (!std::isfinite(value)) return "–";
  if (std::abs(value) >= 1000) return FormatCount(std::llround(value));
  return fmt::format("{:.4g}", value);
}

std::string FormatPercent(double fraction) {
  return std::isfinite(fraction) ? fmt::format("{:.1f} %", fraction * 100) : "–";
}

std::string RenderChart(const Chart& chart) {
  std::string out = fmt::format(
      "<figure><figcaption>{}{}</figcaption>", EscapeHtml(chart.title),
      chart.unit.empty() ? "" : fmt::format(" <small>{}</small>", EscapeHtml(chart.unit)));
  std::vector<Points> thin;
  bool any = false;
  for (const Series& series : chart.series) {
    thin.push_back(Thin(series.points));
    any = any || !thin.back().empty();
  }
  if (!any) return out + "<p class=\"none\">nothing was measured</p></figure>";
  out += Legend(chart);
  out += Drawing(chart, std::move(thin)).Svg();
  return out + "</figure>";
}

}  // namespace muster::master
