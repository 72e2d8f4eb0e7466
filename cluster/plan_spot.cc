#include "cluster/plan_spot.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <set>

#include "cluster/providers.h"
#include "cluster/spot_prices.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

// For one question: who waits for a plan does not wait for a slow cloud.
constexpr int64_t kAskMs = 4'000;

// What the folder has of all types in all regions.
absl::StatusOr<std::vector<SpotPrice>> FindAll(const SpotPriceFolder& folder,
                                               const std::set<std::string>& types,
                                               const std::set<std::string>& regions,
                                               int64_t now_ms) {
  std::vector<SpotPrice> all;
  for (const std::string& region : regions) {
    for (const std::string& type : types) {
      ASSIGN_OR_RETURN(std::vector<SpotPrice> prices, folder.Find(type, region, now_ms));
      std::ranges::move(prices, std::back_inserter(all));
    }
  }
  return all;
}

void KeepAll(const SpotPriceFolder& folder, const std::set<std::string>& types,
             const std::set<std::string>& regions, const std::vector<SpotPrice>& all,
             int64_t now_ms) {
  for (const std::string& region : regions) {
    for (const std::string& type : types) {
      std::vector<SpotPrice> prices;
      std::ranges::copy_if(all, std::back_inserter(prices), [&](const SpotPrice& price) {
        return price.region == region && price.type == type;
      });
      // They are asked for again when they cannot be kept.
      folder.Keep(type, region, prices, now_ms).IgnoreError();
    }
  }
}

}  // namespace

void PriceSpot(const SpotPricing& pricing, Plan* plan) {
  std::set<std::string> types;
  for (const PlanRole& role : plan->roles) {
    if (role.spot) types.insert(role.rented_type);
  }
  if (types.empty()) return;
  const Patience patience{.now_ms = UnixMillis, .pause = [](int64_t) { return false; }};
  const ToolRunner tools = MakeToolRunner(pricing.environment);
  const auto provider =
      MakeProvider({.cluster = pricing.job.cluster(),
                    .tools =
                        [&tools](const std::vector<std::string>& words, int64_t timeout_ms,
                                 const std::string& input) {
                          return tools(words, std::min(timeout_ms, kAskMs), input);
                        },
                    .patience = patience});
  std::set<std::string> regions;
  for (const Place& place : provider->Places()) regions.insert(place.region);
  if (regions.empty()) regions.emplace();  // not known before the provider is asked
  const SpotPriceFolder folder(pricing.folder);
  auto prices = FindAll(folder, types, regions, UnixMillis());
  if (!prices.ok() && pricing.may_ask) {
    prices = provider->SpotPrices(types);
    if (prices.ok()) KeepAll(folder, types, regions, *prices, UnixMillis());
  }
  ReckonWithSpot(prices, plan);
}

}  // namespace muster::cluster
