#include "cluster/spot_prices.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace muster::cluster {
namespace {

SpotSummary SummaryOf(const std::string& region, const std::vector<SpotPrice>& prices) {
  std::vector<double> sorted;
  std::map<std::string, const SpotPrice*> newest;  // by zone
  for (const SpotPrice& price : prices) {
    sorted.push_back(price.usd_per_hour);
    const SpotPrice*& now = newest[price.zone];
    if (now == nullptr || price.since_ms > now->since_ms) now = &price;
  }
  std::ranges::sort(sorted);
  const size_t n = sorted.size();
  SpotSummary summary{.region = region,
                      .least = sorted.front(),
                      .median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2,
                      .most = sorted.back()};
  for (const auto& [zone, price] : newest) {
    if (!summary.cheapest_zone.empty() && price->usd_per_hour >= summary.cheapest) continue;
    summary.cheapest_zone = zone;
    summary.cheapest = price->usd_per_hour;
  }
  return summary;
}

}  // namespace

std::vector<SpotSummary> Summarize(const std::vector<SpotPrice>& prices, const std::string& type) {
  std::vector<std::string> regions;
  std::map<std::string, std::vector<SpotPrice>> by_region;
  for (const SpotPrice& price : prices) {
    if (price.type != type) continue;
    if (by_region[price.region].empty()) regions.push_back(price.region);
    by_region[price.region].push_back(price);
  }
  std::vector<SpotSummary> summaries;
  for (const std::string& region : regions) {
    summaries.push_back(SummaryOf(region, by_region[region]));
  }
  return summaries;
}

std::optional<SpotPrice> PriceAt(const std::vector<SpotPrice>& prices, const std::string& type,
                                 const std::string& zone, int64_t now_ms) {
  const SpotPrice* found = nullptr;
  const auto better = [&](const SpotPrice& price) {
    if (found == nullptr) return true;
    if (found->since_ms > now_ms) return price.since_ms < found->since_ms;
    return price.since_ms <= now_ms && price.since_ms > found->since_ms;
  };
  for (const SpotPrice& price : prices) {
    if (price.type == type && price.zone == zone && better(price)) found = &price;
  }
  return found == nullptr ? std::nullopt : std::optional(*found);
}

std::string SpotPriceFolder::NameOf(const std::string& type, const std::string& region) {
  if (!IsPlainName(type) || !IsPlainName(region)) return "";
  return fmt::format("spot_{}_{}", region, type);
}

absl::StatusOr<std::vector<SpotPrice>> SpotPriceFolder::Find(const std::string& type,
                                                             const std::string& region,
                                                             int64_t now_ms) const {
  const absl::Status none = absl::NotFoundError("no prices of the last day are known");
  const auto kept = folder_.Find(NameOf(type, region), now_ms);
  if (!kept.ok()) return none;
  std::vector<SpotPrice> prices;
  for (const auto line : absl::StrSplit(kept->text, '\n', absl::SkipWhitespace())) {
    const std::vector<std::string> cells = absl::StrSplit(line, '\t');
    SpotPrice price{.type = type, .region = region};
    if (cells.size() != 3 || !IsPlainName(cells[0]) ||
        !absl::SimpleAtod(cells[1], &price.usd_per_hour) ||
        !absl::SimpleAtoi(cells[2], &price.since_ms) || !std::isfinite(price.usd_per_hour) ||
        price.usd_per_hour <= 0) {
      return none;
    }
    price.zone = cells[0];
    prices.push_back(std::move(price));
  }
  return prices;
}

absl::Status SpotPriceFolder::Keep(const std::string& type, const std::string& region,
                                   const std::vector<SpotPrice>& prices, int64_t now_ms) const {
  std::string text;
  for (const SpotPrice& price : prices) {
    text += fmt::format("{}\t{}\t{}\n", price.zone, price.usd_per_hour, price.since_ms);
  }
  return folder_.Keep(NameOf(type, region), text, now_ms);
}

}  // namespace muster::cluster
