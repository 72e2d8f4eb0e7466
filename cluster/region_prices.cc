#include "cluster/region_prices.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace muster::cluster {
namespace {

// "" where the type makes no file's name.
std::string NameOf(const std::string& type) { return IsPlainName(type) ? "on_demand_" + type : ""; }

}  // namespace

absl::StatusOr<RegionPrices> FindRegionPrices(const DayFolder& folder,
                                              const std::set<std::string>& types, int64_t now_ms) {
  RegionPrices all{.asked_ms = now_ms};
  for (const std::string& type : types) {
    ASSIGN_OR_RETURN(const DayFolder::Kept kept, folder.Find(NameOf(type), now_ms));
    all.asked_ms = std::min(all.asked_ms, kept.asked_ms);
    for (const auto line : absl::StrSplit(kept.text, '\n', absl::SkipWhitespace())) {
      const std::vector<std::string> cells = absl::StrSplit(line, '\t');
      RegionPrice price{.type = type};
      if (cells.size() != 2 || !IsPlainName(cells[0]) ||
          !absl::SimpleAtod(cells[1], &price.usd_per_hour) || !std::isfinite(price.usd_per_hour) ||
          price.usd_per_hour <= 0) {
        return absl::NotFoundError("the prices that are kept here do not read");
      }
      price.region = cells[0];
      all.prices.push_back(std::move(price));
    }
  }
  return all;
}

absl::Status KeepRegionPrices(const DayFolder& folder, const std::set<std::string>& types,
                              const RegionPrices& prices) {
  absl::Status kept;
  for (const std::string& type : types) {
    std::string text;
    for (const RegionPrice& price : prices.prices) {
      if (price.type != type) continue;
      text += fmt::format("{}\t{}\n", price.region, price.usd_per_hour);
    }
    kept.Update(folder.Keep(NameOf(type), text, prices.asked_ms));
  }
  return kept;
}

}  // namespace muster::cluster
