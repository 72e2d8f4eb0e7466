#include "bench/chart.h"

#include <fmt/format.h>

#include <algorithm>

namespace muster::bench {
namespace {

constexpr int kLeft = 210, kUnit = 150, kRow = 22, kTop = 34;  // pixels; kUnit: what was asked
constexpr double kMost = 3;

}  // namespace

std::string Chart(const nlohmann::json& rows) {
  std::string bars;
  int y = kTop;
  for (const nlohmann::json& row : rows) {
    const double asked = row.value("asked", 0.0);
    if (asked == 0) continue;
    const bool has_roof =
        row.contains("ratio") && row["ratio"].is_number() && !row.value("asked_of_value", false);
    const double reached = has_roof ? row["ratio"].get<double>() : row.value("value", 0.0);
    const bool is_time = row.value("is_time", false);
    const double times = is_time ? asked / std::max(reached, 1e-9) : reached / asked;
    bars += fmt::format(R"(<text x="{}" y="{}" text-anchor="end">{}</text>)"
                        R"(<rect x="{}" y="{}" width="{:.1f}" height="14" fill="{}"/>)"
                        R"(<text x="{:.1f}" y="{}" class="n">{:.2f}{} {} {}</text>)"
                        "\n",
                        kLeft - 8, y + 11, row.value("name", ""), kLeft, y,
                        kUnit * std::clamp(times, 0.0, kMost), times >= 1 ? "#2f7d4f" : "#b5482f",
                        kLeft + 6 + kUnit * std::clamp(times, 0.0, kMost), y + 11, reached,
                        has_roof ? "" : " " + row.value("unit", ""), is_time ? "≤" : "≥", asked);
    y += kRow;
  }
  const int width = kLeft + static_cast<int>(kUnit * kMost) + 170;
  return fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" width="{0}" height="{1}" viewBox="0 0 {0} {1}">
<style>text{{font:12px sans-serif;fill:#222}}.n{{fill:#555}}</style>
<rect width="{0}" height="{1}" fill="#fff"/>
<text x="{2}" y="18" text-anchor="middle" class="n">asked</text>
{3}<line x1="{2}" y1="24" x2="{2}" y2="{4}" stroke="#222" stroke-dasharray="3 3"/>
</svg>
)",
      width, y + 8, kLeft + kUnit, bars, y);
}

}  // namespace muster::bench
