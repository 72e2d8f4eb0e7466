#include "bench/figures.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "bench/timing.h"

namespace muster::bench {

Table::Table() {
  fmt::print("{:<26} {:>9} {:<9} {:>9} {:>7}  {:<14} asked\n", "row", "value", "unit", "roof",
             "ratio", "[least, most]");
}

void Table::Print(const char* name, const char* unit, const char* roof, const Figures& figures,
                  double asked, bool is_time) {
  const auto [least, most] = std::ranges::minmax_element(figures.ratios);
  const bool has_roof = *roof != '\0';
  const double value = Median(figures.values), top = Median(figures.tops),
               ratio = Median(figures.ratios);
  fmt::print(
      "{:<26} {:>9.3f} {:<9} {:>9} {:>7}  {:<14} {}\n", name, value, unit,
      has_roof ? fmt::format("{:.2f}", top) : "", has_roof ? fmt::format("{:.2f}", ratio) : "",
      has_roof ? fmt::format("[{:.2f}, {:.2f}]", *least, *most) : "",
      asked == 0
          ? ""
          : fmt::format("{} {}{}{}", is_time ? "<=" : ">=", asked, has_roof ? " of " : "", roof));
  std::fflush(stdout);
  all_.push_back({{"name", name},
                  {"value", value},
                  {"unit", unit},
                  {"roof", has_roof ? nlohmann::json(top) : nlohmann::json()},
                  {"ratio", has_roof ? nlohmann::json(ratio) : nlohmann::json()},
                  {"asked", asked},
                  {"is_time", is_time}});
}

void Table::PrintMeasured(const nlohmann::json& row) {
  const auto number = [](const nlohmann::json& value) {
    return value.is_number() ? fmt::format("{:.2f}", value.get<double>()) : std::string();
  };
  const std::string unit = row.value("unit", "");
  fmt::print("{:<26} {:>9.3f} {:<9} {:>9} {:>7}  {:<14} {} {}\n", row.value("name", ""),
             row.value("value", 0.0), unit, number(row.value("roof", nlohmann::json())),
             number(row.value("ratio", nlohmann::json())), "",
             row.value("is_time", false) ? "<=" : ">=", row.value("asked", 0.0));
  std::fflush(stdout);
  all_.push_back(row);
}

void Table::PrintSkipped(const char* name, const std::string& reason) {
  fmt::print("{:<26} skipped: {}\n", name, reason);
  std::fflush(stdout);
  all_.push_back({{"name", name}, {"skipped", reason}});
}

}  // namespace muster::bench
